"""Accuracy against speed: engines and strides beside the full-rate maps of a reference engine, on a real clip.

Accuracy is that of every frame's map, computed or in between, to the reference's map of the same frame: CC, SIM, KL of
the two, and NSS and AUC-Judd at fixations that are drawn from the reference's map. Speed is source frames per second
from the file to its maps. Each run is a process of its own; runs take turns, each round in an order of its own.
"""

from __future__ import annotations

import dataclasses
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dtfsal.benchmarks.machine.host import OtherCores, machine, mean_other_cores, measured_on
from dtfsal.benchmarks.machine.rates import matrix_product_rate
from dtfsal.benchmarks.measure.intervals import median_interval
from dtfsal.benchmarks.measure.own_process import in_own_process
from dtfsal.benchmarks.report.figures import COLOURS, new_figure
from dtfsal.benchmarks.tables import markdown_table
from dtfsal.engines import Manifest, read_bundle
from dtfsal.engines.cpu.threads import default_threads
from dtfsal.engines.errors import UsageError
from dtfsal.engines.native.projects import CPU_KERNELS
from dtfsal.runtime.media.video import probe
from dtfsal.runtime.predict.maps import resize_map
from dtfsal.runtime.predict.predictor import SaliencyPredictor
from dtfsal.training.evaluation.metrics import auc_judd, cc, kl_div, nss, sim

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PACKAGES = ("dtfsal", "onnxruntime", "openvino", "numpy", "av")
FIXATIONS = 30  # drawn from each frame's reference map
SEED = 0
CC_DIGITS = 5
MARKERS = ("o", "D", "v", "s")
PICTURE_DECIMALS = 6  # points nearer to the reference are drawn there

Maps = npt.NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class Choice:
    """An engine and a stride."""

    engine: Path
    stride: int

    @property
    def name(self) -> str:
        """As reports have it."""
        return f"{self.engine.name.removesuffix('.engine')}, stride {self.stride}"


def run_once(engine: Path, video: Path, stride: int, threads: int | None, maps: Path, trust: bool) -> dict[str, Any]:
    """Predict a video in this process; the maps go to a .npy file."""
    with SaliencyPredictor(engine, stride=stride, threads=threads, trust=trust) as predictor:
        predictor.engine.warm_up()
        others, started = OtherCores(), time.perf_counter()
        with predictor.predict_file(video) as prediction:
            found = np.stack([frame.saliency_map for frame in prediction])
        seconds = time.perf_counter() - started
        np.save(maps, found)
        return {
            "seconds": seconds,
            "frames": len(found),
            "other_cores": others.mean(),
            "backend": predictor.engine.describe()["backend"],
        }


def pareto(
    engines: Sequence[Path],
    video: Path,
    *,
    reference: Path,
    strides: Sequence[int] = (1, 2, 4),
    runs: int = 3,
    threads: int | None = None,
    trust: bool = False,
    progress: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Measure engines with strides, and compare their maps with the reference's.

    Args:
        engines: engines' folders, of different names.
        video: a clip, with sound for audio-visual engines.
        reference: the engine whose full-rate maps are the truth, in FP32.
        strides: a map is computed for every so many frames.
        runs: of each choice.
        threads: of the engines on the CPU; None for the physical cores.
        trust: run native code that an engine brings.
        progress: called after each run, and after the reference's.

    Returns:
        The report as JSON types.

    Raises:
        UsageError: two engines have one name, or the reference is no FP32 engine.
        DtfsalError: an engine or the video cannot be used.
    """
    if len({engine.name for engine in engines}) != len(engines):
        raise UsageError("two engines have the same name, and the report needs different ones: rename a folder")
    truth = read_bundle(reference).manifest
    if truth.precision != "fp32":
        raise UsageError(f"the reference {reference} is {truth.precision}: give an fp32 engine")
    manifests = {engine: read_bundle(engine).manifest for engine in engines}
    info, threads = probe(video), threads or default_threads()
    choices = [Choice(engine, stride) for engine in engines for stride in dict.fromkeys(strides)]
    order = np.random.default_rng(SEED)
    found: dict[Choice, list[dict[str, Any]]] = {choice: [] for choice in choices}
    scores: dict[Choice, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        in_own_process(run_once, reference, video, 1, threads, folder / "reference.npy", trust)
        progress()
        wanted = np.load(folder / "reference.npy")
        fixations = drawn_fixations(wanted)
        for number in range(runs):
            for index in order.permutation(len(choices)):
                choice, maps = choices[index], folder / "maps.npy"
                found[choice].append(
                    in_own_process(run_once, choice.engine, video, choice.stride, threads, maps, trust)
                )
                if number == 0:
                    scores[choice] = compare_with(wanted, np.load(maps), fixations)
                progress()
    rows = [_row(choice, found[choice], scores[choice], manifests[choice.engine]) for choice in choices]
    return {
        "kind": "pareto",
        "reference": reference.name,
        "video": {
            "name": video.name,
            "size": [info.height, info.width],
            "frame_rate_hz": 1 / info.frame_interval_seconds,
            "frames": len(wanted),
            "has_audio": info.has_audio,
        },
        "runs": runs,
        "threads": threads,
        "fixations_per_frame": FIXATIONS,
        "seed": SEED,
        "matrix_product_gflop_per_second": matrix_product_rate(threads),
        "rows": rows,
        "other_cores": mean_other_cores(run["other_cores"] for measured in found.values() for run in measured),
        "machine": machine(PACKAGES),
    }


def drawn_fixations(maps: Maps, number: int = FIXATIONS, seed: int = SEED) -> list[npt.NDArray[np.float64]]:
    """Positions (number, 2) of pixels (x, y) drawn from each of the maps (N, H, W), read as distributions."""
    generator = np.random.default_rng(seed)
    found = []
    for saliency_map in maps:
        p = saliency_map.astype(np.float64).ravel()
        p = p / p.sum() if p.sum() > 0 else np.full(p.size, 1 / p.size)
        at = generator.choice(p.size, size=number, p=p)
        found.append(np.stack([at % saliency_map.shape[1], at // saliency_map.shape[1]], axis=1).astype(np.float64))
    return found


def compare_with(wanted: Maps, maps: Maps, fixations: Sequence[npt.NDArray[np.float64]]) -> dict[str, float]:
    """Means over the frames of the measures between maps and the reference's, and the worst frame's CC.

    Maps of another size are resized to the reference's.

    Raises:
        UsageError: there is another number of maps.
    """
    if len(maps) != len(wanted):
        raise UsageError(f"the engines gave {len(wanted)} and {len(maps)} maps for one video: measure again")
    height, width = wanted.shape[1:]
    by_frame: dict[str, list[float]] = {name: [] for name in ("cc", "sim", "kl", "nss", "auc_judd")}
    for truth, own, points in zip(wanted, maps, fixations, strict=True):
        sized = own if own.shape == truth.shape else resize_map(own, height, width)
        for name, value in (
            ("cc", cc(sized, truth)),
            ("sim", sim(sized, truth)),
            ("kl", kl_div(sized, truth)),
            ("nss", nss(sized, points)),
            ("auc_judd", auc_judd(sized, points)),
        ):
            by_frame[name].append(value)
    means = {name: float(np.nanmean(values)) for name, values in by_frame.items()}
    return {**means, "worst_cc": float(np.nanmin(by_frame["cc"]))}


def _row(
    choice: Choice, runs: Sequence[dict[str, Any]], scores: dict[str, float], manifest: Manifest
) -> dict[str, Any]:
    seconds, frames = [run["seconds"] for run in runs], runs[0]["frames"]
    low, high = median_interval(seconds)
    backend = runs[0]["backend"]
    return {
        "form": choice.name,
        "engine": choice.engine.name,
        "stride": choice.stride,
        "model": manifest.model_name,
        "weights": manifest.weights["source"],
        "target": manifest.target,
        "precision": manifest.precision,
        "own_kernels": CPU_KERNELS.library in {*manifest.native_libraries, *manifest.files},
        "device": backend["device"],
        "computes_in": backend.get("computes_in"),
        "size": [manifest.clip.height, manifest.clip.width],
        "clip_frames": manifest.clip.frames,
        "frames_per_second": frames / statistics.median(seconds),
        "frames_per_second_interval": [frames / high, frames / low],
        **scores,
        "seconds": seconds,
    }


def label(row: dict[str, Any], name: str) -> str:
    """A row's name or its engine's, with the type that its back end says it computes in where that is another."""
    said, asked = row.get("computes_in"), row["precision"]
    types = {"f32": "fp32", "f16": "fp16", "bf16": "bf16"}
    return name if said is None or asked == "int8" or types.get(said, said) == asked else f"{name} (in {said})"


def front(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows that no other is as fast as and as near the reference as, and better in one; the slowest first.

    CC of engines in one precision differ by rounding alone, so it counts to `CC_DIGITS` decimals.
    """

    def beats(one: dict[str, Any], other: dict[str, Any]) -> bool:
        a, b = ((row["frames_per_second"], round(row["cc"], CC_DIGITS)) for row in (one, other))
        return a != b and a[0] >= b[0] and a[1] >= b[1]

    found = [row for row in rows if not any(beats(other, row) for other in rows)]
    return sorted(found, key=lambda row: float(row["frames_per_second"]))


def markdown(report: dict[str, Any]) -> str:
    """The report as a table with the facts it stands on."""
    title = f"{report['video']['name']}, to {report['reference']}"
    best, rows = [row["form"] for row in front(report["rows"])], []
    for row in sorted(report["rows"], key=lambda row: -row["frames_per_second"]):
        low, high = row["frames_per_second_interval"]
        name = label(row, row["form"])
        name = f"**{name}**" if row["form"] in best else name
        cells = (
            name,
            f"{row['frames_per_second']:.3g} ({low:.3g}-{high:.3g})",
            f"{row['cc']:.5f}",
            f"{row['worst_cc']:.4f}",
            f"{row['sim']:.4f}",
            f"{max(row['kl'], 0.0):.4f}",  # rounding takes that of equal maps below 0
            f"{row['nss']:.3f}",
            f"{row['auc_judd']:.4f}",
        )
        rows.append(cells)
    video = report["video"]
    height, width = video["size"]
    products = f", whose products reach {report['matrix_product_gflop_per_second']:.0f} GFLOP/s"
    lines = [
        *markdown_table((title, "frames/s", "CC", "worst CC", "SIM", "KL", "NSS", "AUC-J"), rows),
        "",
        f"Bold: nothing else here is both as fast and as near. {video['frames']} frames of {width}x{height} at "
        f"{video['frame_rate_hz']:.4g} Hz, from the file to its maps; medians of {report['runs']} runs, intervals of "
        f"order statistics; {report['threads']} threads; {measured_on(report, products)}",
    ]
    return "\n".join(lines) + "\n"


def draw(report: dict[str, Any]) -> Figure:
    """How far maps are from the reference's (1 - CC) over frames per second, with the front."""
    from matplotlib.ticker import LogLocator, NullLocator

    rows, least = report["rows"], 10.0**-PICTURE_DECIMALS
    with new_figure(height=4.4) as (figure, (axes,)):
        engines = list(dict.fromkeys(row["engine"] for row in rows))
        looks = itertools.product(MARKERS, COLOURS)
        for (marker, colour), engine in zip(looks, engines, strict=False):
            own = [row for row in rows if row["engine"] == engine]
            x, y = [row["frames_per_second"] for row in own], [max(1 - row["cc"], least) for row in own]
            axes.plot(x, y, marker, color=colour, label=label(own[0], engine.removesuffix(".engine")))
            for row, at_x, at_y in zip(own, x, y, strict=True):
                axes.annotate(str(row["stride"]), (at_x, at_y), fontsize=7, xytext=(3, 3), textcoords="offset points")
        best = front(rows)
        x, y = [row["frames_per_second"] for row in best], [max(1 - row["cc"], least) for row in best]
        axes.step(x, y, where="pre", color="#000000", linewidth=1, label="front: none both faster and nearer")
        axes.axhline(1 - 0.995, color="#999999", linestyle=":", linewidth=1)
        slowest = min(row["frames_per_second"] for row in rows)
        axes.text(slowest, 1 - 0.995, "CC 0.995", fontsize=7, va="bottom")
        axes.axvline(report["video"]["frame_rate_hz"], color="#999999", linestyle=":", linewidth=1)
        axes.set_yscale("log")
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 5.0, 7.0)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_xlabel("source frames per second, from the file to its maps (dotted: the clip's own rate)")
        axes.set_ylabel(f"1 - CC to {report['reference'].removesuffix('.engine')} at full rate, at least {least:g}")
        axes.set_title(
            f"{report['video']['name']}, {report['threads']} threads of {report['machine']['cpu']}; numbers: stride",
            fontsize=9,
        )
        axes.legend(fontsize=7)
    return figure
