"""Video in: frames with their times, from any container FFmpeg reads.

Time comes from timestamps. 0 is the first frame's; `start_seconds` says where that lies in the container's own time,
which is how sound is brought onto the same line (`dtfsal.runtime.media.audio_reader`).
"""

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import av
import av.error
import numpy as np
import numpy.typing as npt

from dtfsal.engines.errors import UsageError
from dtfsal.engines.raw_inputs import Picture
from dtfsal.runtime.frontend.preprocess import resize_frame
from dtfsal.runtime.media.clock import FrameTimes
from dtfsal.runtime.media.container import (
    MediaFile,
    StreamInfo,
    clock_bridge,
    counts_slots,
    frame_interval,
    refuse_if_short,
    why_no_frame,
)
from dtfsal.runtime.media.errors import MediaError
from dtfsal.runtime.media.frame_index import FramePart, SegmentError
from dtfsal.runtime.media.picture import Colours, Orientation, to_rgb, yuv_picture

MAX_SIDE = 16384  # pixels; a larger frame is a damaged header more likely than a video


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
        mirrored: whether the picture is mirrored left to right after that turn.
        pixel_aspect: width and height of a displayed pixel, as a ratio: (1, 1) for square ones.
        colours: what the numbers of its pixels mean.
        frame_interval_seconds: time between frames on average.
        duration_seconds: None where the file does not say.
        frame_count: as the file states it; None where it does not.
        start_seconds: time of the first frame in the container.
        has_audio: whether there is sound to decode.
        video_stream: number of the stream that is read.
        audio_stream: number of the sound stream that is read; None without sound.
        streams: all streams of the file.
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
    mirrored: bool = False
    pixel_aspect: tuple[int, int] = (1, 1)
    colours: Colours = dataclasses.field(default_factory=Colours)
    frame_interval_seconds: float
    duration_seconds: float | None
    frame_count: int | None
    start_seconds: float
    has_audio: bool
    audio_codec: str | None
    audio_sample_rate_hz: int | None
    audio_channels: int | None
    video_stream: int = 0
    audio_stream: int | None = None
    streams: tuple[StreamInfo, ...] = ()

    @property
    def expected_frames(self) -> int | None:
        """How many frames will probably come: as the file states, or by its duration; None where it says neither."""
        if self.frame_count:
            return self.frame_count
        if self.duration_seconds:
            return max(1, round(self.duration_seconds / self.frame_interval_seconds))
        return None


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


def probe(
    path: str | os.PathLike[str], *, video_stream: int | None = None, audio_stream: int | None = None
) -> VideoInfo:
    """What a video says of itself; its first frame is decoded, so a file that has none is found out.

    Args:
        path: the file.
        video_stream: the number of the video stream to read; None for the main one.
        audio_stream: the number of the sound stream to read; None for the default one.

    Raises:
        MediaError: the file is not a video with at least one frame.
        UsageError: there is no such stream.
    """
    with VideoReader(path, video_stream=video_stream, audio_stream=audio_stream) as reader:
        return reader.info


class VideoReader:
    """The frames of a video, once, in order of time.

    A frame that the decoder repaired counts in `concealed_frames`, one that it gave up in `skipped_frames`; both leave
    the times of the others as they are. Memory holds one frame, whatever the length.

        with VideoReader("clip.mp4", size=(224, 384)) as reader:
            for frame in reader: ...
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        size: tuple[int, int] | None = None,
        video_stream: int | None = None,
        audio_stream: int | None = None,
    ) -> None:
        """Open a video and decode its first frame.

        Args:
            path: the file.
            size: (height, width) to resize frames to, as `resize_frame` does; None keeps the source's.
            video_stream: the number of the stream to read; None for the main one.
            audio_stream: the number of the sound stream beside it, which `info` describes; None for the default one.

        Raises:
            MediaError: the file is not a video with at least one frame.
            UsageError: there is no such stream.
        """
        self._path = Path(path)
        self._size = size
        self.concealed_frames = 0
        self.skipped_frames = 0
        self._part: FramePart | None = None
        self._media = MediaFile(path, video_stream=video_stream, audio_stream=audio_stream)
        try:
            self._stream = self._media.need_video()
            self._stream.thread_type = "AUTO"
            by_slot = counts_slots(self._media.container)
            self._times = FrameTimes(frame_interval(self._stream), by_slot=by_slot)
            self._decoded = self._decode()
            self._first = next(self._decoded, None)
            if self._first is None:
                raise MediaError(why_no_frame(self._path, self._stream, self.skipped_frames))
            self._orientation = Orientation.of(self._first, self._media.encoded)
            self._first_seconds = self._times.seconds(self._first)
            start = self._media.bridge.first_seconds(self._stream.index) if by_slot else None
            self.info = self._describe(self._first, self._times.start_seconds if start is None else start)
        except BaseException:
            self._media.close()
            raise

    @property
    def clock_jumps(self) -> int:
        """How often so far the file's clock restarted or jumped, and was bridged."""
        return self._media.bridge.jumps

    def count_clock_jumps(self) -> int | None:
        """`clock_jumps` of the whole file, which is read on for it and not decoded; nothing can be read after that.

        None for a format whose clocks do not jump: such files may be large, and are not read.
        """
        if not self._media.bridge.clocks_jump:
            return None
        for _ in self._media.packets(self._stream):
            pass
        return self.clock_jumps

    @property
    def notes(self) -> tuple[str, ...]:
        """What was done with the file that its user may want to know, a sentence each."""
        notes = []
        if self._media.spooled_bytes:
            notes.append(
                f"{self._path} can be read once only; its {self._media.spooled_bytes / 2**20:.1f} MiB were kept in a "
                "temporary file"
            )
        if jumps := self.clock_jumps:
            times = "once" if jumps == 1 else f"{jumps} times"
            notes.append(f"the video's clock restarts or jumps {times}; picture and sound go on there without a gap")
        colours = self.info.colours
        if colours.hdr:
            notes.append(
                f"the video is HDR ({colours.hdr}); its levels are read as they are, without tone mapping, and an "
                "overlay keeps its colours in 8 bits"
            )
        if colours.is_guessed:
            notes.append(
                f"FFmpeg does not convert the video's colours ({colours.matrix_name}); they are read as BT.2020, so "
                "hues are wrong"
            )
        return tuple(notes)

    def __iter__(self) -> Iterator[Frame]:
        """Frames from the first on; a reader can be gone through once."""
        for index, seconds, picture in self.decoded():
            yield Frame(index, seconds, self._rgb(picture))

    def pictures(self) -> Iterator[PictureFrame]:
        """As iteration, but of frames as they were decoded, whatever their size: YUV of 8 bits is not converted."""
        for index, seconds, picture in self.decoded():
            yuv = yuv_picture(picture) if self._orientation == Orientation() else None
            if yuv is None:
                yield PictureFrame(index, seconds, np.ascontiguousarray(self._displayed(picture)))
            else:
                yield PictureFrame(index, seconds, yuv)

    def restrict(self, part: FramePart) -> None:
        """Read a part of the video alone, with its frames' own numbers and times; before anything else is read.

        Reading then raises a `SegmentError` where the decoder gives other frames than the part says.
        """
        self._part = part

    def decoded(self) -> Iterator[tuple[int, float, Any]]:
        """As iteration, but PyAV's frames as they are stored, each behind its number and its time in seconds."""
        if self._part is not None:
            yield from self._within(self._part)
            return
        picture, self._first = self._first, None
        if picture is None:
            raise UsageError("a VideoReader can be read once; open another to read the video again")
        index, seconds = 0, self._first_seconds
        while picture is not None:
            yield index, seconds, picture
            picture = next(self._decoded, None)
            if picture is not None:
                index, seconds = index + 1, self._times.seconds(picture)

    def _within(self, part: FramePart) -> Iterator[tuple[int, float, Any]]:
        """The frames of a part, each held to what the part says."""
        number, base = 0, self._stream.time_base
        for picture in self._from_start() if part.first == 0 else self._entered(part):
            if picture.pts is not None and picture.pts < part.ticks[0]:
                continue
            if picture.pts != part.ticks[number] or picture.is_corrupt or picture.time_base != base:
                break
            yield part.first + number, float((picture.pts - part.zero_ticks) * base), picture
            number += 1
            if number == len(part.ticks):
                return
        raise SegmentError(
            f"{self._path} gave other frames than its packets promise from frame {part.first + number} on, so it is "
            "damaged or has changed: predict it as a whole"
        )

    def _from_start(self) -> Iterator[Any]:
        yield self._first
        yield from self._decoded

    def _entered(self, part: FramePart) -> Iterator[Any]:
        """Pictures from a key frame before the part on."""
        for entry in reversed(part.entries):
            self._media.container.seek(entry, stream=self._stream, backward=True)
            self._media.bridge = clock_bridge(self._media.container, self._media.video, self._media.audio)
            key: int | None = None
            entered = False
            for packet in self._media.packets(self._stream):
                if key is None and packet.is_keyframe and packet.pts is not None:
                    key = packet.pts
                if key is None:
                    continue
                if key > part.ticks[0]:
                    break
                try:
                    pictures = packet.decode()
                except (av.error.FFmpegError, OSError) as error:
                    refuse_if_short(error, starting_threads=True)
                    self.skipped_frames += 1
                    continue
                for picture in pictures:
                    if picture.pts is not None and picture.pts < key:
                        continue  # it leans on pictures before the key frame
                    if picture.pts == key:
                        entered = picture.pict_type == av.video.frame.PictureType.I
                    if not entered:  # a refresh that is spread over frames
                        raise SegmentError(
                            f"{self._path} cannot be entered in the middle, because its key frames are not whole "
                            "pictures: predict it as a whole"
                        )
                    yield picture
            if key is not None and key <= part.ticks[0]:
                return

    def close(self) -> None:
        """Close the file; safe to call twice."""
        self._media.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _decode(self) -> Iterator[Any]:
        """Decoded pictures, damage counted."""

        def skipped(_packet: Any) -> None:
            self.skipped_frames += 1

        for picture in self._media.decoded(self._stream, on_damage=skipped):
            if picture.is_corrupt:
                self.concealed_frames += 1
            yield picture

    def _rgb(self, picture: Any) -> npt.NDArray[np.uint8]:
        size = self._size or (self.info.height, self.info.width)  # a stream may change its size on the way
        return resize_frame(self._displayed(picture), *size)

    def _displayed(self, picture: Any) -> npt.NDArray[np.uint8]:
        """(H, W, 3), turned as it is displayed."""
        return self._orientation.apply(to_rgb(picture, self._path))

    def _describe(self, first: Any, start_seconds: float) -> VideoInfo:
        stream, container = self._stream, self._media.container
        if max(first.width, first.height) > MAX_SIDE:
            raise MediaError(
                f"{self._path} is {first.width}x{first.height}; frames up to {MAX_SIDE} pixels a side can be read"
            )
        width, height = first.width, first.height
        if self._orientation.swaps_sides:
            width, height = height, width
        duration = stream.duration * stream.time_base if stream.duration and stream.time_base else None
        if duration is None and container.duration:
            duration = container.duration / av.time_base
        audio = self._media.audio
        return VideoInfo(
            path=str(self._path),
            container=container.format.name,
            codec=stream.codec_context.name,
            pixel_format=first.format.name,
            width=width,
            height=height,
            rotation_degrees=90 * self._orientation.quarter_turns,
            mirrored=self._orientation.mirrored,
            pixel_aspect=self._orientation.displayed_aspect(stream),
            colours=Colours.of(first),
            frame_interval_seconds=frame_interval(stream),
            duration_seconds=None if duration is None else float(duration),
            frame_count=stream.frames or None,
            start_seconds=start_seconds,
            has_audio=audio is not None,
            audio_codec=audio and audio.codec_context.name,
            audio_sample_rate_hz=audio and audio.codec_context.sample_rate,
            audio_channels=audio and audio.codec_context.channels,
            video_stream=stream.index,
            audio_stream=audio and audio.index,
            streams=self._media.streams(),
        )
