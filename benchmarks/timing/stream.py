"""What live prediction costs beside the engine: frames and sound pushed, maps polled, in Python and by libdtfsal.

Frames wait in memory, so that no decoding is timed, and are gone through again and again. Streams are causal: each map
is of the frame just pushed, so that the time from a frame to its map is what pushing and polling take. All forms are
measured in turn, several times.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dtfsal.benchmarks.machine.host import OtherCores, machine, measured_on
from dtfsal.benchmarks.tables import markdown_table
from dtfsal.engines import Engine, open_engine
from dtfsal.engines.errors import UsageError
from dtfsal.runtime.capi import NativePredictor
from dtfsal.runtime.capi.library import NativeLibrary
from dtfsal.runtime.media.audio_reader import AudioReader
from dtfsal.runtime.media.video import VideoReader
from dtfsal.runtime.predict.predictor import SaliencyPredictor
from dtfsal.runtime.predict.stream import StreamPredictor

PACKAGES = ("dtfsal", "onnxruntime", "numpy", "pillow", "av")
SOUND_RATE_HZ = 48000
WARM_UP_FRAMES = 40  # until windows are full and buffers have their sizes


@dataclasses.dataclass(frozen=True)
class Clip:
    """A video in memory.

    Attributes:
        frames: (H, W, 3) uint8 each.
        rate_hz: frames per second.
        samples: (n,) float32 at `SOUND_RATE_HZ`, as long as the frames; silence where the file has none.
    """

    frames: tuple[npt.NDArray[np.uint8], ...]
    rate_hz: float
    samples: npt.NDArray[np.float32]

    def sound_of(self, index: int) -> npt.NDArray[np.float32]:
        """The sound while frame `index` is seen, of the clip gone through again and again."""
        each = round(SOUND_RATE_HZ / self.rate_hz)
        first = index % len(self.frames) * each
        return self.samples[first : first + each]


def read_clip(video: Path, most_frames: int) -> Clip:
    """The start of a video file.

    Raises:
        DtfsalError: it cannot be read.
    """
    with VideoReader(video) as reader:
        info = reader.info
        frames = tuple(frame.rgb for frame in itertools.islice(reader, most_frames))
    samples = np.zeros(round(len(frames) * info.frame_interval_seconds * SOUND_RATE_HZ) + SOUND_RATE_HZ, np.float32)
    if info.has_audio:
        with AudioReader(video, SOUND_RATE_HZ, start_seconds=info.start_seconds) as audio:
            heard = np.concatenate([np.zeros(0, np.float32), *audio])[: len(samples)]
        samples[: len(heard)] = heard
    return Clip(frames, 1 / info.frame_interval_seconds, samples)


@dataclasses.dataclass(frozen=True)
class Cost:
    """Seconds of one run: of each map, or the mean where a form does not report them one by one.

    Attributes:
        engine: that the engine itself took for a map.
        outside: that all else took for a map: what a frame waits for its map beyond the engine.
        push_frame: of those for the frame alone.
        push_audio: and for the sound.
    """

    engine: tuple[float, ...]
    outside: tuple[float, ...]
    push_frame: tuple[float, ...] = ()
    push_audio: tuple[float, ...] = ()


def python_file(engine: Engine, clip: Clip, frames: int) -> Cost:
    """`SaliencyPredictor` over a whole video."""
    video = [clip.frames[index % len(clip.frames)] for index in range(frames)]
    samples = np.concatenate([clip.sound_of(index) for index in range(frames)])
    with SaliencyPredictor(engine).predict_frames(
        video, frame_rate_hz=clip.rate_hz, samples=samples, sample_rate_hz=SOUND_RATE_HZ
    ) as prediction:
        begun = time.perf_counter()
        for _ in prediction:
            pass
        seconds = time.perf_counter() - begun
        engine_seconds = prediction.clock.seconds["engine"]
    return Cost((engine_seconds / frames,), ((seconds - engine_seconds) / frames,))


def native_file(native: NativePredictor, clip: Clip, frames: int) -> Cost:
    """`dtfsal_predict` over a whole video."""
    video = [clip.frames[index % len(clip.frames)] for index in range(frames)]
    samples = np.concatenate([clip.sound_of(index) for index in range(frames)])
    begun = time.perf_counter()
    native.predict(video, np.arange(frames) / clip.rate_hz, samples=samples, sample_rate_hz=SOUND_RATE_HZ)
    seconds = time.perf_counter() - begun
    return Cost((native.engine_seconds / frames,), ((seconds - native.engine_seconds) / frames,))


def streamed(
    stream: StreamPredictor | NativePredictor, engine_seconds: Callable[[], float], clip: Clip, frames: int
) -> Cost:
    """A causal stream, a map for each frame; the first `WARM_UP_FRAMES` are not counted."""
    engine, outside, push_frame, push_audio = [], [], [], []
    for index in range(WARM_UP_FRAMES + frames):
        seconds, spent = index / clip.rate_hz, engine_seconds()
        picture, sound = clip.frames[index % len(clip.frames)], clip.sound_of(index)
        begun = time.perf_counter()
        stream.push_audio(sound, seconds, SOUND_RATE_HZ)
        heard = time.perf_counter()
        stream.push_frame(picture, seconds)
        pushed = time.perf_counter()
        frame = stream.poll()
        ended = time.perf_counter()
        if frame is None or frame.index != index:
            raise UsageError(f"the engine gives no map for each frame of a stream of {clip.rate_hz:.4g} Hz")
        if index >= WARM_UP_FRAMES:
            engine.append(engine_seconds() - spent)
            outside.append(ended - begun - engine[-1])
            push_audio.append(heard - begun)
            push_frame.append(pushed - heard)
    return Cost(tuple(engine), tuple(outside), tuple(push_frame), tuple(push_audio))


def _engine_seconds(stream: StreamPredictor | NativePredictor) -> float:
    if isinstance(stream, NativePredictor):
        return stream.engine_seconds
    return sum(stream.clock.seconds.get(stage, 0.0) for stage in ("engine", "features"))


def stream(
    engine: Path,
    video: Path,
    *,
    frames: int = 100,
    runs: int = 3,
    threads: int | None = None,
    library: NativeLibrary | None = None,
    trust: bool = False,
    progress: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Measure an engine with each of the four ways to run it.

    Args:
        engine: the engine's folder, for the CPU.
        video: a clip; its sound is heard, or silence.
        frames: of each run, beside those that warm up.
        runs: of each form.
        threads: of the engine; None for the physical cores.
        library: libdtfsal; see `NativePredictor`.
        trust: run native code that an engine brings.
        progress: called after each run of a form.

    Returns:
        The report as JSON types.

    Raises:
        DtfsalError: the engine, the video or the library cannot be used.
    """
    clip = read_clip(video, 50)
    library = library or NativeLibrary()
    costs: dict[str, list[Cost]] = {name: [] for name in ("Python, file", "C, file", "Python, stream", "C, stream")}
    others = OtherCores()
    rate = clip.rate_hz
    options: dict[str, Any] = {"library": library, "threads": threads, "frame_rate_hz": rate, "trust": trust}
    with (
        open_engine(engine, device="cpu", threads=threads, trust=trust) as opened,
        NativePredictor(engine, **options) as whole,
        NativePredictor(engine, **options, delay_seconds=0) as causal,
    ):
        for _ in range(runs):
            costs["Python, file"].append(python_file(opened, clip, frames))
            progress()
            costs["C, file"].append(native_file(whole, clip, frames))
            progress()
            with StreamPredictor(opened, delay_seconds=0, frame_rate_hz=rate) as python:
                costs["Python, stream"].append(
                    streamed(python, functools.partial(_engine_seconds, python), clip, frames)
                )
            progress()
            causal.reset()
            costs["C, stream"].append(streamed(causal, functools.partial(_engine_seconds, causal), clip, frames))
            progress()
        manifest, backend = opened.manifest, opened.describe()["backend"]
        native_backend = whole.description.backend
    height, width = clip.frames[0].shape[:2]
    return {
        "model": manifest.model_name,
        "precision": manifest.precision,
        "video": {"name": video.name, "size": [height, width], "frame_rate_hz": clip.rate_hz},
        "frames": frames,
        "runs": runs,
        "backend": backend,
        "native_backend": native_backend,
        "rows": [_row(name, measured) for name, measured in costs.items()],
        "other_cores": others.mean(),
        "machine": machine(PACKAGES),
    }


def _row(form: str, costs: list[Cost]) -> dict[str, Any]:
    def figures(name: str) -> dict[str, float] | None:
        values = [1000 * value for cost in costs for value in getattr(cost, name)]
        if not values:
            return None
        ordered = sorted(values)
        return {"median_ms": statistics.median(values), "p95_ms": ordered[math.ceil(0.95 * (len(ordered) - 1))]}

    return {"form": form, **{name: figures(name) for name in ("engine", "outside", "push_frame", "push_audio")}}


def markdown(report: dict[str, Any]) -> str:
    """The report as a table with the facts it stands on."""
    title = f"{report['model']}, {report['precision']}"
    headings = (title, "engine", "all else", "its 95th percentile", "push_frame", "push_audio", "engine, to Python's")
    table, rows = [], {row["form"]: row for row in report["rows"]}

    def cell(row: dict[str, Any], name: str, figure: str = "median_ms") -> str:
        return "" if row[name] is None else f"{row[name][figure]:.3g} ms"

    for form, row in rows.items():
        base = rows[f"Python, {form.split(', ')[1]}"]
        share = row["engine"]["median_ms"] / base["engine"]["median_ms"]
        high = cell(row, "outside", "p95_ms") if row["push_frame"] else ""
        cells = (cell(row, "engine"), cell(row, "outside"), high, cell(row, "push_frame"), cell(row, "push_audio"))
        table.append((form, *cells, f"{share:.3f}"))
    video = report["video"]
    height, width = video["size"]
    backend = report["backend"]
    lines = [
        *markdown_table(headings, table),
        "",
        f"Medians for a map; of whole files, medians of the runs' means. Frames of {width}x{height} from "
        f"{video['name']}, {video['frame_rate_hz']:.4g} Hz, with sound of {SOUND_RATE_HZ} Hz. Streams "
        "are causal: all else is then the time from a frame's push to its map beyond the engine's own. "
        f"{report['frames']} frames in each of {report['runs']} interleaved runs; {backend['name']} (in C: "
        f"{report['native_backend']}), {backend['threads']} threads; {measured_on(report)}",
    ]
    return "\n".join(lines) + "\n"
