"""Procedural sounds: something that sounds in bursts, and what else is to be heard.

A sound is a carrier (speech-like, barks, tones, chirps, engines, knocks, arpeggios) under an envelope. Envelopes are
kept at `ENVELOPE_RATE_HZ`, in [0, 1]; whoever is seen to make the sound follows the same envelope.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Rng = np.random.Generator

ENVELOPE_RATE_HZ = 100.0


def burst_envelope(rng: Rng, seconds: float) -> Floats:
    """Bursts of 0.1-0.5 s with pauses of 0.12-0.7 s, as syllables, barks and knocks have; (n,) in [0, 1]."""
    count = round(seconds * ENVELOPE_RATE_HZ)
    envelope = np.zeros(count, np.float32)
    time = -rng.uniform(0, 0.5)
    decaying = rng.random() < 0.5
    while time < seconds:
        length, height = rng.uniform(0.1, 0.5), rng.uniform(0.55, 1.0)
        start, stop = max(0, round(time * ENVELOPE_RATE_HZ)), round((time + length) * ENVELOPE_RATE_HZ)
        x = (np.arange(start, min(stop, count)) / ENVELOPE_RATE_HZ - time) / length
        attack = np.minimum(1, x / 0.12)
        shape = attack * np.exp(-2.0 * x) if decaying else attack * np.minimum(1, (1 - x) / 0.2)
        envelope[start : start + len(x)] = height * np.clip(shape, 0, 1)
        time += length + rng.uniform(0.12, 0.7)
    return envelope


def sound(rng: Rng, envelope: Floats, sample_rate_hz: int) -> Floats:
    """A random carrier under an envelope; (n,) float32 with a largest value of 1 (0 if the envelope is 0)."""
    samples = round(len(envelope) / ENVELOPE_RATE_HZ * sample_rate_hz)
    carrier = CARRIERS[rng.integers(len(CARRIERS))](rng, samples, sample_rate_hz)
    return _scaled(carrier * _upsampled(envelope, samples), 1.0)


def voice(rng: Rng, envelope: Floats, sample_rate_hz: int) -> Floats:
    """A voice under an envelope; (n,) float32 with a largest value of 1 (0 if the envelope is 0)."""
    samples = round(len(envelope) / ENVELOPE_RATE_HZ * sample_rate_hz)
    return _scaled(_speech(rng, samples, sample_rate_hz) * _upsampled(envelope, samples), 1.0)


def random_sound(rng: Rng, seconds: float, sample_rate_hz: int) -> Floats:
    """Any sound, as loud as any: bursts, something sustained, ambience, or a mixture; (n,) float32 in [-1, 1]."""
    count = round(seconds * sample_rate_hz)
    kind = rng.integers(4)
    if kind == 0:
        mixture = ambience(rng, count, sample_rate_hz)
    else:
        envelope = burst_envelope(rng, seconds)
        if kind == 1:
            envelope = np.full_like(envelope, 1.0)
        mixture = sound(rng, envelope, sample_rate_hz)[:count]
        mixture = np.pad(mixture, (0, count - len(mixture)))
        if kind == 2:
            mixture = mixture + 0.1 * ambience(rng, count, sample_rate_hz)
    return _scaled(mixture, random_gain(rng))


def random_gain(rng: Rng) -> float:
    """A peak level between -20 dB and -1 dB of full scale."""
    return float(10 ** (rng.uniform(-20, -1) / 20))


def ambience(rng: Rng, count: int, sample_rate_hz: int) -> Floats:
    """Noise that falls with frequency, 0 to 9 dB per octave, and slowly swells; (n,), largest value 1."""
    slope = rng.uniform(0, 1.5)
    noise = _filtered(rng, count, lambda hz: np.maximum(hz, 50.0) ** -slope, sample_rate_hz)
    swell = 1 + 0.5 * np.sin(2 * np.pi * (rng.uniform(0.1, 0.6) * np.arange(count) / sample_rate_hz + rng.random()))
    return _scaled(noise * swell, 1.0)


def _speech(rng: Rng, count: int, rate: int) -> Floats:
    """Glottal pulses of a wandering pitch through three formants that move from syllable to syllable."""
    time = np.arange(count) / rate
    pitch = rng.uniform(90, 260) * (1 + 0.12 * _wander(rng, count, rate, 3.0))
    phase = np.cumsum(pitch) / rate
    result = np.zeros(count)
    formants = [
        700 * (1 + 0.5 * _wander(rng, count, rate, 5.0)),
        1500 * (1 + 0.4 * _wander(rng, count, rate, 5.0)),
        np.full(count, 2700.0),
    ]
    for harmonic in range(1, int(4000 / pitch.mean()) + 1):
        hz = harmonic * pitch
        weight = 0.02 + np.sum([np.exp(-(((hz - formant) / 180) ** 2)) for formant in formants], axis=0)
        result += weight * np.sin(2 * np.pi * harmonic * phase) / np.sqrt(harmonic)
    return (result + 0.02 * rng.standard_normal(count) * (1 + np.sin(time))).astype(np.float32)


def _bark(rng: Rng, count: int, rate: int) -> Floats:
    """Harsh harmonics of a low pitch with noise."""
    phase = np.cumsum(rng.uniform(150, 600) * (1 + 0.3 * _wander(rng, count, rate, 6.0))) / rate
    saw = 2 * (phase % 1) - 1
    return (saw + rng.uniform(0.1, 0.8) * rng.standard_normal(count)).astype(np.float32)


def _tone(rng: Rng, count: int, rate: int) -> Floats:
    """A tone with a few overtones."""
    phase = rng.uniform(200, 2500) * np.arange(count) / rate
    return np.sum([rng.uniform(0, 1) * np.sin(2 * np.pi * k * phase) for k in (1, 2, 3)], axis=0).astype(np.float32)


def _chirp(rng: Rng, count: int, rate: int) -> Floats:
    """A tone whose pitch sweeps to and fro."""
    centre, depth, speed = rng.uniform(600, 3500), rng.uniform(0.1, 0.5), rng.uniform(2, 9)
    hz = centre * (1 + depth * np.sin(2 * np.pi * speed * np.arange(count) / rate))
    return np.sin(2 * np.pi * np.cumsum(hz) / rate).astype(np.float32)


def _engine(rng: Rng, count: int, rate: int) -> Floats:
    """Low pulses with rumble."""
    phase = np.cumsum(rng.uniform(35, 110) * (1 + 0.2 * _wander(rng, count, rate, 1.0))) / rate
    pulses = np.maximum(0, np.sin(2 * np.pi * phase)) ** 6
    return (pulses + 0.4 * _filtered(rng, count, lambda hz: 1 / (1 + (hz / 400) ** 2), rate)).astype(np.float32)


def _knock(rng: Rng, count: int, rate: int) -> Floats:
    """Noise in a band."""
    centre, width = rng.uniform(300, 5000), rng.uniform(0.2, 1.0)
    return _filtered(rng, count, lambda hz: np.exp(-((np.log2(np.maximum(hz, 1) / centre) / width) ** 2)), rate)


def _arpeggio(rng: Rng, count: int, rate: int) -> Floats:
    """Plucked notes of a chord, several a second."""
    base, per_second = rng.uniform(150, 700), rng.uniform(3, 8)
    time = np.arange(count) / rate
    note = (time * per_second).astype(int)
    ratios = np.array([1, 1.25, 1.5, 2, 2.5])[rng.integers(0, 5, note[-1] + 1 if count else 1)]
    return (np.sin(2 * np.pi * base * np.cumsum(ratios[note]) / rate) * np.exp(-3 * (time * per_second % 1))).astype(
        np.float32
    )


CARRIERS: tuple[Callable[[Rng, int, int], Floats], ...] = (
    _speech,
    _speech,
    _bark,
    _tone,
    _chirp,
    _engine,
    _knock,
    _arpeggio,
)


def _wander(rng: Rng, count: int, rate: int, speed_hz: float) -> npt.NDArray[np.float64]:
    """A smooth random curve in about [-1, 1]."""
    knots = rng.uniform(-1, 1, max(2, int(count / rate * speed_hz) + 2))
    return np.interp(np.linspace(0, len(knots) - 1, count), np.arange(len(knots)), knots)


def _filtered(rng: Rng, count: int, response: Callable[..., npt.NDArray[np.float64]], rate: int) -> Floats:
    """White noise through a filter given by its response at frequencies in Hz; largest value 1."""
    spectrum = np.fft.rfft(rng.standard_normal(count)) * response(np.fft.rfftfreq(count, 1 / rate))
    return _scaled(np.fft.irfft(spectrum, count).astype(np.float32), 1.0)


def _upsampled(envelope: Floats, count: int) -> Floats:
    position = (np.arange(count) + 0.5) * len(envelope) / count - 0.5
    return np.interp(position, np.arange(len(envelope)), envelope).astype(np.float32)


def _scaled(samples: npt.NDArray[np.floating], peak: float) -> Floats:
    largest = float(np.abs(samples).max(initial=0.0))
    return (samples * (peak / largest if largest > 0 else 0.0)).astype(np.float32)
