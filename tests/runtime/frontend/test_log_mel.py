"""Log-mel slices against VGGish's definition in float64, with the Fourier transform as a sum, and its invariants."""

import dataclasses
import itertools
import math
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtfsal.engines.bundle.specs import AudioSpec
from dtfsal.engines.errors import UsageError
from dtfsal.runtime.frontend.log_mel import (
    MelSlices,
    log_mel,
    log_mel_slice,
    mel_filterbank,
    resize_slice,
)
from dtfsal.runtime.frontend.windows import slice_indices

AUDIO = AudioSpec(slices=9, height=112, width=192)
SMALL = AudioSpec(slices=3, height=6, width=8)
HOP = 1760  # samples between slices: 0.11 s at 16 kHz

# Logarithms between log(0.01) and about 6, of float32 sums of non-negative products: some units in the last place.
LOG_MEL = 5e-6


def hertz_to_mel(hertz):
    return 1127.0 * math.log(1.0 + hertz / 700.0)


def vggish_filterbank(bins=257, bands=64, rate=16000.0, lowest=125.0, highest=7500.0):
    """VGGish's mel matrix, band by band and bin by bin."""
    matrix = np.zeros((bins, bands))
    low, high = hertz_to_mel(lowest), hertz_to_mel(highest)
    edges = [low + (high - low) * i / (bands + 1) for i in range(bands + 2)]
    for band in range(bands):
        lower, centre, upper = edges[band : band + 3]
        for k in range(1, bins):  # bin 0 is left out
            mel = hertz_to_mel(k * rate / 2 / (bins - 1))
            matrix[k, band] = max(0.0, min((mel - lower) / (centre - lower), (upper - mel) / (upper - centre)))
    return matrix


def by_definition(samples):
    """Log-mel by the sums that define it, float64, no FFT."""
    samples = np.asarray(samples, np.float64)
    n = np.arange(400)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * n / 400)
    fourier = np.exp(-2j * np.pi * np.arange(257)[:, None] * n / 512)
    filterbank = vggish_filterbank()
    rows = []
    for first in range(0, len(samples) - 400 + 1, 160):
        magnitude = np.abs(fourier @ (hann * samples[first : first + 400]))
        rows.append(np.log(magnitude @ filterbank + 0.01))
    return np.array(rows)


def noise(count, seed=0, level=0.1):
    return (level * np.random.default_rng(seed).standard_normal(count)).astype(np.float32)


def tone(hertz, count=10480, level=0.5):
    return (level * np.sin(2 * np.pi * hertz * np.arange(count) / 16000)).astype(np.float32)


def test_filterbank_is_vggishs():
    # Float32 of numbers in [0, 1].
    np.testing.assert_allclose(mel_filterbank(AUDIO), vggish_filterbank(), rtol=0, atol=1e-6)
    assert (mel_filterbank(AUDIO)[0] == 0).all()


def test_the_filterbank_given_is_the_callers_own():
    mel_filterbank(AUDIO)[:] = 7
    assert mel_filterbank(AUDIO).max() <= 1


@pytest.mark.parametrize(
    "samples",
    [
        noise(4000),
        noise(400, seed=1),
        noise(3999, seed=2, level=1e-4),
        tone(440, 2000, level=1.0),
        np.sign(tone(100, 2000)),
        np.eye(1, 2000, 700)[0],
        np.ones(1000),
    ],
    ids=["noise", "one frame", "faint", "tone", "square", "click", "constant"],
)
def test_log_mel_is_the_definition(samples):
    expected = by_definition(samples)
    result = log_mel(samples, AUDIO)
    assert result.dtype == np.float32
    assert result.shape == expected.shape == (1 + (len(samples) - 400) // 160, 64)
    np.testing.assert_allclose(result, expected, rtol=0, atol=LOG_MEL)


@pytest.mark.parametrize("hertz", [200, 440, 1000, 2500, 5000, 7000])
def test_a_tone_is_loudest_in_the_band_around_it(hertz):
    mel = log_mel_slice(tone(hertz), AUDIO)
    low, high = hertz_to_mel(125), hertz_to_mel(7500)
    nearest = (hertz_to_mel(hertz) - low) / (high - low) * 65 - 1
    # Bands below 1 kHz are narrower than a bin of 31.25 Hz: there the loudest may be a neighbour.
    assert (np.abs(mel.argmax(axis=1) - nearest) <= (1.5 if hertz < 1000 else 1)).all()


def test_silence_is_the_logarithm_of_the_offset():
    assert AUDIO.silence == math.log(0.01)
    np.testing.assert_allclose(log_mel(np.zeros(10480), AUDIO), math.log(0.01), rtol=0, atol=LOG_MEL)
    silence = np.full((9, 1, 112, 192), math.log(0.01), np.float32)
    nothing = MelSlices(AUDIO, iter(()))
    for centre in (0.0, 12.3):
        np.testing.assert_array_equal(nothing.window(centre), silence)


@given(gain=st.floats(0.01, 8), seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_gain_scales_the_magnitudes(gain, seed):
    samples = noise(2000, seed)
    before, after = (np.exp(log_mel(x, AUDIO).astype(np.float64)) - 0.01 for x in (samples, np.float32(gain) * samples))
    # The offset added before the logarithm and subtracted here costs the digits of the faintest bands.
    np.testing.assert_allclose(after, gain * before, rtol=2e-5, atol=1e-6 * max(1.0, gain))


def test_a_hop_later_is_a_frame_later():
    samples = noise(4000)
    # The same products; matrix kernels may add them in another order.
    np.testing.assert_allclose(log_mel(samples[160:], AUDIO), log_mel(samples, AUDIO)[1:], rtol=0, atol=LOG_MEL)


@pytest.mark.parametrize("samples", [np.zeros(399), np.zeros(0), np.zeros((800, 2)), 0.0])
def test_too_few_samples_or_two_channels(samples):
    with pytest.raises(UsageError, match="400 mono samples"):
        log_mel(samples, AUDIO)


def test_a_slice_has_its_length():
    assert log_mel_slice(np.zeros(10480), AUDIO).shape == (64, 64)
    with pytest.raises(UsageError, match="10480"):
        log_mel_slice(np.zeros(10481), AUDIO)


@pytest.mark.parametrize(("height", "width"), [(112, 192), (48, 80), (16, 16), (64, 64), (1, 1), (200, 3)])
def test_resized_slices_are_torchs(height, width):
    torch = pytest.importorskip("torch")
    audio = AudioSpec(slices=9, height=height, width=width)
    mel = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32) * 3
    result = resize_slice(mel, audio)
    assert result.dtype == np.float32
    # Float32 weights of float32 values up to 12. In float32 torch rounds the positions (up to 64) too: 4e-6 of a
    # column times differences of up to 24 between columns.
    for dtype, tolerance in ((torch.float64, 5e-6), (torch.float32, 1e-4)):
        expected = torch.nn.functional.interpolate(
            torch.from_numpy(mel)[None, None].to(dtype), size=(height, width), mode="bilinear", align_corners=False
        )
        np.testing.assert_allclose(result, expected[0, 0].numpy(), rtol=0, atol=tolerance)


def padded(samples, first, count=10480):
    """Samples [first, first + count), zeros outside."""
    indices = np.arange(first, first + count)
    inside = (indices >= 0) & (indices < len(samples))
    return np.where(inside, samples[np.clip(indices, 0, len(samples) - 1)] if len(samples) else 0, 0)


def chunked(samples, sizes):
    first = 0
    for size in sizes:
        yield samples[first : first + size]
        first += size
    yield samples[first:]


def test_slices_cover_their_part_of_the_grid_and_silence_is_outside():
    samples = noise(20000)
    slices = MelSlices(SMALL, iter([samples]))
    for index in (-20, -3, -1, 0, 1, 5, 11, 12, 40):
        expected = resize_slice(log_mel_slice(padded(samples, index * HOP), SMALL), SMALL)
        # The same computation on the same samples; exactly silent slices are filled with the logarithm in float64.
        np.testing.assert_allclose(slices.slice(index), expected, rtol=0, atol=LOG_MEL)
        if index in (-20, 12, 40):
            assert (slices.slice(index) == np.float32(SMALL.silence)).all()


@given(
    sizes=st.lists(st.one_of(st.integers(0, 300), st.integers(0, 20000)), max_size=40),
    length=st.integers(0, 50000),
    steps=st.lists(st.floats(0, 0.7), max_size=8),
)
@settings(max_examples=40, deadline=None)
def test_windows_do_not_depend_on_the_chunks(sizes, length, steps):
    samples = noise(length, seed=length)
    whole, parts = MelSlices(SMALL, iter([samples])), MelSlices(SMALL, chunked(samples, sizes))
    for centre in itertools.accumulate(steps, initial=-0.1):
        window = parts.window(centre)
        assert window.shape == (3, 1, 6, 8)
        np.testing.assert_array_equal(window, whole.window(centre))
        for index, slice_ in zip(slice_indices(SMALL, centre), window[:, 0], strict=True):
            expected = resize_slice(log_mel_slice(padded(samples, index * HOP), SMALL), SMALL)
            np.testing.assert_allclose(slice_, expected, rtol=0, atol=LOG_MEL)


def test_neighbouring_windows_share_what_was_computed():
    slices = MelSlices(SMALL, iter([noise(40000)]))
    first, second = slice_indices(SMALL, 0.6), slice_indices(SMALL, 0.71)
    assert second.start == first.start + 1
    before = slices.window(0.6)
    kept = [slices.slice(index) for index in first[1:]]
    after = slices.window(0.71)
    assert all(slices.slice(index) is old for index, old in zip(first[1:], kept, strict=True))
    np.testing.assert_array_equal(after[:-1], before[1:])


def test_silent_slices_are_one_array():
    slices = MelSlices(SMALL, iter([np.concatenate([np.zeros(40000), noise(20000)]).astype(np.float32)]))
    assert slices.advance(0.6) == slice_indices(SMALL, 0.6)
    assert all(slices.slice(index) is slices.silence for index in slice_indices(SMALL, 0.6))
    heard = [slices.slice(index) is not slices.silence for index in slices.advance(2.5)]
    assert all(heard)
    np.testing.assert_array_equal(slices.silence, np.full_like(slices.silence, SMALL.silence))
    with pytest.raises(UsageError, match="order"):
        slices.advance(0.6)
        slices.slice(0)


@pytest.mark.parametrize("step", [0.04, 1.0, 30.0])
def test_memory_grows_neither_with_the_sound_nor_with_the_step(step):
    alive, most = {}, 0

    def chunks():
        nonlocal most
        for number in range(4000):  # 64 s
            chunk = np.full(256, 1e-3 * (1 + number % 7), np.float32)
            alive[number] = weakref.ref(chunk, lambda _, number=number: alive.pop(number))
            most = max(most, len(alive))
            yield chunk
            del chunk

    slices = MelSlices(AudioSpec(slices=9, height=4, width=4), chunks())
    centre = 0.0
    while centre < 60:
        slices.window(centre)
        centre += step
    # Nine slices span 0.655 + 8 x 0.11 s; the chunks at both ends hang over, and one comes.
    assert most * 256 <= 16000 * (0.655 + 0.88) + 3 * 256


def test_nothing_is_read_before_it_is_needed():
    read = 0

    def chunks():
        nonlocal read
        while True:
            read += 1600
            yield np.zeros(1600, np.float32)

    slices = MelSlices(SMALL, chunks())
    assert read == 0
    for centre in (0.5, 1.0, 5.0):
        slices.window(centre)
        end = slice_indices(SMALL, centre).stop * HOP - HOP + 10480
        assert end <= read < end + 1600


def test_a_long_array_is_not_copied_for_each_window():
    samples = np.zeros(16000 * 60, np.float32)
    slices = MelSlices(SMALL, iter([samples]))
    for centre in np.arange(0, 2, 0.1):
        slices.window(centre)
        assert all(np.shares_memory(part, samples) for part in slices._parts)


def test_windows_come_in_order():
    slices = MelSlices(SMALL, iter([noise(100000)]))
    slices.window(3.0)
    with pytest.raises(UsageError, match="order"):
        slices.window(2.0)
    with pytest.raises(UsageError, match="order"):
        slices.slice(-1)
    slices.window(3.0)


def test_other_parameters():
    audio = dataclasses.replace(AUDIO, sample_rate_hz=8000, window_length=200, hop_length=80, max_hz=3800.0)
    assert mel_filterbank(audio).shape == (129, 64)
    assert audio.slice_samples == 63 * 80 + 200
    assert log_mel_slice(np.zeros(audio.slice_samples), audio).shape == (64, 64)
    assert audio.slice_hop_seconds == pytest.approx(0.11)


def test_torchaudio_computes_the_same():
    """Its short-time spectrum, and its filters of Kaldi's form: triangles along mel, as VGGish has them."""
    torchaudio = pytest.importorskip(
        "torchaudio", reason="needs a torchaudio that loads", exc_type=(ImportError, OSError)
    )
    import torch

    kaldi = pytest.importorskip("torchaudio.compliance.kaldi")
    samples = np.random.default_rng(0).uniform(-1, 1, 16000).astype(np.float32)
    # Its window of 400 stands in the middle of the transform's 512 samples, ours at their beginning.
    shifted = torch.nn.functional.pad(torch.from_numpy(samples), (56, 56))
    spectrum = torchaudio.transforms.Spectrogram(n_fft=512, win_length=400, hop_length=160, power=1, center=False)
    filters, _ = kaldi.get_mel_banks(64, 512, 16000.0, 125.0, 7500.0, 100.0, -500.0, 1.0)
    mel = filters @ spectrum(shifted)[:256]  # without the last bin, at 8 kHz, which no filter takes
    expected = torch.log(mel + 0.01).T.numpy()
    # Its filters are made of float32 frequencies.
    np.testing.assert_allclose(log_mel(samples, AUDIO), expected, atol=5e-5)
