"""How late does the map follow what it should follow? Engines on clips whose event is known, as a file and as a stream.

`dtfsal.benchmarks.accuracy.delay_clips` makes the clips, `dtfsal.benchmarks.accuracy.delay_curve` says what a delay is.
A stream's maps are compared by the times of their own frames, as a file's are. Each comes out a stated delay after its
frame, and the engine's time adds to it. All clips are silent.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from dtfsal.benchmarks.accuracy.delay_clips import KINDS, Kind, Span, make_clip, span_of
from dtfsal.benchmarks.accuracy.delay_curve import Curve, Maps, share_curve, summarise
from dtfsal.benchmarks.machine.host import machine
from dtfsal.engines import Device, Engine, open_engine, read_bundle
from dtfsal.engines.bundle.specs import ClipSpec
from dtfsal.engines.errors import UsageError
from dtfsal.runtime.frontend.windows import tap_interval
from dtfsal.runtime.predict.predictor import SaliencyPredictor
from dtfsal.runtime.predict.stream import StreamPredictor
from dtfsal.training.synthetic.sources import Sources

Form = Literal["file", "stream", "causal stream"]
FORMS: tuple[Form, ...] = get_args(Form)
Rgb = npt.NDArray[np.uint8]

PACKAGES = ("dtfsal", "onnxruntime", "numpy", "pillow")


def file_maps(engine: Engine, frames: Rgb, frame_rate_hz: float) -> Maps:
    """(N, h, w) the maps of `SaliencyPredictor`, as of a file without sound."""
    times = np.arange(len(frames)) / frame_rate_hz
    with SaliencyPredictor(engine).predict_frames(frames, timestamps=times) as prediction:
        return np.stack([frame.saliency_map for frame in prediction])


def stream_maps(
    engine: Engine, frames: Rgb, frame_rate_hz: float, *, delay_seconds: float | None
) -> tuple[Maps, float]:
    """(N, h, w) the maps of `StreamPredictor` in silence, and the seconds after which it says that they come out."""
    found: list[Maps] = []
    with StreamPredictor(engine, frame_rate_hz=frame_rate_hz, delay_seconds=delay_seconds) as stream:
        rate = 0 if stream.audio is None else stream.audio.sample_rate_hz

        def poll() -> None:
            while (frame := stream.poll()) is not None:
                assert frame.index == len(found)
                found.append(frame.saliency_map)

        for index, frame in enumerate(frames):
            stream.push_frame(frame, index / frame_rate_hz)
            if rate:
                begin, end = (round(number * rate / frame_rate_hz) for number in (index, index + 1))
                stream.push_audio(np.zeros(end - begin, np.float32), begin / rate, rate)
            poll()
        stream.finish()
        poll()
        return np.stack(found), stream.delay_seconds


def form_maps(engine: Engine, form: Form, frames: Rgb, frame_rate_hz: float) -> tuple[Maps, float | None]:
    """The maps of one way to run an engine, and a stream's stated delay in seconds."""
    if form == "file":
        return file_maps(engine, frames, frame_rate_hz), None
    return stream_maps(engine, frames, frame_rate_hz, delay_seconds=None if form == "stream" else 0.0)


def check(engines: Sequence[Path], *, items: int, frame_rate_hz: float, seed: int) -> None:
    """Refuse what `measure` cannot do, before any work.

    Raises:
        UsageError: two engines have the same name, or a number is out of range.
    """
    if len(set(_names(engines))) < len(engines):
        raise UsageError("two engines have the same name, so that a table could not tell them apart: rename a folder")
    if items < 1:
        raise UsageError(f"there must be at least 1 clip of each kind, not {items}")
    if seed < 0:
        raise UsageError(f"the seed must be at least 0, not {seed}")
    span_of(frame_rate_hz, 0.0)


def measure(
    engines: Sequence[Path],
    sources: Sources,
    *,
    kinds: Sequence[Kind] = KINDS,
    forms: Sequence[Form] = FORMS,
    items: int = 8,
    frame_rate_hz: float = 25.0,
    seed: int = 0,
    device: Device = "auto",
    threads: int | None = None,
    trust: bool = False,
    progress: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Show the same clips to each engine, in each form.

    Args:
        engines: their folders, whose names differ.
        sources: what clips are made of.
        kinds: of events.
        forms: ways to run an engine.
        items: clips of each kind.
        frame_rate_hz: of the clips.
        seed: of the clips, at least 0.
        device: what runs the engines.
        threads: of the engines on the CPU; None for the physical cores.
        trust: run native code that an engine brings.
        progress: called after each clip with each engine and form.

    Returns:
        The report as JSON types.

    Raises:
        UsageError: an argument can't be.
        DtfsalError: an engine cannot be used.
    """
    check(engines, items=items, frame_rate_hz=frame_rate_hz, seed=seed)
    names = _names(engines)
    manifests = [read_bundle(path).manifest for path in engines]
    span = span_of(frame_rate_hz, max(_reach_seconds(manifest.clip, frame_rate_hz) for manifest in manifests))
    rows = []
    for path, name in zip(engines, names, strict=True):
        with open_engine(path, device=device, threads=threads, trust=trust) as engine:
            for kind in kinds:
                rows += [
                    {"engine": name, "form": form, "kind": kind, **row}
                    for form, row in _rows(engine, kind, forms, items, sources, span, seed, progress).items()
                ]
    return {
        "engines": [
            {"engine": name, "model": manifest.model_name, "weights": manifest.weights}
            for name, manifest in zip(names, manifests, strict=True)
        ],
        "frame_rate_hz": frame_rate_hz,
        "seed": seed,
        "items": items,
        "photographs": len(sources.photographs),
        "times_ms": list(span.times_ms),
        "rows": rows,
        "machine": machine(PACKAGES),
    }


def _rows(
    engine: Engine,
    kind: Kind,
    forms: Sequence[Form],
    items: int,
    sources: Sources,
    span: Span,
    seed: int,
    progress: Callable[[], None],
) -> dict[Form, dict[str, Any]]:
    """What is found of a kind with an engine in each form; a clip is made once for all forms."""
    curves: dict[Form, list[Curve | None]] = {form: [] for form in forms}
    stated: dict[Form, float | None] = {}
    for number in range(items):
        clip = make_clip(kind, number, sources, span, seed)
        for form in forms:
            maps, stated[form] = form_maps(engine, form, clip.frames, span.frame_rate_hz)
            curves[form].append(share_curve(maps, clip))
            progress()
    found = {}
    for form in forms:
        delay, seconds = summarise(span.times_ms, curves[form]), stated[form]
        stream_ms = None if seconds is None else 1000 * seconds
        live_ms = None if stream_ms is None or delay.delay_ms is None else stream_ms + delay.delay_ms
        found[form] = {**dataclasses.asdict(delay), "stream_delay_ms": stream_ms, "after_event_ms": live_ms}
    return found


def _names(engines: Sequence[Path]) -> list[str]:
    return [path.resolve().name for path in engines]


def _reach_seconds(clip: ClipSpec, frame_rate_hz: float) -> float:
    """How far a window's frames lie from its target at most, one more interval for rounding."""
    taps = max(clip.target_index, clip.frames - 1 - clip.target_index) + 1
    return taps * tap_interval(clip, 1 / frame_rate_hz)
