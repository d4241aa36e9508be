"""`dtfsal live`: sources, the page, and what is said when there is nothing to see."""

import http.client
import io
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import urllib.error
import urllib.request

import numpy as np
import pytest
from PIL import Image

from dtfsal.engines import ClipSpec
from dtfsal.runtime import SaliencyPredictor, StreamCounts, StreamPredictor, UnavailableError
from dtfsal.runtime.cli import main
from dtfsal.runtime.live.capture import LiveSource
from dtfsal.runtime.live.page import MjpegServer

PROGRAM = [sys.executable, "-c", "from dtfsal.runtime.cli import main; raise SystemExit(main())"]


def run(capsys, *argv):
    code = main(["live", *map(str, argv)])
    return code, capsys.readouterr()


def test_a_file_runs_at_its_own_pace(capsys, toy_engine, make_toy_clip):
    clip = make_toy_clip(count=20, sound_seconds=0.8)
    code, printed = run(capsys, clip, "-e", toy_engine, "--no-page", "--json", "--threads", 1)
    assert code == 0
    *maps, last = [json.loads(line) for line in printed.out.splitlines()]
    summary = last["summary"]
    assert (summary["frames_per_second"], summary["stride"]) == (25, 1)  # the toy's own rate
    assert summary["frames"] == 20
    assert summary["sound"] is True
    assert summary["maps"] == len(maps) == 20 - summary["dropped_maps"]
    assert [line["index"] for line in maps] == sorted({line["index"] for line in maps})
    assert maps[-1]["index"] == 19
    with SaliencyPredictor(toy_engine) as predictor, predictor.predict_file(clip) as prediction:
        wanted = {frame.index: frame.saliency_map.max() for frame in prediction}
    for line in maps:
        assert line["peak_value"] == pytest.approx(wanted[line["index"]], abs=2e-4)  # sound in s16 blocks or whole


@pytest.mark.parametrize(("options", "stride"), [([], 2), (["--stride", 3], 3)])
def test_the_stride_and_the_rate_are_told(capsys, make_toy_engine, make_toy_clip, options, stride):
    """By itself, the step between a model's own frames: every second of 25 for one of 12.5."""
    engine = make_toy_engine(ClipSpec(frames=4, height=24, width=40, frame_rate_hz=12.5))
    code, printed = run(capsys, make_toy_clip(count=6), "-e", engine, "--no-page", *options)
    assert code == 0
    assert re.search(rf"^  frames per second +25.0\n  stride +{stride}\n", printed.out, re.MULTILINE)


def test_a_source_gives_its_frames_and_sound(toy_engine, make_toy_clip):
    seen = []
    source = LiveSource(
        str(make_toy_clip(count=6, sound_seconds=0.2)), lambda rgb, index, t: seen.append((rgb, index, t))
    )
    assert (source.frame_rate_hz, source.has_sound) == (25.0, True)
    with StreamPredictor(toy_engine, frame_rate_hz=25, max_ready=100) as stream:
        source.start(stream)
        found = []
        while not stream.finished:
            if (frame := stream.poll(0.05)) is not None:
                found.append(frame.index)
        source.stop()
        source.stop()  # twice is once
    assert found == list(range(6))
    assert [index for _, index, _ in seen] == list(range(6))
    assert [int(rgb[0, 0, 0]) for rgb, _, _ in seen] == [10 + 7 * index for index in range(6)]
    assert [time for _, _, time in seen] == pytest.approx([index / 25 for index in range(6)], abs=1e-3)


def test_time_is_up(capsys, toy_visual_engine, make_toy_clip):
    clip = make_toy_clip(count=200)
    code, printed = run(capsys, clip, "-e", toy_visual_engine, "--no-page", "--seconds", 0.3)
    assert code == 0
    assert "frames" in printed.out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["no-such.mp4"], 3, "there is no file"),
        (["97"], 3, "the camera 97 cannot be opened"),
        (["rtsp://127.0.0.1:1/none"], 3, "the stream rtsp://127.0.0.1:1/none cannot be opened"),
        (["x.mp4", "--serve", "nowhere"], 2, "HOST:PORT"),
        (["x.mp4", "--serve", "70000"], 2, "HOST:PORT"),
        (["x.mp4", "--serve", "9" * 5000], 2, "HOST:PORT"),
        (["x.mp4", "--serve", "::1:80"], 2, "in brackets"),
        (["x.mp4", "--serve", "0.0.0.0:0", "-q"], 2, "give one by --token"),
    ],
)
def test_nothing_to_see(capsys, toy_visual_engine, arguments, code, said):
    found, printed = run(capsys, *arguments, "-e", toy_visual_engine)
    assert found == code
    assert printed.err.startswith("dtfsal: error: ")
    assert printed.err.count("\n") == 1
    assert said in printed.err


def test_ctrl_c_is_the_way_to_stop(toy_visual_engine, make_toy_clip):
    command = [*PROGRAM, "live", str(make_toy_clip(count=500)), "-e", str(toy_visual_engine), "--serve", "0", "--json"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as live:
        lines = [live.stdout.readline() for _ in range(3)]
        live.send_signal(signal.SIGINT)
        rest, errors = live.communicate(timeout=60)
    assert live.returncode == 0, errors
    assert all(json.loads(line)["peak_value"] > 0 for line in lines)
    assert "summary" in json.loads(rest.splitlines()[-1])
    assert "Traceback" not in errors


def test_the_page_shows_the_newest_picture():
    with MjpegServer() as page:
        index = urllib.request.urlopen(page.address, timeout=10).read().decode()
        assert "stream.mjpg" in index
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(page.address + "other", timeout=10)
        host, port = page.address.removeprefix("http://").rstrip("/").split(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=10)
        page.show(np.full((16, 24, 3), 200, np.uint8), {"maps": 1})
        connection.request("GET", "/stream.mjpg")
        answer = connection.getresponse()
        assert answer.getheader("Content-Type").startswith("multipart/x-mixed-replace")
        for level in (200, 90):
            if level == 90:
                page.show(np.full((16, 24, 3), 90, np.uint8), {"maps": 2})
            assert answer.readline() == b"--frame\r\n"
            assert answer.readline() == b"Content-Type: image/jpeg\r\n"
            length = int(answer.readline().split(b":")[1])
            assert answer.readline() == b"\r\n"
            shown = np.asarray(Image.open(io.BytesIO(answer.read(length))))
            assert shown.shape == (16, 24, 3)
            assert abs(shown.astype(int) - level).max() <= 3  # JPEG
            assert answer.readline() == b"\r\n"
        status = json.load(urllib.request.urlopen(page.address + "status.json", timeout=10))
        assert status == {"maps": 2}
        connection.close()


def test_a_port_that_is_taken():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UnavailableError, match="name another port"):
            MjpegServer(port=taken.getsockname()[1])


class Taken:
    """A stream that takes all and predicts nothing."""

    def __init__(self):
        self.frames, self.sound, self.done = [], [], threading.Event()

    @property
    def counts(self):
        return StreamCounts(frames=len(self.frames))

    def push_frame(self, rgb, seconds):
        self.frames.append((rgb, seconds))
        return True

    def push_audio(self, samples, seconds, rate):
        self.sound.append((samples, seconds, rate))
        return True

    def finish(self):
        self.done.set()


def taken_from(path, **options):
    source, stream = LiveSource(str(path), **options), Taken()
    source.start(stream)
    assert stream.done.wait(60)
    source.stop()
    return stream, source


def loud_from(stream):
    """When the sound first exceeds a level."""
    return next(
        seconds + np.argmax(np.abs(samples[:, 0]) > 0.2) / rate
        for samples, seconds, rate in stream.sound
        if np.abs(samples[:, 0]).max() > 0.2
    )


def test_an_elementary_stream_runs_at_its_nominal_rate(clip):
    stream, source = taken_from(clip("clip.h264", count=20))
    assert source.error is None
    assert [seconds for _, seconds in stream.frames] == pytest.approx(np.arange(20) / 25)


@pytest.mark.parametrize("start", [0.0, 1.8e9])
def test_a_streams_zero_is_its_first_frame(clip, start):
    late = np.concatenate((np.zeros(9600, np.float32), 0.5 * np.ones(9600, np.float32)))
    path = clip("clip.mkv", count=10, start=start, samples=late, audio_codec="pcm_s16le", audio_start=start)
    stream, source = taken_from(path)
    assert source.error is None
    assert [seconds for _, seconds in stream.frames] == pytest.approx(np.arange(10) / 25, abs=1.1e-3)
    assert loud_from(stream) == pytest.approx(0.2, abs=2e-3)


def test_a_clock_that_restarts_refuses_no_frame(clip, tmp_path):
    part = clip("part.ts", count=10, samples=np.zeros(19200, np.float32)).read_bytes()
    path = tmp_path / "joined.ts"
    path.write_bytes(part + part)
    stream, source = taken_from(path)
    assert source.error is None
    assert source.clock_jumps == 1
    assert [seconds for _, seconds in stream.frames] == pytest.approx(np.arange(20) / 25)


def test_a_pipe_is_read_as_it_comes(clip, tmp_path):
    """Its writer has not finished when the first frames are taken."""
    content = clip("clip.ts", count=50, options={"g": "5"}, size=(240, 320)).read_bytes()
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    seen = threading.Event()

    def write():
        with fifo.open("wb") as pipe:
            pipe.write(content)
            pipe.flush()
            seen.wait(60)
            pipe.write(content)

    threading.Thread(target=write, daemon=True).start()
    source, stream = LiveSource(str(fifo), lambda *_: seen.set()), Taken()
    source.start(stream)
    assert stream.done.wait(60)
    source.stop()
    assert seen.is_set()
    assert source.error is None
    assert len(stream.frames) == 100


def test_a_pipe_without_a_writer_is_said(capsys, toy_visual_engine, tmp_path, monkeypatch):
    monkeypatch.setattr("dtfsal.runtime.media.spool.OPEN_SECONDS", 0.2)
    os.mkfifo(tmp_path / "fifo")
    code, printed = run(capsys, tmp_path / "fifo", "-e", toy_visual_engine, "--no-page")
    assert code == 3
    assert "nothing came through" in printed.err


def test_b_frames_in_avi(clip):
    stream, _ = taken_from(clip("clip.avi", count=20, options={"bf": "3"}))
    assert [seconds for _, seconds in stream.frames] == pytest.approx(np.arange(20) / 25)


def test_pictures_are_upright(clip):
    """A quarter turn clockwise, as phones store it: the red square of the top left comes to the top right."""
    path = clip(count=3, size=(48, 64))
    content = bytearray(path.read_bytes())
    identity = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 2**30)
    place = content.index(identity, content.index(b"tkhd"))
    content[place : place + 36] = struct.pack(">9i", 0, 65536, 0, -65536, 0, 0, 0, 0, 2**30)
    path.write_bytes(content)
    stream, _ = taken_from(path)
    rgb, _ = stream.frames[0]
    assert rgb.shape == (64, 48, 3)
    assert rgb[3, -4, 0] > 200
    assert rgb[3, 3, 0] < 100


def test_an_error_in_the_thread_is_an_error_of_the_command(capsys, toy_visual_engine, make_toy_clip, monkeypatch):
    def fail(*_):
        raise ZeroDivisionError("nobody expects this")

    monkeypatch.setattr("dtfsal.runtime.live.capture.to_rgb", fail)
    code, printed = run(capsys, make_toy_clip(), "-e", toy_visual_engine, "--no-page")
    assert code == 3
    assert "ZeroDivisionError: nobody expects this" in printed.err
    assert printed.err.count("\n") == 1


def test_a_stream_whose_frames_are_all_refused_is_an_error(capsys, toy_visual_engine, make_toy_clip, monkeypatch):
    monkeypatch.setattr(StreamPredictor, "push_frame", lambda *_: False)
    code, printed = run(capsys, make_toy_clip(), "-e", toy_visual_engine, "--no-page")
    assert code == 3
    assert "gave no frame that could be predicted" in printed.err


def test_the_page_shows_pixels_that_are_not_square_as_players_do(clip, toy_visual_engine, capsys, monkeypatch):
    source = clip("wide.mp4", count=4, pixel_aspect=(4, 3))  # 64x48
    shown = []
    monkeypatch.setattr(MjpegServer, "show", lambda _self, rgb, _status: shown.append(rgb.shape))
    assert run(capsys, source, "-e", toy_visual_engine, "--serve", "127.0.0.1:0", "--quiet")[0] == 0
    assert shown
    assert set(shown) == {(48, 85, 3)}


@pytest.mark.parametrize("layout", ["mono", "5.1", "7.1"])
def test_sound_of_many_channels_is_heard(clip, layout):
    """PyAV gives the planes of eight channels a ninth, somewhere in memory: the process ended."""
    samples = np.full(9600, 0.25, np.float32)
    path = clip("many.mkv", count=5, samples=samples, layout=layout, audio_codec="flac")
    stream, source = taken_from(path)
    assert source.error is None
    pieces = [piece for piece, _, _ in stream.sound]
    assert {piece.shape[1] for piece in pieces} == {{"mono": 1, "5.1": 6, "7.1": 8}[layout]}
    assert sum(map(len, pieces)) == 9600
    assert np.concatenate(pieces).max() == pytest.approx(0.25, abs=0.1)


def test_sound_that_changes_its_channels_is_heard_on(clip, tmp_path):
    """As broadcasts do between programmes."""
    samples = np.full(19200, 0.25, np.float32)
    parts = [clip(f"{layout}.ts", samples=samples, layout=layout, audio_codec="ac3") for layout in ("stereo", "5.1")]
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    stream, source = taken_from(path)
    assert source.error is None
    assert len(stream.frames) == 20
    assert {piece.shape[1] for piece, _, _ in stream.sound} == {2, 6}


def test_sound_that_is_no_number_does_not_end_it(clip, toy_engine, capsys):
    samples = np.full(9600, 0.25, np.float32)
    samples[2000:2100], samples[3000] = np.nan, np.inf
    path = clip("clip.mkv", count=5, samples=samples, audio_codec="pcm_f32le")
    assert run(capsys, path, "-e", toy_engine, "--no-page")[0] == 0
