"""Slices of sound: the GPU's program, on the CPU, against the runtime's own front-end."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtfsal.engines import AudioSpec
from dtfsal.engines.errors import UsageError
from dtfsal.runtime.frontend.log_mel import log_mel_slice, resize_slice, slice_tables

AUDIO = AudioSpec(slices=9, height=112, width=192)


def sounds():
    rng = np.random.default_rng(0)
    time = np.arange(AUDIO.slice_samples) / AUDIO.sample_rate_hz
    click = np.zeros(AUDIO.slice_samples)
    click[4000] = 1
    return {
        "noise": rng.uniform(-1, 1, AUDIO.slice_samples),
        "tone": 0.9 * np.sin(2 * np.pi * 440 * time),
        "tone beside silence": np.where(time < 0.3, 0.9 * np.sin(2 * np.pi * 3000 * time), 0),
        "quiet": 1e-4 * rng.standard_normal(AUDIO.slice_samples),
        "click": click,
        "silence": np.zeros(AUDIO.slice_samples),
    }


@pytest.mark.parametrize("name", sounds())
def test_a_slice_is_the_runtimes(host_library, calls, name):
    samples = sounds()[name].astype(np.float32)
    call, found, _alive = calls.slice_call(slice_tables(AUDIO), samples)
    host_library.prepare_slice(call, 0)
    expected = resize_slice(log_mel_slice(samples, AUDIO), AUDIO)
    # Float32 sums of some hundred magnitudes; the bar that all front-ends have is 1e-4.
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)


def test_half_precision_is_the_rounded_slice(host_library, calls):
    samples = sounds()["noise"].astype(np.float32)
    results = []
    for dtype in ("float32", "float16"):
        call, found, _alive = calls.slice_call(slice_tables(AUDIO), samples, dtype)
        host_library.prepare_slice(call, 0)
        results.append(found)
    np.testing.assert_array_equal(results[1], results[0].astype(np.float16))


@settings(deadline=None, max_examples=25)
@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    bands=st.integers(1, 80),
    frames=st.integers(1, 66),
    window=st.sampled_from([80, 128, 400]),
    seed=st.integers(0, 99),
)
def test_other_sizes(host_library, calls, height, width, bands, frames, window, seed):
    audio = dataclasses.replace(
        AUDIO, height=height, width=width, mel_bands=bands, slice_frames=frames, window_length=window
    )
    samples = np.random.default_rng(seed).uniform(-1, 1, audio.slice_samples).astype(np.float32)
    call, found, _alive = calls.slice_call(slice_tables(audio), samples)
    host_library.prepare_slice(call, 0)
    np.testing.assert_allclose(found, resize_slice(log_mel_slice(samples, audio), audio), rtol=0, atol=5e-5)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("frames", 0),
        ("samples", 100),
        ("fft_length", 500),
        ("fft_length", 256),
        ("bands", 9000),
        ("target_type", 3),
        ("sound", None),
    ],
)
def test_wrong_calls_are_told(host_library, calls, field, value):
    call, _found, _alive = calls.slice_call(slice_tables(AUDIO), sounds()["noise"])
    setattr(call, field, value)
    with pytest.raises(UsageError, match="the front-end cannot do this"):
        host_library.prepare_slice(call, 0)
