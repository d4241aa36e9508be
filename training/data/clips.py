"""A clip with gaze, whatever it was made of, and the windows and sound slices that a model takes of it."""

import bisect
import dataclasses
import functools
import itertools
from typing import Protocol

import numpy as np
import numpy.typing as npt

from dtfsal.engines.bundle.specs import AudioSpec, ClipSpec
from dtfsal.runtime.frontend.log_mel import MelSlices
from dtfsal.runtime.frontend.windows import (
    fold_times,
    iter_windows,
    nearest_frames,
    slice_indices,
    tap_interval,
    tap_times,
    window_centre_seconds,
)
from dtfsal.training.data.camera import Shot
from dtfsal.training.data.photograph_sets import OSIE
from dtfsal.training.data.stills import Points, Rgb

Floats = npt.NDArray[np.float32]


class GazeClip(Protocol):
    """A short video with sound, and where people look in each of its frames."""

    @property
    def frames(self) -> Rgb:
        """(N, H, W, 3) uint8, of the model's size."""

    @property
    def frame_rate_hz(self) -> float:
        """Frames per second."""

    @property
    def samples(self) -> Floats | None:
        """(n,) mono in [-1, 1] at the model's sample rate, from the first frame on; None for no sound."""

    def density(self, index: int) -> Floats:
        """(H, W), where people look in a frame, summing to 1; zeros where that is not known."""

    def fixations(self, index: int) -> Points:
        """(n, 2) float32, x and y in pixels of the frame: where the observers look in it."""


@dataclasses.dataclass(frozen=True)
class StillClip:
    """A photograph seen by a camera; people look where they looked in the photograph.

    Attributes:
        shot: the camera.
        rgb: the photograph, (H, W, 3) uint8.
        points: (n, 2) fixations in its pixels.
        frame_rate_hz: frames per second.
        samples: a sound, which has nothing to do with the picture, or None.
        degree_of_height: one degree of visual angle as a share of the photograph's height.
    """

    shot: Shot
    rgb: Rgb
    points: Points
    frame_rate_hz: float
    samples: Floats | None = None
    degree_of_height: float = OSIE.degree_of_height

    def shortened(self, frames: int) -> "StillClip":
        """The first so many frames; the sound stays as it is."""
        return dataclasses.replace(self, shot=dataclasses.replace(self.shot, boxes=self.shot.boxes[:frames]))

    @property
    def frames(self) -> Rgb:
        """See `GazeClip`."""
        return self.shot.frames(self.rgb)

    def density(self, index: int) -> Floats:
        """See `GazeClip`."""
        return self.shot.density(self.points, index, self.degree_of_height * self.rgb.shape[0])

    def fixations(self, index: int) -> Points:
        """See `GazeClip`."""
        return self.shot.points(self.points, index)


@dataclasses.dataclass(frozen=True)
class CutClip:
    """Clips one after another, with a cut between them.

    Attributes:
        parts: the clips, all of one size and frame rate; their sounds are not used.
        samples: a sound for the whole, or None.
    """

    parts: tuple[GazeClip, ...]
    samples: Floats | None = None

    @functools.cached_property
    def _starts(self) -> list[int]:
        """The first frame of each part, and the number of frames."""
        return list(itertools.accumulate((len(part.frames) for part in self.parts), initial=0))

    @property
    def frames(self) -> Rgb:
        """See `GazeClip`."""
        return np.concatenate([part.frames for part in self.parts])

    @property
    def frame_rate_hz(self) -> float:
        """See `GazeClip`."""
        return self.parts[0].frame_rate_hz

    def density(self, index: int) -> Floats:
        """See `GazeClip`."""
        part, inside = self._place(index)
        return part.density(inside)

    def fixations(self, index: int) -> Points:
        """See `GazeClip`."""
        part, inside = self._place(index)
        return part.fixations(inside)

    def _place(self, index: int) -> tuple[GazeClip, int]:
        """The part that a frame belongs to, and its number there."""
        number = bisect.bisect_right(self._starts, index) - 1
        return self.parts[number], index - self._starts[number]


@dataclasses.dataclass(frozen=True)
class WindowIndices:
    """Which frames and slices the window of a target frame takes.

    Attributes:
        target: the frame that the map belongs to.
        frames: (T,) frame numbers.
        slices: (S,) numbers on the sound's global grid, or an empty range for a visual model.
    """

    target: int
    frames: npt.NDArray[np.intp]
    slices: range


@dataclasses.dataclass(frozen=True)
class _FrameTime:
    index: int
    time_seconds: float


def clip_windows(count: int, frame_rate_hz: float, clip: ClipSpec, audio: AudioSpec | None) -> list[WindowIndices]:
    """The windows of all frames of a clip of `count` frames, as the runtime cuts them."""
    times = [_FrameTime(index, index / frame_rate_hz) for index in range(count)]
    return [
        WindowIndices(
            window.index,
            np.array([frame.index for frame in window.frames], np.intp),
            range(0) if audio is None else slice_indices(audio, window.centre_seconds),
        )
        for window in iter_windows(times, clip, source_interval_seconds=1 / frame_rate_hz)
    ]


def window_of(
    target: int,
    times_seconds: npt.NDArray[np.float64],
    source_interval_seconds: float,
    clip: ClipSpec,
    audio: AudioSpec | None,
    *,
    stride: int = 1,
) -> WindowIndices:
    """The window of one frame, as the runtime cuts it, without those before it.

    Args:
        target: the frame that the map belongs to.
        times_seconds: (N,) time of each frame, increasing.
        source_interval_seconds: typical time between them.
        clip: length, nominal rate and target.
        audio: the sound's slices, or None for a visual model.
        stride: taps lie so many times further apart than the runtime's; the sound stays around their centre.
    """
    time, interval = float(times_seconds[target]), stride * tap_interval(clip, source_interval_seconds)
    taps = fold_times(tap_times(clip, time, interval), float(times_seconds[0]), float(times_seconds[-1]))
    return WindowIndices(
        target,
        nearest_frames(times_seconds, taps),
        range(0) if audio is None else slice_indices(audio, window_centre_seconds(clip, time, interval)),
    )


def mel_slices(samples: Floats | None, indices: range, audio: AudioSpec) -> Floats:
    """Slices of a sound, (len(indices), 1, height, width); silence where there is none."""
    grid = MelSlices(audio, iter(() if samples is None else (samples,)))
    return np.stack([grid.slice(index) for index in indices])[:, None]
