"""Videos that keep times and sound, and files that are whole or not there."""

import errno

import av
import numpy as np
import pytest

from dtfsal.engines.errors import OutputError, UsageError
from dtfsal.runtime.media.audio_reader import AudioReader
from dtfsal.runtime.media.video import VideoReader, probe
from dtfsal.runtime.media.writer import VideoWriter, atomic_output
from dtfsal.runtime.sinks.pictures import atomic_folder


def copy(source, path):
    """Decode and write again, with the source's sound."""
    with VideoReader(source) as reader:
        info = reader.info
        with VideoWriter(path, width=info.width, height=info.height, source=info, sound_from=source) as writer:
            for frame in reader:
                writer.write(frame.rgb, frame.time_seconds)
    return path


def packets(path, kind):
    with av.open(str(path)) as container:
        stream = getattr(container.streams, kind)[0]
        return [(float(p.pts * p.time_base), bytes(p)) for p in container.demux(stream) if p.pts is not None and p.size]


def tone(seconds):
    return (0.5 * np.sin(2 * np.pi * 1000 * np.arange(round(seconds * 48000)) / 48000)).astype(np.float32)


def test_a_real_clip_keeps_frames_times_and_the_sound_bit_for_bit(sample_clips, tmp_path):
    source = sample_clips / "bigbuckbunny.mp4"
    path = copy(source, tmp_path / "out.mp4")
    with VideoReader(path, size=(36, 64)) as ours, VideoReader(source, size=(36, 64)) as theirs:
        pairs = list(zip(ours, theirs, strict=True))
    assert len(pairs) == 132
    for a, b in pairs:
        assert a.time_seconds == pytest.approx(b.time_seconds, abs=1e-4)
        # CRF 18 at 1/20 of the size: a few levels.
        assert np.abs(a.rgb.astype(int) - b.rgb).mean() < 4
    before, after = packets(source, "audio"), packets(path, "audio")
    assert [payload for _, payload in after] == [payload for _, payload in before]
    np.testing.assert_allclose([t for t, _ in after], [t for t, _ in before], atol=1e-4)


def test_variable_rates_keep_their_times(clip, tmp_path):
    times = [0, 0.04, 0.05, 0.3, 0.31, 1.0]
    path = copy(clip(count=6, times=times), tmp_path / "out.mp4")
    with VideoReader(path) as reader:
        np.testing.assert_allclose([f.time_seconds for f in reader], times, atol=2e-5)


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (47, 64), (48, 63)])
def test_odd_sizes_are_padded_by_their_edge(tmp_path, size):
    path = tmp_path / "odd.mp4"
    frame = np.full((*size, 3), 120, np.uint8)
    with VideoWriter(path, width=size[1], height=size[0]) as writer:
        for index in range(3):
            writer.write(frame, index / 25)
    info = probe(path)
    assert (info.height, info.width) == tuple(side + side % 2 for side in size)
    with VideoReader(path) as reader:
        assert np.abs(next(iter(reader)).rgb.astype(int) - 120).max() < 8


@pytest.mark.parametrize("offset", [0.0, 0.5])
def test_the_offset_between_sound_and_video_is_kept(clip, tmp_path, offset):
    """The tone starts 1 s after time 0 of the container; the video starts `offset` after it."""
    burst = np.concatenate((np.zeros(48000, np.float32), tone(0.5)))
    source = clip("source.mkv", count=40, start=offset, samples=burst)
    path = copy(source, tmp_path / "out.mkv")
    starts = []
    for file in (source, path):
        with AudioReader(file, start_seconds=probe(file).start_seconds) as reader:
            sound = np.concatenate(list(reader))
        starts.append(np.argmax(np.abs(sound) > 0.1) / 16000)
    assert starts[0] == pytest.approx(1 - offset, abs=0.025)  # AAC's block
    assert starts[1] == pytest.approx(starts[0], abs=0.002)


def test_sound_that_the_container_does_not_take_is_encoded(clip, tmp_path):
    source = clip("source.mkv", samples=tone(0.4), audio_codec="wavpack")
    path = copy(source, tmp_path / "out.mp4")
    assert probe(path).audio_codec == "aac"
    assert probe(path).has_audio
    with AudioReader(path, start_seconds=0) as reader:
        assert sum(map(len, reader)) / 16000 == pytest.approx(0.4, abs=0.1)


def test_a_video_without_sound_stays_silent(clip, tmp_path):
    assert not probe(copy(clip(), tmp_path / "out.mp4")).has_audio


def test_nothing_is_left_when_the_work_fails(tmp_path):
    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error), VideoWriter(tmp_path / "out.mp4", width=8, height=8) as writer:
            writer.write(np.zeros((8, 8, 3), np.uint8), 0.0)
            raise error
    assert not list(tmp_path.iterdir())


def test_an_older_file_stays_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "out.txt"
    path.write_text("old")
    with pytest.raises(ValueError, match="no"), atomic_output(path) as partial:
        partial.write_text("new")
        raise ValueError("no")
    assert path.read_text() == "old"
    with atomic_output(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert [file.name for file in tmp_path.iterdir()] == ["out.txt"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EFBIG])
def test_a_full_disk_is_said(tmp_path, code):
    with pytest.raises(OutputError, match="no space"), atomic_output(tmp_path / "out.txt"):
        raise OSError(code, "full")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_while_muxing(tmp_path, monkeypatch):
    writer = VideoWriter(tmp_path / "out.mp4", width=64, height=64)

    class Full:
        def __init__(self, container):
            self._container = container

        def __getattr__(self, name):
            return getattr(self._container, name)

        def mux(self, _packet):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OutputError, match="no space"), writer:
        writer._container = Full(writer._container)
        for index in range(100):
            writer.write(np.random.default_rng(index).integers(0, 255, (64, 64, 3), dtype=np.uint8), index / 25)
    assert not list(tmp_path.iterdir())


def test_places_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot write"), atomic_output(tmp_path / "file" / "out.txt"):
        pass
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(OutputError, match="is a folder"), VideoWriter(tmp_path / "folder.mp4", width=8, height=8):
        pass


def test_a_suffix_that_is_no_video(tmp_path):
    with pytest.raises(UsageError, match=r"\.xyz"), VideoWriter(tmp_path / "out.xyz", width=8, height=8):
        pass
    assert not list(tmp_path.iterdir())


def test_frames_of_another_size(tmp_path):
    with pytest.raises(UsageError, match="8x8x3"), VideoWriter(tmp_path / "out.mp4", width=8, height=8) as writer:
        writer.write(np.zeros((8, 9, 3), np.uint8), 0.0)


@pytest.mark.parametrize("name", ["n" * 244 + ".mp4", "ü" * 125 + ".mp4", "2024-08-20T13:28:35Z.mp4", "file:x.mp4"])
def test_all_legal_names_can_be_written(tmp_path, name):
    with VideoWriter(tmp_path / name, width=8, height=8) as writer:
        writer.write(np.zeros((8, 8, 3), np.uint8), 0.0)
    assert [file.name for file in tmp_path.iterdir()] == [name]
    assert probe(tmp_path / name).width == 8


def test_a_folder_may_have_a_long_name(tmp_path):
    with atomic_folder(tmp_path / ("n" * 255), str.isdigit, "a number") as folder:
        (folder / "000000.png").touch()
    assert [file.name for file in tmp_path.iterdir()] == ["n" * 255]
