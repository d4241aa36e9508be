"""The statistics and the report of made timings, and one run of the command; nothing here asserts a time."""

import json
import os
import time

import pytest
import torch

from dtfsal.benchmarks import latency as module
from dtfsal.benchmarks.host import other_busy_seconds
from dtfsal.benchmarks.latency import Timing, latency, markdown, measure
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
    # One thread: two that wait for each other can take tens of times longer where another process has a core.
    arguments = ["--preset", "tiny", "--runs", "1", "--threads", "1"]
    before = torch.get_num_threads()
    assert main(["benchmark", "latency", *arguments, "--output", str(output)]) == 0
    assert torch.get_num_threads() == before
    report = json.loads(output.read_text())
    assert report["command"] == ["dtfsal", "benchmark", "latency", *arguments]
    assert report["other_cores"] >= 0
    gflops = report["true_gflop"]
    for row in report["rows"]:
        gflop = gflops["written" if row["form"] == "eager plain" else "deployed"]
        assert row["true_gflop_per_second"] * row["median_seconds"] == pytest.approx(gflop)
    assert [row["form"] for row in report["rows"]] == ["eager plain", "eager", "ONNX Runtime fp32"]
    assert report["rows"][0]["ratio_to_baseline"] == 1
    assert {"cpu", "cores", "date", "versions", "commit"} <= report["machine"].keys()
    table = output.with_suffix(".md").read_text()
    assert table == markdown(report)
    assert table == capsys.readouterr().out
    assert sorted(path.name for path in output.parent.iterdir()) == ["tiny.json", "tiny.md"]
    for row in report["rows"]:
        assert f"{row['median_seconds']:.3g} s" in table


def test_what_other_processes_used_by_hand(tmp_path, monkeypatch):
    stat = tmp_path / "stat"
    # user nice system idle iowait irq softirq steal guest guest_nice, in ticks; idle and iowait are no work.
    stat.write_text("cpu  1000 200 300 99999 888 40 50 60 0 0\ncpu0 1 2 3 4 5 6 7 8 0 0\n")
    monkeypatch.setattr(os, "sysconf", lambda _: 100)
    monkeypatch.setattr(time, "process_time", lambda: 6.5)
    assert other_busy_seconds(stat) == pytest.approx(16.5 - 6.5)
    assert other_busy_seconds(tmp_path / "none") is None


def made_report(other_cores):
    row = {
        "form": "eager plain",
        "median_seconds": 2.0,
        "quartiles_seconds": (1.5, 2.5),
        "first_seconds": 3.0,
        "ratio_to_baseline": 1.0,
        "true_gflop_per_second": 5.0,
    }
    host = {"cpu": "C", "cores": 2, "system": "S", "python": "3", "versions": {"torch": "2", "onnx": None}, "date": "D"}
    return {
        "preset": "tiny",
        "runs": 3,
        "threads": 2,
        "matrix_product_gflop_per_second": 180.0,
        "other_cores": other_cores,
        "rows": [row],
        "machine": host,
        "command": ["dtfsal"],
    }


def test_the_table_of_made_numbers():
    table = markdown(made_report(0.914))
    assert "| eager plain | 2 s | 1.5-2.5 s | 3 s | 1.00x | 5 |" in table
    assert "other processes used 0.91 cores meanwhile" in table
    assert "meanwhile" not in markdown(made_report(None))


@pytest.mark.parametrize(("other_cores", "warned"), [(0.9, True), (0.02, False), (None, False)])
def test_a_busy_machine_is_said(other_cores, warned, monkeypatch, capsys):
    monkeypatch.setattr(module, "latency", lambda *_, **__: made_report(other_cores))
    assert main(["benchmark", "latency", "--json"]) == 0
    printed = capsys.readouterr()
    assert ("quiet machine" in printed.err) is warned
    assert json.loads(printed.out)["other_cores"] == other_cores


@pytest.mark.parametrize(("output", "code"), [("x.md", 2), ("x", 2), ("file/x.json", 6)])
def test_a_wrong_output_is_said_before_measuring(output, code, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(module, "latency", lambda *_, **__: pytest.fail("measured"))
    assert main(["benchmark", "latency", "--output", str(tmp_path / output)]) == code
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_failure_leaves_no_result_and_the_threads_as_they_were(tmp_path, monkeypatch):
    before = torch.get_num_threads()

    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "seeded_model", fail)
    with pytest.raises(KeyboardInterrupt):
        latency("tiny", runs=1, threads=before + 1, command=[], progress=lambda: None)
    assert torch.get_num_threads() == before
    assert main(["benchmark", "latency", "--output", str(tmp_path / "x.json")]) == 130
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("arguments", [("--runs", "0"), ("--threads", "0"), ("--preset", "huge")])
def test_wrong_arguments(arguments):
    assert main(["benchmark", "latency", "--preset", "tiny", *arguments]) == 2
