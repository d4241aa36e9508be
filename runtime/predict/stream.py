"""Live prediction: frames and samples are pushed as they come, maps are polled when they are ready.

    with StreamPredictor("engines/lite", frame_rate_hz=25) as stream:
        stream.push_audio(samples, pts_seconds, 48000)   # one thread
        stream.push_frame(rgb, pts_seconds)              # this or another
        frame = stream.poll()                            # this or a third; None if no map is ready

For the same frames and the same sound the maps are those of `SaliencyPredictor`, as long as none is dropped. Memory
does not grow: what comes too fast to be predicted is dropped and counted, and `push_*` never wait for the engine.
"""

from __future__ import annotations

import dataclasses
import math
import os
import threading
from collections import deque
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from dtfsal.engines import Device, Engine, open_engine
from dtfsal.engines.arrays import DLPackArray
from dtfsal.engines.bundle.shipped import DEFAULT_ENGINE
from dtfsal.engines.errors import UsageError
from dtfsal.engines.limits import checked_argument
from dtfsal.runtime.frontend.log_mel import PushedSlices
from dtfsal.runtime.frontend.preprocess import Color, Rgb, resize_frame, rgb_frame
from dtfsal.runtime.frontend.samples import mono_samples
from dtfsal.runtime.frontend.windows import EQUAL_SECONDS, ClipWindow, Padding, WindowQueue, slice_indices
from dtfsal.runtime.media.sound_line import Backlog, SoundLine
from dtfsal.runtime.media.video import Frame
from dtfsal.runtime.predict.frame_maps import FrameMaps
from dtfsal.runtime.predict.maps import Normalisation, check_normalisation, check_sigma, smooth_map
from dtfsal.runtime.predict.prediction import SaliencyFrame
from dtfsal.runtime.predict.pretrained import Pretrained
from dtfsal.runtime.predict.stage_clock import StageClock
from dtfsal.runtime.predict.window_runner import ReadyFrame, finite_map
from dtfsal.runtime.predict.window_runners import runner_type

# Sound that comes before the first frame is held this long, by its times; twice as much of it at most.
EARLY_SOUND_SECONDS = 10.0
# Sound so far ahead of the newest frame is on another clock than the frames, and is refused.
MOST_AHEAD_SECONDS = 25.0
# Clocks that count from 1970 are at 1.8e9, where a double is exact to a hundredth of a sample.
LARGEST_TIME_SECONDS = 1e10
# What is held of frames, in terms of what a steady source needs: a source many times faster than it says is thinned.
CAPACITY_FACTOR = 4


@dataclasses.dataclass(frozen=True)
class StreamCounts:
    """What became of what was pushed.

    Attributes:
        frames: accepted.
        maps: given by `poll`.
        dropped_maps: frames that were accepted and have no map because newer ones were ready too.
        late_frames: refused, because their time does not come after the last frame's.
        refused_frames: refused, because frames came far faster than the stated rate.
        filled_sound_seconds: gaps in the sound, heard as silence.
        late_sound_seconds: sound that came after its time had been filled, before the first frame, or twice.
        refused_sound_seconds: sound refused, because it was far ahead of the frames.
        missing_sound_windows: maps that were made before all of their sound had come.
    """

    frames: int = 0
    maps: int = 0
    dropped_maps: int = 0
    late_frames: int = 0
    refused_frames: int = 0
    filled_sound_seconds: float = 0.0
    late_sound_seconds: float = 0.0
    refused_sound_seconds: float = 0.0
    missing_sound_windows: int = 0


class StreamPredictor(Pretrained):
    """Predicts a live stream. A context manager that closes its engine.

    One thread at a time may push frames, one may push sound and one may poll; they may be three different ones.

    Args:
        engine: the name of an engine that the package carries, an engine bundle's folder, a repository of a hub (see
            `from_pretrained`), or an engine that is already open; the latter stays open on `close`.
        frame_rate_hz: the source's typical frames per second; None for the rate that the model was made for.
        sound: whether sound will be pushed; a map then waits for the sound of its window.
        delay_seconds: the longest that a map waits for frames and sound after its own frame: 0 for causal maps, each
            of the newest frame, as if the stream ended there; None for all of its window, as for a file.
        sound_wait_seconds: sound that is so much later than the frames of its time is taken for missing.
        max_ready: maps that may be ready and unpolled; of more, the oldest are dropped.
        padding: as for `SaliencyPredictor`, and so are those that follow.
        stride: predict every stride-th frame and the last.
        smoothing_sigma: gaussian blur of the maps, in pixels of the model's map.
        normalisation: scale of each map.
        device: what the engine runs on.
        threads: CPU threads of the engine.
        trust: whether an engine may run native code that it brings.

    Raises:
        DtfsalError: as for `SaliencyPredictor`.
    """

    def __init__(
        self,
        engine: str | os.PathLike[str] | Engine = DEFAULT_ENGINE,
        *,
        frame_rate_hz: float | None = None,
        sound: bool = True,
        delay_seconds: float | None = None,
        sound_wait_seconds: float = 1.0,
        max_ready: int = 8,
        padding: Padding = "reverse",
        stride: int = 1,
        smoothing_sigma: float = 0.0,
        normalisation: Normalisation = "none",
        device: Device = "auto",
        threads: int | None = None,
        trust: bool = False,
    ) -> None:
        if frame_rate_hz is not None:
            checked_argument("frame_rate_hz", frame_rate_hz)
        if delay_seconds is not None:
            checked_argument("delay_seconds", delay_seconds)
        checked_argument("sound_wait_seconds", sound_wait_seconds)
        checked_argument("max_ready", max_ready)
        checked_argument("stride", stride)
        check_sigma(smoothing_sigma)
        check_normalisation(normalisation)
        self._sigma = smoothing_sigma
        self._max_ready = max_ready
        self._delay = math.inf if delay_seconds is None else delay_seconds
        self._sound_wait = sound_wait_seconds
        self._owns_engine = not isinstance(engine, Engine)
        self.engine = (
            engine if isinstance(engine, Engine) else open_engine(engine, device=device, threads=threads, trust=trust)
        )
        try:
            # On the CPU, since frames may come from another thread than the engine runs in.
            self._runner = runner_type(self.engine)(self.engine, use_preparers=False)
            self.clip = self.engine.manifest.clip
            self.audio = self.engine.manifest.audio
            source_interval = 1 / (frame_rate_hz or self.clip.frame_rate_hz)
            self._windows: WindowQueue[ReadyFrame] = WindowQueue(
                self.clip,
                source_interval_seconds=source_interval,
                padding=padding,
                stride=stride,
                delay_seconds=delay_seconds,
            )
        except BaseException:
            self.close()
            raise
        held_seconds = 2 * self._windows.reach_seconds + sound_wait_seconds
        self._capacity = CAPACITY_FACTOR * (math.ceil(held_seconds / source_interval) + max_ready + 2)
        self._maps = FrameMaps(stride, normalisation)
        self.clock = StageClock()
        self._slices = None if self.audio is None else PushedSlices(self.audio)
        self._line = None if self.audio is None else SoundLine(self.audio.sample_rate_hz)
        self._counts = StreamCounts()
        self._start: float | None = None  # the first frame's time, 0 for all that follows
        self._finished = False
        self._early: deque[tuple[Any, float, float]] = deque()  # sound before the first frame, its time and end
        held_sound = EARLY_SOUND_SECONDS + MOST_AHEAD_SECONDS + self._capacity * source_interval
        self._backlog = Backlog(0 if self.audio is None else round(held_sound * self.audio.sample_rate_hz))
        self._out: deque[SaliencyFrame] = deque()
        if not sound or self._slices is None:
            self._end_sound()
        # Locks are taken in this order. `_changed` guards all but the runner, the slices and what `poll` alone uses.
        self._frame_lock = threading.Lock()
        self._sound_lock = threading.Lock()
        self._poll_lock = threading.Lock()
        self._changed = threading.Condition()

    @property
    def delay_seconds(self) -> float:
        """Seconds of the stream that pass between a frame and its map in the steady state; the engine's time adds."""
        ahead = (self.clip.frames - 1 - self.clip.target_index) * self._windows.interval_seconds
        if self.audio is not None and not math.isinf(self._until(0.0)):
            ahead = max(ahead, self._until(0.0) + self.audio.slice_hop_seconds / 2)
        return min(ahead, self._delay)

    @property
    def counts(self) -> StreamCounts:
        """What became of what was pushed so far."""
        with self._changed:
            line, audio = self._line, self.audio
            if line is None or audio is None:
                return self._counts
            return dataclasses.replace(
                self._counts,
                filled_sound_seconds=line.filled / audio.sample_rate_hz,
                late_sound_seconds=self._counts.late_sound_seconds + line.cut / audio.sample_rate_hz,
            )

    def push_frame(self, frame: Rgb | DLPackArray, pts_seconds: float, *, color: Color = "rgb") -> bool:
        """Add a frame; it is brought to the model's size here, and the array is not kept.

        Args:
            frame: (H, W, 3) uint8 of any size; NumPy's, or a tensor in the host's memory.
            pts_seconds: its time on the stream's clock, from any zero on.
            color: the order of its channels, "rgb" or, as OpenCV has it, "bgr".

        Returns:
            Whether it was taken. A frame that is not later than the last, or far too many, is refused and counted.

        Raises:
            UsageError: it is not a frame, its time is not finite, or the stream has been finished.
        """
        _check_time("a frame", pts_seconds)
        with self._frame_lock:
            start = pts_seconds if self._start is None else self._start
            seconds = pts_seconds - start
            with self._changed:
                self._check_open()
                if not seconds > self._windows.newest_seconds:
                    self._count(late_frames=1)
                    return False
                if len(self._windows) >= self._capacity:
                    self._count(refused_frames=1)
                    return False
                index = self._counts.frames
            small = resize_frame(rgb_frame(frame, color), self.clip.height, self.clip.width)
            ready = self._runner.ready(Frame(index, seconds, small))
            with self._changed:
                self._check_open()
                if self._start is None:
                    self._start = start
                self._windows.push(ready)
                self._maps.add_frame(index, seconds)
                self._count(frames=1)
                self._drop_old()
                self._changed.notify_all()
        if self._early:
            self._take_early()
        return True

    def push_audio(self, samples: npt.ArrayLike | DLPackArray, pts_seconds: float, sample_rate_hz: int) -> bool:
        """Add sound.

        Pieces that follow each other within 20 ms are joined; a longer gap is filled with silence, an overlap cut.

        Args:
            samples: (n,) or (n, channels), in [-1, 1] or signed integers; NumPy's, or a tensor in the host's memory.
            pts_seconds: the first sample's time, on the same clock as the frames'.
            sample_rate_hz: samples per second, a whole number.

        Returns:
            Whether it was taken. Sound that is over 25 s ahead of the newest frame is refused and counted.

        Raises:
            UsageError: an argument doesn't fit, or the stream has been finished.
        """
        _check_time("sound", pts_seconds)
        if not (float(sample_rate_hz).is_integer() and 1 <= sample_rate_hz <= 2**22):
            raise UsageError(f"sample_rate_hz must be a positive whole number, not {sample_rate_hz!r}")
        mono = mono_samples(samples)
        with self._sound_lock:
            seconds = len(mono) / sample_rate_hz
            end = pts_seconds + seconds
            with self._changed:
                self._check_open()
                start = self._start
                if self._line is None or not len(mono):
                    return True
                if start is not None and end - start > self._windows.newest_seconds + MOST_AHEAD_SECONDS:
                    self._count(refused_sound_seconds=seconds)
                    return False
            piece = self._piece(mono, int(sample_rate_hz))
            if start is None:
                self._early.append((piece, pts_seconds, end))
                while self._early and (self._early[0][2] < end - EARLY_SOUND_SECONDS or self._holds_too_much()):
                    _, first, last = self._early.popleft()
                    with self._changed:
                        self._count(late_sound_seconds=last - first)
            else:
                self._hear(piece, pts_seconds - start)
        return True

    def poll(self, timeout_seconds: float = 0.0) -> SaliencyFrame | None:
        """The next map, computed now, or None if none is ready.

        Args:
            timeout_seconds: how long to wait for one to become ready.

        Returns:
            The map; its time is on the stream's own clock, as it was pushed.

        Raises:
            EngineError: the engine failed, or its output is not a map.
        """
        with self._poll_lock:
            if not self._out:
                with self._changed:
                    self._changed.wait_for(self._has_window, timeout_seconds or 0.0)
                    if not self._has_window():
                        return None
                    window = self._take()
                    frames = self._maps.take_until(window.index)
                    following = self._windows.peek() if self._has_window() else None
                self._predict(window, frames, following)
            frame = self._out.popleft()
            with self._changed:
                self._count(maps=1)
            return frame

    def finish(self) -> None:
        """No frame and no sound will come any more: the maps that still wait are ready."""
        with self._frame_lock, self._sound_lock:
            if self._line is not None and self._start is not None:
                self._add_sound(list(self._line.flush()))
            with self._changed:
                self._finished = True
                self._windows.finish()
                self._changed.notify_all()

    @property
    def finished(self) -> bool:
        """Whether the stream has been finished and its last map polled."""
        with self._changed:
            return self._finished and not self._windows.targets and not self._out

    def close(self) -> None:
        """Close the engine if this predictor opened it."""
        self._runner.close()
        if self._owns_engine:
            self.engine.close()

    def __enter__(self) -> StreamPredictor:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._finished:
            raise UsageError("the stream has been finished; make another StreamPredictor for another stream")

    def _count(self, **more: float) -> None:
        counts = {name: getattr(self._counts, name) + value for name, value in more.items()}
        self._counts = dataclasses.replace(self._counts, **counts)

    def _piece(self, mono: npt.NDArray[np.float32], rate: int) -> Any:
        assert self.audio is not None
        if rate == self.audio.sample_rate_hz:
            return mono
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(mono)[None], format="flt", layout="mono")
        frame.sample_rate = rate
        return frame

    def _holds_too_much(self) -> bool:
        """Whether sound before the first frame piles up though its times do not grow."""
        return sum(last - first for _, first, last in self._early) > 2 * EARLY_SOUND_SECONDS

    def _take_early(self) -> None:
        """Hear the sound that came before the first frame."""
        with self._sound_lock:
            while self._early:
                piece, pts_seconds, _ = self._early.popleft()
                assert self._start is not None
                self._hear(piece, pts_seconds - self._start)

    def _hear(self, piece: Any, seconds: float) -> None:
        assert self._line is not None
        self._add_sound(list(self._line.push(piece, seconds)))

    def _add_sound(self, pieces: list[npt.NDArray[np.float32]]) -> None:
        with self._changed:
            self._backlog.add(pieces)
            self._changed.notify_all()

    def _end_sound(self) -> None:
        """No sound will be waited for."""
        self._line = None
        if self._slices is not None:
            self._slices.finish()

    def _until(self, target_seconds: float) -> float:
        """The time until which the window of a target there needs sound; minus infinity where it needs none."""
        if self._line is None or self.audio is None:
            return -math.inf
        ahead = ((self.clip.frames - 1) / 2 - self.clip.target_index) * self._windows.interval_seconds
        last = slice_indices(self.audio, target_seconds + ahead)[-1]
        end = last * self.audio.slice_hop_seconds + self.audio.slice_samples / self.audio.sample_rate_hz
        return min(end, target_seconds + self._delay)

    def _is_ready(self, target: ReadyFrame) -> bool:
        if self._finished:
            return True
        if not self._windows.is_ready(target):
            return False
        until = self._until(target.time_seconds)
        heard = self._line.position / self._line.rate_hz if self._line is not None else math.inf
        newest = self._windows.newest_seconds
        return heard + EQUAL_SECONDS >= until or newest + EQUAL_SECONDS >= until + self._sound_wait

    def _has_window(self) -> bool:
        targets = self._windows.targets
        return bool(targets) and self._is_ready(targets[0])

    def _drop_old(self) -> None:
        """Give up the oldest windows where more are ready than may be."""
        targets = self._windows.targets
        while len(targets) > self._max_ready and self._is_ready(targets[self._max_ready]):
            self._windows.drop()
            # With the frames between it and the next window, which have no earlier map to lie after.
            self._count(dropped_maps=len(self._maps.take_until(targets[0].index - 1)))

    def _take(self) -> ClipWindow[ReadyFrame]:
        window = self._windows.take()
        if self._slices is not None:
            for piece in self._backlog.take():
                self._slices.push(piece)
            if self._finished:
                self._slices.finish()
            if self._slices.end_seconds + EQUAL_SECONDS < self._until(window.time_seconds):
                self._count(missing_sound_windows=1)
        return window

    def _predict(
        self,
        window: ClipWindow[ReadyFrame],
        frames: list[tuple[int, float]],
        following: ClipWindow[ReadyFrame] | None,
    ) -> None:
        saliency_map = finite_map(self._runner, window, self._slices, self.clock, following)
        with self.clock.stage("smooth"):
            saliency_map = smooth_map(saliency_map, self._sigma)
        with self._changed:
            assert self._start is not None
            for frame, _ in self._maps.add_window(frames, saliency_map):
                self._out.append(dataclasses.replace(frame, time_seconds=frame.time_seconds + self._start))


def _check_time(what: str, pts_seconds: float) -> None:
    if not abs(pts_seconds) <= LARGEST_TIME_SECONDS:
        raise UsageError(f"{what}'s time must be finite seconds within {LARGEST_TIME_SECONDS:g}, not {pts_seconds!r}")
