"""Sound to log-mel slices: VGGish's front-end, on one grid for the whole video.

Magnitudes of an STFT (25 ms periodic Hann window, 10 ms hop, FFT of 512 points at 16 kHz) go through 64 triangular
filters that are linear in mel = 1127 ln(1 + f / 700 Hz) between 125 and 7500 Hz; the logarithm is log(mel + 0.01)
(Hershey et al. 2017). Slice j of 64 STFT frames starts at STFT frame 11 j, 0.11 j seconds after the first video frame.
"""

import functools
import math
from collections import deque
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from dtfsal.engines.bundle.specs import AudioSpec
from dtfsal.engines.errors import UsageError
from dtfsal.engines.raw_inputs import SliceTables
from dtfsal.runtime.frontend.windows import slice_indices

FloatArray = npt.NDArray[np.float32]


def mel_filterbank(audio: AudioSpec) -> FloatArray:
    """(bins, mel_bands) weights of each FFT bin in each band; the bin of 0 Hz has none."""
    return _filterbank(audio).copy()


def log_mel(samples: npt.ArrayLike, audio: AudioSpec) -> FloatArray:
    """The log-mel spectrogram of mono samples.

    Args:
        samples: (n,) in [-1, 1] at `audio.sample_rate_hz`, n >= window_length.
        audio: the front-end's parameters.

    Returns:
        (1 + (n - window_length) // hop_length, mel_bands); frame f covers the samples from hop_length * f.

    Raises:
        UsageError: the samples are not one channel, or fewer than one STFT window.
    """
    signal = np.ascontiguousarray(samples, np.float32)
    if np.ndim(samples) != 1 or len(signal) < audio.window_length:
        raise UsageError(f"log-mel takes at least {audio.window_length} mono samples (n,), not {np.shape(samples)}")
    frames = np.lib.stride_tricks.sliding_window_view(signal, audio.window_length)[:: audio.hop_length]
    # In float64: float32's rounding next to a loud tone is as large as the offset's last digits in quiet bands.
    spectrum = np.fft.rfft(frames * _window(audio), _fft_length(audio), axis=1)
    magnitudes = np.abs(spectrum).astype(np.float32)
    # Not `@`: BLAS would wake its threads for so small a product, and they wait for those of the engine.
    mel = np.einsum("fb,bm->fm", magnitudes, _filterbank(audio))
    return np.asarray(np.log(mel + np.float32(audio.log_offset)), np.float32)


def log_mel_slice(samples: npt.ArrayLike, audio: AudioSpec) -> FloatArray:
    """One slice, (slice_frames, mel_bands), of exactly `audio.slice_samples` samples.

    Raises:
        UsageError: they are more or fewer.
    """
    if np.shape(samples) != (audio.slice_samples,):
        raise UsageError(f"a slice is made of {audio.slice_samples} mono samples (n,), not {np.shape(samples)}")
    return log_mel(samples, audio)


def resize_slice(log_mel_slice: npt.ArrayLike, audio: AudioSpec) -> FloatArray:
    """(slice_frames, mel_bands) -> (height, width), bilinear with half-pixel centres: time to rows, mel to columns."""
    rows = _interpolated_rows(np.asarray(log_mel_slice, np.float32), audio.height)
    return np.ascontiguousarray(_interpolated_rows(np.ascontiguousarray(rows.T), audio.width).T)


@functools.lru_cache(maxsize=8)
def slice_tables(audio: AudioSpec) -> SliceTables:
    """What a GPU needs to make slices as this module does."""
    return SliceTables(
        samples=audio.slice_samples,
        frames=audio.slice_frames,
        hop_length=audio.hop_length,
        window=_window(audio),
        filters=_filterbank(audio),
        log_offset=audio.log_offset,
        height=audio.height,
        width=audio.width,
    )


class MelSlices:
    """The resized slices of a sound that comes in chunks, on the global grid.

    Silence stands before the first sample and after the last. Windows are asked for in the order of their times; what
    lies before the window asked for is let go, so memory grows neither with the sound nor with the step between
    windows.

    Attributes:
        silence: (height, width), the slice of digital silence. `slice` gives this very array where it hears nothing.
    """

    def __init__(self, audio: AudioSpec, chunks: Iterator[npt.NDArray[np.float32]]) -> None:
        """Nothing is read yet.

        Args:
            audio: the front-end's parameters.
            chunks: contiguous mono samples (n,) in [-1, 1] at `audio.sample_rate_hz`, the first at video time 0;
                arrays are kept, not copied.
        """
        self.silence: FloatArray = np.full((audio.height, audio.width), audio.silence, np.float32)
        self._audio = audio
        self._chunks = chunks
        self._parts: deque[FloatArray] = deque()  # the samples [_start, _end)
        self._start = self._end = 0
        self._oldest = 0  # the first sample that may still be asked for
        self._ended = False
        self._slices: dict[int, FloatArray] = {}

    def window(self, centre_seconds: float) -> FloatArray:
        """The slices of the window centred there, (slices, 1, height, width).

        Raises:
            UsageError: a window that starts at a later slice has been asked for before.
        """
        return np.stack([self.slice(index) for index in self.advance(centre_seconds)])[:, None]

    def advance(self, centre_seconds: float) -> range:
        """The grid numbers of the slices of the window centred there; what lies before them is let go."""
        indices = slice_indices(self._audio, centre_seconds)
        self._forget(indices.start)
        return indices

    def slice(self, index: int) -> FloatArray:
        """Slice `index` of the grid, (height, width); shared with later calls, so not to be written to.

        Raises:
            UsageError: the slice lies before the last window.
        """
        if (known := self._slices.get(index)) is not None:
            return known
        samples = self.samples(index)
        made = self.silence if samples is None else resize_slice(log_mel_slice(samples, self._audio), self._audio)
        if self.is_complete(index):
            self._slices[index] = made
        return made

    def is_complete(self, index: int) -> bool:
        """Whether all sound of slice `index` is there, so that it will stay as it is."""
        self._read_until(self._first_sample(index) + self._audio.slice_samples)
        return self._ended or self._end >= self._first_sample(index) + self._audio.slice_samples

    def samples(self, index: int) -> FloatArray | None:
        """The samples of slice `index`, (slice_samples,), for who makes slices elsewhere; None where all are silent.

        Raises:
            UsageError: the slice lies before the last window.
        """
        samples = self._range(self._first_sample(index))
        return samples if samples.any() else None

    def _first_sample(self, index: int) -> int:
        return index * self._audio.slice_hop_frames * self._audio.hop_length

    def _range(self, first: int) -> FloatArray:
        """`slice_samples` samples from sample number `first`, zeros where there are none."""
        if max(first, 0) < self._oldest:
            raise UsageError(
                f"sound from {first / self._audio.sample_rate_hz:.2f} s is no longer held: ask for windows in the "
                "order of their times"
            )
        result = np.zeros(self._audio.slice_samples, np.float32)
        end = first + len(result)
        self._read_until(end)
        start = self._start
        for part in self._parts:
            begin, stop = max(first, start), min(end, start + len(part))
            if begin < stop:
                result[begin - first : stop - first] = part[begin - start : stop - start]
            start += len(part)
        return result

    def _read_until(self, end: int) -> None:
        while self._end < end and not self._ended:
            chunk = next(self._chunks, None)
            if chunk is None:
                self._ended = True
            else:
                self._parts.append(np.asarray(chunk, np.float32))
                self._end += len(chunk)
                self._drop()

    def _forget(self, index: int) -> None:
        """Let go of what lies before slice `index`."""
        for old in [number for number in self._slices if number < index]:
            del self._slices[old]
        self._oldest = max(self._oldest, self._first_sample(index))
        self._drop()

    def _drop(self) -> None:
        """Drop the parts that end before the oldest sample."""
        while self._parts and self._start + len(self._parts[0]) <= self._oldest:
            self._start += len(self._parts.popleft())


class PushedSlices(MelSlices):
    """The slices of a sound that is pushed; until it has come, sound is silence.

    Args:
        audio: the front-end's parameters.
    """

    def __init__(self, audio: AudioSpec) -> None:
        super().__init__(audio, iter(()))

    @property
    def end_seconds(self) -> float:
        """Until when there is sound; infinite once there will be no more."""
        return math.inf if self._ended else self._end / self._audio.sample_rate_hz

    def push(self, chunk: FloatArray) -> None:
        """Add samples (n,) that follow the last; the array is kept."""
        self._parts.append(chunk)
        self._end += len(chunk)
        self._drop()

    def finish(self) -> None:
        """No sound will come any more."""
        self._ended = True

    def _read_until(self, end: int) -> None:
        """What is not there has to be pushed."""


def _fft_length(audio: AudioSpec) -> int:
    return 1 << (audio.window_length - 1).bit_length()


@functools.lru_cache(maxsize=8)
def _window(audio: AudioSpec) -> npt.NDArray[np.float64]:
    """The periodic Hann window."""
    phase = 2 * np.pi * np.arange(audio.window_length) / audio.window_length
    return np.asarray(0.5 - 0.5 * np.cos(phase), np.float64)


@functools.lru_cache(maxsize=8)
def _filterbank(audio: AudioSpec) -> FloatArray:
    def mel(hz: npt.ArrayLike) -> npt.NDArray[np.float64]:
        return 1127.0 * np.log1p(np.asarray(hz, np.float64) / 700.0)

    bins = mel(np.fft.rfftfreq(_fft_length(audio), 1 / audio.sample_rate_hz))[:, None]
    edges = np.linspace(mel(audio.min_hz), mel(audio.max_hz), audio.mel_bands + 2)
    lower, centre, upper = edges[:-2], edges[1:-1], edges[2:]
    weights = np.maximum(0.0, np.minimum((bins - lower) / (centre - lower), (upper - bins) / (upper - centre)))
    weights[0] = 0.0
    return weights.astype(np.float32)


def _interpolated_rows(values: FloatArray, new_size: int) -> FloatArray:
    """(size, n) -> (new_size, n)."""
    before, after, share = _interpolation(len(values), new_size)
    return values[before] * (1 - share) + values[after] * share


@functools.lru_cache(maxsize=16)
def _interpolation(size: int, new_size: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], FloatArray]:
    """Linear interpolation with half-pixel centres, ends held: the rows before and after, and the latter's share."""
    position = np.clip((np.arange(new_size) + 0.5) * size / new_size - 0.5, 0, size - 1)
    before = np.minimum(position.astype(np.intp), size - 1)
    return before, np.minimum(before + 1, size - 1), (position - before).astype(np.float32)[:, None]
