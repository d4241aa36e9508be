"""Media files through FFmpeg: opening them, their streams, and what can be decoded of damaged ones."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import av.error

from dtfsal.runtime.media.errors import MediaError


def open_container(path: Path) -> Any:
    """A file opened for reading, FFmpeg's errors as ours.

    Raises:
        MediaError: missing, a folder, empty, unreadable, or not a media file.
    """
    if not path.exists():
        raise MediaError(f"there is no file {path}")
    if path.is_dir():
        raise MediaError(f"{path} is a folder; give the video file itself")
    if path.is_file() and path.stat().st_size == 0:
        raise MediaError(f"{path} is empty")
    try:
        return av.open(str(path))
    except PermissionError as error:
        raise MediaError(f"{path} may not be read: check its permissions") from error
    except (av.error.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise MediaError(f"{path} is not a video, or its header is cut short ({reason})") from error


def video_stream(container: Any, path: Path) -> Any:
    """The first video stream that can be decoded; cover art does not count.

    Raises:
        MediaError: there is none.
    """
    pictures = av.stream.Disposition.attached_pic
    for stream in container.streams.video:
        if not stream.disposition & pictures and stream.codec_context is not None:
            return stream
    found = "only sound" if len(container.streams.audio) else "no video stream that can be decoded"
    raise MediaError(f"{path} holds {found}; a video is needed")


def audio_stream(container: Any) -> Any | None:
    """The first sound stream that can be decoded, or None."""
    for stream in container.streams.audio:
        context = stream.codec_context
        if context is not None and context.sample_rate and context.channels:
            return stream
    return None


def packets(container: Any, stream: Any) -> Iterator[Any]:
    """A stream's packets; where the file is cut off or its structure broken, they end."""
    demuxed = container.demux(stream)
    while True:
        try:
            packet = next(demuxed, None)
        except (av.error.FFmpegError, OSError):
            return
        if packet is None:
            return
        yield packet


def decoded(container: Any, stream: Any, *, on_damage: Callable[[Any], None]) -> Iterator[Any]:
    """A stream's decoded frames; `on_damage` is told of each packet that cannot be decoded."""
    for packet in packets(container, stream):
        try:
            yield from packet.decode()
        except (av.error.FFmpegError, OSError):
            on_damage(packet)
