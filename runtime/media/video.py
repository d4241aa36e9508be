"""Video in: frames with their times, from any container FFmpeg reads.

Time comes from timestamps. 0 is the first frame's; `start_seconds` says where that lies in the container's own time,
which is how sound is brought onto the same line (`dtfsal.runtime.media.audio_reader`).
"""

import dataclasses
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import av
import av.error
import numpy as np
import numpy.typing as npt

from dtfsal.engines.errors import UsageError
from dtfsal.engines.raw_inputs import Matrix, Picture, YuvPicture
from dtfsal.runtime.frontend.preprocess import resize_frame
from dtfsal.runtime.media.container import audio_stream, decoded, open_container, video_stream
from dtfsal.runtime.media.errors import MediaError

MAX_SIDE = 16384  # pixels; a larger frame is a damaged header more likely than a video
FALLBACK_RATE_HZ = 25.0  # of a source that states no rate
PLAUSIBLE_RATES_HZ = (0.01, 1000.0)
# FFmpeg's names of 8-bit 4:2:0 in planes of their own, and whether levels run from 0 to 255.
_YUV_FORMATS = {"yuv420p": False, "yuvj420p": True}
_FULL_RANGE = 2  # AVCOL_RANGE_JPEG
# By AVColorSpace; FFmpeg takes BT.601 where nothing is said.
_MATRICES: dict[int, Matrix] = {
    1: "bt709",
    2: "bt601",
    4: "fcc",
    5: "bt601",
    6: "bt601",
    7: "smpte240m",
    9: "bt2020",
}
# A frame that repeats or precedes its predecessor's time is put this share of a frame interval after it.
REPEATED_TIME_SHIFT = 0.1


@dataclasses.dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """What a video says of itself.

    Attributes:
        path: the file.
        container: FFmpeg's name of the format.
        codec: of the video.
        pixel_format: FFmpeg's name.
        width: in pixels, as displayed (after rotation).
        height: in pixels, as displayed.
        rotation_degrees: counter-clockwise turn from the stored to the displayed picture: 0, 90, 180 or 270.
        frame_interval_seconds: time between frames on average.
        duration_seconds: None where the file does not say.
        frame_count: as the file states it; None where it does not.
        start_seconds: time of the first frame in the container.
        has_audio: whether there is sound to decode.
        audio_codec: None without sound, as the two below.
        audio_sample_rate_hz: of the source.
        audio_channels: of the source.
    """

    path: str
    container: str
    codec: str
    pixel_format: str
    width: int
    height: int
    rotation_degrees: int
    frame_interval_seconds: float
    duration_seconds: float | None
    frame_count: int | None
    start_seconds: float
    has_audio: bool
    audio_codec: str | None
    audio_sample_rate_hz: int | None
    audio_channels: int | None


@dataclasses.dataclass(frozen=True, slots=True)
class PictureFrame:
    """A decoded frame as `Frame`, but as the decoder gave it: a picture of the source's size, RGB or YUV."""

    index: int
    time_seconds: float
    picture: Picture


@dataclasses.dataclass(frozen=True, slots=True)
class Frame:
    """A decoded frame: number from 0, time in seconds from the first frame, RGB (H, W, 3) uint8 as displayed."""

    index: int
    time_seconds: float
    rgb: npt.NDArray[np.uint8]


def probe(path: str | os.PathLike[str]) -> VideoInfo:
    """What a video says of itself; its first frame is decoded, so a file that has none is found out.

    Raises:
        MediaError: the file is not a video with at least one frame.
    """
    with VideoReader(path) as reader:
        return reader.info


class VideoReader:
    """The frames of a video, once, in order of time.

    A frame that the decoder repaired counts in `concealed_frames`, one that it gave up in `skipped_frames`; both leave
    the times of the others as they are. Memory holds one frame, whatever the length.

        with VideoReader("clip.mp4", size=(224, 384)) as reader:
            for frame in reader: ...
    """

    def __init__(self, path: str | os.PathLike[str], *, size: tuple[int, int] | None = None) -> None:
        """Open a video and decode its first frame.

        Args:
            path: the file.
            size: (height, width) to resize frames to, as `resize_frame` does; None keeps the source's.

        Raises:
            MediaError: the file is not a video with at least one frame.
        """
        self._path = Path(path)
        self._size = size
        self.concealed_frames = 0
        self.skipped_frames = 0
        self._container = open_container(self._path)
        try:
            self._stream = video_stream(self._container, self._path)
            self._stream.thread_type = "AUTO"
            self._decoded = self._decode()
            self._first = next(self._decoded, None)
            if self._first is None:
                raise MediaError(f"{self._path} has no frame that can be decoded; is it cut short or damaged?")
            self.info = self._describe(self._first)
        except BaseException:
            self._container.close()
            raise

    def __iter__(self) -> Iterator[Frame]:
        """Frames from the first on; a reader can be gone through once."""
        for index, seconds, picture in self._timed():
            yield Frame(index, seconds, self._rgb(picture))

    def pictures(self) -> Iterator[PictureFrame]:
        """As iteration, but of frames as they were decoded, whatever their size: YUV of 8 bits is not converted."""
        for index, seconds, picture in self._timed():
            yuv = None if self.info.rotation_degrees else yuv_picture(picture)
            if yuv is None:
                yield PictureFrame(index, seconds, np.ascontiguousarray(self._displayed(picture)))
            else:
                yield PictureFrame(index, seconds, yuv)

    def _timed(self) -> Iterator[tuple[int, float, Any]]:
        """Numbers, times and decoded pictures."""
        interval, previous = self.info.frame_interval_seconds, -math.inf
        index = 0
        picture, self._first = self._first, None
        if picture is None:
            raise UsageError("a VideoReader can be read once; open another to read the video again")
        while picture is not None:
            time = _time_of(picture)
            seconds = previous + interval if time is None else time - self.info.start_seconds
            if index == 0:
                seconds = 0.0
            elif seconds <= previous:
                seconds = previous + REPEATED_TIME_SHIFT * interval
            yield index, seconds, picture
            previous = seconds
            index += 1
            picture = next(self._decoded, None)

    def close(self) -> None:
        """Close the file; safe to call twice."""
        self._container.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _decode(self) -> Iterator[Any]:
        """Decoded pictures, damage counted."""

        def skipped(_packet: Any) -> None:
            self.skipped_frames += 1

        for picture in decoded(self._container, self._stream, on_damage=skipped):
            if picture.is_corrupt:
                self.concealed_frames += 1
            yield picture

    def _rgb(self, picture: Any) -> npt.NDArray[np.uint8]:
        size = self._size or (self.info.height, self.info.width)  # a stream may change its size on the way
        return resize_frame(self._displayed(picture), *size)

    def _displayed(self, picture: Any) -> npt.NDArray[np.uint8]:
        """(H, W, 3), turned as it is displayed."""
        try:
            rgb = picture.to_ndarray(format="rgb24")
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise MediaError(
                f"{self._path}: pixels of the kind {picture.format.name} with its colours cannot be converted to RGB "
                f"({error}); convert the video first, e.g. with `ffmpeg -i VIDEO -pix_fmt yuv420p OTHER.mp4`"
            ) from error
        return np.rot90(rgb, self.info.rotation_degrees // 90)

    def _describe(self, first: Any) -> VideoInfo:
        stream, container = self._stream, self._container
        if max(first.width, first.height) > MAX_SIDE:
            raise MediaError(
                f"{self._path} is {first.width}x{first.height}; frames up to {MAX_SIDE} pixels a side can be read"
            )
        rotation = round(first.rotation / 90) * 90 % 360
        width, height = (first.height, first.width) if rotation in (90, 270) else (first.width, first.height)
        duration = stream.duration * stream.time_base if stream.duration and stream.time_base else None
        if duration is None and container.duration:
            duration = container.duration / av.time_base
        audio = audio_stream(container)
        return VideoInfo(
            path=str(self._path),
            container=container.format.name,
            codec=stream.codec_context.name,
            pixel_format=first.format.name,
            width=width,
            height=height,
            rotation_degrees=rotation,
            frame_interval_seconds=_frame_interval(stream),
            duration_seconds=None if duration is None else float(duration),
            frame_count=stream.frames or None,
            start_seconds=_time_of(first) or 0.0,
            has_audio=audio is not None,
            audio_codec=audio and audio.codec_context.name,
            audio_sample_rate_hz=audio and audio.codec_context.sample_rate,
            audio_channels=audio and audio.codec_context.channels,
        )


def yuv_picture(picture: Any) -> YuvPicture | None:
    """A decoded picture's planes, without a copy where that can be, or None if it is not 4:2:0 of 8 bits.

    Pictures of odd size and rare colours are left to FFmpeg too, which treats them in ways of its own.
    """
    full = _YUV_FORMATS.get(picture.format.name)
    matrix = _MATRICES.get(int(picture.colorspace))
    if full is None or matrix is None or picture.width % 2 or picture.height % 2:
        return None
    if int(picture.color_range) == _FULL_RANGE:
        full = True
    halves = (1, 2, 2)
    y, u, v = (
        np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: picture.height // half, : picture.width // half]
        for plane, half in zip(picture.planes, halves, strict=True)
    )
    return YuvPicture(y, u, v, matrix, full)


def _time_of(picture: Any) -> float | None:
    if picture.pts is None or picture.time_base is None:
        return None
    return float(picture.pts * picture.time_base)


def _frame_interval(stream: Any) -> float:
    lowest, highest = PLAUSIBLE_RATES_HZ
    for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate):
        if rate and lowest <= rate <= highest:
            return float(1 / rate)
    return 1 / FALLBACK_RATE_HZ
