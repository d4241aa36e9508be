"""Instructions for a frame: the same each time, within the committed budget, and said where they cannot be counted."""

import shutil

import pytest

from dtfsal.benchmarks.count.budget import check, read_budget
from dtfsal.benchmarks.count.instructions import instruction_counts
from dtfsal.engines.errors import UnavailableError, UsageError


@pytest.fixture
def valgrind():
    if shutil.which("valgrind") is None:
        pytest.skip("needs valgrind")


def test_within_the_budget(build, valgrind):
    counts = instruction_counts(build.program("counted"))
    ((name, number),) = counts.items()
    if name not in (budget := read_budget()):
        pytest.skip(f"there is no budget of {name}")
    assert check(counts, budget)[0] == []
    assert number > 320 * 180  # more than one for each pixel


def test_what_is_no_such_program(tmp_path, valgrind):
    with pytest.raises(UsageError, match="build `counted` again"):
        instruction_counts(tmp_path / "none")


def test_without_valgrind(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnavailableError, match="valgrind"):
        instruction_counts(tmp_path / "counted")
