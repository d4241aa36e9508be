"""Scenes of action: the camera keeps the actor in the frame while the background streams, and gaze is at the actor."""

import numpy as np
import pytest

from dtfsal.training.synthetic import Cutout, GazeModel, Photograph, Sources
from dtfsal.training.synthetic.action import CAMERAS, TILES, ActionPart

SIZE, RATE_HZ, FRAMES = (72, 120), 12.5, 40


@pytest.fixture(scope="module")
def sources():
    """A dull red and blue photograph whose details lie apart, and a bright green actor with its head in its middle."""
    rng = np.random.default_rng(0)
    rgb = np.zeros((90, 120, 3), np.uint8)
    rgb[..., 0] = rng.integers(0, 150, (90, 120))
    rgb[..., 2] = rng.integers(0, 150, (90, 120))
    points = rng.uniform((10, 10), (110, 80), (30, 2)).astype(np.float32)
    sprite = np.zeros((40, 20, 4), np.uint8)
    sprite[..., 1:] = (255, 0, 255)
    return Sources((Photograph("noise", rgb, points),), (Cutout("green", sprite, (0.5, 0.5)),))


def parts(sources, count=24):
    for seed in range(count):
        yield ActionPart(np.random.default_rng(seed), sources, GazeModel(), SIZE, FRAMES, RATE_HZ, 16000)


def test_every_camera_comes(sources):
    assert {part.camera for part in parts(sources)} == set(CAMERAS)


def test_the_followed_actor_stands_still_while_the_background_streams(sources):
    """In frame widths: the path through the world is long, and in the frame it is short."""
    ratios = []
    for part in parts(sources):
        path = np.abs(np.diff(part._moves[0].x)).sum()
        if part.camera == "follows" and path > 0.3:
            ratios.append(np.abs(np.diff(part.places[:, 0, 0])).sum() / SIZE[1] / path)
    assert len(ratios) >= 4
    # The camera is late by 80 ms at most and follows a zoom's scale, so starts and turns still show.
    assert np.median(ratios) < 0.5


def test_a_still_camera_stands_still(sources):
    for part in parts(sources):
        if part.camera == "still":
            middles = (part._boxes[:, :2] + part._boxes[:, 2:]) / 2
            assert np.ptp(middles, axis=0).max() < 0.06 * SIZE[1]  # but for the hand's tremor


def test_the_camera_never_leaves_the_panorama(sources):
    for part in parts(sources):
        left, top, right, bottom = part._boxes.T
        assert min(left.min(), top.min()) >= 0
        assert right.max() <= TILES * SIZE[1]
        assert bottom.max() <= part._wide_size()[0]
        assert ((right - left) > 0.5 * SIZE[1]).all()


def test_places_are_where_the_actor_is_drawn(sources):
    """The green pixels' centre in the frame; parts with somebody else in front or outside the frame are left out."""
    compared = 0
    for part in parts(sources, 40):
        if len(part.things) > 2:
            continue
        frames = part.draw().astype(int)
        for index in range(0, FRAMES, 7):
            x, y, height = part.places[index, 0]
            other = part.places[index, 1]
            apart = abs(other[0] - x) > (height + other[2]) / 2 + 4
            inside = height / 2 < x < SIZE[1] - height / 2 and height / 2 < y < SIZE[0] - height / 2
            green = frames[index, ..., 1] - np.maximum(frames[index, ..., 0], frames[index, ..., 2]) > 60
            near = np.abs(np.arange(SIZE[1]) - x) < height / 2 + 3
            if apart and inside and (green & near).sum() > 30:
                rows, columns = np.nonzero(green & near)
                # Drawn at whole pixels, and blurred over the exposure.
                assert abs(columns.mean() - x) < 2.5
                assert abs(rows.mean() - y) < 2.5
                compared += 1
    assert compared >= 10


def test_gaze_is_at_the_actor_while_it_acts_and_was_anywhere_before(sources):
    acting, resting = [], []
    for part in parts(sources, 60):
        late = round(GazeModel().lag_seconds * RATE_HZ)
        for index in range(late, FRAMES):
            x, y, _ = part.places[index, 0]
            seen = 0.1 * SIZE[1] < x < 0.9 * SIZE[1] and 0.1 * SIZE[0] < y < 0.9 * SIZE[0]
            activity = part.activity[index - late, 0]
            if seen and activity in (0.0, 1.0):
                (acting if activity else resting).append(part.track.weights[index, 0])
    assert np.median(acting) > 0.6
    assert np.median(resting) < 0.35  # an equal among others; less where it has stopped for long


def test_a_long_exposure_blurs_what_moves(sources):
    """Over parts: frames that are means of several moments have less detail than those of one."""
    detail = {True: [], False: []}
    for part in parts(sources, 40):
        if part.camera == "follows":
            frames = part.draw()[20:30].astype(float)
            detail[part._exposures > 1].append(np.abs(np.diff(frames, axis=2)).mean())
    assert np.median(detail[True]) < np.median(detail[False])
