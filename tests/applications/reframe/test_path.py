"""The path's properties, against closed forms and a search over all constant paths."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtfsal.applications.reframe.path import (
    Motion,
    chosen_places,
    distance_losses,
    outside_losses,
    smooth_path,
)
from dtfsal.engines.errors import UsageError

pytest.importorskip("scipy")

# HiGHS keeps bounds to 1e-7 in positions; divided by a frame interval (speeds), and by it once more.
SPEED_SLACK, ACCELERATION_SLACK = 1e-4, 1e-2


def planned(times, shares, places, motion=None, *, size=3.0, keep=None):
    motion = motion or Motion()
    n = len(times)
    low, high = np.full(n, 0.5), np.full(n, size - 0.5)
    losses = outside_losses(shares, places, np.full(n, motion.dead_zone / 2), low, high)
    return smooth_path(times, losses, low, high, motion, keep=keep)


def at(places, *centres):
    """Attention in one place for each frame."""
    shares = np.zeros((len(centres), len(places)))
    shares[np.arange(len(centres)), [np.abs(places - c).argmin() for c in centres]] = 1
    return shares


PLACES = np.linspace(0.05, 2.95, 30)


@pytest.mark.parametrize("centre", [0.25, 0.95, 1.55, 2.95])
def test_attention_that_stays_gives_a_path_that_stays(centre):
    path = planned(np.arange(40) / 25, at(PLACES, *[centre] * 40), PLACES)
    assert np.ptp(path) < 1e-6
    assert path[0] == pytest.approx(np.clip(centre, 0.5, 2.5), abs=1e-6)


def test_a_constant_path_is_the_best_constant():
    """Against a search: the exact loss of every position, for attention that is spread and does not move."""
    share = np.random.default_rng(0).random(30) ** 4
    share /= share.sum()
    motion = Motion(dead_zone=0.4)
    path = planned(np.arange(20) / 10, np.tile(share, (20, 1)), PLACES, motion)
    grid = np.linspace(0.5, 2.5, 4001)

    def loss_at(centre):
        away = np.abs(PLACES - centre)
        return (share * (np.maximum(away - 0.2, 0) + 0.1 * away)).sum(axis=-1)

    loss, own = loss_at(grid[:, None]), loss_at(path[0])
    assert np.ptp(path) < 1e-6
    assert own <= loss.min() + 2e-3  # tangents at 20 centres lie a little below the loss


def test_a_step_becomes_a_ramp_at_the_bounded_speed():
    times = np.arange(150) / 25
    motion = Motion(speed=0.5, acceleration=50.0, dead_zone=0.0, travel=0.01, bend=0.0)
    path = planned(times, at(PLACES, *[0.55] * 75, *[2.45] * 75), PLACES, motion)
    speed = np.diff(path) / np.diff(times)
    assert path[0] == pytest.approx(0.55, abs=0.06)
    assert path[-1] == pytest.approx(2.45, abs=0.06)
    assert speed.max() == pytest.approx(0.5, abs=SPEED_SLACK)
    # 1.9 window widths at 0.5 a second are 95 frames; the ramp is straight and lies about the step.
    moving = np.flatnonzero(speed > 0.01)
    assert len(moving) == pytest.approx(95, abs=4)
    assert speed[moving[1:-1]].min() == pytest.approx(0.5, abs=SPEED_SLACK)
    assert (moving[0] + moving[-1]) / 2 == pytest.approx(74.5, abs=3)


@settings(max_examples=15)
@given(
    st.integers(1, 40),
    st.floats(0.05, 3.0),
    st.floats(0.05, 10.0),
    st.integers(0, 2**16),
)
def test_speed_and_acceleration_keep_their_bounds(n, speed, acceleration, seed):
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.uniform(0.01, 0.1, n))
    shares = rng.random((n, 30)) ** 8
    shares /= shares.sum(axis=1, keepdims=True)
    path = planned(times, shares, PLACES, Motion(speed=speed, acceleration=acceleration, travel=0.0, bend=0.0))
    assert path.shape == (n,)
    assert (path >= 0.5).all()
    assert (path <= 2.5).all()
    steps = np.diff(times)
    speeds = np.diff(path) / steps
    assert (np.abs(speeds) <= speed + SPEED_SLACK).all()
    assert (np.abs(np.diff(speeds)) <= acceleration * (steps[1:] + steps[:-1]) / 2 + SPEED_SLACK).all()


def test_what_must_be_kept_is_kept_and_reached_in_time():
    """The path is where it must be from the first frame on that asks for it, so it leaves before."""
    times = np.arange(100) / 25
    low, high = np.full(100, -np.inf), np.full(100, np.inf)
    low[60:], high[60:] = 2.0, 2.3
    path = planned(times, at(PLACES, *[0.55] * 100), PLACES, Motion(speed=1.0), keep=(low, high))
    assert path[0] < 0.85
    assert (path[60:] >= 2.0 - 1e-6).all()
    assert (path[60:] <= 2.3 + 1e-6).all()


def test_a_path_follows_targets_that_it_can_follow():
    times = np.arange(50) / 25
    targets = 1 + 0.2 * times
    ones = np.ones(50)
    path = smooth_path(times, distance_losses(targets), 0 * ones, 3 * ones, Motion(travel=0.0, bend=0.0))
    np.testing.assert_allclose(path, targets, atol=1e-6)


def test_settled_positions_stay():
    """As at the start of a later piece: the first two positions are given, and the rest goes on from their speed."""
    times = np.arange(30) / 10
    low, high = np.full(30, 0.5), np.full(30, 2.5)
    low[:2] = high[:2] = 1.0, 1.06
    motion = Motion(speed=0.8, acceleration=1.0)
    path = smooth_path(times, distance_losses(np.full(30, 0.5)), low, high, motion)
    np.testing.assert_allclose(path[:2], [1.0, 1.06])
    speeds = np.diff(path) / 0.1
    assert (np.abs(np.diff(speeds)) <= 0.1 + SPEED_SLACK).all()


def test_the_place_is_the_best_of_all_sequences():
    """Against every sequence of centres."""
    rng = np.random.default_rng(1)
    for _ in range(20):
        held, centres = rng.random((5, 3)), np.array([0.5, 1.0, 2.2])
        durations = rng.uniform(0.02, 1.0, 5)

        def value(sequence, held=held, durations=durations, centres=centres):
            way = np.abs(np.diff(centres[list(sequence)])).sum()
            return (held[range(5), list(sequence)] * durations).sum() - 0.3 * way

        best = max(itertools.product(range(3), repeat=5), key=value)
        np.testing.assert_array_equal(chosen_places(held, centres, durations, 0.3), centres[list(best)])


@pytest.mark.parametrize("wrong", [{"speed": 0.0}, {"acceleration": float("nan")}, {"dead_zone": 1.5}])
def test_a_motion_that_cannot_be_is_refused(wrong):
    with pytest.raises(UsageError):
        Motion(**wrong)
