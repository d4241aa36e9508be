import threading

import pytest

from dtfsal.runtime.predict import stage_clock
from dtfsal.runtime.predict.stage_clock import StageClock


@pytest.fixture
def tick(monkeypatch):
    """A clock that only moves when told to."""
    now = [0.0]
    monkeypatch.setattr(stage_clock.time, "perf_counter", lambda: now[0])

    def advance(seconds):
        now[0] += seconds

    return advance


def test_nested_stages_count_each_second_once(tick):
    clock = StageClock()
    with clock.stage("outer"):
        tick(1)
        with clock.stage("inner"):
            tick(10)
        tick(2)
    tick(100)  # between stages: nobody's
    with clock.stage("inner"):
        tick(5)
    assert clock.seconds == {"outer": 3, "inner": 15}


def test_timed_counts_getting_items_and_not_what_is_done_with_them(tick):
    def items():
        for number in range(3):
            tick(2)
            yield number
        tick(1)

    clock = StageClock()
    for _ in clock.timed("decode", items()):
        tick(50)
    assert clock.seconds == {"decode": 7}


def test_an_error_leaves_the_stage(tick):
    clock = StageClock()

    def fail():
        with clock.stage("outer"), clock.stage("inner"):
            tick(1)
            raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"):
        fail()
    with clock.stage("outer"):
        tick(2)
    assert clock.seconds == {"outer": 2, "inner": 1}


def test_threads_count_their_own_time(tick):
    """One thread's stage does not stop another's."""
    clock = StageClock()
    inside, leave = threading.Event(), threading.Event()

    def write():
        with clock.stage("encode"):
            inside.set()
            leave.wait(60)

    thread = threading.Thread(target=write)
    with clock.stage("engine"):
        thread.start()
        inside.wait(60)
        tick(3)
        leave.set()
        thread.join()
        tick(1)
    assert clock.seconds == {"engine": 4, "encode": 3}
