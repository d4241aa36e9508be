"""The sound beside a video that is written: copied where that is safe, encoded anew where it is not."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np

from dtfsal.runtime.media.container import MediaFile
from dtfsal.runtime.media.errors import MediaError
from dtfsal.runtime.media.sound_line import JUMP_SECONDS, SoundLine

# What players play in a container, not what a muxer takes: 24-bit PCM in MP4, for one, is noise in older players.
_MP4 = frozenset({"aac", "mp3", "ac3", "eac3", "alac"})
_MATROSKA = _MP4 | {"mp2", "opus", "vorbis", "flac", "dts", "truehd", "pcm_s16le", "pcm_s24le"}
_COPIED = {
    "mp4": _MP4,
    "ipod": frozenset({"aac", "alac"}),
    "mov": frozenset({"aac", "mp3", "ac3", "alac", "pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be"}),
    "matroska": _MATROSKA,
}
# Containers whose packets are whole frames with times of their own.
_COPIED_FROM = ("mp4", "matroska", "mpegts", "flv")
_LOWEST_MP3_HZ = 16000  # below, it is MPEG-2.5, which MP4 does not have
# Of AAC, up to what all players take.
AAC_RATES_HZ = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
ENCODED_SAMPLES = 8192  # at a time
# Packets that end so long before the picture begins are left out.
_EARLY_SECONDS = 0.1
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


class SoundTrack:
    """Sound muxed in step with the frames, so that neither has to be held. Without a source, nothing.

    Args:
        container: that is being written, before its first packet.
        path: the file whose sound to keep.
        start_seconds: the time in that file that is 0 in the container.
        video_stream: the stream whose clock `start_seconds` is on; None for the main one.
        audio_stream: the stream to keep; None for the default one.

    Attributes:
        note: what became of a sound that could not be kept; None if nothing is to be said.
    """

    def __init__(
        self,
        container: Any,
        path: Path | None,
        *,
        start_seconds: float,
        video_stream: int | None = None,
        audio_stream: int | None = None,
    ) -> None:
        self.note: str | None = None
        self._container = container
        self._packets: Iterator[Any] = iter(())
        self._next: Any | None = None
        self._media: MediaFile | None = None
        if path is None:
            return
        try:
            streams = {"video_stream": video_stream, "audio_stream": audio_stream}
            self._media = MediaFile(path, **streams)
            if self._media.audio is not None:
                with MediaFile(path, **streams) as other:
                    copied = _copies_well(other, other.audio, container.format.name)
                self._packets = self._begin(self._media, self._media.audio, start_seconds, copied=copied)
        except (av.error.FFmpegError, OSError, ValueError, MediaError) as error:
            self.give_up(error)

    def give_up(self, error: BaseException) -> None:
        """Go on without sound; a full disk is not the sound's fault, and is raised."""
        if isinstance(error, OSError) and error.errno in _NO_SPACE:
            raise error
        reason = getattr(error, "strerror", None) or str(error)
        self.note = f"the sound could not be kept to its end ({reason}); the maps are complete"
        self._packets, self._next = iter(()), None

    def copy_until(self, seconds: float | None) -> None:
        """Mux the packets up to a video time; None is the end."""
        try:
            while (packet := self._next or next(self._packets, None)) is not None:
                self._next = None
                if seconds is not None and packet.pts is not None and packet.pts * packet.time_base > seconds:
                    self._next = packet
                    return
                self._container.mux(packet)
        except (av.error.FFmpegError, OSError, ValueError, MediaError) as error:
            self.give_up(error)

    def close(self) -> None:
        """Close the file that the sound comes from."""
        if self._media is not None:
            self._media.close()

    def _begin(self, media: MediaFile, stream: Any, start_seconds: float, *, copied: bool) -> Iterator[Any]:
        if copied:
            with contextlib.suppress(av.error.FFmpegError, ValueError):
                target = self._container.add_stream_from_template(stream)
                return _copied(media, stream, target, start_seconds)
        rate = next((rate for rate in AAC_RATES_HZ if rate >= stream.codec_context.sample_rate), AAC_RATES_HZ[-1])
        target = self._container.add_stream("aac", rate=rate)
        target.layout = "mono" if stream.codec_context.channels == 1 else "stereo"
        return _encoded(media, stream, target, start_seconds)


def _copies_well(media: MediaFile, stream: Any, target: str) -> bool:
    """Whether a sound's packets can stand in a container as they are: a kind that is played, without gap or overlap."""
    codec = stream.codec_context.name
    source = media.container.format.name.split(",")
    if codec not in _COPIED.get(target, ()) or not set(source) & set(_COPIED_FROM):
        return False
    if codec == "mp3" and stream.codec_context.sample_rate < _LOWEST_MP3_HZ:
        return False
    due: float | None = None
    last_dts = first_form = None
    for packet in media.packets(stream):
        if packet.size == 0:
            continue
        if packet.pts is None or packet.dts is None or (last_dts is not None and packet.dts <= last_dts):
            return False
        last_dts = packet.dts
        form = _adts_form(packet) if codec == "aac" else None
        if form != (first_form := form if due is None else first_form):
            return False
        seconds = float(packet.pts * packet.time_base)
        if due is not None and abs(seconds - due) >= JUMP_SECONDS:
            return False
        duration = float((packet.duration or 0) * packet.time_base)
        # Durations are exact; times are rounded to the container's steps.
        due = (seconds if due is None or not duration else due) + duration
    return due is not None and media.bridge.jumps == 0


def _adts_form(packet: Any) -> tuple[int, ...] | None:
    """Rate and channels as a packet of AAC in a transport stream says them for itself; containers say them once."""
    head = bytes(packet)[:4]
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xF6 != 0xF0:
        return None
    return head[1], head[2], head[3] & 0xC0


def _copied(media: MediaFile, stream: Any, target: Any, start_seconds: float) -> Iterator[Any]:
    shift = round(start_seconds / stream.time_base)
    for packet in media.packets(stream):
        if packet.dts is None or packet.pts is None:
            continue
        packet.pts -= shift
        packet.dts -= shift
        if (packet.pts + (packet.duration or 0)) * packet.time_base < -_EARLY_SECONDS:
            continue
        packet.stream = target
        yield packet


def _encoded(media: MediaFile, stream: Any, target: Any, start_seconds: float) -> Iterator[Any]:
    """AAC from time 0 on: gaps are silence, and what overlaps is cut."""
    line = SoundLine(target.rate, layout=target.layout.name)
    position = 0

    def frames(pieces: Iterator[Any]) -> Iterator[Any]:
        nonlocal position
        for piece in pieces:
            for first in range(0, piece.shape[-1], ENCODED_SAMPLES):
                samples = np.array(piece[..., first : first + ENCODED_SAMPLES], np.float32, ndmin=2)
                frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=target.layout.name)
                frame.sample_rate, frame.time_base, frame.pts = target.rate, Fraction(1, target.rate), position
                position += samples.shape[1]
                yield from target.encode(frame)

    for heard in media.decoded(stream, on_damage=lambda _packet: None):
        time = None if heard.pts is None else float(heard.pts * heard.time_base) - start_seconds
        yield from frames(line.push(heard, time))
    yield from frames(line.flush())
    yield from target.encode(None)
