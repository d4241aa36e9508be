"""`dtfsal live`: sources, the page, and what is said when there is nothing to see."""

import http.client
import io
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request

import numpy as np
import pytest
from PIL import Image

from dtfsal.runtime import SaliencyPredictor, StreamPredictor, UnavailableError
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
    assert summary["frames"] == 20
    assert summary["sound"] is True
    assert summary["maps"] == len(maps) == 20 - summary["dropped_maps"]
    assert [line["index"] for line in maps] == sorted({line["index"] for line in maps})
    assert maps[-1]["index"] == 19
    with SaliencyPredictor(toy_engine) as predictor, predictor.predict_file(clip) as prediction:
        wanted = {frame.index: frame.saliency_map.max() for frame in prediction}
    for line in maps:
        assert line["peak_value"] == pytest.approx(wanted[line["index"]], abs=2e-4)  # sound in s16 blocks or whole


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
