"""Sound with timestamps, as it comes from a decoder or a microphone, to one unbroken line of mono samples."""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import av
import av.error
import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]

# Timestamps of a continuous sound jitter by their time base's steps; a jump beyond this is a gap or an overlap.
JUMP_SECONDS = 0.02


class SoundLine:
    """Contiguous float32 samples in [-1, 1] from time 0 on: (n,) of mono sound, (2, n) of stereo.

    Sound that starts late is preceded by zeros, gaps are filled with zeros (one array each, which takes no memory,
    however long the gap), and overlaps and what lies before time 0 are cut. A clock that drifts away from the
    timestamps is brought back as soon as it is `JUMP_SECONDS` off.

    Args:
        rate_hz: of the samples that come out.
        layout: "mono" or "stereo".

    Attributes:
        position: samples given so far.
        filled: those of them that fill gaps.
        cut: samples at `rate_hz` that came too late, or lay before time 0.
    """

    def __init__(self, rate_hz: int, *, layout: str = "mono") -> None:
        self._layout = layout
        self.position = 0
        self.filled = 0
        self.cut = 0
        self.rate_hz = rate_hz
        self._resampler: Any = None
        self._expected = 0.0  # time at which the next frame continues the run
        self._at = 0  # number of the run's next sample

    def push(self, frame: Any, time_seconds: float | None) -> Iterator[Samples]:
        """What a piece of sound adds to the line.

        Args:
            frame: an `av.AudioFrame` of any rate and layout, or mono samples (n,) at the line's own rate.
            time_seconds: of its first sample; None where it continues the last.
        """
        time = self._expected if time_seconds is None else time_seconds
        if self._resampler is None or abs(time - self._expected) > JUMP_SECONDS:
            yield from self.flush()
            self._resampler = _Unchanged() if isinstance(frame, np.ndarray) else self._new_resampler()
            self._at = round(time * self.rate_hz)
            self._expected = time
        if isinstance(frame, np.ndarray):
            self._expected += len(frame) / self.rate_hz
        else:
            self._expected += frame.samples / frame.sample_rate
            frame.pts = None  # the resampler would fill gaps by its own rules
        try:
            pieces = self._resampler.resample(frame)
        except (av.error.FFmpegError, ValueError, TypeError):  # another rate or layout than before: a new run
            self._resampler = None
            return
        yield from self._placed(pieces)

    def flush(self) -> Iterator[Samples]:
        """What the resampler still holds; the next piece begins a new run."""
        if self._resampler is not None:
            pieces = self._resampler.resample(None)
            self._resampler = None
            yield from self._placed(pieces)

    def _new_resampler(self) -> Any:
        return av.AudioResampler(format="fltp", layout=self._layout, rate=self.rate_hz)

    def _placed(self, pieces: list[Any]) -> Iterator[Samples]:
        for piece in pieces:
            samples = piece if isinstance(piece, np.ndarray) else piece.to_ndarray()
            if self._layout == "mono":
                samples = samples.reshape(-1)
            count = samples.shape[-1]
            first = self._at
            self._at += count
            if self.position < first:
                gap = first - self.position
                self.position += gap
                self.filled += gap
                yield np.broadcast_to(silence(gap), (*samples.shape[:-1], gap))
            known = min(max(0, self.position - first), count)
            self.cut += known
            if known < count:
                self.position += count - known
                # Sound of floating point may hold anything.
                yield np.clip(np.nan_to_num(samples[..., known:]), -1.0, 1.0).astype(np.float32)


class Backlog:
    """Sound on its way to who takes it now and then: the newest of it, and silence for what is older.

    Args:
        most_samples: to hold.
    """

    def __init__(self, most_samples: int) -> None:
        self._most = most_samples
        self._pieces: deque[Samples] = deque()
        self._held = 0
        self._forgotten = 0  # samples before those

    def add(self, pieces: Iterable[Samples]) -> None:
        """Pieces (n,) that follow the last; they are kept, not copied."""
        for piece in pieces:
            self._pieces.append(piece)
            self._held += len(piece)
        while self._pieces and self._held - len(self._pieces[0]) >= self._most:
            oldest = len(self._pieces.popleft())
            self._held -= oldest
            self._forgotten += oldest

    def take(self) -> list[Samples]:
        """All that was added since the last time."""
        pieces = [silence(self._forgotten)] if self._forgotten else []
        pieces += self._pieces
        self._pieces.clear()
        self._held = self._forgotten = 0
        return pieces


def silence(count: int) -> Samples:
    """(count,) zeros that take no memory; not to be written to."""
    return np.broadcast_to(np.zeros(1, np.float32), count)


class _Unchanged:
    """A resampler for samples that have the right rate."""

    def resample(self, samples: Samples | None) -> list[Samples]:
        if samples is None:
            return []
        if not isinstance(samples, np.ndarray):
            raise TypeError("the sound changed its rate")
        return [samples]
