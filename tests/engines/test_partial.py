"""Unfinished outputs: what a killed run left is taken over, a second run is refused, and nothing else is touched."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from dtfsal.engines.bundle.places import require_file_place, require_outside_engines
from dtfsal.engines.errors import OutputError, UsageError
from dtfsal.engines.partial import beside, held, partial_file, partial_folder, replace_folder

HOLDER = """
import sys, time
from pathlib import Path
from dtfsal.engines.partial import partial_file, partial_folder
with {kind}(Path(sys.argv[1])) as place:
    (place / "x" if place.is_dir() else place).write_text("half")
    print("ready", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder():
    """Start a process that holds an output, and end it."""
    processes = []

    def start(kind, final):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER.format(kind=kind), str(final)], stdout=subprocess.PIPE, text=True
        )
        processes.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("kind", [partial_file, partial_folder])
def test_a_second_run_is_refused_and_a_killed_ones_rest_taken_over(kind, holder, tmp_path):
    final = tmp_path / "out.mp4"
    mine = [tmp_path / ".out.mp4.swp", tmp_path / ".out.partial.mp4", tmp_path / ".other.dtfsal-partial.mp4"]
    for path in mine:
        path.write_text("mine")
    process = holder(kind.__name__, final)
    with pytest.raises(OutputError, match=r"out\.mp4 is being written by another run"), kind(final):
        pass
    with kind(tmp_path / "another.mp4"):  # another output is nobody's business
        pass
    assert beside(final).exists(), "the refused run leaves the other's work"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert beside(final).exists()
    with kind(final) as place:
        assert place == beside(final)
        assert not (list(place.iterdir()) if place.is_dir() else place.read_text())
    assert not beside(final).exists()
    assert {path.read_text() for path in mine} == {"mine"}


def test_one_process_cannot_write_an_output_twice(tmp_path):
    with (
        partial_file(tmp_path / "a.csv") as partial,
        pytest.raises(OutputError, match="being written"),
        partial_file(tmp_path / "a.csv"),
    ):
        pass
    assert not partial.exists()
    assert (tmp_path / "a.csv").exists()


@pytest.mark.parametrize("kind", ["link", "hard link", "folder", "pipe"])
def test_what_is_not_ours_is_left(kind, tmp_path):
    final, precious = tmp_path / "out.csv", tmp_path / "precious"
    precious.write_text("precious")
    partial = beside(final)
    if kind == "link":
        partial.symlink_to(precious)
    elif kind == "hard link":
        partial.hardlink_to(precious)
    elif kind == "folder":
        partial.mkdir()
    else:
        os.mkfifo(partial)
    with pytest.raises((OutputError, OSError)), partial_file(final):
        pass
    assert precious.read_text() == "precious"
    assert os.path.lexists(partial)


def test_a_folder_that_was_set_aside_by_a_killed_run_comes_back(tmp_path):
    final, aside = tmp_path / "out", beside(tmp_path / "out", "replaced")
    aside.mkdir()
    (aside / "old").write_text("old")
    with partial_folder(final):
        pass
    assert (final / "old").read_text() == "old"
    aside.mkdir()  # killed after the new one was in place
    with partial_folder(final) as partial:
        (partial / "new").write_text("new")
        replace_folder(partial, final)
    assert [path.name for path in final.iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    "name", ["a" * 251 + ".mp4", "\u00e4" * 125 + ".csv", "a" * 255, "." + "a" * 254, "a." + "b" * 253]
)
def test_names_as_long_as_a_system_takes(name, tmp_path):
    with partial_file(tmp_path / name) as partial:
        partial.write_text("x")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert beside(Path("x" * 251 + ".mp4")).suffix == ".mp4"  # by which FFmpeg chooses the container


def test_only_files_are_replaced(tmp_path):
    pipe, link, file = tmp_path / "pipe", tmp_path / "link", tmp_path / "file"
    os.mkfifo(pipe)
    file.write_text("")
    for path in (pipe, Path("/dev/null"), Path("/dev/stdout"), Path("/dev/fd/1"), Path("/proc/self/fd/1")):
        with pytest.raises(UsageError, match="not a file but a device"):
            require_file_place(path)
    link.symlink_to("/dev/stdout")
    with pytest.raises(UsageError, match="not a file but a device"):
        require_file_place(link)
    link.unlink()
    link.symlink_to(file)
    for path in (file, link, tmp_path / "new"):
        require_file_place(path)


def test_nothing_is_put_into_an_engine(toy_engine, tmp_path):
    (tmp_path / "link").symlink_to(toy_engine)
    for path in (toy_engine / "x.csv", toy_engine / "a" / "b" / "x.csv", tmp_path / "link" / "model.onnx"):
        with pytest.raises(UsageError, match="lies in the engine"):
            require_outside_engines(path)
    require_outside_engines(toy_engine)
    require_outside_engines(toy_engine.parent / "x.csv")


def test_a_lock_is_for_one_run_at_a_time_and_leaves_nothing(tmp_path):
    final = tmp_path / "out.bin"
    with held(final):
        with pytest.raises(OutputError, match=r"out\.bin is being written by another run"), held(final):
            pass
        with partial_file(final) as partial:  # the run itself may write
            partial.write_text("whole")
    with held(final):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["out.bin"]


def test_who_waits_for_a_lock_gets_it(tmp_path):
    done = []

    def wait():
        with held(tmp_path / "out.bin", waits=True):
            done.append(True)

    thread = threading.Thread(target=wait, daemon=True)
    with held(tmp_path / "out.bin"):
        thread.start()
        thread.join(0.2)
        assert not done
    thread.join(10)
    assert done
    assert not list(tmp_path.iterdir())
