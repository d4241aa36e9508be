"""Maps after the engine, against double loops, hand-counted cases and Pillow's definition."""

import math

import numpy as np
import pytest

from dtfsal.engines.errors import UsageError
from dtfsal.runtime.predict.maps import map_statistics, normalise_map, resize_map, smooth_map


@pytest.fixture
def saliency_map():
    return np.random.default_rng(0).random((7, 10), dtype=np.float32)


def test_normalisations_have_their_sums_and_ends(saliency_map):
    assert normalise_map(saliency_map, "none") is saliency_map
    by_max = normalise_map(saliency_map, "max")
    assert by_max.max() == 1
    # float32 rounding of a division
    np.testing.assert_allclose(by_max, saliency_map / saliency_map.max(), rtol=1e-6)
    assert normalise_map(saliency_map, "sum").sum(dtype=np.float64) == pytest.approx(1, abs=1e-6)
    by_range = normalise_map(saliency_map, "range")
    assert (by_range.min(), by_range.max()) == (0, 1)
    assert all(normalise_map(saliency_map, kind).dtype == np.float32 for kind in ("none", "max", "sum", "range"))


@pytest.mark.parametrize("kind", ["max", "sum", "range"])
def test_normalising_a_zero_map_gives_zeros(kind):
    assert not normalise_map(np.zeros((3, 4)), kind).any()


def test_range_of_a_constant_map_is_zero_and_max_is_one():
    constant = np.full((3, 4), 0.25, np.float32)
    assert not normalise_map(constant, "range").any()
    assert (normalise_map(constant, "max") == 1).all()


def test_unknown_normalisation_is_named(saliency_map):
    with pytest.raises(UsageError, match="none, max, sum, range, not 'mean'"):
        normalise_map(saliency_map, "mean")


def gaussian_by_loops(image, sigma):
    """Every pixel a weighted sum over its 2-D neighbourhood, the border mirrored with the edge pixel repeated."""
    height, width = image.shape
    radius = math.ceil(4 * sigma)

    def mirrored(index, size):
        index %= 2 * size
        return index if index < size else 2 * size - 1 - index

    result = np.zeros(image.shape)
    for y in range(height):
        for x in range(width):
            total = weights = 0.0
            for dy in range(-radius, radius + 1):
                for dx in range(-radius, radius + 1):
                    weight = math.exp(-(dx * dx + dy * dy) / (2 * sigma * sigma))
                    total += weight * float(image[mirrored(y + dy, height), mirrored(x + dx, width)])
                    weights += weight
            result[y, x] = total / weights
    return result


@pytest.mark.parametrize("sigma", [0.6, 1.5, 4.0])  # 4: the kernel is larger than the map
def test_smoothing_equals_a_loop_over_neighbourhoods(saliency_map, sigma):
    # float32 sums of up to 33 taps twice: a few 1e-7
    np.testing.assert_allclose(smooth_map(saliency_map, sigma), gaussian_by_loops(saliency_map, sigma), atol=2e-6)


def test_smoothing_keeps_sum_and_zero_sigma_keeps_the_map(saliency_map):
    assert smooth_map(saliency_map, 0.0) is saliency_map
    smoothed = smooth_map(saliency_map, 2.0)
    assert smoothed.sum(dtype=np.float64) == pytest.approx(saliency_map.sum(dtype=np.float64), rel=1e-5)


@pytest.mark.parametrize("sigma", [-1.0, math.nan, math.inf])
def test_impossible_smoothing_is_refused(saliency_map, sigma):
    with pytest.raises(UsageError, match="must be a number from 0 to 256"):
        smooth_map(saliency_map, sigma)


def bilinear_by_loops(image, height, width):
    """Half-pixel centres, ends held."""
    rows, columns = image.shape
    result = np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            v = min(max((y + 0.5) * rows / height - 0.5, 0), rows - 1)
            u = min(max((x + 0.5) * columns / width - 0.5, 0), columns - 1)
            y0, x0 = int(v), int(u)
            y1, x1 = min(y0 + 1, rows - 1), min(x0 + 1, columns - 1)
            top = image[y0, x0] * (1 - (u - x0)) + image[y0, x1] * (u - x0)
            bottom = image[y1, x0] * (1 - (u - x0)) + image[y1, x1] * (u - x0)
            result[y, x] = top * (1 - (v - y0)) + bottom * (v - y0)
    return result


def test_enlarging_equals_bilinear_interpolation(saliency_map):
    enlarged = resize_map(saliency_map, 31, 53)
    assert enlarged.shape == (31, 53)
    assert enlarged.dtype == np.float32
    np.testing.assert_allclose(enlarged, bilinear_by_loops(saliency_map, 31, 53), atol=1e-6)  # float32


def test_resizing_to_the_same_size_keeps_the_map(saliency_map):
    assert resize_map(saliency_map, 7, 10) is saliency_map


def test_peak_and_centre_of_mass_by_hand():
    saliency_map = np.zeros((3, 4), np.float32)
    saliency_map[1, 3] = 0.5
    saliency_map[1, 1] = 0.25
    same = map_statistics(saliency_map, 3, 4)
    assert (same.peak_x, same.peak_y, same.peak_value) == (3, 1, 0.5)
    assert same.centre_x == pytest.approx((3 * 0.5 + 1 * 0.25) / 0.75)
    assert same.centre_y == 1
    # Each cell is a block of 10 x 20 pixels; the centre of columns 30..39 is 34.5 in pixel centres.
    larger = map_statistics(saliency_map, 60, 40)
    assert (larger.peak_x, larger.peak_y) == (34.5, 29.5)


def test_statistics_of_zero_and_constant_maps_point_at_the_centre():
    for value in (0.0, 0.3):
        statistics = map_statistics(np.full((5, 8), value), 48, 100)
        assert statistics.centre_x == pytest.approx(49.5)
        assert statistics.centre_y == pytest.approx(23.5)
        assert statistics.peak_value == value


def test_statistics_agree_with_the_enlarged_map():
    """A blob's peak and centre, found on the map at the image's resolution, up to interpolation."""
    y, x = np.mgrid[:24, :40]
    saliency_map = np.exp(-((x - 25) ** 2 + (y - 8) ** 2) / 18).astype(np.float32)
    statistics = map_statistics(saliency_map, 240, 400)
    enlarged = resize_map(saliency_map, 240, 400).astype(np.float64)
    row, column = divmod(int(enlarged.argmax()), 400)
    # The enlarged grid has no pixel exactly at the cell's centre: half a pixel off.
    assert abs(statistics.peak_x - column) <= 0.5
    assert abs(statistics.peak_y - row) <= 0.5
    assert statistics.centre_x == pytest.approx((enlarged.sum(0) @ np.arange(400)) / enlarged.sum(), abs=0.05)
    assert statistics.centre_y == pytest.approx((enlarged.sum(1) @ np.arange(240)) / enlarged.sum(), abs=0.05)
