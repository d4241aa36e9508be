"""Media as they really are: each kind that cameras, recorders, phones and editors make, from file to overlay.

Each clip shows a white flash at 1.0 s and sounds a 1 kHz beep at 1.0 s over a faint tone. A red field marks the top
left and a green one the top right of what was filmed. So orientation, time and sync can be read off any output. Outputs
are read by PyAV alone, by their timestamps, as a player reads them.
"""

import csv
import dataclasses
import itertools
import json
import shutil
import struct
import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from dtfsal.runtime.cli import main
from dtfsal.runtime.media.video import VideoReader

HEIGHT, WIDTH, RATE = 108, 192, 25
TIME_BASE = Fraction(1, 90000)
FRAME = np.arange(60) / RATE  # times of 2.4 s
RED, GREEN = (230, 30, 30), (30, 230, 30)


def filmed(seconds, size):
    """(H, W, 3): what the camera saw."""
    height, width = size
    if 0.99 <= seconds < 1.07:
        return np.full((height, width, 3), 255, np.uint8)
    rgb = np.full((height, width, 3), 90, np.uint8)
    rgb[:, int(seconds * 60) % width] = 140
    rgb[: height // 3, : width // 4], rgb[: height // 3, -(width // 4) :] = RED, GREEN
    return rgb


def heard(seconds, rate):
    """(n,) float32."""
    times = np.arange(round(seconds * rate)) / rate
    beep = 0.6 * np.sin(2 * np.pi * 1000 * times) * ((times >= 1.0) & (times < 1.1))
    return (beep + 0.01 * np.sin(2 * np.pi * 220 * times)).astype(np.float32)


def encoded(stream, frames):
    for frame in [*frames, None]:
        yield from stream.encode(frame)


def pictures(seconds, size, rate, start, pixel_format, colours):
    for index in range(round(seconds * rate)):
        frame = av.VideoFrame.from_ndarray(filmed(index / rate, size), format="rgb24")
        frame = frame.reformat(format=pixel_format, dst_colorspace=colours)
        frame.time_base = TIME_BASE
        frame.pts = round((index / rate + start) / TIME_BASE)
        yield frame


def sounds(stream, samples, rate, start, keep=lambda _seconds: True):
    """Pieces of 1024 samples; those that `keep` turns down are missing from the line of time."""
    layout = stream.codec_context.layout.name
    for first in range(0, len(samples), 1024):
        if keep(first / rate):
            piece = np.ascontiguousarray(samples[None, first : first + 1024])
            frame = av.AudioFrame.from_ndarray(piece, format="fltp", layout="mono")
            frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
            resampler = av.AudioResampler(format=stream.codec_context.format, layout=layout, rate=rate)
            for made in [*resampler.resample(frame), *resampler.resample(None)]:
                made.time_base, made.pts = Fraction(1, rate), first + round(start * rate)
                yield made


def shoot(
    path,
    *,
    seconds=2.4,
    size=(HEIGHT, WIDTH),
    fps=RATE,
    start=0.0,
    codec="libx264",
    pixel_format="yuv420p",
    options=None,
    container_options=None,
    sound="aac",
    rate=48000,
    keep=lambda _seconds: True,
    colours=5,
    adjust=lambda _container, _video: None,
    extra=lambda _container: {},
):
    """A clip; `extra` adds streams before its own and gives their frames."""
    with av.open(f"file:{path}", "w", options=container_options or {}) as container:
        others = extra(container)
        video = container.add_stream(codec, rate=fps, options=options or {})
        video.height, video.width, video.pix_fmt = *size, pixel_format
        # AVI counts frames.
        video.codec_context.time_base = Fraction(1, fps) if path.suffix == ".avi" else TIME_BASE
        adjust(container, video)
        audio = container.add_stream(sound, rate=rate, layout="mono") if sound else None
        for stream, frames in others.items():
            for packet in encoded(stream, frames):
                container.mux(packet)
        for packet in encoded(video, pictures(seconds, size, fps, start, pixel_format, colours)):
            container.mux(packet)
        if audio is not None:
            for packet in encoded(audio, sounds(audio, heard(seconds, rate), rate, start, keep)):
                container.mux(packet)
    return path


def joined(path, **second):
    """Two transport streams, one behind the other."""
    parts = [shoot(path.with_name("1.ts")), shoot(path.with_name("2.ts"), **second)]
    path.write_bytes(b"".join(part.read_bytes() for part in parts))


def two_programmes(path):
    """A transport stream with two programmes; the first has a smaller picture, and no beep."""
    packets = []
    for number, options in ((1, {"size": (54, 96), "keep": lambda seconds: seconds < 0.5}), (2, {})):
        pids = {"mpegts_start_pid": 256 * number, "mpegts_pmt_start_pid": 4095 + number, "mpegts_service_id": number}
        part = shoot(path.with_name(f"{number}.ts"), container_options={k: str(v) for k, v in pids.items()}, **options)
        content = part.read_bytes()
        packets.append([content[place : place + 188] for place in range(0, len(content), 188)])
    table = b"\x00\xb0\x11\x00\x01\xc1\x00\x00" + struct.pack(">4H", 1, 0xE000 + 4096, 2, 0xE000 + 4097)
    crc = 0xFFFFFFFF
    for byte in table:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ (0x04C11DB7 if crc >> 31 else 0)) & 0xFFFFFFFF
    section = b"\x47\x40\x00\x10\x00" + table + struct.pack(">I", crc)
    both = [packet for pair in itertools.zip_longest(*packets) for packet in pair if packet is not None]
    ours = [packet for packet in both if (packet[1] & 0x1F) << 8 | packet[2] not in (0, 17)]
    path.write_bytes(section.ljust(188, b"\xff") + b"".join(ours))


def with_matrix(path, a, b, c, d):
    """A phone's display matrix, written into the track header of the picture."""
    content = bytearray(shoot(path).read_bytes())
    identity = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 2**30)
    place = content.index(identity, content.index(b"tkhd"))
    turned = (a * 65536, b * 65536, 0, c * 65536, d * 65536, 0, 0, 0, 2**30)
    content[place : place + 36] = struct.pack(">9i", *turned)
    path.write_bytes(content)


def with_edit_list(path):
    """An editor's cut: the first 0.4 s are stored and not shown. (The sound's list is left as it is: it has none.)"""
    content = bytearray(shoot(path, options={"bf": "0", "g": "10"}, sound=None).read_bytes())
    place = content.index(b"elst") + 12
    with av.open(str(path)) as container:
        per_second = container.streams.video[0].time_base.denominator
    content[place : place + 8] = struct.pack(">Ii", 2000, round(0.4 * per_second))
    path.write_bytes(content)


def two_sounds(path):
    """The first track is silent; the second is marked as default."""
    shoot(path.with_name("one.mkv"))
    with av.open(str(path.with_name("one.mkv"))) as whole, av.open(str(path), "w") as container:
        first = container.add_stream("aac", rate=48000, layout="mono")
        first.disposition = av.stream.Disposition(0)
        frames = sounds(first, np.zeros(115200, np.float32), 48000, 0.0)
        pairs = {stream: container.add_stream_from_template(stream) for stream in whole.streams}
        pairs[whole.streams.audio[0]].disposition = av.stream.Disposition.default
        for packet in encoded(first, frames):
            container.mux(packet)
        for packet in whole.demux():
            if packet.size:
                packet.stream = pairs[packet.stream]
                container.mux(packet)


def thumbnail_first(path):
    """A small JPEG as a track of its own, not marked as a picture."""

    def thumbnail(container):
        stream = container.add_stream("mjpeg", rate=RATE)
        stream.height, stream.width, stream.pix_fmt = 54, 96, "yuvj420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((54, 96, 3), np.uint8), format="rgb24")
        frame.pts, frame.time_base = 0, Fraction(1, RATE)
        return {stream: [frame.reformat(format="yuvj420p")]}

    shoot(path, extra=thumbnail)


def pixel_aspect(_container, video):
    video.codec_context.sample_aspect_ratio = Fraction(4, 3)


def tagged(matrix, primaries, transfer):
    def adjust(_container, video):
        context = video.codec_context
        context.colorspace, context.color_primaries, context.color_trc, context.color_range = (
            matrix,
            primaries,
            transfer,
            1,
        )

    return adjust


@dataclasses.dataclass(frozen=True)
class Case:
    """A kind of file, and what is right for it."""

    name: str
    make: Callable[[Path], object]
    times: np.ndarray = dataclasses.field(default_factory=lambda: FRAME)
    size: tuple[int, int] = (HEIGHT, WIDTH)
    flashes: tuple[float, ...] = (1.0,)
    corners: tuple[tuple[int, int, int], ...] = (RED, GREEN)  # top left and top right, as displayed
    sound: bool = True
    note: str = ""
    info: dict = dataclasses.field(default_factory=dict)
    jitter: float = 0.001
    sync: float = 0.02

    def __str__(self):
        return self.name


BOTTOM = (90, 90, 90)
TWICE = np.arange(120) / RATE
CASES = [
    Case("plain.mp4", shoot, info={"clock_jumps": None}),
    Case("plain.ts", shoot, info={"clock_jumps": 0}),
    Case(
        "clock restarts.ts",
        joined,
        TWICE,
        flashes=(1.0, 3.4),
        note="restarts or jumps once",
        info={"clock_jumps": 1},
    ),
    Case("clock jumps an hour.ts", lambda p: joined(p, start=3602.4), TWICE, flashes=(1.0, 3.4), note="jumps once"),
    Case("clock jumps back.ts", lambda p: joined(p, start=0.3), TWICE, flashes=(1.0, 3.4), note="jumps once"),
    Case(
        "another size after the join.ts",
        lambda p: joined(p, size=(54, 96)),
        TWICE,
        flashes=(1.0, 3.4),
        note="jumps once",
    ),
    Case("b-frames in avi.avi", lambda p: shoot(p, options={"bf": "3"}, sound="pcm_s16le", rate=8000)),
    Case(
        "older b-frames in avi.avi",
        lambda p: shoot(p, codec="mpeg4", options={"bf": "2"}, sound="libmp3lame"),
        sync=0.03,  # AVI does not say that MP3 begins with 1105 samples of the encoder's own
    ),
    Case("no timestamps.h264", lambda p: shoot(p, sound=None), sound=False),
    Case("unix seconds.mkv", lambda p: shoot(p, start=1.8e9), info={"start_seconds": 1.8e9}),
    Case(
        "begins before zero.mkv",  # Matroska does not hold such times of pictures
        lambda p: shoot(p, start=-0.5, container_options={"avoid_negative_ts": "disabled"}),
    ),
    Case("mirrored.mp4", lambda p: with_matrix(p, -1, 0, 0, 1), corners=(GREEN, RED), info={"mirrored": True}),
    Case("upside down.mp4", lambda p: with_matrix(p, -1, 0, 0, -1), corners=(BOTTOM, BOTTOM)),
    Case("portrait.mp4", lambda p: with_matrix(p, 0, 1, -1, 0), size=(WIDTH, HEIGHT), corners=(BOTTOM, RED)),
    Case("wide pixels.mp4", lambda p: shoot(p, adjust=pixel_aspect), info={"pixel_aspect": [4, 3]}),
    Case("bt709.mp4", lambda p: shoot(p, colours=1, adjust=tagged(1, 1, 1))),
    Case("hdr.mkv", lambda p: shoot(p, colours=9, adjust=tagged(9, 9, 16)), note="HDR (PQ)"),
    Case("ycgco.mp4", lambda p: shoot(p, adjust=tagged(8, 1, 1)), corners=()),
    Case("second sound is default.mkv", two_sounds, info={"audio_stream": 2}),
    Case("second programme has the larger picture.ts", two_programmes, info={"video_stream": 2, "audio_stream": 3}),
    Case("thumbnail first.mp4", thumbnail_first, info={"video_stream": 1}),
    Case("gap in pcm.mkv", lambda p: shoot(p, sound="pcm_s16le", keep=lambda s: not 0.4 <= s < 0.9)),
    Case("opus.mkv", lambda p: shoot(p, sound="libopus")),
    Case("flac.mkv", lambda p: shoot(p, sound="flac")),
    Case(
        "old camera.avi",
        lambda p: shoot(p, codec="mjpeg", pixel_format="yuvj420p", sound="pcm_u8", rate=11024),
    ),
    Case("24 bits.mov", lambda p: shoot(p, sound="pcm_s24le")),
    Case("cut by an edit list.mp4", with_edit_list, FRAME[:50], flashes=(0.6,), sound=False),
    Case("2024-08-20T13:28:35Z.mp4", shoot),
    Case("file:x.mp4", shoot),
    Case("n" * 240 + ".mp4", shoot),
]


EVERYWHERE = {"clock restarts.ts", "gap in pcm.mkv", "opus.mkv", "wide pixels.mp4", "24 bits.mov"}


def played(path):
    """Times and mean levels of the pictures, and where the sound is loud, from the first picture on; by PyAV alone."""
    with av.open(f"file:{path}") as container:
        frames = list(container.decode(video=0))
        zero = frames[0].pts * frames[0].time_base
        times = [float(frame.pts * frame.time_base - zero) for frame in frames]
        pixels = [frame.to_ndarray(format="rgb24") for frame in frames]
    loud = []
    with av.open(f"file:{path}") as container:
        for frame in container.decode(audio=0) if container.streams.audio else ():
            samples = np.abs(frame.to_ndarray().astype(np.float64).reshape(-1, frame.layout.nb_channels)[:, 0])
            samples /= {"s16": 2**15, "s32": 2**31}.get(frame.format.name.rstrip("p"), 1)
            start = float(frame.pts * frame.time_base - zero)
            loud += (start + np.flatnonzero(samples > 0.2) / frame.sample_rate).tolist()
    return times, pixels, np.array(loud)


def starts(times, apart=0.2):
    """The first of each run of times."""
    times = np.asarray(times)
    return times[np.diff(times, prepend=-np.inf) > apart].tolist()


# Where containers differ most, each is tried.
PAIRS = [
    (case, suffix) for case in CASES for suffix in (("mp4", "mkv", "mov") if case.name in EVERYWHERE else ("mp4",))
]


@pytest.mark.parametrize(("case", "suffix"), PAIRS, ids=str)
def test_from_file_to_overlay(case, suffix, tmp_path, toy_engine, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source, table, video = Path(case.name), Path("frames.csv"), Path(f"out:1.{suffix}")
    case.make(source)
    assert main(["info", case.name, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["height"], told["width"]) == case.size
    assert told["has_audio"] == case.sound
    assert {name: told[name] for name in case.info} == case.info
    assert sum(stream["chosen"] for stream in told["streams"]) == 1 + case.sound
    outputs = ["-o", str(table), "-o", str(video), "--view", "overlay"]
    assert main(["predict", case.name, "-e", str(toy_engine), *outputs, "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["frames"] == len(case.times)
    assert any(case.note in note for note in summary["notes"]) if case.note else summary["notes"] == []
    with table.open() as stream:
        times = [float(row["time_seconds"]) for row in csv.DictReader(stream)]
    np.testing.assert_allclose(times, case.times, atol=case.jitter)
    shown, pixels, loud = played(video)
    np.testing.assert_allclose(shown, case.times, atol=0.002)
    assert pixels[0].shape[:2] == case.size
    means = np.array([rgb.mean() for rgb in pixels])
    light = np.array(shown)[means > (means.min() + means.max()) / 2]
    np.testing.assert_allclose(starts(light), case.flashes, atol=0.002)
    if case.sound:
        np.testing.assert_allclose(starts(loud), case.flashes, atol=case.sync)
    with VideoReader(case.name) as reader:
        first = next(iter(reader)).rgb
    for corner, x in zip(case.corners, (5, -6), strict=False):
        assert np.abs(first[5, x].astype(int) - corner).max() < 12


def test_info_shows_how_often_the_clock_jumps(tmp_path, capsys):
    joined(tmp_path / "x.ts")
    assert main(["info", str(tmp_path / "x.ts")]) == 0
    assert "restarts or jumps once; picture and sound go on there without a gap" in capsys.readouterr().out


def test_both_sounds_can_be_chosen(tmp_path, toy_engine, capsys):
    two_sounds(tmp_path / "two.mkv")
    for number, beeps in ((0, []), (2, [1.0])):
        out = tmp_path / f"{number}.mp4"
        command = ["predict", str(tmp_path / "two.mkv"), "-e", str(toy_engine), "-o", str(out), "-q"]
        assert main([*command, "--audio-stream", str(number)]) == 0
        np.testing.assert_allclose(starts(played(out)[2]), beeps, atol=0.02)
    assert main([*command[:-2], str(tmp_path / "3.mp4"), "--audio-stream", "1"]) == 2
    assert "has no audio stream 1" in capsys.readouterr().err


def test_both_pictures_can_be_chosen(tmp_path, capsys):
    thumbnail_first(tmp_path / "two.mp4")
    for number, width in ((0, 96), (1, WIDTH)):
        assert main(["info", str(tmp_path / "two.mp4"), "--json", "--video-stream", str(number)]) == 0
        assert json.loads(capsys.readouterr().out)["width"] == width
    assert main(["info", str(tmp_path / "two.mp4"), "--video-stream", "2"]) == 2
    assert "it has 0 and 1" in capsys.readouterr().err


def test_a_name_that_looks_like_a_protocol_is_a_name(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shoot(Path("x.mp4"), seconds=0.4, sound=None)
    assert main(["info", "file:x.mp4"]) == 3
    assert "there is no file file:x.mp4" in capsys.readouterr().err
    shoot(Path("file:x.mp4"), seconds=0.4, size=(64, 64), sound=None)
    assert main(["info", "./file:x.mp4", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["width"] == 64


def test_a_list_of_other_files_is_said_to_be_one(tmp_path, capsys):
    (tmp_path / "x.mp4").write_text("ffconcat version 1.0\nfile /etc/passwd\n")
    assert main(["info", str(tmp_path / "x.mp4")]) == 3
    assert "x.mp4 is a list of other files, and FFmpeg does not open those" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["info", "live"])
def test_an_animated_webp_is_said(tmp_path, capsys, toy_engine, command):
    first, *others = [Image.fromarray(filmed(seconds, (HEIGHT, WIDTH))) for seconds in (0, 0.5, 1)]
    first.save(tmp_path / "animated.webp", save_all=True, append_images=others, duration=40)
    options = ["-e", str(toy_engine), "--no-page"] if command == "live" else []
    assert main([command, str(tmp_path / "animated.webp"), *options]) == 3
    error = capsys.readouterr().err
    assert "animated WebP, which FFmpeg's decoder cannot read" in error
    assert "cut short" not in error


def test_an_edit_list_does_not_sound_like_damage(tmp_path, toy_engine, capsys):
    with_edit_list(tmp_path / "cut.mp4")
    assert main(["predict", str(tmp_path / "cut.mp4"), "-e", str(toy_engine), "-o", str(tmp_path / "x.csv")]) == 0
    out = capsys.readouterr().out
    assert "50; the file stores 10 more and says not to show them (an edit list)" in out
    assert "damaged" not in out


@pytest.mark.parametrize("case", CASES, ids=str)
def test_frames_are_those_that_ffmpeg_shows(case, tmp_path, monkeypatch):
    if shutil.which("ffmpeg") is None:
        pytest.skip("needs the program ffmpeg")
    if case.name == "ycgco.mp4":
        pytest.skip("the program needs zimg for this matrix")
    monkeypatch.chdir(tmp_path)
    case.make(Path(case.name))
    with VideoReader(case.name) as reader:
        ours = [frame.rgb for frame in reader]
        number = reader.info.video_stream
    height, width = case.size
    command = ["ffmpeg", "-v", "fatal", "-i", f"file:{case.name}", "-map", f"0:{number}", "-fps_mode", "passthrough"]
    raw = subprocess.run(
        [*command, "-s", f"{width}x{height}", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"],
        capture_output=True,
        check=True,
    ).stdout
    theirs = np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3)
    assert len(theirs) == len(ours)
    for a, b in zip(ours, theirs, strict=True):
        # Two versions' conversions and scalers; a turn or a mirror would be 30 off.
        assert np.abs(a.astype(int) - b).mean() < 4
