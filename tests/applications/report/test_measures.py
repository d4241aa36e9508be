"""Measures and samples against closed forms, and against all frames held at once."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtfsal.applications.areas.shares import AreaShares
from dtfsal.applications.report.measures import FrameMeasures, Measurer, entropy_bits
from dtfsal.applications.report.samples import Samples, small_map
from dtfsal.runtime.media.video import VideoInfo
from dtfsal.runtime.predict.prediction import SaliencyFrame


def info(width=200, height=100, aspect=(1, 1)):
    return VideoInfo(
        path="a.mp4", container="mp4", codec="h264", pixel_format="yuv420p", width=width, height=height,
        rotation_degrees=0, pixel_aspect=aspect, frame_interval_seconds=0.04, duration_seconds=1.0, frame_count=25,
        start_seconds=0.0, has_audio=False, audio_codec=None, audio_sample_rate_hz=None, audio_channels=None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("values", "bits"), [([1, 0, 0, 0], 0), ([2, 2, 2, 2], 2), ([1, 1, 2, 0], 1.5), ([0, 0, 0, 0], 0)]
)
def test_entropy_in_closed_form(values, bits):
    assert entropy_bits(np.array(values, np.float32).reshape(2, 2)) == pytest.approx(bits, abs=1e-6)


@pytest.mark.parametrize("aspect", [(1, 1), (2, 1)])
def test_the_peak_s_circle_is_round_on_the_screen(aspect):
    """An even map but for its peak: the circle's area, 0.01 pi of a frame's height squared, and a cell more."""
    saliency_map = np.ones((100, 200), np.float32)
    saliency_map[49, 99] = 1.001
    measured = Measurer(info(aspect=aspect), AreaShares([])).measure(SaliencyFrame(0, 0.0, saliency_map))
    wide = 2 * aspect[0]
    assert measured.values[1] == pytest.approx(math.pi * 0.01 / wide, rel=1e-4)
    assert (measured.peak_x, measured.peak_y) == (99, 49)


def test_the_band_spans_all_ways():
    one, other = np.array([[1, 0], [0, 0]], np.float32), np.array([[1, 1], [1, 1]], np.float32)
    measured = Measurer(info(), AreaShares([])).measure(SaliencyFrame(0, 0.0, one), [other])
    assert (measured.values[0], measured.low[0], measured.high[0]) == pytest.approx((0, 0, 2), abs=1e-6)


@given(st.integers(1, 9), st.integers(1, 11), st.data())
def test_a_small_map_keeps_the_attention_of_each_part(rows, columns, data):
    """Halves that cells do not straddle keep their shares, but for 8 bits."""
    saliency_map = np.zeros((2 * rows, 2 * columns), np.float32)
    saliency_map[:rows, :columns] = data.draw(st.floats(0.1, 1))
    saliency_map[rows:] = 1
    small = small_map(saliency_map, 2, 2)
    expected = 255 * np.array([[saliency_map[0, 0], 0], [1, 1]])
    np.testing.assert_allclose(small, expected, atol=0.51)


@given(st.integers(1, 70), st.integers(1, 9), st.randoms(use_true_random=False))
def test_samples_are_means_of_as_many_frames_as_must_be(count, half, random):
    """However often they were halved: each sample is the mean of its frames, weighted by time, hidden ones left out."""
    most = 2 * half
    samples = Samples(2, most=most)
    rows, shown = [], []
    for index in range(count):
        share = None if random.random() < 0.3 else random.random()
        rows.append((random.random(), share))
        shown.append(random.choice([0.04, 0.1]))
        saliency_map = np.full((2, 2), index % 2, np.float32)
        samples.add(FrameMeasures(index, index / 25, 0, 0, rows[-1]), saliency_map, shown[-1])
    step = 1
    while step * most < count:
        step *= 2
    assert (samples.step, len(samples)) == (step, -(-count // step))
    assert samples.indices.tolist() == list(range(0, count, step))
    assert samples.times.tolist() == [index / 25 for index in range(0, count, step)]
    assert samples.maps[:, 0, 0].tolist() == [255 * (index % 2) for index in range(0, count, step)]
    for column in (0, 1):
        for sample, first in enumerate(range(0, count, step)):
            held = [
                (rows[i][column], shown[i])
                for i in range(first, min(first + step, count))
                if rows[i][column] is not None
            ]
            mean = sum(value * time for value, time in held) / sum(time for _, time in held) if held else math.nan
            assert samples.series(column)[sample] == pytest.approx(mean, nan_ok=True)
