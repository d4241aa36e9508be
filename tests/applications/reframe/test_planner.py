"""Plans of made-up maps whose right answer is known."""

import dataclasses

import numpy as np
import pytest

from dtfsal.applications.reframe.geometry import Framing
from dtfsal.applications.reframe.keep import KeepBox
from dtfsal.applications.reframe.path import Motion
from dtfsal.applications.reframe.planner import (
    PIECE_FRAMES,
    PathPlanner,
    ReframeSettings,
    held_shares,
    shares_within,
)
from dtfsal.engines.errors import UsageError

pytest.importorskip("scipy")

FRAMING = Framing.of(9 / 16, 1280, 720)  # a window of 404 x 720
PORTRAIT = ReframeSettings(aspect=9 / 16, letterbox="never")


def spot(*centres, width=0.03, size=(36, 64)):
    """A map of gaussians at shares of the frame, (x, y, weight)."""
    y, x = (np.mgrid[: size[0], : size[1]] + 0.5) / np.array(size).reshape(2, 1, 1)
    return sum(w * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * width**2)) for cx, cy, w in centres).astype(
        np.float32
    )


def plan(maps, settings=PORTRAIT, framing=FRAMING, cuts=(), rate=25):
    planner = PathPlanner(framing, settings)
    for index, saliency_map in enumerate(maps):
        planner.add(index / rate, saliency_map)
        for cut, found in cuts:
            if found == index:
                planner.cut(cut)
    return planner.finish()


@pytest.mark.parametrize("centre", [0.0, 0.3, 0.62, 1.0])
def test_a_still_place_is_framed_without_moving(centre):
    path = plan([spot((centre, 0.5, 1))] * 30)
    assert np.ptp(path.windows, axis=0).max() == 0
    left, top, width, height = path.windows[0]
    assert (width, height, top) == (404, 720, 0)
    assert left <= centre * 1280 <= left + width
    assert 0 <= left <= 1280 - 404
    assert path.kept.min() > 0.95
    assert [shot.first for shot in path.shots] == [0]


def test_a_cut_starts_anew():
    """Found two frames late, as PySceneDetect does: the window is at the new place on the very first frame."""
    maps = [spot((0.15, 0.5, 1))] * 20 + [spot((0.85, 0.5, 1))] * 20
    path = plan(maps, cuts=[(20, 22)])
    assert [shot.first for shot in path.shots] == [0, 20]
    assert path.windows[19, 0] == path.windows[0, 0]
    assert path.windows[20, 0] == path.windows[39, 0] > 600
    without = plan(maps)
    assert np.abs(np.diff(without.windows[:, 0])).max() <= 0.8 * 404 / 25 + 1.01  # whole pixels


def test_a_long_shot_is_planned_in_pieces_that_fit_together():
    count = 2 * PIECE_FRAMES + 100
    centres = 0.5 + 0.3 * np.sin(np.arange(count) / 60)
    path = plan([spot((c, 0.5, 1)) for c in centres])
    left = path.windows[:, 0].astype(float)
    assert len(left) == count
    assert np.abs(np.diff(left)).max() <= 0.8 * 404 / 25 + 1.01
    # Each rounding to whole pixels adds up to 2 pixels to a second difference.
    assert np.abs(np.diff(left, 2)).max() <= 1.6 * 404 / 25**2 + 2.01
    assert path.kept.min() > 0.9


def test_frames_without_a_time_between_or_alone():
    assert plan([spot((0.2, 0.5, 1))]).windows.shape == (1, 4)
    assert plan([spot((0.2, 0.5, 1))] * 2).windows.shape == (2, 4)
    assert plan([]).windows.shape == (0, 4)


def test_a_map_of_nothing_is_attention_everywhere():
    path = plan([np.zeros((36, 64), np.float32)] * 3)
    assert np.isfinite(path.windows).all()
    assert path.kept[0] == pytest.approx(404 / 1280, abs=1e-5)


def test_a_box_to_keep_is_kept_against_the_attention():
    keep = (KeepBox((1000, 100, 1200, 300), 3.0, 4.0),)
    settings = dataclasses.replace(PORTRAIT, keep=keep)
    path = plan([spot((0.1, 0.5, 1))] * 175, settings)
    for index in range(75, 101):
        left, _, width, _ = path.windows[index]
        assert left <= 1000 + 1
        assert left + width >= 1200 - 1
    assert path.windows[0, 0] < 200
    assert path.windows[174, 0] < 200


def test_two_places_are_shown_whole_and_one_is_not():
    settings = ReframeSettings(aspect=9 / 16)
    two = plan([spot((0.1, 0.5, 1), (0.9, 0.5, 0.95))] * 10, settings)
    assert two.shots[0].letterboxed
    np.testing.assert_array_equal(two.windows[0], [0, 0, 1280, 720])
    assert two.kept.min() == pytest.approx(1)
    one = plan([spot((0.1, 0.5, 1), (0.9, 0.5, 0.3))] * 10, settings)
    assert not one.shots[0].letterboxed
    never = plan([spot((0.1, 0.5, 1), (0.9, 0.5, 0.95))] * 10)
    assert not never.shots[0].letterboxed


def test_a_box_larger_than_the_window_is_shown_whole_or_by_its_middle():
    keep = (KeepBox((200, 0, 1100, 720)),)
    whole = plan([spot((0.1, 0.5, 1))] * 5, ReframeSettings(aspect=9 / 16, keep=keep))
    assert whole.shots[0].letterboxed
    cropped = plan([spot((0.1, 0.5, 1))] * 5, dataclasses.replace(PORTRAIT, keep=keep))
    left, _, width, _ = cropped.windows[0]
    assert left + width / 2 == pytest.approx(650, abs=1)


def test_a_zoom_closes_in_within_its_bounds_and_holds_the_place():
    settings = ReframeSettings(aspect=9 / 16, zoom=2, letterbox="never", motion=Motion(speed=1.0))
    path = plan([spot((0.7, 0.3, 1), width=0.02)] * 40, settings)
    assert path.windows[:, 2].min() == pytest.approx(202, abs=0.1)
    np.testing.assert_allclose(path.windows[:, 2] / path.windows[:, 3], 404 / 720, rtol=1e-5)
    assert path.kept.min() > 0.9
    spread = plan([np.ones((36, 64), np.float32)] * 5, settings)
    assert spread.windows[:, 2].min() == pytest.approx(404)
    for windows in (path.windows, spread.windows):
        assert (windows[:, :2] >= 0).all()
        assert (windows[:, 0] + windows[:, 2] <= 1280 + 1e-3).all()
        assert (windows[:, 1] + windows[:, 3] <= 720 + 1e-3).all()


def test_a_zoom_that_comes_and_goes_stays_in_the_frame():
    """Spots at the edge and spread attention in turn: the window's bounds move with its size."""
    settings = ReframeSettings(aspect=1.0, zoom=3, letterbox="never")
    framing = Framing.of(1.0, 1280, 720)
    maps = ([spot((0.98, 0.02, 1))] * 30 + [np.ones((36, 64), np.float32)] * 30) * 3
    windows = plan(maps, settings, framing).windows
    assert np.ptp(windows[:, 2]) > 100
    assert (windows[:, :2] >= 0).all()
    assert (windows[:, 0] + windows[:, 2] <= 1280 + 1e-3).all()
    assert (windows[:, 1] + windows[:, 3] <= 720 + 1e-3).all()


def test_shares_are_those_of_sums():
    grids = np.random.default_rng(0).random((3, 4, 8))
    grids /= grids.sum(axis=(1, 2), keepdims=True)
    windows = np.array([[0, 0, 1, 1], [0.25, 0.5, 0.5, 0.25], [0.3125, 0.25, 0.125, 0.5]])
    by_hand = [1.0, grids[1, 2:3, 2:6].sum(), 0.5 * grids[2, 1:3, 2:4].sum()]
    np.testing.assert_allclose(shares_within(grids, windows), by_hand, rtol=1e-6)
    share = grids.sum(axis=1)
    held = held_shares(share, 4.0, np.array([0.5, 1.25, 4.0]), np.full(3, 0.5))
    np.testing.assert_allclose(held[:, 0], share[:, :2].sum(axis=1))
    np.testing.assert_allclose(held[:, 1], share[:, 2] + 0.5 * (share[:, 1] + share[:, 3]))
    np.testing.assert_allclose(held[:, 2], share[:, 7])


def test_a_zoom_out_of_range_is_refused():
    with pytest.raises(UsageError, match="zoom"):
        ReframeSettings(aspect=1.0, zoom=0.5)
