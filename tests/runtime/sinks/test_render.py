"""Pictures of maps, against the formulas in floating point."""

import numpy as np
import pytest

from dtfsal.engines.errors import UsageError
from dtfsal.runtime.sinks.render import MAX_OPACITY, grey_picture, jet_colours, overlay, picture_levels


@pytest.fixture
def rgb():
    return np.random.default_rng(1).integers(0, 256, (37, 51, 3), dtype=np.uint8)


def test_jet_has_its_landmarks():
    colours = jet_colours()
    assert colours.shape == (256, 3)
    assert colours[0].tolist() == [0, 0, 128]  # dark blue
    assert colours[255].tolist() == [128, 0, 0]  # dark red
    assert colours[127].tolist() == [126, 255, 130]  # between cyan and yellow: red = 1.5 - |4 * 127/255 - 3| = 0.492
    assert (colours[:, 2][128:] <= colours[:, 0][128:]).all()  # warm above the middle


def blend_in_floats(rgb, levels, opacity):
    share = opacity * levels[..., None].astype(np.float64) / 255
    return rgb * (1 - share) + jet_colours()[levels] * share


@pytest.mark.parametrize("opacity", [0.0, 0.5, MAX_OPACITY, 1.0])
def test_overlay_equals_the_blend_in_floats(rgb, opacity):
    saliency_map = np.random.default_rng(2).random((37, 51), dtype=np.float32)
    saliency_map[3, 4] = 1.0
    levels = np.round(255 * saliency_map).astype(np.uint8)
    picture = overlay(rgb, saliency_map, max_opacity=opacity)
    # Shares are in 1/256 (at most 0.5 of 255 / 256 off) and the result is rounded: one level.
    assert np.abs(picture - blend_in_floats(rgb, levels, opacity)).max() <= 1.01


def test_overlay_leaves_the_frame_where_the_map_is_zero(rgb):
    np.testing.assert_array_equal(overlay(rgb, np.zeros((4, 6))), rgb)


def test_overlay_covers_black_and_white_without_overflow():
    for level in (0, 255):
        frame = np.full((20, 20, 3), level, np.uint8)
        picture = overlay(frame, np.ones((2, 2)), max_opacity=1.0)
        assert (picture == jet_colours()[255]).all()


def test_overlay_enlarges_the_map(rgb):
    saliency_map = np.zeros((4, 6), np.float32)
    saliency_map[:, :3] = 0.2
    picture = overlay(rgb, saliency_map)
    np.testing.assert_array_equal(picture[:, 40:], rgb[:, 40:])
    assert (picture[:, :10] != rgb[:, :10]).any()


def test_normalisation_none_shows_absolute_values():
    saliency_map = np.full((2, 2), 0.5, np.float32)
    assert (picture_levels(saliency_map, 4, 4, "none") == 128).all()
    assert (picture_levels(saliency_map, 4, 4) == 255).all()


def test_grey_picture_is_grey():
    saliency_map = np.random.default_rng(3).random((5, 7), dtype=np.float32)
    picture = grey_picture(saliency_map, 21, 33)
    assert picture.shape == (21, 33, 3)
    assert picture.dtype == np.uint8
    assert (picture[..., 0] == picture[..., 1]).all()
    assert (picture[..., 0] == picture[..., 2]).all()
    assert picture.max() > 200


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (17, 3)])
def test_overlay_of_any_size(size):
    frame = np.full((*size, 3), 100, np.uint8)
    assert overlay(frame, np.ones((4, 6), np.float32)).shape == frame.shape


@pytest.mark.parametrize("frame", [np.zeros((4, 4)), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)])
def test_overlay_refuses_other_frames(frame):
    with pytest.raises(UsageError, match="uint8 RGB"):
        overlay(frame, np.ones((2, 2)))


def test_overlay_refuses_an_opacity_beyond_one(rgb):
    with pytest.raises(UsageError, match="max_opacity"):
        overlay(rgb, np.ones((2, 2)), max_opacity=1.5)
