"""Shots: what the camera does to the picture it does to the fixations."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtfsal.training.data.camera import Shot, random_shot, vary_colour


def test_the_whole_picture_at_its_own_size_is_itself():
    rgb = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    shot = Shot(np.array([[0, 0, 30, 20]], float), False, 20, 30)
    assert np.array_equal(shot.frame(rgb, 0), rgb)
    points = np.array([[3, 4], [29, 19]], np.float32)
    np.testing.assert_allclose(shot.points(points, 0), points, atol=1e-5)
    flipped = Shot(shot.boxes, True, 20, 30)
    assert np.array_equal(flipped.frame(rgb, 0), rgb[:, ::-1])
    np.testing.assert_allclose(flipped.points(points, 0), [[26, 4], [0, 19]], atol=1e-5)


@given(st.integers(0, 2**32 - 1), st.booleans())
def test_fixations_stay_on_what_they_were_on(seed, moving):
    """A bright spot in the picture is found in every frame where the camera says its fixation is."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:120, :160]
    x, y = rng.uniform(70, 90), rng.uniform(50, 70)  # in all crops of at least 0.6 of the height near the middle
    spot = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 5.0**2))
    rgb = np.repeat((255 * spot)[:, :, None].astype(np.uint8), 3, axis=2)
    shot = random_shot(rng, (120, 160), (60, 96), frames=4, moving=moving)
    for index in range(4):
        point = shot.points(np.array([[x, y]], np.float32), index)[0]
        if not (10 < point[0] < 86 and 10 < point[1] < 50):
            continue
        frame = shot.frame(rgb, index)[:, :, 0].astype(float)
        centre = [(frame * axis).sum() / frame.sum() for axis in (np.arange(96)[None], np.arange(60)[:, None])]
        assert centre == pytest.approx(point, abs=0.75)  # 8-bit grey levels and the spot's cut-off tails


@given(st.integers(0, 2**32 - 1), st.booleans())
def test_boxes_lie_in_the_picture(seed, moving):
    shot = random_shot(np.random.default_rng(seed), (90, 120), (10, 20), frames=5, moving=moving)
    left, top, right, bottom = shot.boxes.T
    assert (left >= -1e-9).all()
    assert (top >= -1e-9).all()
    assert (right <= 120 + 1e-9).all()
    assert (bottom <= 90 + 1e-9).all()
    assert (right - left > 30).all()


def test_a_density_moves_with_the_camera():
    shot = Shot(np.array([[0, 0, 80, 60], [20, 0, 100, 60]], float), False, 60, 80)
    points = np.array([[50, 30]], np.float32)
    first, second = (shot.density(points, index, 4.0) for index in (0, 1))
    np.testing.assert_allclose(first[:, 20:], second[:, :-20], atol=1e-7)
    assert first.sum() == pytest.approx(1, abs=1e-5)


def test_equal_boxes_are_drawn_once_and_alike():
    rgb = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    frames = Shot(np.array([[1, 2, 30, 33]] * 3, float), True, 16, 16).frames(rgb)
    assert np.array_equal(frames[0], frames[2])


def test_colours_vary_within_bounds():
    rgb = np.array([[[0, 0, 0], [255, 255, 255], [200, 30, 90]]], np.uint8)
    varied = [vary_colour(np.random.default_rng(seed), rgb) for seed in range(20)]
    assert len({v.tobytes() for v in varied}) == 20
    assert all(v.dtype == np.uint8 and v.shape == rgb.shape for v in varied)
    assert all(int(v[0, 1].min()) > int(v[0, 0].max()) for v in varied)  # white stays lighter than black
