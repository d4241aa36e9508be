"""Live speed, end to end: a video file in, a map for every frame out, in the steady state.

Each run is a process of its own, so that the memory is the engine's alone and nothing is warm but the disk. What is
timed is the way from one map to the next while frames are decoded and windows are full: at the video's start many
frames are encoded for one map, and at its end none.
"""

import contextlib
import dataclasses
import itertools
import math
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dtfsal.benchmarks.machine.host import OtherCores, machine, mean_other_cores, measured_on
from dtfsal.benchmarks.measure.own_process import in_own_process
from dtfsal.benchmarks.tables import markdown_table
from dtfsal.engines import ClipSpec, Device, Manifest, read_bundle
from dtfsal.engines.cpu.threads import default_threads
from dtfsal.engines.errors import EngineMismatchError, UsageError
from dtfsal.runtime.capi import NativePredictor
from dtfsal.runtime.capi.library import NativeLibrary
from dtfsal.runtime.cli.common import format_bytes, peak_memory_bytes
from dtfsal.runtime.frontend.windows import tap_interval
from dtfsal.runtime.media.audio_reader import AudioReader
from dtfsal.runtime.media.video import VideoInfo, VideoReader, probe
from dtfsal.runtime.predict.pipeline import read_ahead
from dtfsal.runtime.predict.predictor import SaliencyPredictor
from dtfsal.runtime.predict.stage_clock import StageClock

STAGES = ("preprocess", "engine", "wait")  # of the engine's thread; the rest of a map's time is "other"
BESIDE = ("decode", "features")  # in threads of their own, ahead of the engine's
PACKAGES = ("dtfsal", "onnxruntime", "numpy", "av")
NATIVE = "the C library"
NATIVE_RATE_HZ = 48000  # of the sound that it is given


@dataclasses.dataclass(frozen=True)
class LiveRun:
    """One run over a video.

    Attributes:
        seconds: from one map to the next, for each map of the steady state.
        stages: seconds by stage, all of them together.
        first_map_seconds: from the opening of the video to its first map; the engine is open and warm by then.
        peak_memory_bytes: the most that the process has held at once, or None.
        other_cores: what other processes used meanwhile, or None.
        backend: what ran the engine, as `Engine.describe` has it.
    """

    seconds: tuple[float, ...]
    stages: Mapping[str, float]
    first_map_seconds: float
    peak_memory_bytes: int | None
    other_cores: float | None
    backend: dict[str, Any]


def run_native_once(engine: Path, video: Path, device: Device, threads: int | None, trust: bool = False) -> LiveRun:
    """As `run_once`, with libdtfsal: frames as they are decoded and their sound are pushed, and a map is polled.

    A window more than the polled one is ready, as where an application pushes and polls in two threads. The library
    resizes the frames. Decoding is Python's, in a thread of its own.

    Raises:
        UsageError: the video is too short to have a steady state.
        DtfsalError: the engine, the video or the library cannot be used.
    """
    del device
    with contextlib.ExitStack() as stack:
        reader = stack.enter_context(VideoReader(video))
        interval = reader.info.frame_interval_seconds
        sound = np.zeros(0, np.float32)
        if reader.info.has_audio:
            audio = stack.enter_context(AudioReader(video, NATIVE_RATE_HZ, start_seconds=reader.info.start_seconds))
            sound = np.concatenate([sound, *audio])
        native = stack.enter_context(
            NativePredictor(engine, frame_rate_hz=1 / interval, sound=len(sound) > 0, threads=threads, trust=trust)
        )
        clock, others = StageClock(), OtherCores()
        pictures = read_ahead(clock.timed("decode", reader))
        stack.callback(pictures.close)
        marks = [(time.perf_counter(), dict[str, float]())]

        def poll() -> bool:
            with clock.stage("engine"):
                if native.poll() is None:
                    return False
            marks.append((time.perf_counter(), dict(clock.seconds)))
            return True

        reserve = math.ceil(native.delay_seconds / interval) + 1
        for frame in clock.timed("wait", pictures):
            with clock.stage("preprocess"):
                begin, end = (round((frame.index + at) * interval * NATIVE_RATE_HZ) for at in (0, 1))
                native.push_audio(sound[begin:end], begin / NATIVE_RATE_HZ, NATIVE_RATE_HZ)
                native.push_frame(frame.rgb, frame.time_seconds)
            if frame.index > reserve:
                poll()
        native.finish()
        while poll():
            pass
        about = native.description
        backend = {"name": about.backend, "device": "cpu", "threads": threads or default_threads()}
        return _steady(marks, about.clip_frames, about.clip_rate_hz, interval, others.mean(), backend, video)


def run_once(engine: Path, video: Path, device: Device, threads: int | None, trust: bool = False) -> LiveRun:
    """Predict a video in this process, and time its steady state.

    Raises:
        UsageError: the video is too short to have one.
        DtfsalError: the engine or the video cannot be used.
    """
    with SaliencyPredictor(engine, device=device, threads=threads, trust=trust) as predictor:
        predictor.engine.warm_up()
        others = OtherCores()
        marks = [(time.perf_counter(), dict[str, float]())]
        with predictor.predict_file(video) as prediction:
            assert prediction.info is not None
            interval = prediction.info.frame_interval_seconds
            marks.extend((time.perf_counter(), dict(prediction.clock.seconds)) for _ in prediction)
        other_cores = others.mean()
        clip, backend = predictor.clip, predictor.engine.describe()["backend"]
        return _steady(marks, clip.frames, clip.frame_rate_hz, interval, other_cores, backend, video)


def _steady(
    marks: list[tuple[float, dict[str, float]]],
    clip_frames: int,
    clip_rate_hz: float,
    interval: float,
    other_cores: float | None,
    backend: dict[str, Any],
    video: Path,
) -> LiveRun:
    """The steady state between marks, the first of them at the opening and each other one after a map."""
    # A window's span in frames: after so many each map has one new frame, and so many before the end as well.
    clip = ClipSpec(frames=clip_frames, height=1, width=1, frame_rate_hz=clip_rate_hz)
    span = math.ceil(clip_frames * tap_interval(clip, interval) / interval)
    steady = marks[span : len(marks) - span]
    if len(steady) < 3:
        raise UsageError(
            f"{video} has {len(marks) - 1} frames, and a steady state begins {span} after the first and ends "
            f"{span} before the last: take a longer video"
        )
    first, last = steady[0][1], steady[-1][1]
    return LiveRun(
        seconds=tuple(after[0] - before[0] for before, after in itertools.pairwise(steady)),
        stages={stage: last.get(stage, 0.0) - first.get(stage, 0.0) for stage in (*STAGES, *BESIDE)},
        first_map_seconds=marks[1][0] - marks[0][0],
        peak_memory_bytes=peak_memory_bytes(),
        other_cores=other_cores,
        backend=backend,
    )


def live(
    engine: Path,
    video: Path,
    *,
    without_reuse: Path | None = None,
    native: bool = False,
    runs: int = 3,
    device: Device = "auto",
    threads: int | None = None,
    trust: bool = False,
    progress: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Measure an engine, and one of the same model whose windows share nothing, in turn.

    Args:
        engine: the engine's folder.
        video: a video of more than two windows' length.
        without_reuse: the folder of an engine with a single graph, or None.
        native: also measure libdtfsal with the engine.
        runs: over the video, with each engine.
        device: what runs the engines.
        threads: of the engines on the CPU; None for the physical cores.
        trust: run native code that an engine brings.
        progress: called after each run.

    Returns:
        The report as JSON types.

    Raises:
        EngineMismatchError: the second engine has several graphs, or is of another model.
        DtfsalError: an engine or the video cannot be used.
    """
    manifest, info = read_bundle(engine).manifest, probe(video)
    forms = [(_form(manifest), run_once, engine)]
    if without_reuse is not None:
        _check_same_model(manifest, without_reuse)
        forms.append((_form(read_bundle(without_reuse).manifest), run_once, without_reuse))
    if native:
        NativeLibrary()  # before minutes of Python's runs, not after them
        forms.append((NATIVE, run_native_once, engine))
    results: list[list[LiveRun]] = [[] for _ in forms]
    for _ in range(runs):
        for (_, run, path), measured in zip(forms, results, strict=True):
            measured.append(in_own_process(run, path, video, device, threads, trust))
            progress()
    rows = [_row(form, measured, info) for (form, _, _), measured in zip(forms, results, strict=True)]
    return {
        "model": manifest.model_name,
        "precision": manifest.precision,
        "target": manifest.target,
        "weights": manifest.weights["source"],
        "size": [manifest.clip.height, manifest.clip.width],
        "video": {
            "name": video.name,
            "size": [info.height, info.width],
            "frame_rate_hz": 1 / info.frame_interval_seconds,
            "has_audio": info.has_audio,
        },
        "runs": runs,
        "backend": results[0][0].backend,
        "other_cores": mean_other_cores(run.other_cores for measured in results for run in measured),
        "rows": rows,
        "machine": machine(PACKAGES),
    }


def _check_same_model(manifest: Manifest, without_reuse: Path) -> None:
    other = read_bundle(without_reuse).manifest
    if "window" not in other.graphs:
        raise EngineMismatchError(
            f"{without_reuse} encodes each frame once as well: build an engine with --single-graph to compare with"
        )
    if (other.model_config, other.weights) != (manifest.model_config, manifest.weights):
        raise EngineMismatchError(
            f"{without_reuse} is {other.model_name!r} of {other.weights['source']} and not {manifest.model_name!r} of "
            f"{manifest.weights['source']}: build both of the same weights"
        )


def _form(manifest: Manifest) -> str:
    return "whole windows" if "window" in manifest.graphs else "each frame encoded once"


def _row(form: str, runs: list[LiveRun], info: VideoInfo) -> dict[str, Any]:
    seconds = [interval for run in runs for interval in run.seconds]
    low, median, high = statistics.quantiles(seconds, n=4, method="inclusive")
    stages = {s: 1000 * sum(run.stages.get(s, 0.0) for run in runs) / len(seconds) for s in (*STAGES, *BESIDE)}
    peaks = [run.peak_memory_bytes for run in runs if run.peak_memory_bytes is not None]
    rate = len(seconds) / sum(seconds)
    return {
        "form": form,
        "maps": len(seconds),
        "median_ms": 1000 * median,
        "quartiles_ms": [1000 * low, 1000 * high],
        "mean_ms": 1000 / rate,
        "maps_per_second": rate,
        "of_real_time": rate * info.frame_interval_seconds,
        "stages_ms": {**stages, "other": 1000 / rate - sum(stages[stage] for stage in STAGES)},
        "first_map_ms": 1000 * statistics.median(run.first_map_seconds for run in runs),
        "peak_memory_bytes": max(peaks, default=None),
    }


def markdown(report: dict[str, Any]) -> str:
    """The report as a table with the facts it stands on."""
    video, backend = report["video"], report["backend"]
    title = f"{report['model']}, {report['precision']}, live"
    headings = (title, "maps/s", "ms per map", "quartiles", *STAGES, "other", f"beside it: {BESIDE[0]}", *BESIDE[1:])
    rows = []
    for row in report["rows"]:
        low, high = row["quartiles_ms"]
        peak = row["peak_memory_bytes"]
        cells = (
            row["form"],
            f"{row['maps_per_second']:.3g} ({row['of_real_time']:.2f}x real time)",
            f"{row['median_ms']:.3g}",
            f"{low:.3g}-{high:.3g}",
            *(f"{row['stages_ms'].get(stage, 0.0):.3g}" for stage in (*STAGES, "other", *BESIDE)),
            f"{row['first_map_ms']:.3g} ms",
            "unknown" if peak is None else format_bytes(peak),
        )
        rows.append(cells)
    (height, width), (source_height, source_width) = report["size"], video["size"]
    sound = "with sound" if video["has_audio"] else "without sound"
    maps = ", ".join(f"{row['maps']}" for row in report["rows"])
    lines = [
        *markdown_table((*headings, "first map", "memory"), rows),
        "",
        f"Milliseconds per map of the steady state, stages as means; maps of {width}x{height} from {video['name']} "
        f"({source_width}x{source_height}, {video['frame_rate_hz']:.4g} Hz, {sound}), {maps} maps in {report['runs']} "
        f"interleaved runs; weights: {report['weights']}; {backend['name']} on {backend['device']}, "
        f"{backend['threads']} threads; {measured_on(report)}",
    ]
    return "\n".join(lines) + "\n"
