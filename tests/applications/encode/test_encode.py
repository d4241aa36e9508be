"""Whole encodings: bits move to where regions ask for them, at the same rate, and the sound stays."""

import json
import sys

import av
import numpy as np
import pytest

from dtfsal.applications.encode.encoder import EncodeSettings, encode_file, parse_bit_rate
from dtfsal.applications.encode.regions import RegionTrack
from dtfsal.engines.errors import UnavailableError, UsageError
from dtfsal.runtime.cli import main
from dtfsal.runtime.media.video import VideoReader, probe

pytest.importorskip("scipy")

SIZE = (96, 160)
LEFT = RegionTrack(
    160,
    96,
    np.zeros(1),
    np.array([2], np.int16),
    np.array([[0, 0, 80, 96, -24], [0, 0, 160, 96, 24]], np.int16),
)


@pytest.fixture
def noise():
    """Coarse noise that moves: as hard on the left as on the right."""
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 256, (20, *(side // 4 for side in SIZE), 3), dtype=np.uint8)
    return blocks.repeat(4, axis=1).repeat(4, axis=2)


def psnr(path, frames):
    """(left, right) of the picture in RGB, over all frames."""
    with VideoReader(path) as reader:
        error = np.stack([frame.rgb.astype(float) for frame in reader]) - frames
    return [10 * np.log10(255**2 / (error[:, :, half] ** 2).mean()) for half in (slice(0, 80), slice(80, 160))]


@pytest.mark.parametrize("codec", ["libx264", pytest.param("libx265", marks=pytest.mark.slow)])
def test_regions_move_bits_at_the_same_rate(noise, make_toy_clip, tmp_path, codec):
    if codec not in av.codecs_available:
        pytest.skip(f"this FFmpeg lacks {codec}")
    clip = make_toy_clip(frames=noise, sound_seconds=0.8)
    chosen = EncodeSettings(codec, 700_000, "superfast")
    results = {}
    for name, track in (("plain", None), ("left", LEFT)):
        output = tmp_path / f"{name}.mkv"
        encoded = encode_file(clip, output, track, chosen)
        assert encoded.frames == 20
        results[name] = (*psnr(output, noise), encoded.bit_rate)
    left, right, rate = results["left"]
    plain_left, plain_right, plain_rate = results["plain"]
    assert abs(plain_left - plain_right) < 1
    assert left > plain_left + 1
    assert right < plain_right - 1
    assert rate == pytest.approx(plain_rate, rel=0.15)

    def sound(path):
        with av.open(str(path)) as container:
            return b"".join(bytes(packet) for packet in container.demux(container.streams.audio[0]))

    assert sound(tmp_path / "left.mkv") == sound(clip)


def test_times_colours_and_odd_sizes_are_those_of_the_writer(make_toy_clip, tmp_path):
    frames = np.full((5, 37, 65, 3), 128, np.uint8)
    clip = make_toy_clip(frames=frames)
    track = RegionTrack(65, 37, np.zeros(1), np.array([1], np.int16), np.array([[0, 0, 65, 37, -8]], np.int16))
    encode_file(clip, tmp_path / "out.mkv", track, EncodeSettings("libx264", 100_000, "ultrafast"))
    info = probe(tmp_path / "out.mkv")
    assert (info.width, info.height) == (66, 38)
    with VideoReader(tmp_path / "out.mkv") as reader:
        found = [(frame.time_seconds, frame.rgb.mean()) for frame in reader]
    np.testing.assert_allclose([time for time, _ in found], np.arange(5) / 25, atol=1e-3)
    np.testing.assert_allclose([level for _, level in found], 128, atol=3)


def test_a_rate_that_cannot_be_reached_is_said(make_toy_clip, tmp_path):
    """Grey frames need next to nothing."""
    encoded = encode_file(
        make_toy_clip(count=10), tmp_path / "out.mkv", None, EncodeSettings("libx264", 50_000_000, "ultrafast")
    )
    assert "50000 kbit/s" in encoded.notes[0]
    assert f"{encoded.bit_rate / 1000:.0f} kbit/s" in encoded.notes[0]


@pytest.mark.parametrize(("text", "rate"), [("800k", 800_000), ("2.5M", 2_500_000), ("64000", 64_000), ("1K", 1000)])
def test_bit_rates(text, rate):
    assert parse_bit_rate(text) == rate


@pytest.mark.parametrize("text", ["", "fast", "-1k", "1e6", "800 k b", "nan"])
def test_what_is_no_bit_rate(text):
    with pytest.raises(UsageError, match="800k"):
        parse_bit_rate(text)


def test_encoders_that_are_not_there(monkeypatch):
    with pytest.raises(UsageError, match="libx264"):
        EncodeSettings("h263", 1_000_000)
    with pytest.raises(UsageError, match="SvtAv1EncApp"):
        EncodeSettings("libsvtav1", 1_000_000)
    monkeypatch.setattr(av, "codecs_available", {"libx264"})
    with pytest.raises(UnavailableError, match="lacks the encoder libx265; it has libx264"):
        EncodeSettings("libx265", 1_000_000)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "name an output"),
        (["-o", "out.mp4"], "belong together"),
        (["--bitrate", "1M", "--roi-map", "a", "--roi-format", "svtav1"], "belong together"),
        (["--roi-map", "a.txt"], "belong together"),
        (["-o", "out.webm", "--bitrate", "1M"], ".mp4"),
        (["-o", "out.mp4", "--bitrate", "quick"], "800k"),
        (["-o", "out.mp4", "--bitrate", "10"], "between"),
        (["-o", "out.mp4", "--bitrate", "1M", "--codec", "av2"], "'av2'"),
        (["-o", "out.mp4", "--bitrate", "1M", "--preset", "placid"], "placid"),
        (["-o", "out.mp4", "--bitrate", "1M", "--strength", "99"], "strength"),
        (["-o", "clip.mkv", "--bitrate", "1M", "--force"], "is the video"),
    ],
)
def test_what_is_wrong_is_one_sentence(capsys, toy_visual_engine, make_toy_clip, tmp_path, monkeypatch, words, told):
    monkeypatch.chdir(tmp_path)
    make_toy_clip()
    assert main(["encode", "clip.mkv", "-e", str(toy_visual_engine), *words]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
    assert [file.name for file in tmp_path.iterdir()] == ["clip.mkv"]


def test_without_scipy_the_commands_own_extra_is_named(capsys, make_toy_clip, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy", None)
    words = ["encode", str(make_toy_clip()), "--regions", "centre", "-o", str(tmp_path / "out.mp4"), "--bitrate", "1M"]
    assert main(words) == 5
    assert "dtfsal[encode]" in capsys.readouterr().err


def test_the_command(capsys, noise, make_toy_engine, make_toy_clip, tmp_path):
    clip = make_toy_clip(frames=noise)
    words = ["encode", clip, "-e", make_toy_engine(audio=None), "--threads", "1", "-o", tmp_path / "out.mp4"]
    words += [
        "--bitrate",
        "500k",
        "--preset",
        "ultrafast",
        "--roi-map",
        tmp_path / "roi.txt",
        "--roi-format",
        "kvazaar",
    ]
    assert main([str(word) for word in [*words, "--json"]]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["frames"] == 20
    assert summary["bit_rate"]["asked"] == 500_000
    assert summary["bit_rate"]["reached"] == pytest.approx(500_000, rel=0.5)
    assert (tmp_path / "roi.txt").read_text().count("3 2\n") == 20
    assert probe(tmp_path / "out.mp4").width == 160


def test_what_cannot_be_written_leaves_nothing(noise, make_toy_clip, tmp_path, monkeypatch):
    import errno

    from dtfsal.engines.errors import OutputError
    from dtfsal.runtime.media import writer

    def full(*_):
        raise OSError(errno.ENOSPC, "no space")

    clip = make_toy_clip(frames=noise)
    monkeypatch.setattr(writer.VideoWriter, "_encode", full)
    with pytest.raises(OutputError, match="no space is left"):
        encode_file(clip, tmp_path / "out.mkv", None, EncodeSettings("libx264", 100_000))
    assert [file.name for file in tmp_path.iterdir()] == ["clip.mkv"]
