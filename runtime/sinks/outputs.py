"""Outputs by kind, and the one pass that feeds them all.

    outputs = [Output(Path("out.mp4")), Output(Path("maps.npz"))]
    with predictor.predict_file("clip.mp4") as prediction:
        write_outputs(prediction, outputs, context)

The kind of an output follows its suffix: .mp4, .mkv and .mov are videos, .npz and .h5 raw maps, .csv and .json tables
of where each map points; a name without a suffix, or with a slash at its end, is a folder of PNG frames. The path `-`
is standard output, for a table.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from dtfsal.engines.bundle.places import require_file_place
from dtfsal.engines.errors import OutputError, UsageError
from dtfsal.runtime.media.errors import MediaError
from dtfsal.runtime.media.video import Frame, VideoReader
from dtfsal.runtime.media.writer import output_error
from dtfsal.runtime.predict.pipeline import write_behind
from dtfsal.runtime.predict.prediction import Prediction, SaliencyFrame
from dtfsal.runtime.sinks.arrays import hdf5_sink, npz_sink
from dtfsal.runtime.sinks.base import OpenSink, SinkContext
from dtfsal.runtime.sinks.pictures import check_png_folder, contact_sheet_sink, png_sink, video_sink
from dtfsal.runtime.sinks.tables import STANDARD_OUTPUT, csv_sink, json_sink

Kind = Literal["video", "png", "npz", "hdf5", "csv", "json", "contact-sheet"]

_SINKS: dict[str, OpenSink] = {
    "video": video_sink,
    "png": png_sink,
    "npz": npz_sink,
    "hdf5": hdf5_sink,
    "csv": csv_sink,
    "json": json_sink,
}
KINDS = tuple(_SINKS)
_SUFFIXES: dict[str, Kind] = {
    ".mp4": "video",
    ".m4v": "video",
    ".mov": "video",
    ".mkv": "video",
    ".npz": "npz",
    ".h5": "hdf5",
    ".hdf5": "hdf5",
    ".csv": "csv",
    ".json": "json",
    "": "png",
}


@dataclasses.dataclass(frozen=True)
class Output:
    """A result to write.

    Attributes:
        path: where.
        kind: what; None on construction for what the path's suffix says.
        columns: frames on a contact sheet.
    """

    path: Path
    kind: Kind | None = None
    columns: int = 6

    def __post_init__(self) -> None:
        if self.kind is None:
            object.__setattr__(self, "kind", kind_of(self.path))

    def shows_frames(self, context: SinkContext) -> bool:
        """Whether it needs the source's frames beside the maps."""
        default = {"video": "overlay", "png": "saliency", "contact-sheet": "overlay"}
        if self.kind == "contact-sheet":
            return True
        return self.kind in default and (context.view or default[self.kind]) == "overlay"

    def open(self, context: SinkContext) -> contextlib.AbstractContextManager[Callable[..., None]]:
        """The sink; see `dtfsal.runtime.sinks.base`."""
        if self.kind == "contact-sheet":
            return contact_sheet_sink(self.path, context, self.columns)
        assert self.kind is not None
        return _SINKS[self.kind](self.path, context)


def kind_of(path: str | os.PathLike[str]) -> Kind:
    """The kind of output that a path's suffix asks for.

    Raises:
        UsageError: none does.
    """
    text = os.fspath(path)
    suffix = "" if text.endswith(("/", os.sep)) else Path(text).suffix.lower()
    if suffix not in _SUFFIXES:
        known = ", ".join(name for name in _SUFFIXES if name)
        raise UsageError(
            f"{text} has a suffix that names no kind of output: use one of {known}, or a folder name for PNG frames, "
            "or say which kind with --format"
        )
    return _SUFFIXES[suffix]


def check_outputs(outputs: Sequence[Output], source: str | os.PathLike[str], *, overwrite: bool) -> None:
    """Check, before any work, that the outputs may be written.

    Raises:
        UsageError: two outputs or an output and the source are the same file, an output exists and overwrite is not
            asked for, or it is a device, a pipe, or inside an engine's folder.
        OutputError: a folder is where a file should be, or a folder holds something other than PNG frames.
    """
    seen: dict[str, Path] = {os.path.realpath(source): Path(source)}
    for output in outputs:
        if output.path == STANDARD_OUTPUT:
            if output.kind not in ("csv", "json"):
                raise UsageError(f"standard output takes a table, csv or json, not {output.kind}")
            if "-" in seen:
                raise UsageError("standard output is named twice; name a file for one of the outputs")
            seen["-"] = output.path
            continue
        real = os.path.realpath(output.path)
        if real == os.path.realpath(source):
            raise UsageError(f"{output.path} is the video to predict; name another output")
        if real in seen:
            raise UsageError(f"{output.path} is named twice; each output needs its own name")
        seen[real] = output.path
        if output.kind == "png":
            check_png_folder(output.path)
            exists = output.path.is_dir() and any(output.path.iterdir())
        else:
            if output.path.is_dir():
                raise OutputError(f"{output.path} is a folder; name a file for the {output.kind} output")
            require_file_place(output.path)
            exists = os.path.lexists(output.path)
        if exists and not overwrite:
            raise UsageError(f"{output.path} exists; name another output, or give --force to replace it")


def write_outputs(
    prediction: Prediction,
    outputs: Sequence[Output],
    context: SinkContext,
    on_frame: Callable[[SaliencyFrame], object] = lambda _frame: None,
) -> None:
    """Write all outputs in one pass over a prediction of a file, while the engine makes the next maps.

    Outputs that show the source decode it a second time, in step with the maps: frames in the source's size are held
    one at a time, however far ahead the windows look. If anything goes wrong on the way no output appears; if an output
    cannot be finished at the end, those that were finished before it stay, each of them whole.

    Args:
        prediction: what `SaliencyPredictor.predict_file` gave, not yet iterated.
        outputs: what to write.
        context: of the same run; its clock counts the second decoding as "decode".
        on_frame: called some time after each frame is written, in the caller's thread.

    Raises:
        MediaError: the source cannot be decoded, or gave other frames the second time.
        OutputError: an output cannot be written.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(prediction)
        with context.clock.stage("encode"):
            sinks = [(output, stack.enter_context(_checked(output, context))) for output in outputs]
        shown = any(output.shows_frames(context) for output in outputs)
        frames = _source_frames(stack, context) if shown else None

        def write_frame(saliency_frame: SaliencyFrame) -> None:
            rgb = None if frames is None else _matching(frames, saliency_frame, context).rgb
            for _, write in sinks:
                write(saliency_frame, rgb)

        waiting = functools.partial(context.clock.stage, "wait")
        with write_behind(write_frame, on_written=on_frame, waiting=waiting) as hand_over:
            for saliency_frame in prediction:
                hand_over(saliency_frame)
        if not prediction.frames:
            raise MediaError(f"{context.source.path} has no frame that can be decoded")
        with context.clock.stage("encode"):
            stack.close()


@contextlib.contextmanager
def _checked(output: Output, context: SinkContext) -> Iterator[Callable[..., None]]:
    """An output's sink, with the operating system's errors told in the project's way.

    A broken pipe stays what it is: the reader of standard output has gone, and there is nothing to tell.
    """
    fail = functools.partial(output_error, output.path)
    with contextlib.ExitStack() as stack:
        try:
            write = stack.enter_context(output.open(context))
        except BrokenPipeError:
            raise
        except OSError as error:
            raise fail(error) from error

        def guarded(frame: SaliencyFrame, rgb: object) -> None:
            try:
                write(frame, rgb)
            except BrokenPipeError:
                raise
            except OSError as error:
                raise fail(error) from error

        yield guarded
        try:
            stack.close()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise fail(error) from error


def _source_frames(stack: contextlib.ExitStack, context: SinkContext) -> Iterator[Frame]:
    reader = stack.enter_context(VideoReader(context.source.path, video_stream=context.source.video_stream))
    return iter(context.clock.timed("decode", reader))


def _matching(frames: Iterator[Frame], saliency_frame: SaliencyFrame, context: SinkContext) -> Frame:
    frame = next(frames, None)
    if frame is None or frame.index != saliency_frame.index:
        raise MediaError(
            f"{context.source.path} gave other frames on the second read, so it has changed; "
            "run again when the file is complete"
        )
    return frame
