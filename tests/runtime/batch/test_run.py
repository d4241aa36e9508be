"""Runs over many videos: what they write, what they leave out, and what survives a kill."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from dtfsal.runtime.batch import records
from dtfsal.runtime.batch.run import Outcome, write_summary
from dtfsal.runtime.batch.settings import Settings
from dtfsal.runtime.cli import main

PROGRAM = [sys.executable, "-c", "import sys; from dtfsal.runtime.cli import main; sys.exit(main())"]


@pytest.fixture
def videos(make_toy_clip, tmp_path):
    """Two folders with a video each of the same name, and a file that is none."""
    (tmp_path / "videos/b").mkdir(parents=True)
    first, second = make_toy_clip("videos/clip.mkv", count=12), make_toy_clip("videos/b/clip.mkv", count=9)
    (tmp_path / "videos/broken.mp4").write_bytes(b"not a video" * 100)
    return first, second


@pytest.fixture
def predict(toy_visual_engine, tmp_path, capsys):
    """A run of `videos` into `out`: its exit code, its document, and what it said on stderr."""

    def run(*words, videos=("videos",)):
        names = [str(tmp_path / name) for name in videos]
        options = ["--output-dir", str(tmp_path / "out"), "-e", str(toy_visual_engine), "--format", "npz", "--json"]
        code = main(["predict", *names, *options, *map(str, words)])
        captured = capsys.readouterr()
        return code, json.loads(captured.out or "{}"), captured.err

    return run


def counts(document):
    return document["done"], document["skipped"], document["failed"]


def left_over(folder):
    return [str(path) for path in folder.rglob("*") if "dtfsal-partial" in path.name or "dtfsal-lock" in path.name]


def test_a_run_writes_what_single_predictions_write_and_goes_on_after_a_failure(
    predict, videos, tmp_path, toy_visual_engine
):
    code, document, err = predict("--format", "csv", "--workers", 2, "--stride", 4)
    assert (code, counts(document), document["frames"]) == (7, (2, 0, 1), 21)
    assert "broken.mp4 is not a video" in err
    for name in ("clip.mkv", "b/clip.mkv"):
        for suffix in (".npz", ".csv"):
            single = tmp_path / f"single{suffix}"
            words = ["-e", str(toy_visual_engine), "--stride", "4", "--force", "-q"]
            assert main(["predict", str(tmp_path / "videos" / name), "-o", str(single), *words]) == 0
            written = tmp_path / "out" / f"{name}{suffix}"
            if suffix == ".csv":
                assert written.read_bytes() == single.read_bytes()
            else:
                with np.load(written) as ours, np.load(single) as theirs:
                    assert np.array_equal(ours["saliency_maps"], theirs["saliency_maps"])
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    rows = {row["place"]: row for row in summary["videos"]}
    assert rows["broken.mp4"]["exit_code"] == 3
    assert rows["b/clip.mkv"]["outputs"] == ["b/clip.mkv.npz", "b/clip.mkv.csv"]
    assert left_over(tmp_path) == []


def test_resume_goes_by_content_and_settings(predict, videos, tmp_path, make_toy_clip):
    assert counts(predict("--workers", 1)[1]) == (2, 0, 1)
    # Without --resume nothing is replaced.
    code, _, err = predict()
    assert code == 2
    assert "exists; name another output, or give --force" in err
    # One video moved, one changed under its name, and the broken one was mended.
    videos[0].rename(videos[0].with_name("moved.mkv"))
    make_toy_clip("videos/b/clip.mkv", count=5)
    make_toy_clip("videos/broken.mp4", count=4).rename(tmp_path / "videos/mended.mkv")
    code, document, _ = predict("--workers", 1, "--resume")
    assert (code, counts(document), document["frames"]) == (0, (2, 1, 0), 9)
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert [row["outputs"] for row in summary["videos"] if row["status"] == "skipped"] == [["clip.mkv.npz"]]
    with np.load(tmp_path / "out/b/clip.mkv.npz") as archive:
        assert len(archive["indices"]) == 5
    # A result that was cut short is not taken for one, nor is a damaged record.
    os.truncate(tmp_path / "out/b/clip.mkv.npz", 100)
    for number, path in enumerate(sorted((tmp_path / "out/.dtfsal-run").glob("*.done.json"))):
        if "moved" not in path.read_text() and number == 0:
            path.write_text(path.read_text()[:50])
    redone = predict("--workers", 1, "--resume")[1]
    assert counts(redone)[0] >= 1
    assert counts(predict("--workers", 1, "--resume")[1]) == (0, 3, 0)


def test_resume_says_which_setting_is_another(predict, videos, tmp_path, toy_engine):
    (tmp_path / "videos/broken.mp4").unlink()
    assert predict("--workers", 1)[0] == 0
    code, _, err = predict("--resume", "--stride", 3, "--smoothing", 2)
    assert code == 2
    assert "was begun with other settings (smoothing was 0.0 and is 2.0; stride was 1 and is 3)" in err
    code, _, err = predict("--resume", "-e", toy_engine)
    assert code == 2
    assert "the engine was " in err
    assert counts(predict("--force", "--workers", 1, "--stride", 3)[1]) == (2, 0, 0)
    assert counts(predict("--resume", "--stride", 3)[1]) == (0, 2, 0)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a.mp4", "b.mp4"], "need --output-dir"),
        (["a.mp4", "--resume"], "--resume is for runs with --output-dir"),
        (["a.mp4", "--output-dir", "o", "-o", "x.mp4"], "--format names the outputs"),
        (["a.mp4", "--output-dir", "o", "--shard", "3/2"], "a shard is I/N"),
        ([".", "--output-dir", "."], "is among the videos"),
        (["a.mp4", "-o", "x.npz", "--format", "npz", "--format", "csv"], "--format is for a single output"),
    ],
)
def test_wrong_usage(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["predict", *words]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_missing_video_of_a_list_fails_by_itself(predict, videos, tmp_path):
    (tmp_path / "list.txt").write_text(f"{videos[0]}\n\n{tmp_path}/videos/missing.mkv\n")
    code, document, _ = predict("--workers", 1, videos=["list.txt"])
    assert (code, counts(document)) == (7, (1, 0, 1))
    assert "there is no file" in next(iter(document["failures"].values()))
    code, document, _ = predict("--workers", 1, "--shard", "1/1", videos=["list.txt"])
    assert code == 2  # of another run, and not resumed


def test_the_summary_in_parquet_says_what_the_one_in_json_says(tmp_path, toy_visual_engine):
    parquet = pytest.importorskip("pyarrow.parquet")
    outcomes = [
        Outcome("a.mp4", "a.mp4", "done", ("a.mp4.npz",), 12, 0.5, attempts=2),
        Outcome("b.mp4", "b.mp4", "failed", error="b.mp4 is empty", exit_code=3, attempts=1),
    ]
    settings = Settings.of(str(toy_visual_engine), kinds=("npz",))
    path = write_summary(tmp_path, "summary", settings, outcomes, 1.0)
    assert parquet.read_table(tmp_path / "summary.parquet").to_pylist() == json.loads(path.read_text())["videos"]


def test_a_record_knows_its_outputs_and_content(tmp_path, toy_visual_engine):
    settings = Settings.of(str(toy_visual_engine), kinds=("npz",))
    (tmp_path / "a.npz").write_bytes(b"maps")
    written = records.written(tmp_path, [tmp_path / "a.npz"])
    assert written[0].blake2b == hashlib.blake2b(b"maps", digest_size=32).hexdigest()
    records.save_record(tmp_path, records.Record("a", "c0ffee", 7, settings.identity(), written, {}))
    (found,) = records.usable(tmp_path, settings)
    assert records.matched([found], {"b": ("c0ffee", 7), "a": ("c0ffee", 7)}) == {"a": found}
    assert records.matched([found], {"b": ("c0ffee", 7)}) == {"b": found}
    assert records.matched([found], {"a": ("c0ffee", 8)}) == {}


# Kills


def started(tmp_path, engine, *words):
    """A run as a program, in a process group of its own."""
    names = ["predict", str(tmp_path / "videos"), "--output-dir", str(tmp_path / "out"), "--format", "npz", "--json"]
    command = [*PROGRAM, *names, "-e", str(engine), *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, start_new_session=True, text=True, **pipes)


def until(condition, seconds=500):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.002)
    return found


def workers_of(pid):
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


@pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")
def test_a_killed_worker_costs_its_video_one_attempt(make_toy_clip, tmp_path, toy_visual_engine):
    (tmp_path / "videos").mkdir()
    make_toy_clip("videos/long.mkv", count=400, size=(8, 8))
    with started(tmp_path, toy_visual_engine, "--workers", "1") as run:
        until(lambda: "long" in str(left_over(tmp_path)))
        os.kill(workers_of(run.pid)[0], signal.SIGKILL)
        out, err = run.communicate(timeout=500)
    assert (run.returncode, counts(json.loads(out))) == (0, (1, 0, 0))
    assert "its process ended with exit code -9; trying once more" in err
    (row,) = json.loads((tmp_path / "out/summary.json").read_text())["videos"]
    assert (row["attempts"], row["frames"]) == (2, 400)
    assert left_over(tmp_path) == []


@pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")
def test_after_a_kill_of_all_only_the_unfinished_is_redone(make_toy_clip, tmp_path, toy_visual_engine, predict):
    (tmp_path / "videos").mkdir()
    for number in range(6):
        make_toy_clip(f"videos/{number}.mkv", count=10 + number, size=(8, 8))
    make_toy_clip("videos/long.mkv", count=400, size=(8, 8))
    with started(tmp_path, toy_visual_engine, "--workers", "1") as run:
        until(lambda: "long" in str(left_over(tmp_path)))
        (worker,) = workers_of(run.pid)
        os.kill(run.pid, signal.SIGKILL)  # the worker ends with its parent
        until(lambda: not Path(f"/proc/{worker}").exists() or b"Z" in Path(f"/proc/{worker}/stat").read_bytes())
        run.communicate()
    names = sorted(path.name for path in (tmp_path / "out").glob("[!.]*.npz"))
    assert names == [f"{number}.mkv.npz" for number in range(6)]
    before = {name: (tmp_path / "out" / name).stat().st_ino for name in names}
    code, document, _ = predict("--resume", "--workers", 1)
    assert (code, counts(document), document["frames"]) == (0, (1, 6, 0), 400)
    assert before == {name: (tmp_path / "out" / name).stat().st_ino for name in names}
    assert left_over(tmp_path) == []
