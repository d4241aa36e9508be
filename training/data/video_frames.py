"""The frames of a video file by number, decoded when they are asked for: an index tells where a decoder must start.

Frames, their numbers and their times are those of `dtfsal.runtime.media.video.VideoReader`, which reads a file from its
start only. Files whose frames have no usable timestamps are read so here, too.
"""

import contextlib
import dataclasses
import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
import numpy.typing as npt

from dtfsal.engines.errors import UsageError
from dtfsal.runtime.frontend.preprocess import resize_frame
from dtfsal.runtime.media.container import choose_video, ffmpeg_name
from dtfsal.runtime.media.errors import MediaError
from dtfsal.runtime.media.video import VideoInfo, VideoReader
from dtfsal.training.data.stills import DataError, Rgb
from dtfsal.training.data.video_item import Times

TRIES = 3  # key frames to go back to before the file is read from its start
VERIFIED_FRAMES = 6  # of a new index

Numbered = Iterator[tuple[int, Callable[[], Rgb]]]  # frames with their numbers, converted to RGB when called

# Decoders that belong to a parent process: to free them would wait for threads that a fork does not take along.
_left_to_parent: list[Any] = []


@dataclasses.dataclass(frozen=True)
class FrameIndex:
    """Where a file's frames are.

    Attributes:
        times_seconds: (n,), increasing from 0.
        pts: (n,) presentation timestamps in the stream's units; (0,) where frames can only be read in order.
        keyframes: (k,) numbers of the frames that a decoder can start at.
        size: height and width as displayed.
        rotation_degrees: counter-clockwise turn from the stored to the displayed picture.
    """

    times_seconds: Times
    pts: npt.NDArray[np.int64]
    keyframes: npt.NDArray[np.int64]
    size: tuple[int, int]
    rotation_degrees: int


def index_frames(path: Path) -> tuple[VideoInfo, FrameIndex]:
    """Decode a video once and note where its frames are; some are then read by the index and compared.

    Raises:
        MediaError: the file is not a video with at least one frame.
    """
    times: list[float] = []
    pts: list[int] = []
    keyframes: list[int] = []
    checked: dict[int, Rgb] = {}
    with VideoReader(path) as reader, av.open(ffmpeg_name(path)) as container:
        info = reader.info
        # The reader does not report the container's timestamps; a second decoder does.
        pictures = _pictures(container, choose_video(container, path))
        for frame in reader:
            picture = next(pictures, None)
            if picture is None or picture.pts is None or (pts and picture.pts <= pts[-1]):
                pictures = iter(())
            else:
                pts.append(picture.pts)
                if picture.key_frame:
                    keyframes.append(frame.index)
            times.append(frame.time_seconds)
            if frame.index & (frame.index - 1) == 0:  # 0, 1, 2, 4, 8, ...: few, wherever the end may be
                checked[frame.index] = frame.rgb
                checked = dict(sorted(checked.items())[-VERIFIED_FRAMES:])
    # A seek must find the times that the reader gave; it does not mend clocks, and it does not mirror.
    sought = len(pts) == len(times) and keyframes[:1] == [0] and not reader.clock_jumps and not info.mirrored
    index = FrameIndex(
        np.array(times, np.float64),
        np.array(pts if sought else [], np.int64),
        np.array(keyframes if sought else [], np.int64),
        (info.height, info.width),
        info.rotation_degrees,
    )
    if sought:
        frames = VideoFrames(path, index)
        backwards = sorted(checked, reverse=True)  # so that each is sought
        if any(not np.array_equal(frames.read(number), checked[number]) for number in backwards):
            none = np.empty(0, np.int64)
            index = dataclasses.replace(index, pts=none, keyframes=none)
        frames.close()
    return info, index


def count_frames(path: Path, expected: int) -> int:
    """How many frames a video has: as many as packets if that is what is expected, else as many as it decodes to.

    Raises:
        MediaError: it is not a video.
    """
    try:
        with av.open(ffmpeg_name(path)) as container:
            stream = choose_video(container, path)
            packets = sum(packet.size > 0 for packet in container.demux(stream))
    except (av.error.FFmpegError, OSError) as error:
        raise MediaError(f"{path} cannot be read as a video ({error})") from error
    if packets == expected:
        return packets
    with VideoReader(path) as reader:
        return sum(1 for _ in reader)


class VideoFrames:
    """Reads frames of a file by number. Frames in order cost one decoding each; a jump costs those since a key frame.

    A process that was forked opens the file again, and so does one that an instance was sent to.

    Args:
        path: the file.
        index: what `index_frames` found.
    """

    def __init__(self, path: Path, index: FrameIndex) -> None:
        self._path, self._index = path, index
        self._process = os.getpid()
        self._container: Any = None
        self._stream: Any = None
        self._frames: Numbered | None = None
        self._next = 0
        self._last: tuple[int, Rgb] | None = None

    def read(self, number: int) -> Rgb:
        """A frame, (H, W, 3) uint8, shared with the next call for the same one: not to be written to.

        Raises:
            UsageError: there is no such frame.
            DataError: it cannot be decoded, or the file is not the one that was indexed.
        """
        count = len(self._index.times_seconds)
        if not 0 <= number < count:
            raise UsageError(f"{self._path} has the frames 0 to {count - 1}, not {number}")
        if self._process != os.getpid():
            _left_to_parent.extend((self._container, self._frames))
            self._forget()
        if self._last is None or self._last[0] != number:
            try:
                self._last = number, self._decode(number)
            except (av.error.FFmpegError, MediaError, OSError) as error:
                self.close()
                raise DataError(
                    f"{self._path}: frame {number} cannot be decoded ({error}); restore the file, or prepare it again"
                ) from error
        return self._last[1]

    def close(self) -> None:
        """Close the file; a later read opens it again."""
        if self._container is not None and self._process == os.getpid():
            self._container.close()
        self._forget()

    def __getstate__(self) -> tuple[Path, FrameIndex]:
        return self._path, self._index

    def __setstate__(self, state: tuple[Path, FrameIndex]) -> None:
        VideoFrames.__init__(self, *state)

    def _forget(self) -> None:
        """As if nothing had been opened."""
        VideoFrames.__init__(self, self._path, self._index)

    def _decode(self, number: int) -> Rgb:
        if not len(self._index.pts):
            return self._in_order(number, restart=number < self._next)
        keyframes = self._index.keyframes
        before = int(np.searchsorted(keyframes, number, side="right")) - 1
        near = keyframes[before] <= self._next <= number  # nothing is won by seeking
        if self._frames is not None and near and (rgb := self._advance(number)) is not None:
            return rgb
        for back in range(min(TRIES, before + 1)):
            # Containers seek by the order of decoding, which may lead past the frame.
            self._seek(int(keyframes[before - back]))
            if (rgb := self._advance(number)) is not None:
                return rgb
        return self._in_order(number, restart=True)

    def _advance(self, number: int) -> Rgb | None:
        """The frame, if the decoder comes by it from where it is."""
        assert self._frames is not None
        for found, to_rgb in self._frames:
            self._next = found + 1
            if found == number:
                return to_rgb()
            if found > number:
                break
        self._frames = None
        return None

    def _seek(self, keyframe: int) -> None:
        if self._container is None:
            self._container = av.open(ffmpeg_name(self._path))
            self._stream = choose_video(self._container, self._path)
        self._container.seek(int(self._index.pts[keyframe]), stream=self._stream)
        self._frames = self._from_here()

    def _from_here(self) -> Numbered:
        """Frames from where the container stands."""
        pts = self._index.pts
        for picture in _pictures(self._container, self._stream):
            if picture.pts is None:
                return
            number = int(np.searchsorted(pts, picture.pts))
            if number < len(pts) and pts[number] == picture.pts:
                yield number, functools.partial(self._rgb, picture)

    def _rgb(self, picture: Any) -> Rgb:
        rgb = np.rot90(picture.to_ndarray(format="rgb24"), self._index.rotation_degrees // 90)
        return resize_frame(rgb, *self._index.size)  # a stream may change its size on the way

    def _in_order(self, number: int, *, restart: bool) -> Rgb:
        """The frame, by a reader that begins at the file's start."""
        if restart or self._frames is None:
            self._next = 0
            self._frames = ((frame.index, functools.partial(_same, frame.rgb)) for frame in VideoReader(self._path))
        rgb = self._advance(number)
        if rgb is None:
            raise MediaError("the file ends before it")
        return rgb


class GreyFrames(VideoFrames):
    """The frames of a video of maps, with as many levels as the file has."""

    def read_map(self, number: int) -> npt.NDArray[np.float32]:
        """A map, (H, W), not negative, on the file's own scale; see `read`."""
        values = np.asarray(self.read(number), np.float32)
        return values if values.ndim == 2 else values.mean(axis=2)  # frames that can only be read in order are RGB

    def _rgb(self, picture: Any) -> Any:
        return picture.to_ndarray(format="gray16le")


def _same(rgb: Rgb) -> Rgb:
    return rgb


def _pictures(container: Any, stream: Any) -> Iterator[Any]:
    """Decoded pictures from where the container stands; what cannot be decoded is passed over."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except (av.error.FFmpegError, OSError):
            return
        if packet is None:
            return
        with contextlib.suppress(av.error.FFmpegError, OSError):
            yield from packet.decode()
