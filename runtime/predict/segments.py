"""Parts of a long video that are predicted apart, with the maps that the whole has.

A segment is asked for a range of frames. It reads more: the frames that the windows of its first and last frames hold,
and of a stride those up to the next predicted frame on either side. Only the video's true ends are padded. Sound is
decoded once, from the start, by the one who cuts: decoders of sound and the resampler have a memory, so sound that is
entered in the middle is not the same. A segment carries its own samples.
"""

from __future__ import annotations

import dataclasses
import os
from collections import deque
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from dtfsal.engines.bundle.specs import AudioSpec, ClipSpec
from dtfsal.engines.errors import UsageError
from dtfsal.runtime.frontend.windows import (
    WindowPart,
    reach_seconds,
    slice_indices,
    tap_interval,
    window_centre_seconds,
)
from dtfsal.runtime.media.audio_reader import AudioReader
from dtfsal.runtime.media.frame_index import FramePart, index_frames
from dtfsal.runtime.media.sound_line import Samples, silence
from dtfsal.runtime.media.video import probe


@dataclasses.dataclass(frozen=True, eq=False)
class Segment:
    """A part of a video to predict; it may travel to another process.

    Attributes:
        frames: numbers of the frames whose maps are wanted.
        windows: first and last (excluded) number of the frames that windows are computed for.
        part: the frames that are read.
        first_sample: number of the first of `samples` on the video's line of sound.
        samples: (n,) mono sound at the engine's rate; None where the engine hears nothing or the video has no sound.
    """

    frames: range
    windows: range
    part: FramePart
    first_sample: int = 0
    samples: Samples | None = None

    @property
    def window_part(self) -> WindowPart:
        """What the windows are told."""
        return WindowPart(self.part.first, self.windows)

    def chunks(self) -> Iterator[Samples]:
        """The sound from video time 0 on, with silence before the samples that the segment needs."""
        if self.samples is not None:
            yield silence(self.first_sample)
            yield self.samples


def iter_segments(
    path: str | os.PathLike[str],
    frames_per_segment: int,
    *,
    clip: ClipSpec,
    audio: AudioSpec | None,
    stride: int,
    video_stream: int | None = None,
    audio_stream: int | None = None,
) -> Iterator[Segment]:
    """Cut a video into segments, in order; memory holds the sound of one. See `SaliencyPredictor.segments`.

    Args:
        path: the video.
        frames_per_segment: frames of each; the last may have fewer.
        clip: of the engine.
        audio: of the engine.
        stride: of the windows.
        video_stream: as for `SaliencyPredictor.predict_file`.
        audio_stream: see there.

    Raises:
        SegmentError: the video cannot be read in parts.
        MediaError: it cannot be read.
        UsageError: the number of frames is not positive, or there is no such stream.
    """
    if type(frames_per_segment) is not int or frames_per_segment < 1:
        raise UsageError(f"frames_per_segment must be a positive integer, not {frames_per_segment!r}")
    info = probe(path, video_stream=video_stream, audio_stream=audio_stream)
    index = index_frames(path, video_stream=video_stream)
    seconds = index.seconds()
    interval = tap_interval(clip, info.frame_interval_seconds)
    reach = reach_seconds(clip, interval)
    count = len(index)
    with AudioReader(
        path,
        16000 if audio is None else audio.sample_rate_hz,
        start_seconds=info.start_seconds,
        video_stream=video_stream,
        audio_stream=audio_stream,
    ) as reader:
        sound = _Sound(iter(reader)) if audio is not None and info.has_audio else None
        for first in range(0, count, frames_per_segment):
            frames = range(first, min(first + frames_per_segment, count))
            last = min(-(-(frames.stop - 1) // stride) * stride, count - 1)
            windows = range(frames.start // stride * stride, last + 1)
            start = int(np.searchsorted(seconds, seconds[windows.start] - reach)) - 1
            stop = int(np.searchsorted(seconds, seconds[last] + reach)) + 2
            part = index.part(range(max(0, start), min(count, stop)))
            if sound is None or audio is None:
                yield Segment(frames, windows, part)
                continue
            centres = [window_centre_seconds(clip, float(seconds[end]), interval) for end in (windows.start, last)]
            begin, end = _samples_between(audio, *centres)
            yield Segment(frames, windows, part, begin, sound.between(begin, end))


def _samples_between(audio: AudioSpec, first_centre: float, last_centre: float) -> tuple[int, int]:
    """The samples that the windows from one centre to another hear."""
    hop = audio.slice_hop_frames * audio.hop_length
    end = (slice_indices(audio, last_centre).stop - 1) * hop + audio.slice_samples
    return max(0, slice_indices(audio, first_centre).start * hop), max(0, end)


class _Sound:
    """Sound that is asked for in rising ranges, which may overlap."""

    def __init__(self, chunks: Iterator[Samples]) -> None:
        self._chunks = chunks
        self._parts: deque[Samples] = deque()
        self._start = self._end = 0

    def between(self, begin: int, end: int) -> npt.NDArray[np.float32]:
        """Samples, fewer where the sound ends."""
        while self._end < end and (chunk := next(self._chunks, None)) is not None:
            self._parts.append(chunk)
            self._end += len(chunk)
            while self._parts and self._start + len(self._parts[0]) <= begin:
                self._start += len(self._parts.popleft())
        while self._parts and self._start + len(self._parts[0]) <= begin:
            self._start += len(self._parts.popleft())
        held = np.concatenate([np.zeros(0, np.float32), *self._parts])
        return held[max(0, begin - self._start) : max(0, end - self._start)].copy()
