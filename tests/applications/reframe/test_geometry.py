"""Shapes of windows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtfsal.applications.reframe.geometry import Framing, parse_aspect
from dtfsal.engines.errors import UsageError


@pytest.mark.parametrize(
    ("text", "size", "window"),
    [
        ("9:16", (1280, 720), (404, 720)),  # 405 is odd
        ("1:1", (1280, 720), (720, 720)),
        ("16:9", (1280, 720), (1280, 720)),
        ("16:9", (720, 1280), (720, 404)),
        ("2.39:1", (1920, 1080), (1920, 804)),  # 803.3
        ("4:5", (641, 361), (288, 360)),
    ],
)
def test_the_largest_window(text, size, window):
    framing = Framing.of(parse_aspect(text), *size)
    assert (framing.width, framing.height) == window


def test_pixels_that_are_not_square_count():
    """720x576 of 16:15 pixels shows 4:3; a square of it is 540 stored pixels wide."""
    framing = Framing.of(1.0, 720, 576, (16, 15))
    assert (framing.width, framing.height) == (540, 576)


@given(st.integers(64, 4000), st.integers(64, 4000), st.floats(0.3, 3.0))
def test_a_window_fits_touches_and_has_its_shape(width, height, aspect):
    framing = Framing.of(aspect, width, height)
    assert framing.width <= width
    assert framing.height <= height
    assert framing.width % 2 == framing.height % 2 == 0
    assert width - framing.width <= 1 or height - framing.height <= 1
    # Each side is at most 2 pixels off.
    assert abs(framing.width - aspect * framing.height) <= 2 + 2 * aspect


@pytest.mark.parametrize("text", ["", "16", "16x9", "0:1", "9:0", "-9:16", "9:16:1", "nan:1", "1:21", "9 :16", "1e3:1"])
def test_what_is_no_aspect_is_refused(text):
    with pytest.raises(UsageError, match="9:16"):
        parse_aspect(text)


def test_a_window_too_small_to_see_is_refused():
    with pytest.raises(UsageError, match="too small"):
        Framing.of(1 / 20, 320, 180)
