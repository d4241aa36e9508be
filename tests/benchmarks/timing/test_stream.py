"""The streams' benchmark says of each form what it is to say, on an engine that takes no time."""

import json

import pytest

from dtfsal.benchmarks.timing import stream_memory
from dtfsal.benchmarks.timing.stream import markdown, read_clip, stream
from dtfsal.engines.errors import UnavailableError
from dtfsal.runtime.capi.library import NativeLibrary
from dtfsal.runtime.cli import main


def test_a_clips_sound_is_as_long_as_its_frames(make_toy_clip):
    clip = read_clip(make_toy_clip(count=5, rate=25, sound_seconds=0.1), 50)
    assert (len(clip.frames), clip.rate_hz) == (5, 25)
    pieces = [clip.sound_of(index) for index in range(10)]
    assert {len(piece) for piece in pieces} == {1920}
    assert pieces[0].any()
    assert not pieces[4].any()  # the file's sound has ended
    assert (pieces[7] == pieces[2]).all()


def test_the_report_has_all_forms(toy_engine, make_toy_clip, library_file):
    runs = []
    report = stream(
        toy_engine,
        make_toy_clip(sound_seconds=0.48),
        frames=6,
        runs=2,
        threads=1,
        library=NativeLibrary(library_file),
        progress=lambda: runs.append(1),
    )
    assert len(runs) == 8
    assert [row["form"] for row in report["rows"]] == ["Python, file", "C, file", "Python, stream", "C, stream"]
    for row in report["rows"]:
        assert 0 < row["engine"]["median_ms"] <= row["engine"]["p95_ms"]
        assert (row["push_frame"] is not None) == ("stream" in row["form"])
    for row in report["rows"][2:]:  # pushing is a part of all that is not the engine's
        assert row["push_frame"]["median_ms"] < row["outside"]["p95_ms"]
    assert "| C, stream |" in markdown({**report, "command": ["dtfsal"]})
    json.dumps(report, allow_nan=False)


def test_memory_over_frames(toy_engine, make_toy_clip, library_file, tmp_path, capsys):
    clip, output = make_toy_clip(sound_seconds=0.48), tmp_path / "memory.json"
    words = ["--engine", str(toy_engine), "--video", str(clip), "--library", str(library_file), "--frames", "500"]
    assert main(["benchmark", "stream-memory", *words, "--output", str(output)]) == 0
    assert "| C |" in capsys.readouterr().out
    report = json.loads(output.read_text())
    for row in report["rows"]:
        assert row["maps"] > 0
        assert row["settled_bytes"] <= row["most_bytes"]
        assert len(row["readings"]) == 501
    (axes,) = stream_memory.draw(report).axes
    assert [len(line.get_xdata()) for line in axes.lines] == [501, 501]  # every reading of both forms
    assert (tmp_path / "memory.png").read_bytes().startswith(b"\x89PNG")


def test_a_missing_library_is_told_before_any_work(toy_engine, make_toy_clip, tmp_path, monkeypatch):
    monkeypatch.setattr(stream_memory, "in_own_process", lambda *_: pytest.fail("measured"))
    with pytest.raises(UnavailableError, match="dtfsal native build"):
        stream_memory.memory(toy_engine, make_toy_clip(), library=str(tmp_path / "none.so"))


def test_counts_that_cannot_be(toy_engine, make_toy_clip, capsys):
    words = ["--engine", str(toy_engine), "--video", str(make_toy_clip()), "--frames", "0"]
    assert main(["benchmark", "stream", *words]) == 2
    assert "--frames must be at least 1" in capsys.readouterr().err
