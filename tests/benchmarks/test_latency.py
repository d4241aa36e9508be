"""The statistics and the report of made timings, and one run of the command; nothing here asserts a time."""

import json

import pytest

from dtfsal.benchmarks.latency import Timing, markdown, measure
from dtfsal.runtime.cli import main


def test_runs_are_interleaved_after_one_warm_up_of_each():
    calls, ticks = [], []
    forms = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    timings = measure(forms, runs=3, progress=lambda: ticks.append(1))
    assert calls == ["a", "b"] * 4
    assert len(ticks) == 8
    assert [(timing.name, len(timing.seconds)) for timing in timings] == [("a", 3), ("b", 3)]


def test_statistics_by_hand():
    timing = Timing("x", (4.0, 1.0, 2.0, 3.0, 100.0), 9.0)
    assert timing.median_seconds == 3
    assert timing.quartiles_seconds == (2, 4)
    assert Timing("x", (4.0,), 9.0).quartiles_seconds == (4, 4)


def test_the_command(tmp_path, capsys):
    output = tmp_path / "results" / "tiny.json"
    assert main(["benchmark", "latency", "--preset", "tiny", "--runs", "1", "--output", str(output)]) == 0
    report = json.loads(output.read_text())
    assert [row["form"] for row in report["rows"]] == ["eager plain", "eager", "ONNX Runtime fp32"]
    assert report["rows"][0]["ratio_to_baseline"] == 1
    assert {"cpu", "cores", "date", "versions", "commit"} <= report["machine"].keys()
    table = output.with_suffix(".md").read_text()
    assert table == markdown(report)
    assert table == capsys.readouterr().out
    for row in report["rows"]:
        assert f"{row['median_seconds']:.3g} s" in table


@pytest.mark.parametrize("arguments", [("--runs", "0"), ("--threads", "0"), ("--preset", "huge")])
def test_wrong_arguments(arguments):
    assert main(["benchmark", "latency", "--preset", "tiny", *arguments]) == 2
