"""Processes that are killed, and what that costs."""

import os
import signal

import pytest

from dtfsal.runtime.batch.pool import run_tasks

MODULE = """
import os, pathlib, signal

class Maker:
    def __init__(self, fault=None):
        self.fault = fault

    def __call__(self):
        if self.fault:
            raise ValueError(self.fault)
        return worker

def worker(task, report):
    number, mark = task
    report(0.5)
    if mark is not None and (mark == "always" or not pathlib.Path(mark).exists()):
        if mark != "always":
            pathlib.Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number, os.getpid()
"""


@pytest.fixture
def maker(tmp_path, monkeypatch):
    (tmp_path / "dying_worker.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    import dying_worker

    return dying_worker.Maker


def test_a_killed_process_costs_its_task_an_attempt_and_no_other(maker, tmp_path):
    tasks = [(0, None), (1, "always"), (2, str(tmp_path / "once")), (3, None), (4, None)]
    events = list(run_tasks(maker(), tasks, 2))
    results = {number: value[0] for kind, number, value in events if kind == "result"}
    assert results == {0: 0, 2: 4, 3: 9, 4: 16}
    deaths = sorted((kind, number, value) for kind, number, value in events if kind in ("again", "died"))
    assert deaths == [("again", 1, -signal.SIGKILL), ("again", 2, -signal.SIGKILL), ("died", 1, -signal.SIGKILL)]
    assert ("share", 3, 0.5) in events
    assert os.getpid() not in {value[1] for kind, _, value in events if kind == "result"}


def test_a_maker_that_fails_ends_the_run(maker):
    with pytest.raises(ValueError, match="no engine"):
        list(run_tasks(maker("no engine"), [(0, None), (1, None)], 2))
