"""Sound to log-mel slices: VGGish's front-end, on one grid for the whole video.

Magnitudes of an STFT (25 ms periodic Hann window, 10 ms hop, FFT of 512 points at 16 kHz) go through 64 triangular
filters that are linear in mel = 1127 ln(1 + f / 700 Hz) between 125 and 7500 Hz; the logarithm is log(mel + 0.01)
(Hershey et al. 2017). Slice j of 64 STFT frames starts at STFT frame 11 j, 0.11 j seconds after the first video frame.
"""

import functools
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from dtfsal.engines.specs import AudioSpec
from dtfsal.runtime.windows import slice_indices

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
    """
    signal = np.ascontiguousarray(samples, np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(signal, audio.window_length)[:: audio.hop_length]
    spectrum = np.fft.rfft(frames * _window(audio), _fft_length(audio), axis=1)
    magnitudes = np.abs(spectrum).astype(np.float32)
    return np.asarray(np.log(magnitudes @ _filterbank(audio) + np.float32(audio.log_offset)), np.float32)


def log_mel_slice(samples: npt.ArrayLike, audio: AudioSpec) -> FloatArray:
    """One slice, (slice_frames, mel_bands), of exactly `audio.slice_samples` samples."""
    signal = np.asarray(samples, np.float32)
    assert signal.shape == (audio.slice_samples,)
    return log_mel(signal, audio)


def resize_slice(log_mel_slice: npt.ArrayLike, audio: AudioSpec) -> FloatArray:
    """(slice_frames, mel_bands) -> (height, width), bilinear with half-pixel centres: time to rows, mel to columns."""
    rows = _interpolation_matrix(audio.slice_frames, audio.height)
    columns = _interpolation_matrix(audio.mel_bands, audio.width)
    return rows @ np.asarray(log_mel_slice, np.float32) @ columns.T


def silent_slices(audio: AudioSpec) -> FloatArray:
    """(slices, 1, height, width) of digital silence."""
    return np.full((audio.slices, 1, audio.height, audio.width), audio.silence, np.float32)


class MelSlices:
    """The resized slices of a sound that comes in chunks, on the global grid.

    Silence stands before the first sample and after the last. Windows are asked for in the order of their times;
    samples and slices that lie before the last asked window are let go, so memory does not grow with the sound.
    """

    def __init__(self, audio: AudioSpec, chunks: Iterator[npt.NDArray[np.float32]]) -> None:
        """Nothing is read yet.

        Args:
            audio: the front-end's parameters.
            chunks: contiguous mono samples (n,) in [-1, 1] at `audio.sample_rate_hz`, the first at video time 0.
        """
        self._audio = audio
        self._chunks = chunks
        self._samples = np.zeros(0, np.float32)  # the samples [_start, _start + len)
        self._start = 0
        self._ended = False
        self._slices: dict[int, FloatArray] = {}

    def window(self, centre_seconds: float) -> FloatArray:
        """The slices of the window centred there, (slices, 1, height, width)."""
        indices = slice_indices(self._audio, centre_seconds)
        result = np.stack([self.slice(index) for index in indices])[:, None]
        self._forget(indices.start)
        return result

    def slice(self, index: int) -> FloatArray:
        """Slice `index` of the grid, (height, width); not before the first slice of the last window."""
        if index not in self._slices:
            samples = self._range(index * self._audio.slice_hop_frames * self._audio.hop_length)
            if samples.any():
                self._slices[index] = resize_slice(log_mel_slice(samples, self._audio), self._audio)
            else:
                self._slices[index] = np.full((self._audio.height, self._audio.width), self._audio.silence, np.float32)
        return self._slices[index]

    def _range(self, first: int) -> FloatArray:
        """`slice_samples` samples from sample number `first`, zeros where there are none."""
        end = first + self._audio.slice_samples
        self._read_until(end)
        assert first >= self._start or first < 0 or not self._samples.size, "slices are asked for in order of time"
        result = np.zeros(self._audio.slice_samples, np.float32)
        begin, stop = max(first, self._start), min(end, self._start + len(self._samples))
        if begin < stop:
            result[begin - first : stop - first] = self._samples[begin - self._start : stop - self._start]
        return result

    def _read_until(self, end: int) -> None:
        parts = [self._samples]
        have = self._start + len(self._samples)
        while have < end and not self._ended:
            chunk = next(self._chunks, None)
            if chunk is None:
                self._ended = True
            else:
                parts.append(np.asarray(chunk, np.float32))
                have += len(chunk)
        if len(parts) > 1:
            self._samples = np.concatenate(parts)

    def _forget(self, index: int) -> None:
        """Let go of what lies before slice `index`."""
        for old in [number for number in self._slices if number < index]:
            del self._slices[old]
        keep = index * self._audio.slice_hop_frames * self._audio.hop_length - self._start
        if keep > 0:
            self._samples = self._samples[keep:].copy()
            self._start += keep


def _fft_length(audio: AudioSpec) -> int:
    return 1 << (audio.window_length - 1).bit_length()


@functools.lru_cache(maxsize=8)
def _window(audio: AudioSpec) -> FloatArray:
    """The periodic Hann window."""
    phase = 2 * np.pi * np.arange(audio.window_length) / audio.window_length
    return (0.5 - 0.5 * np.cos(phase)).astype(np.float32)


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


@functools.lru_cache(maxsize=16)
def _interpolation_matrix(size: int, new_size: int) -> FloatArray:
    """(new_size, size) weights of linear interpolation with half-pixel centres, ends held."""
    position = np.clip((np.arange(new_size) + 0.5) * size / new_size - 0.5, 0, size - 1)
    before = np.minimum(position.astype(np.intp), size - 1)
    after = np.minimum(before + 1, size - 1)
    share = position - before
    matrix = np.zeros((new_size, size))
    np.add.at(matrix, (np.arange(new_size), before), 1 - share)
    np.add.at(matrix, (np.arange(new_size), after), share)
    return matrix.astype(np.float32)
