"""Which frames and which sound belong to an output time. Training and the runtime both ask this module.

A window belongs to one source frame, its target. Its T taps lie at a fixed interval around the target's time, so that
the target is the last tap or the one at T // 2 (`ClipSpec.target`), and each tap takes the source frame nearest in
time. Everything counts in seconds from timestamps: variable frame rates and dropped frames need nothing special.

Interval: a source whose frames are at most 1.5 nominal intervals apart keeps its own frames, every n-th of them with
n = round(nominal interval / source interval): consecutive frames at 24, 25, 29.97 and 30 fps, every second at 50 and
60. A slower source is sampled at the nominal interval, which repeats frames.

Ends: taps outside the video are mirrored into it (`reverse`, the default) or take its first or last frame (`repeat`).
So every frame has a map, the first T - 1 and the last included.

Sound: log-mel slices lie on one grid for the whole video, slice j starting at j * 0.11 s from the first frame. A
window takes the nine whose centres are nearest to the centre of its taps, so neighbouring windows share slices.
"""

import dataclasses
import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Generic, Literal, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from dtfsal.engines.bundle.specs import AudioSpec, ClipSpec
from dtfsal.engines.errors import UsageError
from dtfsal.engines.limits import checked_argument

Padding = Literal["reverse", "repeat"]
PADDINGS: tuple[Padding, ...] = ("reverse", "repeat")

# A source slower than this many nominal intervals per frame is sampled at the nominal interval.
SLOWEST_NATIVE_INTERVAL = 1.5
# Measured frame rates are noisy: 20, 45 or 75 fps, on the border between two intervals at a nominal 30 Hz, must not
# fall on one side in one file and on the other in the next.
RATE_TOLERANCE = 0.01
# Equal times differ in their last bits when they come from rational frame rates.
EQUAL_SECONDS = 1e-9

Times = npt.NDArray[np.float64]


class Timed(Protocol):
    """What a frame must tell: its number in the source and its time in seconds."""

    @property
    def index(self) -> int:
        """Number of the frame in the source, from 0."""

    @property
    def time_seconds(self) -> float:
        """Presentation time in seconds; 0 is the first frame's."""


FrameT = TypeVar("FrameT", bound=Timed)


@dataclasses.dataclass(frozen=True)
class ClipWindow(Generic[FrameT]):
    """The frames of one output time.

    Attributes:
        index: the target frame's number in the source.
        time_seconds: the target frame's time.
        centre_seconds: the centre of the taps in time, before mirroring: where the sound is centred.
        frames: T source frames in tap order; a frame may occur more than once.
        oldest_index: the number of the oldest frame that this window or a later one may hold.
    """

    index: int
    time_seconds: float
    centre_seconds: float
    frames: tuple[FrameT, ...]
    oldest_index: int


def tap_interval(clip: ClipSpec, source_interval_seconds: float) -> float:
    """Seconds between a window's taps for a source whose frames are so many seconds apart.

    Raises:
        UsageError: the source's interval is not positive.
    """
    nominal = 1 / clip.frame_rate_hz
    step = frames_per_tap(clip, source_interval_seconds)
    if source_interval_seconds > SLOWEST_NATIVE_INTERVAL * (1 + RATE_TOLERANCE) * nominal:
        return nominal
    return source_interval_seconds * step


def frames_per_tap(clip: ClipSpec, source_interval_seconds: float) -> int:
    """Frames of the source from one tap to the next; 1 for sources that are slower than the model's rate.

    Raises:
        UsageError: the source's interval is not positive.
    """
    if not (math.isfinite(source_interval_seconds) and source_interval_seconds > 0):
        raise UsageError(f"the source's frame interval must be positive, not {source_interval_seconds!r} s")
    nominal = 1 / clip.frame_rate_hz
    return max(1, math.floor(nominal / source_interval_seconds + 0.5 + 2 * RATE_TOLERANCE))  # halfway: the longer


def tap_times(clip: ClipSpec, time_seconds: float, interval_seconds: float) -> Times:
    """(T,) times of a window's taps, ends not regarded."""
    offsets = np.arange(clip.frames, dtype=np.float64) - clip.target_index
    return np.asarray(time_seconds + offsets * interval_seconds, np.float64)


def window_centre_seconds(clip: ClipSpec, time_seconds: float, interval_seconds: float) -> float:
    """The centre of the taps of the window whose target is at `time_seconds`."""
    return time_seconds + ((clip.frames - 1) / 2 - clip.target_index) * interval_seconds


def check_padding(padding: str) -> None:
    """Raise a `UsageError` if there is no such padding."""
    if padding not in PADDINGS:
        raise UsageError(f"padding must be one of {', '.join(PADDINGS)}, not {padding!r}")


def check_stride(stride: int) -> None:
    """Raise a `UsageError` if a stride is not a positive integer, or too large."""
    checked_argument("stride", stride)


def fold_times(times: Times, first_seconds: float, last_seconds: float, padding: Padding = "reverse") -> Times:
    """Times brought into [first, last]: mirrored at the ends as often as needed, or clamped to them.

    `last_seconds` may be infinite: then only the start has an effect.
    """
    check_padding(padding)
    span = last_seconds - first_seconds
    if padding == "repeat" or span <= 0:
        return np.clip(times, first_seconds, last_seconds)
    if math.isinf(span):
        return np.where(times < first_seconds, 2 * first_seconds - times, times)
    phase = np.mod(times - first_seconds, 2 * span)
    return first_seconds + np.minimum(phase, 2 * span - phase)


def nearest_frames(timestamps: npt.ArrayLike, times: npt.ArrayLike) -> npt.NDArray[np.intp]:
    """For each time the index of the nearest timestamp; of two equally near ones the earlier.

    Args:
        timestamps: (N,) seconds, increasing, N >= 1.
        times: (T,) seconds.
    """
    stamps, wanted = np.asarray(timestamps, np.float64), np.asarray(times, np.float64)
    after = np.clip(np.searchsorted(stamps, wanted), 1, max(len(stamps) - 1, 1))
    if len(stamps) == 1:
        return np.zeros(wanted.shape, np.intp)
    nearer_after = stamps[after] - wanted + EQUAL_SECONDS < wanted - stamps[after - 1]
    return np.where(nearer_after, after, after - 1)


def slice_indices(audio: AudioSpec, centre_seconds: float) -> range:
    """The grid numbers of a window's slices; negative ones lie before the video and hold silence."""
    middle = audio.slice_samples / 2 / audio.sample_rate_hz
    nearest = math.floor((centre_seconds - middle) / audio.slice_hop_seconds - (audio.slices - 1) / 2 + 0.5)
    return range(nearest, nearest + audio.slices)


@dataclasses.dataclass(frozen=True)
class WindowPart:
    """The part of a video whose windows are wanted, where reading begins in the middle.

    Attributes:
        first_frame: number of the first frame that is pushed; the video's own first frame is number 0, at time 0.
        targets: numbers of the frames whose windows are wanted.
    """

    first_frame: int
    targets: range


def reach_seconds(clip: ClipSpec, interval_seconds: float) -> float:
    """The longest time from a window's target to one of its frames, and a tap's interval more, which covers rounding.

    Folding brings no tap further from the target than it was.
    """
    return (max(clip.target_index, clip.frames - 1 - clip.target_index) + 1) * interval_seconds


class WindowQueue(Generic[FrameT]):
    """The windows of frames that are pushed one by one, each as soon as the frames it needs have come.

    Frames are held only while a window may still need them: about a clip length at the nominal rate. A window
    with taps before the video's start waits for the frames they are mirrored to.

    Args:
        clip: length, nominal rate and target.
        source_interval_seconds: typical time between the source's frames.
        padding: what replaces frames outside the video.
        stride: one window for every stride-th frame; the last frame always has one.
        delay_seconds: the longest that a window waits for frames after its target; those that have not come by then
            are taken as if the video ended with the newest. None to wait for all.
        part: of the video, for frames that begin in its middle; None for all of it.

    Raises:
        UsageError: an argument can't be.
    """

    def __init__(
        self,
        clip: ClipSpec,
        *,
        source_interval_seconds: float,
        padding: Padding = "reverse",
        stride: int = 1,
        delay_seconds: float | None = None,
        part: WindowPart | None = None,
    ) -> None:
        check_stride(stride)
        check_padding(padding)
        if delay_seconds is not None and not (math.isfinite(delay_seconds) and delay_seconds >= 0):
            raise UsageError(f"delay_seconds must be a number of at least 0, not {delay_seconds!r}")
        self._clip = clip
        self._padding: Padding = padding
        self._stride = stride
        self._delay = math.inf if delay_seconds is None else delay_seconds
        self.interval_seconds = tap_interval(clip, source_interval_seconds)
        self.reach_seconds = reach_seconds(clip, self.interval_seconds)
        self._held: deque[FrameT] = deque()
        self._pending: deque[FrameT] = deque()  # targets without a window yet
        self._first_seconds = 0.0
        self._last: FrameT | None = None
        self._part = part
        self._count = 0 if part is None else part.first_frame
        self._finished = False

    def __len__(self) -> int:
        """Frames held."""
        return len(self._held)

    @property
    def newest_seconds(self) -> float:
        """The newest frame's time; before the first, minus infinity."""
        return -math.inf if self._last is None else self._last.time_seconds

    @property
    def targets(self) -> Sequence[FrameT]:
        """The frames whose windows have not been taken, oldest first."""
        return self._pending

    def push(self, frame: FrameT) -> None:
        """Add the next frame.

        Raises:
            UsageError: its time is not finite or does not come after the last frame's.
        """
        if not math.isfinite(frame.time_seconds):
            raise UsageError(f"frame {frame.index} must have a finite time, not {frame.time_seconds!r} s")
        if self._last is None:
            self._first_seconds = frame.time_seconds if self._part is None else 0.0
        elif not frame.time_seconds > self._last.time_seconds:
            raise UsageError(
                f"frame {frame.index} at {frame.time_seconds} s does not come after the one at "
                f"{self._last.time_seconds} s"
            )
        self._held.append(frame)
        self._last = frame
        if self._count % self._stride == 0 and self._is_wanted(self._count):
            self._pending.append(frame)
        self._count += 1
        self._prune()

    def finish(self) -> None:
        """No frame will come any more: all windows that wait are ready."""
        left = self._last is not None and not self._finished and (self._count - 1) % self._stride
        if left and self._last is not None and self._is_wanted(self._count - 1):
            self._pending.append(self._last)
        self._finished = True

    def _is_wanted(self, number: int) -> bool:
        return self._part is None or number in self._part.targets

    def is_ready(self, target: FrameT) -> bool:
        """Whether one of `targets` has its window."""
        return (
            self._finished
            or self._taps(target, math.inf).max() <= self.newest_seconds + EQUAL_SECONDS
            or self.newest_seconds + EQUAL_SECONDS >= target.time_seconds + self._delay
        )

    def take(self) -> ClipWindow[FrameT]:
        """The window of the oldest target, which must be there and should be ready; the target is done with."""
        window = self.peek()
        self._pending.popleft()
        self._prune()
        return window

    def peek(self) -> ClipWindow[FrameT]:
        """The window of the oldest target, which must be there, as it is so far."""
        target = self._pending[0]
        # Once a frame at or after the last tap has come, the video's end can no longer change the window.
        times = self._taps(target, math.inf)
        if times.max() > self.newest_seconds + EQUAL_SECONDS:
            times = self._taps(target, self.newest_seconds)
        return _window(self._held, target, times, self._clip, self.interval_seconds)

    def drop(self) -> FrameT:
        """Give up the oldest target's window."""
        target = self._pending.popleft()
        self._prune()
        return target

    def _taps(self, target: Timed, last_seconds: float) -> Times:
        times = tap_times(self._clip, target.time_seconds, self.interval_seconds)
        return fold_times(times, self._first_seconds, last_seconds, self._padding)

    def _prune(self) -> None:
        """Let go of frames before those that the oldest target's and later windows may hold."""
        assert self._last is not None
        earliest = (self._pending[0] if self._pending else self._last).time_seconds - self.reach_seconds
        while len(self._held) > 2 and self._held[1].time_seconds < earliest:
            self._held.popleft()


def iter_windows(
    frames: Iterable[FrameT],
    clip: ClipSpec,
    *,
    source_interval_seconds: float,
    padding: Padding = "reverse",
    stride: int = 1,
    part: WindowPart | None = None,
) -> Iterator[ClipWindow[FrameT]]:
    """The windows of a stream of frames, each as soon as the frames it needs have come; see `WindowQueue`.

    Args:
        frames: the source's frames, times finite and strictly increasing.
        clip: length, nominal rate and target.
        source_interval_seconds: typical time between the source's frames.
        padding: what replaces frames outside the video.
        stride: one window for every stride-th frame; the last frame always has one.
        part: of the video, for frames that begin in its middle; None for all of it.

    Raises:
        UsageError: an argument can't be, or times are not finite or do not increase.
    """
    queue: WindowQueue[FrameT] = WindowQueue(
        clip, source_interval_seconds=source_interval_seconds, padding=padding, stride=stride, part=part
    )
    for frame in frames:
        queue.push(frame)
        while queue.targets and queue.is_ready(queue.targets[0]):
            yield queue.take()
    queue.finish()
    while queue.targets:
        yield queue.take()


def _window(
    held: Iterable[FrameT], target: FrameT, times: Times, clip: ClipSpec, interval: float
) -> ClipWindow[FrameT]:
    candidates = list(held)
    picked = nearest_frames([frame.time_seconds for frame in candidates], times)
    centre = window_centre_seconds(clip, target.time_seconds, interval)
    frames = tuple(candidates[index] for index in picked)
    return ClipWindow(target.index, target.time_seconds, centre, frames, candidates[0].index)
