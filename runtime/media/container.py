"""Media files through FFmpeg: opening them, choosing their streams, and what can be decoded of damaged ones."""

import contextlib
import dataclasses
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import av
import av.error

from dtfsal.engines.errors import UsageError
from dtfsal.runtime.media import spool
from dtfsal.runtime.media.clock import ClockBridge, backdated
from dtfsal.runtime.media.errors import MediaError, memory_is_limited, shortage

FALLBACK_RATE_HZ = 25.0  # of a source that states no rate
PLAUSIBLE_RATES_HZ = (0.01, 1000.0)
_CLOCKS_JUMP = 0x200  # AVFMT_TS_DISCONT
_WITHOUT_TIMESTAMPS = 0x80  # AVFMT_NOTIMESTAMPS, of elementary streams
# Containers that count frames in the order of decoding and know no times of presentation.
_WITHOUT_TIMES = frozenset({"avi"})
_PICTURE_CODECS = frozenset({"mjpeg", "png", "bmp", "gif", "webp", "tiff", "jpegls"})
_FOR_SOME = ("hearing_impaired", "visual_impaired", "comment", "descriptions", "karaoke", "non_diegetic", "dependent")


@dataclasses.dataclass(frozen=True, kw_only=True)
class StreamInfo:
    """A stream of a container.

    Attributes:
        index: its number in the file, from 0.
        kind: "video", "audio", "subtitle", "data" or "attachment".
        codec: FFmpeg's name, or None if FFmpeg does not know it.
        form: its size, or its rate and channels, for people.
        language: as the file states it.
        default: whether the file marks it as the one to play.
        chosen: whether it is the one that is read.
    """

    index: int
    kind: str
    codec: str | None
    form: str
    language: str | None
    default: bool
    chosen: bool


class MediaFile:
    """A file that is open for reading, with the streams that are read and their times made whole.

    Args:
        path: the file; a pipe is read to its end first.
        video_stream: the number of the video stream to read; None for the main one.
        audio_stream: the number of the sound stream to read; None for the default one.
        container: PyAV's, if it is open already, as of a camera; `path` is then only its name.

    Attributes:
        path: as it was named.
        container: PyAV's.
        video: the video stream, or None.
        audio: the sound stream, or None.
        bridge: what mends the packets' times.
        encoded: the first packet that was decoded.

    Raises:
        MediaError: missing, a folder, empty, unreadable, or not a media file.
        UsageError: there is no such stream.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        video_stream: int | None = None,
        audio_stream: int | None = None,
        container: Any = None,
    ) -> None:
        self.path = Path(path)
        self.encoded = b""
        self._spool: spool.Spool | None = None
        if container is None:
            check_readable(self.path)
            if spool.is_pipe(self.path):
                self._spool = spool.acquire(self.path)
        try:
            self.container = container or opened(self.path, None if self._spool is None else self._spool.path)
            try:
                self.video = choose_video(self.container, self.path, video_stream)
                self.audio = choose_audio(self.container, self.path, self.video, audio_stream)
                self.bridge = clock_bridge(self.container, self.video, self.audio)
            except BaseException:
                self.container.close()
                raise
        except BaseException:
            self._let_go()
            raise

    @property
    def spooled_bytes(self) -> int:
        """What came through a pipe; 0 for a file."""
        return 0 if self._spool is None else self._spool.size_bytes

    def need_video(self) -> Any:
        """The video stream.

        Raises:
            MediaError: there is none.
        """
        return need_video(self.container, self.path, self.video)

    def packets(self, *streams: Any, raising: bool = False) -> Iterator[Any]:
        """Packets of streams, their times made whole.

        Args:
            streams: of `video` and `audio`, those wanted.
            raising: whether an error of FFmpeg is raised where the file is cut off or broken; else packets end there.
        """
        wanted = {stream.index for stream in streams}
        demuxed = self.container.demux([stream for stream in (self.video, self.audio) if stream is not None])
        if self.video is not None and not int(self.container.format.flags) & _WITHOUT_TIMESTAMPS:
            demuxed = backdated(demuxed, self.video.index, frame_interval(self.video))
        while True:
            try:
                packet = next(demuxed, None)
            except (av.error.FFmpegError, OSError) as error:
                refuse_if_short(error)
                if raising:
                    raise
                return
            if packet is None:
                return
            for ready in self.bridge.feed(packet):
                if ready.stream.index in wanted:
                    yield ready

    def decoded(self, stream: Any, *, on_damage: Callable[[Any], None]) -> Iterator[Any]:
        """A stream's decoded frames; `on_damage` is told of each packet that cannot be decoded."""
        for packet in self.packets(stream):
            if not self.encoded:
                self.encoded = bytes(packet)
            try:
                yield from packet.decode()
            except (av.error.FFmpegError, OSError) as error:
                refuse_if_short(error, starting_threads=True)
                on_damage(packet)

    def streams(self) -> tuple[StreamInfo, ...]:
        """All streams, and which are read."""
        return stream_infos(self.container, self.video, self.audio)

    def close(self) -> None:
        """Close the file; safe to call twice."""
        self.container.close()
        self._let_go()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _let_go(self) -> None:
        if self._spool is not None:
            self._spool = None
            spool.release(self.path)


def check_readable(path: Path) -> None:
    """Check that there is something to open.

    Raises:
        MediaError: there is not.
    """
    try:
        if not path.exists():
            hint = "; standard input is /dev/stdin" if str(path) == "-" else ""
            raise MediaError(f"there is no file {path}{hint}")
        if path.is_dir():
            raise MediaError(
                f"{path} is a folder; give the video file itself, or `dtfsal predict --output-dir` for all in it"
            )
        if path.is_file() and path.stat().st_size == 0:
            raise MediaError(f"{path} is empty")
    except OSError as error:  # e.g. a name that is too long
        raise MediaError(f"{path} cannot be opened ({error.strerror or error})") from error


def ffmpeg_name(path: Path) -> str:
    """A file's name as FFmpeg takes it: without the prefix, a colon makes a protocol of what is before it."""
    return f"file:{path}"


def refuse_if_short(error: BaseException, *, starting_threads: bool = False) -> None:
    """Raise what a process lacks, if that is what an error says: it is not the file's fault.

    Where no limit is set on memory, it is: a damaged file asks for more than any machine has.

    Raises:
        UnavailableError: see `shortage`.
    """
    lacks_memory = isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM
    if lacks_memory and not memory_is_limited():
        return
    if (lack := shortage(error, starting_threads=starting_threads)) is not None:
        raise lack from error


def clock_bridge(container: Any, video: Any, audio: Any) -> ClockBridge:
    """What mends the times of a container's packets."""
    main = video if video is not None else audio
    return ClockBridge(
        0 if main is None else main.index,
        clocks_jump=bool(int(container.format.flags) & _CLOCKS_JUMP),
        interval_seconds=0.0 if video is None else frame_interval(video),
    )


def counts_slots(container: Any) -> bool:
    """Whether a container's times are places in the order of decoding."""
    return container.format.name in _WITHOUT_TIMES


def frame_interval(stream: Any) -> float:
    """Seconds between a video stream's frames, as far as the file says."""
    lowest, highest = PLAUSIBLE_RATES_HZ
    for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate):
        if rate and lowest <= rate <= highest:
            return float(1 / rate)
    return 1 / FALLBACK_RATE_HZ


def choose_video(container: Any, path: Path, index: int | None = None) -> Any | None:
    """The video stream of a number, or the main one: not a cover, not a thumbnail, and not a few pictures.

    Of several that play, one marked as default comes first, then the one with the most pixels in all its frames.

    Raises:
        UsageError: there is no video stream of this number that can be decoded.
    """
    if index is not None:
        return _by_number(container, path, index, "video")
    found = [stream for stream in container.streams.video if _plays(stream)]
    return max(found, key=_weight, default=None)


def need_video(container: Any, path: Path, chosen: Any | None) -> Any:
    """The chosen video stream.

    Raises:
        MediaError: there is none.
    """
    if chosen is None:
        found = "only sound" if len(container.streams.audio) else "no video stream that can be decoded"
        raise MediaError(f"{path} holds {found}; a video is needed")
    return chosen


def choose_audio(container: Any, path: Path, video: Any | None, index: int | None = None) -> Any | None:
    """The sound stream of a number, or the one that players play: the default one, else the first for all listeners.

    Of a transport stream with several programmes it is one of the picture's programme.

    Raises:
        UsageError: there is no sound stream of this number that can be decoded.
    """
    if index is not None:
        return _by_number(container, path, index, "audio")
    found = [stream for stream in container.streams.audio if _sounds(stream)]

    def beside(stream: Any) -> bool:
        """Whether FFmpeg finds the picture if it looks for one in the sound's programme."""
        return video is None or container.streams.best("video", related=stream) in (video, None)

    many = len(container.streams.video) > 1
    return max(
        found,
        key=lambda stream: (many and beside(stream), _has(stream, "default"), not _has(stream, *_FOR_SOME)),
        default=None,
    )


def why_no_frame(path: Path, stream: Any, tried: int) -> str:
    """A sentence about a video stream that gave no frame.

    Args:
        path: the file.
        stream: its video stream.
        tried: packets that could not be decoded.
    """
    if _is_animated_webp(path):
        return (
            f"{path} is an animated WebP, which FFmpeg's decoder cannot read; convert it to a video first, e.g. with "
            "ImageMagick: `magick FILE.webp FILE.gif`"
        )
    if tried:
        return (
            f"{path} has no frame that FFmpeg's decoder {stream.codec_context.name} can read ({tried} tried); it is "
            "damaged, or of a kind that this FFmpeg does not decode"
        )
    return f"{path} has no frame that can be decoded; is it cut short or damaged?"


def stream_infos(container: Any, video: Any, audio: Any) -> tuple[StreamInfo, ...]:
    """All streams of a container, and which are read."""
    chosen = {stream.index for stream in (video, audio) if stream is not None}
    return tuple(
        StreamInfo(
            index=stream.index,
            kind=stream.type,
            codec=None if stream.codec_context is None else stream.codec_context.name,
            form=_form(stream),
            language=stream.metadata.get("language"),
            default=_has(stream, "default"),
            chosen=stream.index in chosen,
        )
        for stream in container.streams
    )


def opened(path: Path, readable: Path | None = None) -> Any:
    """PyAV's container of a file, FFmpeg's errors as ours.

    Args:
        path: as it was named.
        readable: where it can be read; None for there.

    Raises:
        MediaError: it may not be read, or is not a media file.
    """
    try:
        return av.open(ffmpeg_name(readable or path))
    except PermissionError as error:
        if os.access(path, os.R_OK):
            raise MediaError(
                f"{path} is a list of other files, and FFmpeg does not open those that it names; give a video itself"
            ) from error
        raise MediaError(f"{path} may not be read: check its permissions") from error
    except (av.error.FFmpegError, OSError, ValueError, MemoryError) as error:
        refuse_if_short(error, starting_threads=True)
        reason = getattr(error, "strerror", None) or str(error)
        raise MediaError(f"{path} is not a video, or its header is cut short ({reason})") from error


def _is_animated_webp(path: Path) -> bool:
    """By the flag in its extended header."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(21)
    return len(head) == 21 and head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X" and bool(head[20] & 2)


def _by_number(container: Any, path: Path, index: int, kind: str) -> Any:
    usable = {"video": _decodes, "audio": _sounds}[kind]
    found = [stream.index for stream in getattr(container.streams, kind) if usable(stream)]
    if index not in found:
        numbers = " and ".join(map(str, found)) or "none"
        raise UsageError(
            f"{path} has no {kind} stream {index} that can be decoded; it has {numbers} (`dtfsal info` lists them)"
        )
    return container.streams[index]


def _decodes(stream: Any) -> bool:
    return stream.codec_context is not None


def _plays(stream: Any) -> bool:
    return _decodes(stream) and not _has(stream, "attached_pic", "timed_thumbnails")


def _sounds(stream: Any) -> bool:
    context = stream.codec_context
    return context is not None and bool(context.sample_rate) and bool(context.channels)


def _has(stream: Any, *names: str) -> bool:
    """Whether a stream has one of these marks; older versions of PyAV do not know all of them."""
    known = av.stream.Disposition
    return any(bool(stream.disposition & getattr(known, name)) for name in names if hasattr(known, name))


def _weight(stream: Any) -> tuple[bool, bool, int]:
    context, frames = stream.codec_context, stream.frames
    pictures = frames == 1 or (not frames and context.name in _PICTURE_CODECS)
    return not pictures, _has(stream, "default"), context.width * context.height * max(frames, 1)


def _form(stream: Any) -> str:
    context = stream.codec_context
    with contextlib.suppress(AttributeError):
        if stream.type == "video":
            return f"{context.width}x{context.height}"
        if stream.type == "audio":
            return f"{context.sample_rate} Hz, {context.layout.name}"
    return ""
