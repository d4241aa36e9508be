"""The progress bar of all commands."""

import sys

from dtfsal.runtime.cli.progress import Progress
from dtfsal.training.cli.train import stage_report


def test_each_stage_has_a_bar_of_its_own(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with Progress() as bar:
        assert not bar.shown
        report = stage_report(bar, "row: ")
        report("training", 3, 4, 0.25)  # of a run that goes on after two steps
        assert bar.shown
        report("training", 4, 4, 0.5)
        report("validation", 1, 2, None)
        bar.step(count=1, total=2)
    text = capsys.readouterr().err
    assert "row: training" in text
    assert "2/4" in text
    assert "row: validation" in text
    assert not bar.shown


def test_no_bar_without_a_terminal_or_a_wish(capsys, monkeypatch):
    with Progress(2, "steps") as bar:
        bar.step()
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with Progress(2, "steps", wanted=False) as bar:
        bar.step()
        assert not bar.shown
    assert capsys.readouterr() == ("", "")
