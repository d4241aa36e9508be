"""Video out: H.264 with the source's times and sound; and files that are whole or not there."""

import contextlib
import dataclasses
import errno
import os
import sys
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import av
import av.error
import numpy as np
import numpy.typing as npt

from dtfsal.engines.bundle.places import require_file_place
from dtfsal.engines.errors import DtfsalError, OutputError, UsageError
from dtfsal.engines.partial import partial_file
from dtfsal.runtime.media.container import ffmpeg_name
from dtfsal.runtime.media.errors import shortage
from dtfsal.runtime.media.picture import FULL_RANGE, UNSPECIFIED, Colours
from dtfsal.runtime.media.sound_track import SoundTrack
from dtfsal.runtime.media.video import VideoInfo

TIME_BASE = Fraction(1, 90000)  # of written frames: 11 us steps, exact for all usual rates
ENCODER_OPTIONS = {"crf": "18", "preset": "veryfast"}
_LIMITED_RANGE = 1  # AVCOL_RANGE_MPEG
_BT601 = 5  # the matrix that FFmpeg reads by where none is stated
ENCODERS = ("libx264", "libopenh264", "mpeg4")  # the first that this build of FFmpeg has


@contextlib.contextmanager
def atomic_output(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary file beside `path` that takes its name when the block ends well, and is removed when it does not.

    Raises:
        OutputError: the place is not writable, the disk is full, or another run writes the same output.
        UsageError: something other than a file is there, or it lies in an engine's folder.
    """
    path = Path(path)
    require_file_place(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial_file(path) as partial:
            yield partial
    except OSError as error:
        raise output_error(path, error) from error


def output_error(path: Path, error: OSError) -> DtfsalError:
    """An operating system's refusal to write as one sentence."""
    if (lack := shortage(error, starting_threads=True)) is not None:
        return lack
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return OutputError(f"cannot write {path}: no space is left on its disk")
    return OutputError(f"cannot write {path}: {error.strerror or error}")


@dataclasses.dataclass(frozen=True)
class Encoder:
    """How a video is encoded.

    Attributes:
        name: FFmpeg's, of an encoder for 8-bit 4:2:0.
        options: of it, by FFmpeg's names.
        bit_rate: of the picture in bits per second; None for what the options say.
    """

    name: str
    options: Mapping[str, str] = dataclasses.field(default_factory=dict)
    bit_rate: int | None = None


class VideoWriter:
    """Writes frames with their times, as H.264 unless told otherwise, with another file's sound beside them.

    Frames keep their times to 1/90000 s, at variable rates too. Colours are written as the source has them, and tagged
    so; pixels keep their aspect. The sound is copied without re-encoding where players take that, else encoded as AAC;
    it keeps its offset to the video. Sides of an odd number of pixels are padded by repeating the last column or row,
    as H.264 with 4:2:0 colour has even ones.

    Attributes:
        notes: what could not be done, each a sentence; complete after the context.
        video_bytes: of the encoded picture so far.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None,
        *,
        width: int,
        height: int,
        source: VideoInfo | None = None,
        sound_from: Path | None = None,
        options: Mapping[str, str] = ENCODER_OPTIONS,
        encoder: Encoder | None = None,
    ) -> None:
        """Describe the file; it is made on entering the context and stands under its name after a clean exit.

        Args:
            path: of the video; the suffix names the container (.mp4, .mkv, .mov, ...). None encodes and keeps
                nothing, as the first of two passes does.
            width: of the frames, in pixels.
            height: of the frames, in pixels.
            source: the video that the frames belong to: its frame rate, colours and aspect, and where its time 0
                lies in `sound_from`.
            sound_from: a file whose sound to keep; without sound in it the video is silent.
            options: of libx264, where no encoder is given.
            encoder: None for H.264.
        """
        self._path = None if path is None else Path(path)
        self._encoder = encoder
        self._width, self._height = width, height
        self._interval = source.frame_interval_seconds if source else 1 / 25
        self._source = source
        self._sound_from = sound_from
        self._options = dict(options)
        self._colours = source.colours.written() if source else Colours()
        self.notes: list[str] = []
        self.video_bytes = 0
        self._stack = contextlib.ExitStack()
        self._last_pts = -1

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            partial = None if self._path is None else stack.enter_context(atomic_output(self._path))
            stack.enter_context(self._errors())
            with contextlib.ExitStack() as files:
                self._begin(files, partial, self._sound_from)
                stack.push(files.pop_all())
            self._stack = stack.pop_all()
        return self

    def write(self, rgb: npt.NDArray[np.uint8], time_seconds: float) -> None:
        """Append a frame, (H, W, 3) uint8, shown from `time_seconds` on; times increase.

        Raises:
            OutputError: the disk is full or the encoder fails.
        """
        if rgb.shape != (self._height, self._width, 3):
            raise UsageError(f"the video takes frames of {self._height}x{self._width}x3, not {rgb.shape}")
        with self._errors():
            frame = self.converted(rgb)
        self.write_picture(frame, time_seconds)

    def write_picture(self, frame: Any, time_seconds: float) -> None:
        """Append a frame of PyAV that is 8-bit 4:2:0 of even sides already, in the source's colours.

        Raises:
            OutputError: the disk is full or the encoder fails.
        """
        with self._errors():
            frame.time_base = TIME_BASE
            frame.pts = max(round(time_seconds / TIME_BASE), self._last_pts + 1)
            self._last_pts = frame.pts
            self._encode(frame)
            self._sound.copy_until(time_seconds)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if error is None:
            try:
                with self._errors():
                    self._encode(None)
                    self._sound.copy_until(None)
                if self._sound.note is not None:
                    self.notes.append(self._sound.note)
            except BaseException:
                self._stack.__exit__(*sys.exc_info())
                raise
        self._stack.__exit__(kind, error, trace)

    def _encode(self, frame: Any | None) -> None:
        for packet in self._video.encode(frame):
            self.video_bytes += packet.size
            self._container.mux(packet)

    def _begin(self, files: contextlib.ExitStack, partial: Path | None, sound_from: Path | None) -> None:
        """Open the file and write its header; without the sound if it cannot be had with it."""
        self._container: Any
        try:
            if partial is None:
                self._container = files.enter_context(av.open(os.devnull, "w", format="null"))
            else:
                self._container = files.enter_context(av.open(ffmpeg_name(partial), "w"))
        except (av.error.FFmpegError, ValueError) as error:
            assert self._path is not None, "the null container takes all"
            raise UsageError(f"{self._path.suffix!r} is not a video format; write .mp4 or .mkv") from error
        self._video = self._video_stream()
        source = self._source
        self._sound = SoundTrack(
            self._container,
            sound_from,
            start_seconds=source.start_seconds if source else 0.0,
            video_stream=source.video_stream if source else None,
            audio_stream=source.audio_stream if source else None,
        )
        files.callback(self._sound.close)
        try:
            self._container.start_encoding()
        except (av.error.FFmpegError, OSError, ValueError) as error:
            if sound_from is None:
                raise
            self._sound.give_up(error)
            note = self._sound.note
            with contextlib.suppress(av.error.FFmpegError, OSError, ValueError):
                files.close()
            self._begin(files, partial, None)
            self._sound.note = note

    def _video_stream(self) -> Any:
        rate = Fraction(1 / self._interval).limit_denominator(1001)
        encoder = self._encoder or _usual_encoder(self._options)
        stream = self._container.add_stream(encoder.name, rate=rate, options=dict(encoder.options))
        if encoder.bit_rate is not None:
            stream.bit_rate = encoder.bit_rate
        stream.width = self._width + self._width % 2
        stream.height = self._height + self._height % 2
        stream.pix_fmt = "yuv420p"
        context, colours = stream.codec_context, self._colours
        context.colorspace, context.color_primaries = colours.matrix, colours.primaries
        context.color_trc = colours.transfer
        context.color_range = FULL_RANGE if colours.full_range else _LIMITED_RANGE
        if self._source is not None and self._source.pixel_aspect != (1, 1):
            context.sample_aspect_ratio = Fraction(*self._source.pixel_aspect)
        stream.time_base = stream.codec_context.time_base = TIME_BASE
        return stream

    def converted(self, rgb: npt.NDArray[np.uint8]) -> Any:
        """PyAV's frame of a picture, (H, W, 3) uint8, in the colours and the size that are written."""
        if self._height % 2 or self._width % 2:
            rgb = np.pad(rgb, ((0, self._height % 2), (0, self._width % 2), (0, 0)), mode="edge")
        colours = self._colours
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24").reformat(
            format="yuv420p",
            dst_colorspace=colours.matrix if colours.matrix != UNSPECIFIED else _BT601,
            dst_color_range=FULL_RANGE if colours.full_range else _LIMITED_RANGE,
        )
        frame.colorspace = colours.matrix
        frame.color_range = FULL_RANGE if colours.full_range else _LIMITED_RANGE
        return frame

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        path = self._path or Path(os.devnull)
        try:
            yield
        except OSError as error:
            raise output_error(path, error) from error
        except (av.error.FFmpegError, MemoryError) as error:
            lack = shortage(error, starting_threads=True)
            reason = getattr(error, "strerror", None) or str(error)
            raise lack or OutputError(f"cannot write {path}: {reason}") from error


def _usual_encoder(options: Mapping[str, str]) -> Encoder:
    for name in ENCODERS:
        if name in av.codecs_available:
            return Encoder(name, options if name == "libx264" else {})
    raise OutputError(f"this build of FFmpeg has none of the encoders {', '.join(ENCODERS)}")
