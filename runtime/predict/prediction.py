"""What a prediction gives: a map per frame, and what can be asked about the run."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from dtfsal.runtime.predict.maps import SaliencyMap
from dtfsal.runtime.predict.stage_clock import StageClock

if TYPE_CHECKING:
    from dtfsal.runtime.media.audio_reader import AudioReader
    from dtfsal.runtime.media.video import VideoInfo, VideoReader

# "used": the engine heard the source's sound; "silence": it wants sound and the source has none, so it heard silence;
# "unused": a visual engine, which hears nothing.
Sound = Literal["used", "silence", "unused"]


@dataclasses.dataclass(frozen=True, eq=False)
class SaliencyFrame:
    """The saliency map of one frame of the source.

    Attributes:
        index: the frame's number in the source, from 0.
        time_seconds: its time; 0 is the first frame of a file.
        saliency_map: (H, W) float32 at the model's resolution, in [0, 1]. It belongs to the caller.
    """

    index: int
    time_seconds: float
    saliency_map: SaliencyMap


class Prediction(Iterator[SaliencyFrame]):
    """The maps of one video, in order, one for every frame; computed as they are asked for.

    A context manager; it also closes itself when its last map is out or when it is dropped.

    Attributes:
        sound: what the engine heard: "used", "silence" (the source has no sound) or "unused" (a visual engine).
        clock: seconds by stage: decode, preprocess, engine, smooth; wait is for a file's frames. A file's frames are
            decoded beside the other stages.
        frames: maps given so far.
        predicted_frames: those of them that the engine computed; the rest lie between two such.
    """

    def __init__(
        self,
        frames: Iterator[tuple[SaliencyFrame, bool]],
        resources: contextlib.ExitStack,
        clock: StageClock,
        sound: Sound,
        *,
        reader: VideoReader | None = None,
        audio_reader: AudioReader | None = None,
    ) -> None:
        self.sound = sound
        self.clock = clock
        self.frames = 0
        self.predicted_frames = 0
        self._last_seconds = 0.0
        self._frames = frames
        self._resources = resources
        self._reader = reader
        self._audio_reader = audio_reader

    @property
    def info(self) -> VideoInfo | None:
        """What is known about the file; None for frames and arrays."""
        return None if self._reader is None else self._reader.info

    @property
    def concealed_frames(self) -> int:
        """Damaged frames so far that the decoder repaired."""
        return 0 if self._reader is None else self._reader.concealed_frames

    @property
    def skipped_frames(self) -> int:
        """Frames so far that could not be decoded and have no map."""
        return 0 if self._reader is None else self._reader.skipped_frames

    @property
    def concealed_sound_seconds(self) -> float:
        """Sound so far that could not be decoded and was heard as silence."""
        return 0.0 if self._audio_reader is None else self._audio_reader.concealed_seconds

    @property
    def clock_jumps(self) -> int:
        """How often so far the file's clock restarted or jumped, and was bridged."""
        return 0 if self._reader is None else self._reader.clock_jumps

    @property
    def notes(self) -> tuple[str, ...]:
        """What was done with the file that its user may want to know, a sentence each."""
        return () if self._reader is None else self._reader.notes

    @property
    def hidden_frames(self) -> int:
        """Frames that the file stores and says not to show, by an edit list; known at the end."""
        info = self.info
        if info is None or info.frame_count is None or info.duration_seconds is None or "mov" not in info.container:
            return 0
        reached = self._last_seconds + 1.5 * info.frame_interval_seconds >= info.duration_seconds
        return max(0, info.frame_count - self.frames - self.skipped_frames) if reached else 0

    def __next__(self) -> SaliencyFrame:
        frame, computed = next(self._frames)
        self.frames += 1
        self._last_seconds = frame.time_seconds
        self.predicted_frames += computed
        return frame

    def close(self) -> None:
        """Stop, and let go of the file."""
        close = getattr(self._frames, "close", None)
        if close is not None:
            close()
        self._resources.close()

    def __enter__(self) -> Prediction:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __del__(self) -> None:
        # A generator that never started holds the file without a finally clause of its own.
        with contextlib.suppress(Exception):
            self.close()
