"""Runs in a process of their own: what they give, what they raise, and that a dead one is said."""

import os
from pathlib import Path

import pytest

from dtfsal.benchmarks.measure.own_process import in_own_process
from dtfsal.engines import read_bundle
from dtfsal.engines.errors import EngineError


def test_it_is_a_process_of_its_own():
    """A process's link to itself names it."""
    there = in_own_process(Path.readlink, Path("/proc/self"))
    assert there.name.isdigit()
    assert there.name != str(os.getpid())


def test_errors_come_through(tmp_path):
    with pytest.raises(EngineError, match="none"):
        in_own_process(read_bundle, tmp_path / "none")


def test_a_process_that_dies_is_said():
    """It ends in the middle of the run, as one does that the system stops for lack of memory."""
    with pytest.raises(EngineError, match="the process that ran 9 died"):
        in_own_process(os._exit, 9)
