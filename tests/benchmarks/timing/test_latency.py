"""The statistics and the report of made timings, and one run of the command; nothing here asserts a time."""

import itertools
import json
import os
import statistics
import time

import pytest
import torch

from dtfsal.benchmarks.machine.host import other_busy_seconds
from dtfsal.benchmarks.machine.rates import matrix_product_rate
from dtfsal.benchmarks.measure.stopwatch import Timing
from dtfsal.benchmarks.timing import latency as module
from dtfsal.benchmarks.timing.forms import choose_forms
from dtfsal.benchmarks.timing.interleaved import take_turns, without_folders
from dtfsal.benchmarks.timing.latency import latency, statistics_of
from dtfsal.benchmarks.timing.latency_report import draw, markdown
from dtfsal.engines.errors import UnavailableError, UsageError
from dtfsal.export.request import parse_size
from dtfsal.runtime.cli import main


def test_forms_take_turns_and_each_follows_each_other():
    calls, ticks = [], []

    def form(name, seconds):
        return lambda: calls.append(name) or next(seconds)

    def turns():
        runs = {name: form(name, itertools.count(start)) for name, start in (("a", 0), ("b", 100), ("c", 200))}
        return take_turns(runs, rounds=30, progress=ticks.append)

    taken = turns()
    assert taken == {name: list(range(start, start + 30)) for name, start in (("a", 0), ("b", 100), ("c", 200))}
    assert ticks == [1] * 90
    rounds = [tuple(calls[start : start + 3]) for start in range(0, 90, 3)]
    assert all(sorted(names) == ["a", "b", "c"] for names in rounds)
    # No form has always the same one before it: all six orders occur.
    assert set(rounds) == set(itertools.permutations("abc"))
    first = calls.copy()
    calls.clear()
    turns()
    assert calls == first


def test_statistics_by_hand():
    timing = Timing("x", (4.0, 1.0, 2.0, 3.0, 100.0), 9.0)
    assert timing.median_seconds == 3
    assert timing.quartiles_seconds == (2, 4)
    assert Timing("x", (4.0,), 9.0).quartiles_seconds == (4, 4)


def test_a_form_beside_its_baseline_by_hand():
    baseline, form = [4.0, 6.0, 5.0], [2.0, 3.0, 2.5]
    row = statistics_of(form, baseline)
    assert row["median_seconds"] == 2.5
    assert row["median_interval_seconds"] == (2, 3)
    assert row["ratio_to_baseline"] == 2
    assert row["ratio_interval"] == (2, 2)  # in every round twice as fast
    assert row["p_value"] == pytest.approx(2 / 20)  # one of 20 orders is the most extreme one, either way round
    alone = statistics_of(baseline, baseline)
    assert alone["ratio_to_baseline"] == 1
    assert alone["ratio_interval"] is None
    assert alone["p_value"] is None


def test_the_command(tmp_path, capsys, lite_engine, monkeypatch):
    monkeypatch.setattr(module, "matrix_product_rate", lambda _: 100.0)  # seconds on one core, and tested below
    output = tmp_path / "results" / "lite.json"
    # One thread: two that wait for each other can take tens of times longer where another process has a core.
    options = ["--runs", "2", "--form", "eager plain", "--form", "eager", "--engine", str(lite_engine)]
    arguments = [*options, "--baseline", "eager", "--threads", "1"]
    assert main(["benchmark", "latency", *arguments, "--output", str(output)]) == 0
    report = json.loads(output.read_text())
    assert report["command"] == [
        *("dtfsal", "benchmark", "latency", "--runs", "2", "--form", "eager plain", "--form", "eager"),
        *("--engine", lite_engine.name, "--baseline", "eager", "--threads", "1"),
    ]
    assert str(tmp_path) not in output.read_text()
    assert str(lite_engine.parent) not in output.read_text()
    assert report["clip"] == {"frames": 8, "height": 64, "width": 96}  # the engine's, not the preset's
    assert report["other_cores"] >= 0
    rows = {row["form"]: row for row in report["rows"]}
    assert list(rows) == ["eager plain", "eager", lite_engine.name]
    for form, row in rows.items():
        gflop = report["true_gflop"]["written" if form == "eager plain" else "deployed"]
        assert row["true_gflop_per_second"] * row["median_seconds"] == pytest.approx(gflop)
        assert len(row["seconds"]) == 2
        assert row["median_seconds"] == statistics.median(row["seconds"])
        assert min(row["cold"][key] for key in ("import_seconds", "load_seconds", "first_seconds")) > 0
        assert row["cold"]["peak_memory_bytes"] > row["cold"]["memory_before_bytes"] > 0
    assert rows["eager"]["ratio_to_baseline"] == 1
    # The definitions and the exact rewrites see the same weights: their maps agree. The engine has others.
    assert rows["eager plain"]["agreement"]["max_abs_error"] < 1e-4
    assert rows[lite_engine.name]["agreement"] is None
    assert rows[lite_engine.name]["cold"]["backend"]["threads"] == 1
    assert rows["eager"]["cold"]["backend"] is None
    # A process of its own: what runs an engine has not loaded PyTorch, which alone takes more than this.
    assert rows[lite_engine.name]["cold"]["memory_before_bytes"] < 0.5 * rows["eager"]["cold"]["memory_before_bytes"]
    assert {"cpu", "cores", "date", "versions", "commit", "fingerprint"} <= report["machine"].keys()
    table = output.with_suffix(".md").read_text()
    assert table == markdown(report)
    assert table == capsys.readouterr().out
    assert sorted(path.name for path in output.parent.iterdir()) == [
        f"lite.{suffix}" for suffix in ("json", "md", "png", "svg")
    ]
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
    for process, user, system in (("7", 120, 30), ("8", 50, 0)):
        (tmp_path / process).mkdir()
        numbers = " ".join(map(str, range(3, 14)))  # fields 3 to 13: state, parents, faults
        (tmp_path / process / "stat").write_text(f"{process} (a (b) c) {numbers} {user} {system} 0 0 20\n")
    assert other_busy_seconds(stat, [7, 8]) == pytest.approx(16.5 - 6.5 - 2.0)


def made_report(other_cores=None, **changes):
    cold = {
        "import_seconds": 1.0,
        "load_seconds": 0.25,
        "first_seconds": 3.0,
        "memory_before_bytes": 2**20,
        "peak_memory_bytes": 7 * 2**20,
        "backend": None,
    }
    row = {
        "form": "eager plain",
        "median_seconds": 2.0,
        "median_interval_seconds": (1.2, 2.8),
        "quartiles_seconds": (1.5, 2.5),
        "ratio_to_baseline": 1.0,
        "ratio_interval": None,
        "agreement": {"finite": True, "cc": 1.0},
        "true_gflop_per_second": 5.0,
        "cold": cold,
        "joules_per_run": {"RAPL package-0": 12.5},
        "seconds": [1.2, 2.0, 2.8],
    }
    fast = {
        **row,
        "form": "fast",
        "median_seconds": 1.0,
        "ratio_to_baseline": 2.0,
        "ratio_interval": (1.5, 2.25),
        "agreement": {"finite": False},
        "cold": {**cold, "backend": {"computes_in": "f32"}},
    }
    host = {"cpu": "C", "cores": 2, "system": "S", "python": "3", "versions": {"torch": "2", "onnx": None}, "date": "D"}
    return {
        "preset": "tiny",
        "clip": {"frames": 16, "height": 96, "width": 160},
        "batch_size": 2,
        "runs": 3,
        "threads": 2,
        "baseline": "eager plain",
        "confidence": 0.95,
        "interval_coverage": 0.75,
        "matrix_product_gflop_per_second": 180.0,
        "meters": ["RAPL package-0"],
        "no_energy": None,
        "other_cores": other_cores,
        "rows": [row, fast],
        "left_out": {},
        "machine": {**host, "fingerprint": "abc"},
        "command": ["dtfsal", "--form", "eager plain"],
        **changes,
    }


def test_the_table_of_made_numbers():
    table = markdown(made_report(0.914))
    assert "| eager plain | 2 s | 1.2-2.8 s | 1.5-2.5 s | 1.00x | 5 | 1.0000 | 0.25 s | 3 s | 7 MiB | 12.5 J" in table
    assert "| fast (in f32) | 1 s | 1.2-2.8 s | 1.5-2.5 s | 2.00x (1.50-2.25) | 5 | not finite |" in table
    assert "`dtfsal --form 'eager plain'`" in table
    assert "which covers the true one with 75 %" in table
    assert "other processes used 0.91 cores meanwhile" in table
    lines = table.splitlines()
    assert len({line.count("|") for line in lines[:4]}) == 1
    quiet = markdown(
        made_report(
            None, interval_coverage=0.96, meters=[], no_energy="it is mute", left_out={"x": "y", "v": "w", "z": "y"}
        )
    )
    assert "meanwhile" not in quiet
    assert "covers" not in quiet
    assert " J" not in quiet
    assert "Energy: it is mute." in quiet
    assert "Left out: x, z (y); v (w)." in quiet


def test_the_picture_shows_every_run():
    figure = draw(made_report())
    drawn = {tuple(line.get_xdata()) for line in figure.axes[0].lines}
    assert (1.2, 2.0, 2.8) in drawn
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["eager plain", "fast"]


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


def test_a_failure_leaves_no_result(tmp_path, monkeypatch):
    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "seeded_weights", fail)
    assert main(["benchmark", "latency", "--output", str(tmp_path / "x.json")]) == 130
    assert not list(tmp_path.iterdir())


def test_the_matrix_rate_leaves_the_threads_as_they_were(monkeypatch):
    before, during = torch.get_num_threads(), []
    monkeypatch.setattr(torch, "mm", lambda a, _: during.append((torch.get_num_threads(), a.shape)))
    matrix_product_rate(before + 1, size=8, repeats=2)
    assert during == [(before + 1, (8, 8))] * 2
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    "arguments",
    [
        *(("--runs", "0"), ("--threads", "0"), ("--batch-size", "0"), ("--preset", "huge"), ("--form", "slow")),
        *(("--size", "96"), ("--size", "96x100"), ("--frames", "3"), ("--baseline", "slow")),
        ("--form", "eager", "--form", "eager"),
        ("--form", "eager", "--baseline", "eager plain"),
    ],
)
def test_wrong_arguments(arguments):
    assert main(["benchmark", "latency", "--preset", "tiny", *arguments]) == 2


def test_sizes_are_rows_by_columns():
    assert parse_size("96x160") == (96, 160)
    for text in ("x160", "96x", "96x-1", "0x32", "96x160x3"):
        with pytest.raises(UsageError, match="HxW"):
            parse_size(text)


def test_forms_that_cannot_run_are_said_and_a_baseline_that_cannot_is_refused(monkeypatch):
    forms = choose_forms(["ONNX Runtime fp32", "ONNX Runtime fp16"])
    monkeypatch.setattr("dtfsal.benchmarks.timing.forms.lacking", lambda *_: "no such library in /opt/x/y.so")
    monkeypatch.setattr(module, "seeded_weights", lambda _, folder: folder / "none")
    with pytest.raises(UnavailableError, match=r"fp32: no such library in y\.so; ONNX Runtime fp16: no such"):
        latency("tiny", forms, runs=1)


def test_folders_are_cut_from_what_is_told():
    assert without_folders("cannot read /tmp/a b/c.so") == "cannot read a b/c.so"
    assert without_folders("cannot read /tmp/x-1/c.so: no") == "cannot read c.so: no"
    assert without_folders("1/2 of a/b, and 3 / 4") == "1/2 of a/b, and 3 / 4"
