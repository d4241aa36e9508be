"""Coverage and shares against closed forms, a fine grid, and what must hold of any partition."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtfsal.applications.areas.coverage import circle, coverage, share_of
from dtfsal.applications.areas.model import Outline

HEIGHT, WIDTH = 7, 11
RAMP = np.arange(HEIGHT * WIDTH, dtype=np.float64).reshape(HEIGHT, WIDTH) + 1


def whole(outline, height=HEIGHT, width=WIDTH):
    """The coverage as a map of the frame's size."""
    part = coverage(outline, height, width)
    full = np.zeros((height, width))
    rows, columns = part.shares.shape
    full[part.top : part.top + rows, part.left : part.left + columns] = part.shares
    return full


def box(left, top, right, bottom):
    return Outline("box", ((left, top), (right, bottom)))


def polygon(*points):
    return Outline("polygon", points)


def sampled(outline, height, width, n=60):
    """The covered shares by counting points inside, n x n of them in a cell."""
    y, x = ((np.arange(size * n) + 0.5) / (size * n) for size in (height, width))
    x, y = np.meshgrid(x, y)
    if outline.shape == "ellipse":
        (left, top), (right, bottom) = outline.points
        inside = ((x - (left + right) / 2) / (right - left)) ** 2 + ((y - (top + bottom) / 2) / (bottom - top)) ** 2
        inside = inside <= 0.25
    else:
        inside = np.zeros(x.shape, bool)
        for (ax, ay), (bx, by) in zip(outline.points, outline.points[1:] + outline.points[:1], strict=True):
            if ay != by:
                inside ^= ((ay > y) != (by > y)) & (x < ax + (y - ay) / (by - ay) * (bx - ax))
    return inside.reshape(height, n, width, n).mean(axis=(1, 3))


def test_a_box_by_hand():
    """Columns 1.5 to 4, rows 2.25 to 3.5 of an 11 x 7 map."""
    columns = np.array([0, 0.5, 1, 1, 0, 0, 0, 0, 0, 0, 0])
    rows = np.array([0, 0, 0.75, 0.5, 0, 0, 0])
    outline = box(1.5 / 11, 2.25 / 7, 4 / 11, 3.5 / 7)
    np.testing.assert_allclose(whole(outline), np.outer(rows, columns), atol=1e-12)
    by_hand = (0.75 * (0.5 * 24 + 25 + 26) + 0.5 * (0.5 * 35 + 36 + 37)) / 3003
    assert share_of(RAMP, [coverage(outline, HEIGHT, WIDTH)])[0] == pytest.approx(by_hand, abs=1e-9)


def test_a_triangle_by_hand():
    """The corner at the top left of two by two cells, cut by its diagonal."""
    outline = polygon((0, 0), (2 / 4, 0), (0, 2 / 4))
    np.testing.assert_allclose(whole(outline, 4, 4)[:2, :2], [[1, 0.5], [0.5, 0]], atol=1e-12)
    assert whole(outline, 4, 4).sum() == pytest.approx(2, abs=1e-12)


def test_a_disc_has_its_area():
    """Radius 3 cells, whole inside: pi 9. Each quadrant is a quarter, and the centre's cells are full."""
    covered = whole(circle((5 / 10, 5 / 10), (3 / 10, 3 / 10)), 10, 10)
    assert covered.sum() == pytest.approx(9 * math.pi, abs=1e-9)
    assert covered[:5, :5].sum() == pytest.approx(9 * math.pi / 4, abs=1e-9)
    assert covered[4:6, 4:6].tolist() == pytest.approx(np.ones((2, 2)))


def test_what_lies_outside_the_frame_counts_for_nothing():
    covered = whole(circle((0, 0.5), (3 / 10, 3 / 10)), 10, 10)
    assert covered.sum() == pytest.approx(9 * math.pi / 2, abs=1e-9)
    assert whole(box(-5, -5, 9, 9)).tolist() == np.ones((HEIGHT, WIDTH)).tolist()
    assert whole(box(1.5, 0, 2, 1)).sum() == 0
    assert whole(polygon((-2, -1), (3, -1), (3, 2), (-2, 2))).tolist() == pytest.approx(np.ones((HEIGHT, WIDTH)))
    assert whole(polygon((2, 0), (3, 0), (3, 1))).sum() == 0


def test_a_polygon_turned_the_other_way_is_the_same():
    points = [(0.1, 0.2), (0.9, 0.1), (0.7, 0.95), (0.4, 0.3)]
    np.testing.assert_allclose(whole(polygon(*points)), whole(polygon(*points[::-1])), atol=1e-12)


def test_a_figure_of_eight_counts_both_halves():
    covered = whole(polygon((0, 0), (1, 1), (1, 0), (0, 1)), 8, 8)
    assert covered.sum() == pytest.approx(32, abs=1e-9)


coordinates = st.floats(-0.6, 1.6).map(lambda value: round(value, 4))


@given(st.tuples(coordinates, coordinates), st.floats(0.02, 0.8), st.floats(0.02, 0.8))
def test_any_ellipse_is_what_points_inside_count(centre, across, down):
    outline = circle(centre, (across, down))
    # 60 x 60 points in a cell, and at most 2 rows and columns of them cut: 4 / 60.
    np.testing.assert_allclose(whole(outline), sampled(outline, HEIGHT, WIDTH), atol=4 / 60)


@given(st.lists(st.tuples(coordinates, coordinates), min_size=3, max_size=3))
def test_any_triangle_is_what_points_inside_count(points):
    outline = polygon(*points)
    np.testing.assert_allclose(whole(outline), sampled(outline, HEIGHT, WIDTH), atol=4 / 60)


@given(st.lists(st.floats(0.01, 0.99), min_size=1, max_size=5, unique=True), st.data())
def test_shares_of_a_partition_sum_to_one(cuts, data):
    """Strips between slanted lines from the top to the bottom, which meet edge to edge."""
    tops = [0.0, *sorted(cuts), 1.0]
    bottoms = [0.0, *sorted(data.draw(st.floats(0.0, 1.0)) for _ in cuts), 1.0]
    strips = [
        polygon((tops[i], 0), (tops[i + 1], 0), (bottoms[i + 1], 1), (bottoms[i], 1)) for i in range(len(tops) - 1)
    ]
    shares = share_of(RAMP, [coverage(strip, HEIGHT, WIDTH) for strip in strips])
    assert sum(shares) == pytest.approx(1, abs=1e-9)


@given(st.tuples(*[st.floats(0, 1)] * 4))
def test_a_box_and_the_polygon_of_its_corners_agree(numbers):
    left, right = sorted(numbers[:2])
    top, bottom = sorted(numbers[2:])
    corners = polygon((left, top), (right, top), (right, bottom), (left, bottom))
    np.testing.assert_allclose(whole(box(left, top, right, bottom)), whole(corners), atol=1e-12)


def test_a_map_that_is_zero_has_no_shares():
    assert share_of(np.zeros((HEIGHT, WIDTH)), [coverage(box(0, 0, 1, 1), HEIGHT, WIDTH)]) == [0.0]
