"""Regions of maps whose right answer is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtfsal.applications.encode.regions import (
    GRID,
    Region,
    RegionPlanner,
    centre_density,
    offset_grid,
    regions_of,
)
from dtfsal.engines.errors import UsageError

pytest.importorskip("scipy")


def test_attention_on_one_half_refines_it_and_coarsens_the_other():
    """Densities of 1.6 and 0.4 times the mean: -3 log2 of each, to a quarter of a QP."""
    density = np.full(GRID, 0.4)
    density[:, :16] = 1.6
    assert regions_of(density, 320, 180, 20) == (
        Region(0, 0, 160, 180, -2.0),  # -2.03
        Region(0, 0, 320, 180, 4.0),  # 3.97
    )
    assert [region.qp_offset for region in regions_of(density, 320, 180, 3)] == [-2.0, 3.0]


def test_a_peak_comes_first_and_rings_follow():
    found = regions_of(centre_density(0.1), 640, 360, 12)
    offsets = [region.qp_offset for region in found]
    assert offsets == sorted(offsets)
    assert offsets[0] < 0 < offsets[-1]
    assert found[-1] == Region(0, 0, 640, 360, offsets[-1])
    assert found[0].left < 320 < found[0].right
    assert found[0].top < 180 < found[0].bottom


@pytest.mark.parametrize("density", [np.zeros(GRID), np.ones(GRID)])
def test_no_attention_and_the_same_everywhere_change_nothing(density):
    assert {region.qp_offset for region in regions_of(density, 64, 36, 6)} == {0.0}


@settings(max_examples=40)
@given(st.integers(0, 2**16), st.floats(1, 12), st.sampled_from([(1280, 720), (65, 37), (176, 144)]))
def test_regions_are_few_lie_in_the_frame_and_cover_it(seed, strength, size):
    density = np.random.default_rng(seed).random(GRID) ** 12
    found = regions_of(density, *size, strength)
    assert 1 <= len(found) <= 8
    for region in found:
        assert 0 <= region.left < region.right <= size[0]
        assert 0 <= region.top < region.bottom <= size[1]
        assert abs(region.qp_offset) <= strength + 1 / 8  # quarters of a QP
    assert found[-1] == Region(0, 0, *size, found[-1].qp_offset)


def test_a_track_changes_when_the_maps_do():
    """Left for a second, then right: two sets, the second from the interval in which the map moved."""
    left, right = np.full((9, 16), 0.1, np.float32), np.full((9, 16), 0.1, np.float32)
    left[:, :4], right[:, -4:] = 1, 1
    planner = RegionPlanner(160, 90, 6)
    for index in range(50):
        planner.add(index / 25, left if index < 25 else right)
    track = planner.finish()
    (first, at_left), (second, at_right) = track
    assert first == 0
    assert second == pytest.approx(1.0, abs=1e-9)
    assert at_left[0].left == 0
    assert at_right[0].right == 160
    assert track.counts.tolist() == [2, 2]


def test_the_grid_of_blocks_takes_the_first_region():
    regions = (Region(0, 0, 64, 64, -6.0), Region(0, 0, 128, 64, -3.0), Region(0, 0, 150, 130, 2.0))
    np.testing.assert_array_equal(offset_grid(regions, 3, 3, 64), [[-6, -3, 2], [2, 2, 2], [2, 2, 2]])


@pytest.mark.parametrize("strength", [-1.0, 21.0, float("nan")])
def test_a_strength_out_of_range_is_refused(strength):
    with pytest.raises(UsageError, match="strength"):
        RegionPlanner(10, 10, strength)
