"""Sources that can be read once."""

import os
import sys
import threading

import numpy as np
import pytest

from dtfsal.runtime.media import spool
from dtfsal.runtime.media.audio_reader import AudioReader
from dtfsal.runtime.media.errors import MediaError
from dtfsal.runtime.media.video import VideoReader, probe


@pytest.fixture
def spools(tmp_path, monkeypatch):
    """The folder that temporary files go to."""
    folder = tmp_path / "spools"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def write_into(path, content):
    def write():
        with os.fdopen(path if isinstance(path, int) else os.open(path, os.O_WRONLY), "wb") as pipe:
            pipe.write(content)

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    return thread


def test_a_fifo_is_read_once_for_all_who_read_it(clip, tmp_path, spools):
    source = clip("source.ts", count=60, samples=np.zeros(115200, np.float32))
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = write_into(fifo, source.read_bytes())
    with VideoReader(source) as reader:
        expected = [frame.time_seconds for frame in reader]
    with VideoReader(fifo) as reader:
        with AudioReader(fifo, start_seconds=reader.info.start_seconds) as sound:
            heard = sum(map(len, sound))
        with VideoReader(fifo) as again:
            assert [frame.time_seconds for frame in again] == expected
        assert [frame.time_seconds for frame in reader] == expected
        assert reader.notes == (
            f"{fifo} can be read once only; its {source.stat().st_size / 2**20:.1f} MiB were kept in a temporary file",
        )
        assert not list(spools.iterdir()) or sys.platform != "linux"  # nothing that a killed process could leave
    writer.join(5)
    with AudioReader(source, start_seconds=reader.info.start_seconds) as sound:
        assert heard == sum(map(len, sound))
    assert not list(spools.iterdir())


def test_a_pipe_of_the_process(clip, spools):
    """As a shell's process substitution gives it: /dev/fd/N."""
    content = clip("source.ts", count=10).read_bytes()
    reading, writing = os.pipe()
    thread = write_into(writing, content)
    try:
        assert probe(f"/dev/fd/{reading}").width == 64
    finally:
        thread.join(5)
        os.close(reading)
    assert not list(spools.iterdir())


def test_a_fifo_without_a_writer_is_said(tmp_path, spools, monkeypatch):
    monkeypatch.setattr(spool, "OPEN_SECONDS", 0.2)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(MediaError, match=r"nothing came through .*fifo within"):
        probe(tmp_path / "fifo")
    assert not list(spools.iterdir())


def test_a_writer_that_says_nothing_is_said(tmp_path, spools, monkeypatch):
    monkeypatch.setattr(spool, "SILENT_SECONDS", 0.2)
    reading, writing = os.pipe()
    try:
        with pytest.raises(MediaError, match="nothing came through"):
            probe(f"/dev/fd/{reading}")
    finally:
        os.close(reading)
        os.close(writing)
    assert not list(spools.iterdir())


def test_too_much_is_said(clip, tmp_path, spools, monkeypatch):
    monkeypatch.setattr(spool, "MOST_BYTES", 1000)
    os.mkfifo(tmp_path / "fifo")
    write_into(tmp_path / "fifo", clip("source.ts", count=30).read_bytes())
    with pytest.raises(MediaError, match="save it as a file first"):
        probe(tmp_path / "fifo")
    assert not list(spools.iterdir())


def test_a_full_disk_is_said(clip, tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "fifo")
    write_into(tmp_path / "fifo", clip("source.ts", count=10).read_bytes())
    monkeypatch.setattr(spool.tempfile, "TemporaryFile", lambda **_: os.fdopen(os.open("/dev/full", os.O_WRONLY), "wb"))
    with pytest.raises(MediaError, match=r"no space is left for it in .*; set TMPDIR to another folder"):
        probe(tmp_path / "fifo")


def test_what_comes_through_a_pipe_may_be_no_video(tmp_path, spools):
    os.mkfifo(tmp_path / "fifo")
    write_into(tmp_path / "fifo", b"no video" * 1000)
    with pytest.raises(MediaError, match="fifo is not a video"):
        probe(tmp_path / "fifo")
    assert not list(spools.iterdir())
