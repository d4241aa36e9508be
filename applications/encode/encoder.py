"""Two passes of an encoder that obeys regions of interest, at a bitrate.

FFmpeg carries regions as side data of a frame, which PyAV cannot set; the filter `addroi` can. A graph of buffer,
addroi filters and sink is built anew whenever the regions change. libx264 and libx265 obey, as long as their adaptive
quantisation is on. FFmpeg's wrapper of SVT-AV1 does not read the side data: the same bits came out with regions and
without (FFmpeg 8.1, PyAV 18).
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.filter

from dtfsal.applications.encode.regions import Region, Regions, RegionTrack
from dtfsal.engines.errors import UnavailableError, UsageError
from dtfsal.runtime.media.errors import MediaError
from dtfsal.runtime.media.picture import Orientation, to_rgb
from dtfsal.runtime.media.video import VideoReader
from dtfsal.runtime.media.writer import TIME_BASE, Encoder, VideoWriter, output_error

OBEYING = ("libx264", "libx265")
PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")
REACHED = 0.1  # share of the bitrate asked for by which the result may differ without a word
_QP_RANGE = 51  # FFmpeg's offsets are shares of it
_RATE = re.compile(r"(\d+(?:\.\d+)?)([kKmM]?)")
_PLANAR = ("yuv420p", "yuvj420p")


@dataclasses.dataclass(frozen=True)
class EncodeSettings:
    """How to encode.

    Attributes:
        codec: one of `OBEYING`.
        bit_rate: of the picture, in bits per second.
        preset: of the encoder.

    Raises:
        UsageError: no encoder of that name obeys regions, or the bitrate is out of range.
        UnavailableError: this FFmpeg lacks the encoder.
    """

    codec: str
    bit_rate: int
    preset: str = "medium"

    def __post_init__(self) -> None:
        check_codec(self.codec)
        if not 1000 <= self.bit_rate <= 10**9:
            raise UsageError(f"the bitrate lies between 1k and 1000M bits per second, not {self.bit_rate}")
        if self.preset not in PRESETS:
            raise UsageError(f"the preset is one of {', '.join(PRESETS)}, not {self.preset!r}")

    def encoder(self, number: int, statistics: Path) -> Encoder:
        """Of the first or the second pass."""
        if self.codec == "libx264":
            options = {"preset": self.preset, "aq-mode": "1", "x264-params": f"pass={number}:stats={statistics}"}
        else:
            parameters = f"aq-mode=2:log-level=error:pass={number}:stats={statistics}"
            options = {"preset": self.preset, "x265-params": parameters}
        return Encoder(self.codec, options, self.bit_rate)


@dataclasses.dataclass(frozen=True)
class Encoded:
    """What came of it.

    Attributes:
        frames: how many.
        bit_rate: of the picture, in bits per second, over the video's length.
        notes: what could not be done, a sentence each.
    """

    frames: int
    bit_rate: float
    notes: tuple[str, ...]


def check_codec(codec: str) -> None:
    """Check that an encoder is there and obeys regions.

    Raises:
        UsageError: none of that name does.
        UnavailableError: this FFmpeg lacks it.
    """
    there = [name for name in OBEYING if name in av.codecs_available]
    if codec == "libsvtav1":
        raise UsageError(
            "libsvtav1 takes no regions through FFmpeg: write them with `--roi-map FILE --roi-format svtav1` for "
            f"SvtAv1EncApp, or encode with {' or '.join(OBEYING)}"
        )
    if codec not in OBEYING:
        raise UsageError(f"there is no encoder {codec!r} that obeys regions; this FFmpeg has {' and '.join(there)}")
    if codec not in there:
        raise UnavailableError(
            f"this FFmpeg lacks the encoder {codec}; it has {' and '.join(there) or 'none that obeys'}"
        )


def parse_bit_rate(text: str) -> int:
    """Bits per second of "800k", "2.5M" or "800000".

    Raises:
        UsageError: the text is no bitrate.
    """
    match = _RATE.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"the bitrate is a number like 800k or 2.5M, not {text!r}")
    return round(float(match[1]) * {"": 1, "k": 1000, "m": 1_000_000}[match[2].lower()])


def encode_file(
    video: str | os.PathLike[str],
    output: Path,
    track: RegionTrack | None,
    settings: EncodeSettings,
    *,
    video_stream: int | None = None,
    audio_stream: int | None = None,
    on_frame: Callable[[], object] = lambda: None,
) -> Encoded:
    """Encode a video in two passes, with its sound.

    Args:
        video: the file.
        output: where to write; the suffix names the container.
        track: regions of its frames; None for none.
        settings: how to encode.
        video_stream: the number of the video stream; None for the main one.
        audio_stream: the number of the sound stream to keep; None for the default one.
        on_frame: called after each frame of each pass.

    Raises:
        MediaError: the video cannot be read.
        OutputError: the result cannot be written.
    """
    with contextlib.ExitStack() as stack:
        try:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dtfsal-encode-")))
        except OSError as error:
            raise output_error(Path(tempfile.gettempdir()), error) from error
        for number in (1, 2):
            with VideoReader(video, video_stream=video_stream, audio_stream=audio_stream) as reader:
                info = reader.info
                writer = VideoWriter(
                    output if number == 2 else None,
                    width=info.width,
                    height=info.height,
                    source=info,
                    sound_from=Path(info.path) if number == 2 else None,
                    encoder=settings.encoder(number, folder / "statistics"),
                )
                with writer:
                    frames, seconds = _pass(reader, writer, track, on_frame)
    if not frames:
        raise MediaError(f"{video} has no frame that can be decoded")
    reached = 8 * writer.video_bytes / seconds
    notes = list(writer.notes)
    if abs(reached / settings.bit_rate - 1) > REACHED:
        notes.append(
            f"{settings.codec} reached {reached / 1000:.0f} kbit/s, not the {settings.bit_rate / 1000:.0f} kbit/s that "
            "were asked for: the clip is too short, too simple or too hard for it"
        )
    return Encoded(frames, reached, tuple(notes))


def _pass(
    reader: VideoReader, writer: VideoWriter, track: RegionTrack | None, on_frame: Callable[[], object]
) -> tuple[int, float]:
    """Encode all frames; give their number and the seconds that they last."""
    frames, last = 0, 0.0
    graph = _RegionGraph()
    sets = iter(track) if track is not None else iter(())
    regions: Regions = ()
    following = next(sets, None)
    for index, seconds, decoded in reader.decoded():
        while following is not None and following[0] <= seconds:
            regions, following = following[1], next(sets, None)
        picture = _as_written(decoded, reader, writer)
        picture.pict_type = 0  # the source's kinds of frames are not the encoder's
        writer.write_picture(graph.marked(picture, regions), seconds)
        frames, last = index + 1, seconds
        on_frame()
    return frames, last + reader.info.frame_interval_seconds


def _as_written(decoded: Any, reader: VideoReader, writer: VideoWriter) -> Any:
    """A decoded frame as 8-bit 4:2:0, upright and of even sides; untouched where it is that already."""
    info = reader.info
    upright = not info.rotation_degrees and not info.mirrored
    even = not (info.width % 2 or info.height % 2)
    same = (decoded.width, decoded.height) == (info.width, info.height)
    if decoded.format.name in _PLANAR and upright and even and same and info.colours.written() == info.colours:
        return decoded
    if not same and upright:
        decoded = decoded.reformat(width=info.width, height=info.height)
    turned = Orientation(info.rotation_degrees // 90, info.mirrored).apply(to_rgb(decoded, info.path))
    return writer.converted(turned)


class _RegionGraph:
    """The filter graph that marks frames; built anew when regions or frames change."""

    def __init__(self) -> None:
        self._key: tuple[object, ...] | None = None
        self._graph: Any = None

    def marked(self, frame: Any, regions: Regions) -> Any:
        """The frame with regions as side data."""
        if not regions:
            return frame
        key = (frame.width, frame.height, frame.format.name, regions)
        if key != self._key:
            self._key, self._graph = key, _graph(frame, regions)
        frame.time_base, frame.pts = TIME_BASE, 0
        self._graph.push(frame)
        return self._graph.pull()


def _graph(frame: Any, regions: Regions) -> Any:
    graph = av.filter.Graph()
    last = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(TIME_BASE))
    for options in _options(regions, frame.width, frame.height):
        node = graph.add("addroi", options)
        last.link_to(node)
        last = node
    sink = graph.add("buffersink")
    last.link_to(sink)
    graph.configure()
    return graph


def _options(regions: Regions, width: int, height: int) -> Iterator[str]:
    for region in regions:
        bounded = Region(
            region.left, region.top, min(region.right, width), min(region.bottom, height), region.qp_offset
        )
        size = f"w={bounded.right - bounded.left}:h={bounded.bottom - bounded.top}"
        yield f"x={bounded.left}:y={bounded.top}:{size}:qoffset={bounded.qp_offset / _QP_RANGE:.5f}"
