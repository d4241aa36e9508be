"""Work handed between threads: order, bounds, errors, and that nothing goes on after the end."""

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtfsal.runtime.predict.pipeline import read_ahead, read_pairs, write_behind


@given(st.lists(st.integers()), st.integers(1, 6))
def test_items_stay_in_order(items, depth):
    assert list(read_ahead(items, depth)) == items
    written, told = [], []
    with write_behind(written.append, depth=depth, on_written=told.append) as hand_over:
        for item in items:
            hand_over(item)
    assert written == told == items


def test_a_reader_is_no_further_ahead_than_it_may_be():
    got = []

    def items():
        for number in range(100):
            got.append(number)
            yield number

    ahead = read_ahead(items(), 3)
    assert next(ahead) == 0
    ahead.close()  # waits for the thread, so that `got` stands
    assert len(got) <= 4


def test_reading_and_using_happen_at_once():
    """Each side waits for the other's: both must be at work at the same time."""
    using = threading.Event()

    def items():
        yield 0
        assert using.wait(60), "the second item was asked for before the first was in use"
        yield 1

    ahead = read_ahead(items(), 1)
    assert next(ahead) == 0
    using.set()
    assert list(ahead) == [1]


def test_a_pair_has_the_item_that_follows_where_it_has_come():
    wait = threading.Event()

    def items():
        yield 0
        yield 1
        assert wait.wait(60)
        yield 2
        raise OSError("torn")

    pairs = read_pairs(items(), 2)
    found = [next(pairs), next(pairs)]
    assert found[0] in ((0, 1), (0, None))  # as the threads go
    assert found[1] == (1, None)
    wait.set()
    item, following = next(pairs)
    assert (item, following) == (2, None)  # an error is no item
    with pytest.raises(OSError, match="torn"):
        next(pairs)


@given(st.lists(st.integers()), st.integers(1, 6))
def test_pairs_are_neighbours(items, depth):
    pairs = list(read_pairs(items, depth))
    assert [item for item, _ in pairs] == items
    assert all(following in (None, after) for (_, following), after in zip(pairs, items[1:], strict=False))
    assert not pairs or pairs[-1][1] is None


def test_a_readers_error_comes_where_its_item_would():
    def items():
        yield 1
        yield 2
        raise OSError("torn")

    ahead = read_ahead(items(), 4)
    assert [next(ahead), next(ahead)] == [1, 2]
    with pytest.raises(OSError, match="torn"):
        next(ahead)
    assert list(ahead) == []


def test_a_closed_reader_asks_for_nothing_more():
    got = []

    def items():
        number = 0
        while True:
            got.append(number)
            yield number
            number += 1

    ahead = read_ahead(items())
    next(ahead)
    ahead.close()
    count = len(got)
    time.sleep(0.05)
    assert len(got) == count
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("dtfsal-read")]


def test_a_readers_thread_is_not_started_before_it_is_needed():
    ahead = read_ahead(iter([1]))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("dtfsal-read")]
    ahead.close()


def test_a_writer_that_fails_stops_the_caller():
    written = []

    def write(item):
        if item == 2:
            raise OSError("full")
        written.append(item)

    def forever():
        with write_behind(write, depth=1) as hand_over:
            for item in range(1000):
                hand_over(item)

    with pytest.raises(OSError, match="full"):
        forever()
    assert written[:2] == [0, 1]
    assert len(written) < 5


def test_a_failure_of_the_last_item_is_told_at_the_end():
    def write(item):
        raise OSError("full")

    def once():
        with write_behind(write) as hand_over:
            hand_over(0)

    with pytest.raises(OSError, match="full"):
        once()


def test_what_was_not_begun_is_not_written_after_an_error():
    began, go_on, written = threading.Event(), threading.Event(), []

    def write(item):
        began.set()
        go_on.wait(60)
        written.append(item)

    def interrupted():
        with write_behind(write, depth=8) as hand_over:
            for item in range(5):
                hand_over(item)
            began.wait(60)
            threading.Timer(0.05, go_on.set).start()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert written == [0]


def test_a_full_queue_waits():
    go_on, waited = threading.Event(), []

    class Waiting:
        def __enter__(self):
            waited.append(True)
            go_on.set()

        def __exit__(self, *exception):
            pass

    with write_behind(lambda _item: go_on.wait(60), depth=2, waiting=Waiting) as hand_over:
        hand_over(0)
        hand_over(1)
        assert not waited
        hand_over(2)
        assert waited
