import numpy as np
import pytest
import torch

from dtfsal.engines.errors import UsageError
from dtfsal.runtime.frontend.samples import mono_samples, resampled_chunks


def test_channels_are_averaged_and_integers_scaled():
    stereo = np.array([[1.0, 0.0], [0.5, -0.5]])
    np.testing.assert_array_equal(mono_samples(stereo), np.array([0.5, 0.0], np.float32))
    np.testing.assert_array_equal(mono_samples(np.array([-32768, 16384], np.int16)), np.array([-1, 0.5], np.float32))
    np.testing.assert_array_equal(mono_samples(np.array([-(2**31)], np.int32)), np.array([-1], np.float32))


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros((2, 3, 4)), "channels"),
        (np.zeros((2, 1000)), "channels"),  # (channels, n) by mistake
        (np.zeros(4, np.uint8), "uint8"),
        (np.array(["a"]), "floating point"),
        (np.array([0.0, np.nan]), "finite"),
    ],
)
def test_other_arrays_are_refused(samples, message):
    with pytest.raises(UsageError, match=message):
        mono_samples(samples)


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_a_tone_stays_where_it_is_in_time(rate):
    seconds = 2.3
    tone = np.sin(2 * np.pi * 440 * np.arange(int(seconds * rate)) / rate).astype(np.float32)
    result = np.concatenate(list(resampled_chunks(tone, rate, 16000)))
    assert abs(len(result) - seconds * 16000) <= 2
    expected = np.sin(2 * np.pi * 440 * np.arange(len(result)) / 16000)
    # A shift by one sample would be off by 0.17; the filter's ripple is below 1 %. Its ends see the cut.
    np.testing.assert_allclose(result[200:-200], expected[200:-200], atol=0.01)


def test_the_wanted_rate_passes_unchanged_and_no_samples_give_none():
    samples = np.arange(5, dtype=np.float32)
    (chunk,) = resampled_chunks(samples, 16000, 16000)
    assert chunk is samples
    assert list(resampled_chunks(samples[:0], 16000, 16000)) == []
    assert sum(map(len, resampled_chunks(samples[:0], 48000, 16000))) == 0


@pytest.mark.parametrize("rate", [0, -1, 44100.5, float("nan"), float("inf")])
def test_impossible_rates_are_refused(rate):
    with pytest.raises(UsageError, match="sample_rate_hz"):
        resampled_chunks(np.zeros(4, np.float32), rate, 16000)


def test_tensors_are_samples():
    """Of any library, by DLPack; torchaudio's order of axes is named."""
    stereo = np.random.default_rng(0).uniform(-1, 1, (1000, 2)).astype(np.float32)
    tensor = torch.from_numpy(stereo)
    np.testing.assert_array_equal(mono_samples(tensor), mono_samples(stereo))
    turned = tensor.T.contiguous()  # (channels, n)
    with pytest.raises(UsageError, match=r"not \(2, 1000\); turn \(channels, n\), as torchaudio has it, by \.T"):
        mono_samples(turned)
    np.testing.assert_array_equal(mono_samples(turned.T), mono_samples(stereo))
