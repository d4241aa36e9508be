"""The report of made runs by hand, and runs of the command on engines in closed form; nothing here asserts a time."""

import json

import pytest

from dtfsal.benchmarks.timing import live as module
from dtfsal.benchmarks.timing.live import LiveRun, live, markdown, run_once
from dtfsal.engines.errors import EngineMismatchError, UnavailableError, UsageError
from dtfsal.runtime.cli import main

BACKEND = {"name": "onnxruntime", "version": "1", "device": "cpu", "providers": [], "threads": 1}


def made_run(seconds, engine_seconds, peak=100 * 2**20, other_cores=0.5):
    return LiveRun(
        seconds=tuple(seconds),
        stages={"decode": 0.03, "wait": 0.01, "preprocess": 0.02, "engine": engine_seconds},
        first_map_seconds=0.5,
        peak_memory_bytes=peak,
        other_cores=other_cores,
        backend=BACKEND,
    )


@pytest.fixture
def clip(make_toy_clip):
    """20 frames at 25 Hz with sound; the toy engine's window has 4."""
    return make_toy_clip("clip.mkv", count=20, sound_seconds=0.8)


def test_the_steady_state_of_a_run(toy_engine, clip):
    run = run_once(toy_engine, clip, "cpu", 1)
    # Of the marks at the start and after each of 20 maps, those from the 4th map to the 5th before the end.
    assert len(run.seconds) == 21 - 2 * 4 - 1
    assert set(run.stages) == {"decode", "features", "wait", "preprocess", "engine"}
    assert run.stages["features"] == 0  # whole windows share none
    spent = {stage: seconds for stage, seconds in run.stages.items() if stage != "features"}
    assert all(seconds > 0 for seconds in (*run.seconds, *spent.values(), run.first_map_seconds))
    own_thread = {stage: seconds for stage, seconds in spent.items() if stage != "decode"}
    assert sum(own_thread.values()) <= sum(run.seconds)
    assert run.peak_memory_bytes > 2**20
    assert run.backend["threads"] == 1


@pytest.mark.parametrize("count", [1, 9])
def test_a_video_without_a_steady_state_is_said(toy_engine, make_toy_clip, count):
    clip = make_toy_clip("short.mkv", count=count)
    with pytest.raises(UsageError, match=f"has {count} frames, and a steady state begins 4 after"):
        run_once(toy_engine, clip, "cpu", 1)


def test_the_report_of_made_runs(toy_engine, make_toy_engine, clip, monkeypatch):
    other = make_toy_engine()
    made = {
        toy_engine: [made_run([0.04, 0.06], 0.07), made_run([0.05, 0.05], 0.05, peak=300 * 2**20, other_cores=None)],
        other: [made_run([0.2, 0.2], 0.3), made_run([0.2, 0.2], 0.3)],
    }
    order, runs = [], {path: iter(measured) for path, measured in made.items()}

    def in_own_process(_, path, *__):
        order.append(path)
        return next(runs[path])

    monkeypatch.setattr(module, "in_own_process", in_own_process)
    ticks = []
    report = live(toy_engine, clip, without_reuse=other, runs=2, progress=lambda: ticks.append(1))
    assert order == [toy_engine, other] * 2  # in turn
    assert len(ticks) == 4
    assert report["other_cores"] == pytest.approx(0.5)
    first, second = report["rows"]
    assert (first["maps"], second["maps"]) == (4, 4)
    assert first["maps_per_second"] == pytest.approx(4 / 0.2)
    assert first["of_real_time"] == pytest.approx(20 / 25)
    assert first["median_ms"] == pytest.approx(50)
    assert first["quartiles_ms"] == pytest.approx([47.5, 52.5])
    assert first["stages_ms"] == pytest.approx(
        {"decode": 15, "features": 0, "wait": 5, "preprocess": 10, "engine": 30, "other": 5}
    )
    assert first["peak_memory_bytes"] == 300 * 2**20
    assert second["mean_ms"] == pytest.approx(200)
    table = markdown({**report, "command": ["dtfsal"]})
    assert (
        "| whole windows | 20 (0.80x real time) | 50 | 47.5-52.5 | 10 | 30 | 5 | 5 | 15 | 0 | 500 ms | 300.0 MiB |"
        in table
    )
    assert "maps of 40x24 from clip.mkv (80x48, 25 Hz, with sound), 4, 4 maps in 2 interleaved runs" in table
    assert "other processes used 0.50 cores meanwhile" in table
    assert json.loads(json.dumps(report)) == report


def test_the_command(toy_engine, clip, tmp_path, capsys):
    output = tmp_path / "results" / "live.json"
    arguments = ["benchmark", "live", "--engine", str(toy_engine), "--video", str(clip), "--runs", "1"]
    assert main([*arguments, "--threads", "1", "--device", "cpu", "--output", str(output)]) == 0
    report = json.loads(output.read_text())
    table = output.with_suffix(".md").read_text()
    assert table == markdown(report) == capsys.readouterr().out
    (row,) = report["rows"]
    assert row["form"] == "whole windows"
    assert row["maps"] == 12
    assert report["backend"]["threads"] == 1
    assert str(tmp_path) not in output.read_text() + table  # no folder of this machine
    assert sorted(path.name for path in output.parent.iterdir()) == ["live.json", "live.md"]


def test_both_forms_of_one_model(lite_engine, lite_window_engine, make_toy_clip, tmp_path, capsys):
    clip = make_toy_clip("clip.mkv", count=40, sound_seconds=1.6)
    arguments = ["benchmark", "live", "-e", str(lite_engine), "--video", str(clip), "--runs", "1", "--threads", "1"]
    assert main([*arguments, "--without-reuse", str(lite_window_engine), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [row["form"] for row in report["rows"]] == ["each frame encoded once", "whole windows"]
    assert [row["maps"] for row in report["rows"]] == [41 - 2 * 16 - 1] * 2  # 8 taps on every second frame
    with pytest.raises(EngineMismatchError, match="--single-graph"):
        live(lite_window_engine, clip, without_reuse=lite_engine)


def test_the_c_library_on_the_same_clip(toy_engine, clip, library_file, monkeypatch):
    monkeypatch.setenv("DTFSAL_LIBRARY", str(library_file))
    report = live(toy_engine, clip, native=True, runs=1, threads=1)
    python, native = report["rows"]
    assert native["form"] == "the C library"
    assert native["maps"] == python["maps"] == 12
    assert native["stages_ms"]["engine"] > 0
    assert "| the C library |" in markdown({**report, "command": ["dtfsal"]})


def test_the_c_library_that_is_not_there_is_said_at_once(toy_engine, clip, monkeypatch, tmp_path):
    monkeypatch.setattr(module, "in_own_process", lambda *_: pytest.fail("something was measured"))
    monkeypatch.setenv("DTFSAL_LIBRARY", str(tmp_path / "libdtfsal.so"))
    with pytest.raises(UnavailableError):
        live(toy_engine, clip, native=True)


def test_an_engine_of_another_model_is_refused(toy_engine, make_toy_engine, clip):
    with pytest.raises(EngineMismatchError, match="of the same weights"):
        live(toy_engine, clip, without_reuse=make_toy_engine(weights="others"))


def test_errors_of_the_process_come_through(toy_engine, make_toy_clip, tmp_path):
    arguments = ["benchmark", "live", "--engine", str(toy_engine), "--video"]
    assert main([*arguments, str(make_toy_clip("short.mkv", count=3))]) == 2
    assert main([*arguments, str(tmp_path / "none.mp4")]) == 3
    assert main(["benchmark", "live", "--engine", str(tmp_path / "none"), "--video", "x"]) == 4


@pytest.mark.parametrize("arguments", [("--runs", "0"), ("--threads", "0"), ("--output", "x.md")])
def test_wrong_arguments(toy_engine, clip, arguments):
    assert main(["benchmark", "live", "--engine", str(toy_engine), "--video", str(clip), *arguments]) == 2
