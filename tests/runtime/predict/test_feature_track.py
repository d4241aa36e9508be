"""Tracks give the head what filling its inputs anew would give, whatever windows come."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dtfsal.runtime.predict.feature_track import MOST_TRACKS, SLIDE, FeatureTracks

TIMES = 5


class Memory:
    """An engine's memory that counts what is placed; on a pretended GPU, tensors that cannot be viewed in part."""

    def __init__(self, viewed=True):
        self.viewed, self.placed = viewed, 0

    def empty(self, shape, dtype):
        array = np.full(shape, np.nan, dtype)
        return array if self.viewed else Whole(array)

    def place(self, target, source, *, axis, index):
        assert axis == 1
        self.placed += 1
        (target if self.viewed else target.array)[:, index] = source


class Whole:
    def __init__(self, array):
        self.array = array


def features(number):
    return {"a": np.full((1, 2, 3), number, np.float32), "b": np.full((1, 1), -number, np.float16)}


SHAPES = {"a": ((1, TIMES, 2, 3), "float32"), "b": ((1, TIMES, 1), "float16")}


def check(tracks, wanted, viewed=True):
    given_ = tracks.window(wanted, [features(number) for number in wanted])
    for name, tensor in given_.items():
        array = tensor if viewed else tensor.array
        assert array.flags.c_contiguous  # the engine need not copy it
        expected = np.stack([features(number)[name] for number in wanted], axis=1)
        np.testing.assert_array_equal(array, expected.reshape(SHAPES[name][0]))
        assert array.dtype == SHAPES[name][1]


@given(
    windows=st.lists(st.lists(st.integers(0, 9), min_size=TIMES, max_size=TIMES), max_size=12),
    viewed=st.booleans(),
)
def test_any_windows_are_what_they_would_be_alone(windows, viewed):
    tracks = FeatureTracks(Memory(viewed), SHAPES)
    for wanted in windows:
        check(tracks, wanted, viewed)


@given(step=st.integers(1, 2), start=st.integers(0, 100))
def test_windows_that_move_on_by_a_frame_bring_that_frame(step, start):
    """At the model's rate and at twice of it: one frame a window, and all of them in one window of so many."""
    memory = Memory()
    tracks = FeatureTracks(memory, SHAPES)
    count = 40 * step
    for target in range(start, start + count):
        check(tracks, [target + step * tap for tap in range(TIMES)])
    windows_of_a_track = 40
    full = -(-windows_of_a_track // (SLIDE + 1))
    assert memory.placed == 2 * step * (full * TIMES + (windows_of_a_track - full))
    assert step <= MOST_TRACKS


def test_an_engine_whose_tensors_are_whole_gets_them_whole():
    memory = Memory(viewed=False)
    tracks = FeatureTracks(memory, SHAPES)
    for target in range(4):
        check(tracks, list(range(target, target + TIMES)), viewed=False)
    assert memory.placed == 2 * 4 * TIMES
