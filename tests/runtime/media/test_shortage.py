"""What a process lacks is not blamed on the video."""

import errno
import subprocess
import sys

import av
import pytest

from dtfsal.engines.errors import UnavailableError
from dtfsal.runtime.media import container
from dtfsal.runtime.media.errors import MediaError, shortage
from dtfsal.runtime.media.video import probe
from dtfsal.runtime.media.writer import atomic_output

PROGRAM = [sys.executable, "-c", "from dtfsal.runtime.cli import main; raise SystemExit(main())"]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.EMFILE, "Too many open files"), "ulimit -n"),
        (OSError(errno.ENFILE, "Too many open files in system"), "ulimit -n"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "ulimit -v"),
        (MemoryError(), "ulimit -v"),
        (RuntimeError("can't start new thread"), "ulimit -u"),
    ],
)
def test_what_is_short_is_named(error, said):
    assert said in str(shortage(error))


@pytest.mark.parametrize("error", [OSError(errno.ENOENT, "none"), OSError(errno.EAGAIN, "again"), RuntimeError("x")])
def test_other_errors_are_something_else(error):
    assert shortage(error) is None


def test_files_and_memory_that_run_out_while_a_video_is_opened_and_written(clip, tmp_path, monkeypatch):
    path = clip(count=2)
    for number, said in ((errno.EMFILE, "open no more files"), (errno.ENOMEM, "no more memory")):
        with monkeypatch.context() as patch, pytest.raises(UnavailableError, match=said):

            def fail(*_, number=number):
                raise OSError(number, "short")

            patch.setattr(av, "open", fail)
            patch.setattr(container, "memory_is_limited", lambda: True)
            probe(path)
        with pytest.raises(UnavailableError, match=said), atomic_output(tmp_path / "out.csv"):
            raise OSError(number, "short")


def test_without_a_limit_it_is_the_file_that_asks_for_too_much(clip, monkeypatch):
    """A few changed bytes in a header do that; FFmpeg then says that there is no memory."""

    def fail(*_):
        raise av.error.MemoryError(errno.ENOMEM, "Cannot allocate memory")

    path = clip(count=2)
    monkeypatch.setattr(av, "open", fail)
    with pytest.raises(MediaError, match="is not a video, or its header is cut short"):
        probe(path)


@pytest.mark.skipif(sys.platform != "linux", reason="limits are Linux's")
@pytest.mark.parametrize("limit", ["-n 6", "-n 8", "-v 700000", "-v 1000000"])
def test_under_a_low_limit_the_video_is_not_blamed(clip, toy_engine, tmp_path, limit):
    path = clip("clip.mp4", count=4, size=(720, 1280))
    command = [*PROGRAM, "predict", str(path), "-e", str(toy_engine), "-o", str(tmp_path / "out.mp4"), "-q"]
    done = subprocess.run(
        ["bash", "-c", f'ulimit {limit}; exec "$@"', "bash", *command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 or "ulimit" in done.stderr, done.stderr
    for blame in ("damaged", "cut short", "not a video", "bug in dtfsal"):
        assert blame not in done.stderr
