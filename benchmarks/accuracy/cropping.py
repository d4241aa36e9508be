"""What a crop that follows attention keeps, beside the centre and a classic saliency, and how smoothly it moves.

Every crop is judged by the predicted maps. The classic crop comes from OpenCV's spectral residual (Hou and Zhang, CVPR
2007) through the same planner. "Best" takes the best window of every frame by itself: no path can keep more, and none
may jump so.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from dtfsal.applications.reframe.geometry import Framing, parse_aspect
from dtfsal.applications.reframe.planner import GRID, CropPath, PathPlanner, ReframeSettings, held_shares, shares_within
from dtfsal.applications.reframe.shots import SceneCuts
from dtfsal.benchmarks.machine.host import machine
from dtfsal.benchmarks.tables import markdown_table
from dtfsal.engines import Device
from dtfsal.engines.errors import UnavailableError
from dtfsal.runtime.media.video import VideoReader
from dtfsal.runtime.predict.maps import normalise_map, resize_map
from dtfsal.runtime.predict.predictor import SaliencyPredictor

Maps = npt.NDArray[np.float32]
MOVES = ("travel", "acceleration", "largest_speed")
CROPS = ("attention", "classic", "centre", "best")


def measure(
    engine: str | Path,
    videos: Sequence[Path],
    *,
    aspect: str = "9:16",
    stride: int = 1,
    device: Device = "auto",
    trust: bool = False,
    progress: Callable[[], object] = lambda: None,
) -> dict[str, Any]:
    """Plan each video's crop in each way; see this module."""
    results = {}
    with SaliencyPredictor(engine, stride=stride, device=device, trust=trust) as predictor:
        for video in videos:
            results[video.name] = _compared(predictor, video, parse_aspect(aspect))
            progress()
    return {"machine": machine(("av", "numpy", "scipy")), "aspect": aspect, "stride": stride, "videos": results}


def smoothness(path: CropPath) -> dict[str, float]:
    """How a window moves within its shots, in window widths (or heights, where it moves up and down).

    Returns:
        travel per second, mean absolute acceleration per second squared, the largest speed per second, and jumps: steps
        of more than a twentieth of the window between two frames.
    """
    framing = path.framing
    axis = 0 if framing.source_width > framing.width else 1
    place = path.windows[:, axis].astype(np.float64) / (framing.width, framing.height)[axis]
    bounds = [shot.first for shot in path.shots] + [len(place)]
    steps, speeds, changes = [np.zeros(0)], [np.zeros(0)], [np.zeros(0)]
    for first, end in itertools.pairwise(bounds):
        times = path.times[first:end]
        step, interval = np.diff(place[first:end]), np.diff(times)
        steps.append(np.abs(step))
        speeds.append(np.abs(step / interval))
        changes.append(np.abs(np.diff(step / interval)) / interval[1:])
    step, speed, change = map(np.concatenate, (steps, speeds, changes))
    return {
        "travel": float(step.sum() / max(path.times[-1], 1e-9)),
        "acceleration": float(change.mean()) if len(change) else 0.0,
        "largest_speed": float(speed.max(initial=0.0)),
        "jumps": int((step > 0.05).sum()),
    }


def _compared(predictor: SaliencyPredictor, video: Path, aspect: float) -> dict[str, Any]:
    settings = ReframeSettings(aspect=aspect, letterbox="never")
    with VideoReader(video) as reader, predictor.predict_file(video) as prediction:
        info = reader.info
        framing = Framing.of(aspect, info.width, info.height, info.pixel_aspect)
        planners = {name: PathPlanner(framing, settings) for name in ("attention", "classic")}
        finder, grids = SceneCuts(1 / info.frame_interval_seconds), []
        with VideoReader(video, size=(2 * GRID[0] * 2, 2 * GRID[1] * 2)) as small:
            for frame, picture, little in zip(prediction, reader.pictures(), small, strict=False):
                grids.append(normalise_map(resize_map(frame.saliency_map, *GRID), "sum"))
                planners["attention"].add(frame.time_seconds, frame.saliency_map)
                planners["classic"].add(frame.time_seconds, spectral_residual(little.rgb))
                for cut in finder.push(picture.picture):
                    for planner in planners.values():
                        planner.cut(cut)
    maps = np.stack(grids)
    paths = {name: planner.finish() for name, planner in planners.items()}
    size = np.array([framing.source_width, framing.source_height] * 2)
    rows: dict[str, Any] = {
        name: {"kept": float(shares_within(maps, path.windows / size).mean()), **smoothness(path)}
        for name, path in paths.items()
    }
    middle = [(framing.source_width - framing.width) / 2, (framing.source_height - framing.height) / 2]
    window = np.tile(np.array([*middle, framing.width, framing.height]) / size, (len(maps), 1))
    rows["centre"] = {"kept": float(shares_within(maps, window).mean())}
    rows["best"] = {"kept": _best(maps, framing)}
    return {
        "frames": len(maps),
        "shots": len(paths["attention"].shots),
        "window": [framing.width, framing.height],
        "source": [framing.source_width, framing.source_height],
        "crops": rows,
    }


def _best(maps: Maps, framing: Framing) -> float:
    axis = 0 if framing.source_width * framing.height > framing.width * framing.source_height else 1
    size = (framing.source_width / framing.width, framing.source_height / framing.height)[axis]
    centres = np.linspace(0.5, max(0.5, size - 0.5), 500)
    share = maps.astype(np.float64).sum(axis=1 + axis)
    return float(held_shares(share, size, centres, np.full(len(share), 0.5)).max(axis=1).mean())


def spectral_residual(rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """OpenCV's map of a picture, (H, W) in [0, 1].

    Raises:
        UnavailableError: this OpenCV lacks it.
    """
    try:
        import cv2

        classic = cast("Any", cv2.saliency)
        found, saliency_map = classic.StaticSaliencySpectralResidual_create().computeSaliency(rgb[..., ::-1].copy())
    except (ImportError, AttributeError) as error:
        raise UnavailableError("the classic crop needs OpenCV's saliency: `pip install 'dtfsal[evaluate]'`") from error
    assert found, "OpenCV computes it for every picture"
    return np.asarray(saliency_map, np.float32)


def markdown(report: dict[str, Any]) -> str:
    """The report as a table."""
    rows = []
    for name, video in report["videos"].items():
        for crop in CROPS:
            found = video["crops"][crop]
            moves = [f"{found[move]:.2f}" if move in found else "-" for move in MOVES]
            kept, jumps = f"{found['kept']:.1%}", str(found.get("jumps", "-"))
            rows.append((f"{name}, {video['shots']} shots", crop, kept, *moves, jumps))
    moves = ["travel /s", "acceleration /s²", "top speed /s"]
    headings = (f"crop to {report['aspect']}", "window by", "attention kept", *moves, "jumps")
    return "\n".join(markdown_table(headings, rows)) + "\n"
