import numpy as np
import pytest

from dtfsal.training.synthetic import random_sound, sounds


@pytest.mark.parametrize("seed", range(6))
def test_envelopes_come_in_bursts_with_pauses(seed):
    envelope = sounds.burst_envelope(np.random.default_rng(seed), 6.0)
    assert (envelope.shape, envelope.dtype) == ((600,), np.float32)
    assert ((envelope >= 0) & (envelope <= 1)).all()
    on = np.flatnonzero(np.diff((envelope > 0).astype(int)) == 1)
    assert 4 <= len(on) <= 28  # a burst and its pause take 0.22 to 1.2 s
    assert 0.1 < (envelope == 0).mean() < 0.8


@pytest.mark.parametrize("seconds", [0.37, 3.2])
def test_random_sound_has_its_length_and_level(seconds):
    peaks = []
    for seed in range(12):
        samples = random_sound(np.random.default_rng(seed), seconds, 16000)
        assert (samples.shape, samples.dtype) == ((round(seconds * 16000),), np.float32)
        assert np.isfinite(samples).all()
        peaks.append(np.abs(samples).max())
    assert max(peaks) <= 10 ** (-1 / 20) + 1e-6
    assert max(peaks) / max(min(peaks), 1e-3) > 2  # the gain varies over 19 dB


def test_ambience_is_louder_below():
    noise = np.mean([np.abs(np.fft.rfft(sounds.ambience(np.random.default_rng(s), 16000, 16000))) for s in range(8)], 0)
    assert noise[100:500].mean() > noise[4000:8000].mean()
