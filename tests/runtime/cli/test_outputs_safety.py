"""`dtfsal predict -o`: only files are replaced, an engine stays as it is, and `-` is standard output."""

import csv
import io
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from dtfsal.runtime.cli import main

PROGRAM = [sys.executable, "-c", "import sys; from dtfsal.runtime.cli import main; sys.exit(main())"]


@pytest.fixture
def predict(toy_visual_engine, make_toy_clip):
    clip = make_toy_clip()
    return lambda *words: main(["predict", str(clip), "-e", str(toy_visual_engine), *map(str, words)])


def test_a_pipe_is_never_replaced(predict, tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe.csv")
    for link, target in (("a.csv", "/dev/stdout"), ("b.csv", tmp_path / "pipe.csv")):
        (tmp_path / link).symlink_to(target)
    for name in ("pipe.csv", "a.csv", "b.csv"):
        assert predict("-o", tmp_path / name, "--force") == 2
        assert "is not a file but a device" in capsys.readouterr().err
    assert stat.S_ISFIFO((tmp_path / "pipe.csv").stat().st_mode)
    assert (tmp_path / "a.csv").is_symlink()
    assert predict("-o", "/dev/null", "--format", "csv", "--force") == 2
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_a_link_to_a_file_may_be_replaced(predict, tmp_path):
    (tmp_path / "target.csv").write_text("old")
    (tmp_path / "link.csv").symlink_to(tmp_path / "target.csv")
    assert predict("-o", tmp_path / "link.csv", "--force", "-q") == 0
    assert (tmp_path / "link.csv").read_text().startswith("index,")


@pytest.mark.parametrize("name", ["x.csv", "maps/", "model.onnx", "x.mp4"])
@pytest.mark.parametrize("force", [[], ["--force"]])
def test_an_engine_stays_as_it_is(predict, toy_visual_engine, name, force, capsys):
    before = {path.name: path.read_bytes() for path in toy_visual_engine.iterdir()}
    words = ["--format", "csv"] if name == "model.onnx" else []
    assert predict("-o", f"{toy_visual_engine}/{name}", *force, *words) == 2
    assert "lies in the engine" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in toy_visual_engine.iterdir()} == before


def test_the_engine_itself_is_not_replaced_by_pictures(predict, toy_visual_engine, capsys):
    assert predict("-o", f"{toy_visual_engine}/", "--force") == 6
    assert "is not a PNG frame" in capsys.readouterr().err


def test_standard_output(predict, tmp_path, capsys):
    assert predict("-o", tmp_path / "file.csv", "-o", tmp_path / "file.json", "-q") == 0
    capsys.readouterr()
    assert predict("-o", "-") == 0
    text = capsys.readouterr().out
    assert text == (tmp_path / "file.csv").read_text()
    assert len(list(csv.DictReader(io.StringIO(text)))) == 12
    assert predict("-o", "-", "--format", "json") == 0
    assert json.loads(capsys.readouterr().out) == json.loads((tmp_path / "file.json").read_text())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-o", "-", "--json"], "both want standard output"),
        (["-o", "-", "-o", "-"], "named twice"),
        (["-o", "-", "--format", "video"], "takes a table"),
    ],
)
def test_standard_output_is_for_one_table(predict, words, said, capsys):
    assert predict(*words) == 2
    assert said in capsys.readouterr().err


def test_a_file_called_minus(predict, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert predict("-o", "./-", "--format", "csv", "-q") == 0
    assert (tmp_path / "-").read_text().startswith("index,")


def test_a_reader_that_goes_is_no_traceback(toy_visual_engine, make_toy_clip):
    words = ["predict", str(make_toy_clip(count=40)), "-e", str(toy_visual_engine), "-o", "-"]
    process = subprocess.Popen([*PROGRAM, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 1


def test_a_killed_run_leaves_what_the_next_takes_over(toy_visual_engine, make_toy_clip, tmp_path):
    words = ["predict", str(make_toy_clip(count=400)), "-e", str(toy_visual_engine), "-o", str(tmp_path / "o.csv")]
    process = subprocess.Popen([*PROGRAM, *words])
    while not (tmp_path / ".o.dtfsal-partial.csv").exists():
        assert process.poll() is None
    second = subprocess.run([*PROGRAM, *words], capture_output=True, text=True, check=False)
    assert process.poll() is None, "the first run was still under way"
    assert (second.returncode, "being written by another run" in second.stderr) == (6, True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (tmp_path / ".o.dtfsal-partial.csv").exists()
    assert main([*words, "-q"]) == 0
    assert [path.name for path in sorted(tmp_path.iterdir()) if "o." in path.name] == ["o.csv"]
