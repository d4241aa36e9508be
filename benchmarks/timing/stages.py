"""From a video file to a video of overlays, stage by stage: what `dtfsal predict` spends beside its engine.

Each run is `dtfsal predict`'s own way in a process of its own. Its engine works while other threads decode the next
frames and draw and encode the last ones, so that stages overlap; what the engine's thread does adds up to the whole.
The engine-only rate is measured apart, on frames that lie in memory, so that nothing else wants its cores.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dtfsal.benchmarks.machine.host import OtherCores, machine, mean_other_cores, measured_on
from dtfsal.benchmarks.measure.intervals import median_interval
from dtfsal.benchmarks.measure.own_process import in_own_process
from dtfsal.benchmarks.report.figures import COLOURS, new_figure
from dtfsal.benchmarks.tables import markdown_table
from dtfsal.engines import read_bundle
from dtfsal.runtime.media.audio_reader import AudioReader
from dtfsal.runtime.media.video import VideoReader, probe
from dtfsal.runtime.predict.predictor import SaliencyPredictor
from dtfsal.runtime.sinks.base import SinkContext
from dtfsal.runtime.sinks.outputs import Output, write_outputs

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ENGINE_THREAD = ("preprocess", "engine", "smooth", "wait")
OTHER_THREADS = ("decode", "features", "render", "encode")
STAGES = ENGINE_THREAD + OTHER_THREADS
OTHER = "other"  # of the engine's thread
PACKAGES = ("dtfsal", "onnxruntime", "openvino", "numpy", "av")


def run_once(engine: Path, video: Path, stride: int, threads: int | None, trust: bool = False) -> dict[str, Any]:
    """Predict a video to a video of overlays in this process, and say where the seconds went."""
    with (
        tempfile.TemporaryDirectory() as folder,
        SaliencyPredictor(engine, stride=stride, threads=threads, trust=trust) as predictor,
    ):
        predictor.engine.warm_up()
        others, cpu, started = OtherCores(), time.process_time(), time.perf_counter()
        prediction = predictor.predict_file(video)
        assert prediction.info is not None
        context = SinkContext(
            source=prediction.info,
            model_name=predictor.engine.manifest.model_name,
            model_size=(predictor.clip.height, predictor.clip.width),
            clock=prediction.clock,
        )
        write_outputs(prediction, [Output(Path(folder) / "overlay.mp4")], context)
        seconds = time.perf_counter() - started
        return {
            "seconds": seconds,
            "cpu_seconds": time.process_time() - cpu,
            "stages": dict(prediction.clock.seconds),
            "frames": prediction.frames,
            "maps": prediction.predicted_frames,
            "other_cores": others.mean(),
            "backend": predictor.engine.describe()["backend"],
        }


def run_alone(engine: Path, video: Path, stride: int, threads: int | None, trust: bool = False) -> float:
    """Predict frames and sound that lie in memory in this process; the seconds in which the engine is at work."""
    with SaliencyPredictor(engine, stride=stride, threads=threads, trust=trust) as predictor:
        clip, audio = predictor.clip, predictor.audio
        with VideoReader(video, size=(clip.height, clip.width)) as reader:
            frames, info = list(reader), reader.info
        sound: dict[str, Any] = {}
        if audio is not None and info.has_audio:
            with AudioReader(video, audio.sample_rate_hz, start_seconds=info.start_seconds) as chunks:
                samples = list(chunks)
            if samples:
                sound = {"samples": np.concatenate(samples), "sample_rate_hz": audio.sample_rate_hz}
        predictor.engine.warm_up()
        times = [frame.time_seconds for frame in frames]
        with predictor.predict_frames((frame.rgb for frame in frames), timestamps=times, **sound) as prediction:
            for _ in prediction:
                pass
        return prediction.clock.seconds["engine"]


def stages(
    engine: Path,
    video: Path,
    *,
    strides: Sequence[int] = (1,),
    runs: int = 3,
    threads: int | None = None,
    trust: bool = False,
    progress: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Measure an engine over a video, with strides that take turns.

    Args:
        engine: the engine's folder.
        video: a video, with sound for an audio-visual engine.
        strides: a map is computed for every so many frames; the others lie between.
        runs: over the video, with each stride; as many of the engine alone.
        threads: of the engine on the CPU; None for the physical cores.
        trust: run native code that an engine brings.
        progress: called after each run.

    Returns:
        The report as JSON types.

    Raises:
        DtfsalError: the engine or the video cannot be used.
    """
    manifest, info = read_bundle(engine).manifest, probe(video)
    found: dict[int, list[dict[str, Any]]] = {stride: [] for stride in strides}
    alone: dict[int, list[float]] = {stride: [] for stride in strides}
    for _ in range(runs):
        for stride in found:
            found[stride].append(in_own_process(run_once, engine, video, stride, threads, trust))
            alone[stride].append(in_own_process(run_alone, engine, video, stride, threads, trust))
            progress()
    return {
        "kind": "stages",
        "model": manifest.model_name,
        "precision": manifest.precision,
        "target": manifest.target,
        "engine": engine.name,
        "video": {
            "name": video.name,
            "size": [info.height, info.width],
            "frame_rate_hz": 1 / info.frame_interval_seconds,
            "has_audio": info.has_audio,
        },
        "runs": runs,
        "backend": found[strides[0]][0]["backend"],
        "rows": [_row(stride, measured, alone[stride]) for stride, measured in found.items()],
        "other_cores": mean_other_cores(run["other_cores"] for measured in found.values() for run in measured),
        "machine": machine(PACKAGES),
    }


def _row(stride: int, runs: Sequence[dict[str, Any]], alone: Sequence[float]) -> dict[str, Any]:
    seconds = [run["seconds"] for run in runs]
    middle = sorted(runs, key=lambda run: run["seconds"])[len(runs) // 2]  # one run's stages add up, medians do not
    frames, spent = middle["frames"], middle["stages"]
    by_stage = {stage: 1000 * spent.get(stage, 0.0) / frames for stage in STAGES}
    total = 1000 * middle["seconds"] / frames
    return {
        "form": f"stride {stride}",
        "stride": stride,
        "frames": frames,
        "maps": middle["maps"],
        "stages_ms": {**by_stage, OTHER: total - sum(by_stage[stage] for stage in ENGINE_THREAD)},
        "total_ms": total,
        "cpu_ms": 1000 * middle["cpu_seconds"] / frames,
        "frames_per_second": frames / statistics.median(seconds),
        "frames_per_second_interval": [frames / limit for limit in reversed(median_interval(seconds))],
        "engine_only_frames_per_second": frames / statistics.median(alone),
        "of_engine_only": statistics.median(alone) / statistics.median(seconds),
        "seconds": seconds,
        "engine_only_seconds": list(alone),
    }


def markdown(report: dict[str, Any]) -> str:
    """The report as a table with the facts it stands on."""
    title = f"{report['engine']}, {report['precision']}, to overlays"
    headings = (title, "frames/s", "engine only", "of it", "ms per frame", *ENGINE_THREAD, OTHER)
    beside = (f"beside it: {OTHER_THREADS[0]}", *OTHER_THREADS[1:])
    rows = []
    for row in report["rows"]:
        low, high = row["frames_per_second_interval"]
        cells = (
            row["form"],
            f"{row['frames_per_second']:.3g} ({low:.3g}-{high:.3g})",
            f"{row['engine_only_frames_per_second']:.3g}",
            f"{100 * row['of_engine_only']:.1f} %",
            f"{row['total_ms']:.1f}",
            *(f"{row['stages_ms'].get(stage, 0.0):.1f}" for stage in (*ENGINE_THREAD, OTHER, *OTHER_THREADS)),
            f"{row['cpu_ms']:.0f}",
        )
        rows.append(cells)
    video, backend = report["video"], report["backend"]
    height, width = video["size"]
    lines = [
        *markdown_table((*headings, *beside, "CPU ms"), rows),
        "",
        f"Milliseconds per frame of the median run of {report['runs']}; the engine's thread waits for frames to come "
        f"and to be written, which other threads do beside it; engine only: frames in memory, nothing beside it. "
        f"{video['name']} ({width}x{height}, "
        f"{video['frame_rate_hz']:.4g} Hz), overlays of the same size; {backend['name']} on {backend['device']}, "
        f"{backend['threads']} threads; {measured_on(report)}",
    ]
    return "\n".join(lines) + "\n"


def draw(report: dict[str, Any]) -> Figure:
    """For each stride the engine alone, its thread, and what other threads do at the same time."""
    rows = report["rows"]
    longest = max(row["total_ms"] for row in rows)
    with new_figure(height=1.6 + 0.9 * len(rows)) as (figure, (axes,)):
        stages_colours = dict(zip((*STAGES, OTHER), itertools.cycle(COLOURS), strict=False))
        ticks, labels, shown = [], [], set()
        for number, row in enumerate(rows):
            alone = {"engine": 1000 / row["engine_only_frames_per_second"]}
            bars: Sequence[tuple[str, Sequence[str], dict[str, float]]] = (
                ("engine only", ("engine",), alone),
                (f"{row['form']}: engine's thread", (*ENGINE_THREAD, OTHER), row["stages_ms"]),
                ("beside it", OTHER_THREADS, row["stages_ms"]),
            )
            for place, (label, names, values) in enumerate(bars):
                at, left = 4 * number + place, 0.0
                for name in names:
                    if values[name] < 0.005 * longest:
                        continue
                    known = name in shown
                    axes.barh(
                        at, values[name], left=left, color=stages_colours[name], label=f"_{name}" if known else name
                    )
                    shown.add(name)
                    left += values[name]
                if place == 1:
                    percent = 100 * row["of_engine_only"]
                    said = f" {row['frames_per_second']:.3g} frames/s, {percent:.0f} % of the engine's own"
                    axes.text(left, at, said, va="center", fontsize=7)
                ticks.append(at)
                labels.append(label)
        axes.set_xlim(0, 1.5 * longest)
        axes.set_yticks(ticks, labels)
        axes.invert_yaxis()
        axes.set_xlabel("milliseconds per frame of the video")
        axes.grid(visible=False, axis="y")
        axes.set_title(f"{report['engine']}: {report['video']['name']} to overlays", fontsize=9, pad=22)
        axes.legend(ncols=len(STAGES) + 1, fontsize=7, loc="lower center", bbox_to_anchor=(0.45, 1.0), columnspacing=1)
    return figure
