"""Do maps follow a video smoothly, or do they flicker? Maps of consecutive frames, compared as distributions.

Let p_t be frame t's map divided by its sum, and TV(p, q) = 1/2 sum |p - q| in [0, 1], the share of gaze that would have
to move from one to the other. *Change* is TV(p_t, p_{t-1}): it is large where people would look elsewhere, too, at a
cut for instance. *Flicker* is TV(p_t, (p_{t-1} + p_{t+1}) / 2): what goes to and fro within two frames. A map that
moves on steadily has little of it, one that trembles has as much of it as of change.
"""

import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dtfsal.benchmarks.tables import markdown_table
from dtfsal.engines import Device
from dtfsal.engines.errors import UsageError
from dtfsal.runtime.predict.predictor import SaliencyPredictor

Maps = Iterable[npt.NDArray[np.float32]]


@dataclasses.dataclass(frozen=True)
class Stability:
    """How maps change along a video.

    Attributes:
        frames: how many were compared.
        change: mean of TV(p_t, p_{t-1}).
        change_p95: its 95th percentile.
        flicker: mean of TV(p_t, (p_{t-1} + p_{t+1}) / 2).
        flicker_p95: its 95th percentile.
        peak_step: median distance between the peaks of consecutive maps, in shares of the frame's width.
    """

    frames: int
    change: float
    change_p95: float
    flicker: float
    flicker_p95: float
    peak_step: float


def stability(maps: Maps) -> Stability:
    """Compare the maps of a video's frames, each (H, W) and not negative, in order.

    Raises:
        UsageError: there are fewer than three.
    """
    before: list[npt.NDArray[np.float64]] = []  # the last two
    changes, flickers, steps = [], [], []
    for frame_map in maps:
        now = np.asarray(frame_map, np.float64)
        now = now / max(now.sum(), 1e-300)
        if before:
            changes.append(_distance(now, before[-1]))
            steps.append(np.hypot(*(_peak(now) - _peak(before[-1]))) / now.shape[1])
        if len(before) == 2:
            flickers.append(_distance(before[1], (before[0] + now) / 2))
        before = [*before[-1:], now]
    if not flickers:
        raise UsageError(f"stability compares three frames or more, and there are {len(changes) + len(before[:1])}")
    return Stability(
        len(changes) + 1,
        float(np.mean(changes)),
        float(np.percentile(changes, 95)),
        float(np.mean(flickers)),
        float(np.percentile(flickers, 95)),
        float(np.median(steps)),
    )


def measure(
    engine: Path,
    videos: list[Path],
    *,
    device: Device = "auto",
    trust: bool = False,
    progress: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """The stability of an engine's maps on videos, by the videos' names."""
    with SaliencyPredictor(engine, device=device, trust=trust) as predictor:
        manifest = predictor.engine.manifest
        results = {}
        for video in videos:
            with predictor.predict_file(video) as prediction:
                results[video.name] = dataclasses.asdict(stability(frame.saliency_map for frame in prediction))
            progress()
    return {"model": manifest.model_name, "weights": manifest.weights["source"], "videos": results}


def markdown(report: dict[str, Any]) -> str:
    """The report as a table."""
    names = ("change", "change_p95", "flicker", "flicker_p95", "peak_step")
    rows = [
        (video, str(row["frames"]), *(f"{100 * row[name]:.1f} %" for name in names))
        for video, row in report["videos"].items()
    ]
    headings = (f"{report['model']}, {report['weights']}", "frames", "change", "95 %", "flicker", "95 %", "peak's step")
    return "\n".join(markdown_table(headings, rows)) + "\n"


def _distance(p: npt.NDArray[np.float64], q: npt.NDArray[np.float64]) -> float:
    return 0.5 * float(np.abs(p - q).sum())


def _peak(saliency_map: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.array(np.unravel_index(saliency_map.argmax(), saliency_map.shape), np.float64)
