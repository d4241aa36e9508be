"""Which frames a video has, from its packets alone, so that its reading can begin in the middle.

A video can be entered if its packets tell every frame's time and where decoding may begin. That is so for the usual
containers; it is not for AVI and elementary streams, which know no times, and for clocks that restart. What the packets
say is only a claim: whoever reads a part holds each decoded frame to it (`VideoReader.restrict`).
"""

import dataclasses
import os
from fractions import Fraction

import av.error
import numpy as np
import numpy.typing as npt

from dtfsal.runtime.media.container import MediaFile, counts_slots
from dtfsal.runtime.media.errors import MediaError

Ticks = npt.NDArray[np.int64]
_ENTRIES = 3  # places where the decoding of a part may begin


class SegmentError(MediaError):
    """A video cannot be read in parts; it can be predicted as a whole. Exit code 3."""


@dataclasses.dataclass(frozen=True, eq=False)
class FramePart:
    """Frames of a video that follow each other.

    Attributes:
        first: the number of the first.
        ticks: (n,) presentation times in the stream's time base.
        zero_ticks: that of the video's first frame.
        entries: decoding times of the key frames before it where decoding may begin, the nearest last.
    """

    first: int
    ticks: Ticks
    zero_ticks: int
    entries: tuple[int, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class FrameIndex:
    """All frames of a video, in order of time.

    Attributes:
        ticks: (N,) presentation times in the stream's time base, rising.
        keys: (K,) those of key frames, rising.
        key_packets: (K,) their decoding times, by which formats that have no table of key frames are searched.
        time_base: seconds of a tick.
    """

    ticks: Ticks
    keys: Ticks
    key_packets: Ticks
    time_base: Fraction

    def __len__(self) -> int:
        return len(self.ticks)

    def seconds(self) -> npt.NDArray[np.float64]:
        """(N,) times, 0 at the first frame: the numbers that `VideoReader` gives."""
        zero = int(self.ticks[0])
        return np.array([float((int(tick) - zero) * self.time_base) for tick in self.ticks], np.float64)

    def part(self, frames: range) -> FramePart:
        """The part of some frames."""
        ticks = self.ticks[frames.start : frames.stop]
        entries = self.key_packets[: np.searchsorted(self.keys, ticks[0], side="right")][-_ENTRIES:]
        return FramePart(frames.start, ticks, int(self.ticks[0]), tuple(int(entry) for entry in entries))


def index_frames(path: str | os.PathLike[str], *, video_stream: int | None = None) -> FrameIndex:
    """Read a video's packets, and decode nothing.

    Args:
        path: the file.
        video_stream: the number of the video stream; None for the main one.

    Raises:
        SegmentError: they do not tell when each frame is shown.
        MediaError: the file cannot be opened or holds no video.
    """
    ticks, keys = [], []
    with MediaFile(path, video_stream=video_stream) as media:
        stream = media.need_video()
        if counts_slots(media.container) or media.spooled_bytes:
            raise SegmentError(f"{path} cannot be read in parts: its container tells no times, or it is a pipe")
        try:
            for packet in media.packets(stream, raising=True):
                if not packet.size or packet.is_discard:
                    continue
                if packet.pts is None or packet.is_corrupt:
                    raise SegmentError(f"{path} cannot be read in parts: a packet is damaged or has no time")
                ticks.append(packet.pts)
                if packet.is_keyframe:
                    keys.append((packet.pts, packet.pts if packet.dts is None else packet.dts))
        except (av.error.FFmpegError, OSError) as error:
            raise SegmentError(f"{path} cannot be read in parts: it is cut short or damaged ({error})") from error
        if media.bridge.jumps:
            raise SegmentError(f"{path} cannot be read in parts: its clock restarts or jumps")
        base = stream.time_base
    order = np.sort(np.array(ticks, np.int64))
    if not len(order) or not keys or base is None or (np.diff(order) <= 0).any() or min(keys)[0] != order[0]:
        raise SegmentError(
            f"{path} cannot be read in parts: two of its frames have one time, or it begins in the middle"
        )
    entered = np.array(sorted(keys), np.int64)
    return FrameIndex(order, entered[:, 0], entered[:, 1], base)
