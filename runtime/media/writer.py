"""Video out: H.264 with the source's times and sound; and files that are whole or not there."""

import contextlib
import errno
import os
import secrets
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import av
import av.error
import numpy as np
import numpy.typing as npt

from dtfsal.engines.errors import OutputError, UsageError
from dtfsal.runtime.media.container import audio_stream, decoded, open_container, packets
from dtfsal.runtime.media.video import VideoInfo

TIME_BASE = Fraction(1, 90000)  # of written frames: 11 us steps, exact for all usual rates
ENCODER_OPTIONS = {"crf": "18", "preset": "veryfast"}
ENCODERS = ("libx264", "libopenh264", "mpeg4")  # the first that this build of FFmpeg has


@contextlib.contextmanager
def atomic_output(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary file beside `path` that takes its name when the block ends well, and is removed when it does not.

    Raises:
        OutputError: the place is not writable or the disk is full.
    """
    path = Path(path)
    partial = path.with_name(f".{path.stem}.partial-{secrets.token_hex(4)}{path.suffix}")
    if path.is_dir():
        raise OutputError(f"{path} is a folder; give a file's name")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.touch()
        yield partial
        partial.replace(path)
    except OSError as error:
        raise output_error(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def output_error(path: Path, error: OSError) -> OutputError:
    """An operating system's refusal to write as one sentence."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return OutputError(f"cannot write {path}: no space is left on its disk")
    return OutputError(f"cannot write {path}: {error.strerror or error}")


class VideoWriter:
    """Writes frames with their times as H.264, with another file's sound beside them.

    Frames keep their times to 1/90000 s, at variable rates too. The sound is copied without re-encoding where the
    container takes its codec, else encoded as AAC; it keeps its offset to the video. Sides of an odd number of pixels
    are padded by repeating the last column or row, as H.264 with 4:2:0 colour has even ones.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        width: int,
        height: int,
        source: VideoInfo | None = None,
        sound_from: Path | None = None,
    ) -> None:
        """Describe the file; it is made on entering the context and stands under its name after a clean exit.

        Args:
            path: of the video; the suffix names the container (.mp4, .mkv, .mov, ...).
            width: of the frames, in pixels.
            height: of the frames, in pixels.
            source: the video that the frames belong to: its frame rate, and where its time 0 lies in `sound_from`.
            sound_from: a file whose sound to keep; without sound in it the video is silent.
        """
        self._path = Path(path)
        self._width, self._height = width, height
        self._interval = source.frame_interval_seconds if source else 1 / 25
        self._start_seconds = source.start_seconds if source else 0.0
        self._sound_from = sound_from
        self._stack = contextlib.ExitStack()
        self._last_pts = -1

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            partial = stack.enter_context(atomic_output(self._path))
            stack.enter_context(self._errors())
            try:
                self._container: Any = stack.enter_context(av.open(str(partial), "w"))
            except (av.error.FFmpegError, ValueError) as error:
                raise UsageError(f"{self._path.suffix!r} is not a video format; write .mp4 or .mkv") from error
            self._video = self._video_stream()
            self._sound = _Sound.open(stack, self._container, self._sound_from, self._start_seconds)
            self._stack = stack.pop_all()
        return self

    def write(self, rgb: npt.NDArray[np.uint8], time_seconds: float) -> None:
        """Append a frame, (H, W, 3) uint8, shown from `time_seconds` on; times increase.

        Raises:
            OutputError: the disk is full or the encoder fails.
        """
        if rgb.shape != (self._height, self._width, 3):
            raise UsageError(f"the video takes frames of {self._height}x{self._width}x3, not {rgb.shape}")
        padding = ((0, self._height % 2), (0, self._width % 2), (0, 0))
        if self._height % 2 or self._width % 2:
            rgb = np.pad(rgb, padding, mode="edge")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
        frame.time_base = TIME_BASE
        frame.pts = max(round(time_seconds / TIME_BASE), self._last_pts + 1)
        self._last_pts = frame.pts
        with self._errors():
            for packet in self._video.encode(frame):
                self._container.mux(packet)
            self._sound.copy_until(time_seconds)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if error is None:
            try:
                with self._errors():
                    for packet in self._video.encode(None):
                        self._container.mux(packet)
                    self._sound.copy_until(None)
            except BaseException:
                self._stack.__exit__(*sys.exc_info())
                raise
        self._stack.__exit__(kind, error, trace)

    def _video_stream(self) -> Any:
        rate = Fraction(1 / self._interval).limit_denominator(1001)
        for name in ENCODERS:
            if name in av.codecs_available:
                options = ENCODER_OPTIONS if name == "libx264" else {}
                stream = self._container.add_stream(name, rate=rate, options=options)
                break
        else:
            raise OutputError(f"this build of FFmpeg has none of the encoders {', '.join(ENCODERS)}")
        stream.width = self._width + self._width % 2
        stream.height = self._height + self._height % 2
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = TIME_BASE
        return stream

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise output_error(self._path, error) from error
        except av.error.FFmpegError as error:
            raise OutputError(f"cannot write {self._path}: {error.strerror or error}") from error


class _Sound:
    """The sound beside a video, muxed in step with the frames so that neither has to be held."""

    def __init__(self, container: Any, packets: Iterator[Any]) -> None:
        self._container = container
        self._packets = packets
        self._next: Any | None = None

    @classmethod
    def open(cls, stack: contextlib.ExitStack, container: Any, path: Path | None, start_seconds: float) -> "_Sound":
        """Add the sound's stream to a container that is being written, before its first packet."""
        if path is None:
            return cls(container, iter(()))
        source = stack.enter_context(open_container(path))
        stream = audio_stream(source)
        if stream is None:
            return cls(container, iter(()))
        if stream.codec_context.name in container.supported_codecs:
            with contextlib.suppress(av.error.FFmpegError, ValueError):
                copied = container.add_stream_from_template(stream)
                return cls(container, _copied(source, stream, copied, start_seconds))
        encoded = container.add_stream("aac", rate=stream.codec_context.sample_rate)
        encoded.layout = "mono" if stream.codec_context.channels == 1 else "stereo"
        return cls(container, _encoded(source, stream, encoded, start_seconds))

    def copy_until(self, seconds: float | None) -> None:
        """Mux the packets up to a video time; None is the end."""
        while True:
            packet = self._next or next(self._packets, None)
            self._next = None
            if packet is None:
                return
            if seconds is not None and packet.pts is not None and packet.pts * packet.time_base > seconds:
                self._next = packet
                return
            self._container.mux(packet)


def _copied(source: Any, stream: Any, target: Any, start_seconds: float) -> Iterator[Any]:
    shift = round(start_seconds / stream.time_base)
    for packet in packets(source, stream):
        if packet.dts is None:
            continue
        packet.pts = None if packet.pts is None else packet.pts - shift
        packet.dts -= shift
        packet.stream = target
        yield packet


def _encoded(source: Any, stream: Any, target: Any, start_seconds: float) -> Iterator[Any]:
    resampler = av.AudioResampler(format="fltp", layout=target.layout.name, rate=target.rate)
    for frame in decoded(source, stream, on_damage=lambda _packet: None):
        if frame.pts is not None:
            frame.pts -= round(start_seconds / frame.time_base)
        for piece in resampler.resample(frame):
            yield from target.encode(piece)
    for piece in resampler.resample(None):
        yield from target.encode(piece)
    yield from target.encode(None)
