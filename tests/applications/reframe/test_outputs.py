"""What is written, read back by other means: FFmpeg's filters, PyAV, JSON."""

import json
import re
import subprocess
from fractions import Fraction

import av
import numpy as np
import pytest

from dtfsal.applications.reframe.geometry import Framing
from dtfsal.applications.reframe.outputs import cropped, filter_script, write_path
from dtfsal.applications.reframe.planner import CropPath, Shot

RNG = np.random.default_rng(0)
SOURCE = RNG.integers(0, 256, (8, 36, 64, 3), dtype=np.uint8)


def path_of(windows, aspect=1.0):
    windows = np.array(windows, np.float32)
    framing = Framing.of(aspect, 64, 36)
    times = np.arange(len(windows)) / 25
    return CropPath(framing, times, windows, np.full(len(windows), 0.5, np.float32), (Shot(0, False),))


MOVING = path_of([[x, 0, 36, 36] for x in (0, 0, 3, 7, 28, 28, 27, 1)])
CHANGING = path_of([[0, 0, 36, 36]] * 2 + [[0, 0, 64, 36]] * 3 + [[11, 5, 20, 20]] * 2 + [[27, 0, 36, 36]])


def filtered(script, frames):
    """Frames through the filter graph of a script, put together filter by filter."""
    graph = av.filter.Graph()
    last = graph.add_buffer(width=64, height=36, format="rgb24", time_base=Fraction(1, 25))
    for text in re.split(r",\n", script.strip()):
        name, _, options = text.partition("=")
        if name == "format" and options == "yuv420p":
            continue  # compared in RGB
        node = graph.add(name, options)
        last.link_to(node)
        last = node
    sink = graph.add("buffersink")
    last.link_to(sink)
    graph.configure()
    for index, rgb in enumerate(frames):
        frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
        frame.pts, frame.time_base = index, Fraction(1, 25)
        graph.push(frame)
        yield graph.pull().to_ndarray(format="rgb24")


def test_the_filter_script_crops_as_the_video_is_cropped():
    for rgb, window, ours in zip(filtered(filter_script(MOVING), SOURCE), MOVING.windows, SOURCE, strict=True):
        np.testing.assert_array_equal(rgb, cropped(ours, window, (36, 36)))


def test_the_filter_script_follows_a_window_that_changes_its_size():
    """Smooth pictures: the two scale by other kernels."""
    ramp = np.linspace(0, 255, 64)[None, :, None] * np.linspace(0.5, 1, 36)[:, None, None]
    frames = np.broadcast_to(ramp, (8, 36, 64, 3)).astype(np.uint8)
    found = list(filtered(filter_script(CHANGING), frames))
    for rgb, window, source in zip(found, CHANGING.windows, frames, strict=True):
        ours = cropped(source, window, (36, 36))
        assert rgb.shape == ours.shape
        inner = (rgb.sum(axis=(1, 2)) > 0) & (ours.sum(axis=(1, 2)) > 0)
        assert inner.sum() >= 18  # bars may differ by a row
        assert np.abs(rgb[inner].astype(int) - ours[inner]).max() <= 12


def test_ffmpeg_itself_reads_the_script(tmp_path):
    """The program's own parser; where a package carries it."""
    program = pytest.importorskip("imageio_ffmpeg").get_ffmpeg_exe()
    script = tmp_path / "crop.txt"
    script.write_text(filter_script(MOVING).replace("format=yuv420p", "format=rgb24"))
    done = subprocess.run(
        [program, "-v", "error", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "64x36", "-r", "25", "-i", "-",
         "-/filter:v", script, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"],
        input=SOURCE.tobytes(), capture_output=True, check=True,
    )  # fmt: skip
    found = np.frombuffer(done.stdout, np.uint8).reshape(8, 36, 36, 3)
    for rgb, window, source in zip(found, MOVING.windows, SOURCE, strict=True):
        np.testing.assert_array_equal(rgb, cropped(source, window, (36, 36)))


def test_a_window_of_another_shape_stands_between_black_bars():
    whole = cropped(np.full((36, 64, 3), 200, np.uint8), [0, 0, 64, 36], (36, 36))
    assert (whole[:7] == 0).all()
    assert (whole[-7:] == 0).all()
    assert (whole[9:27] == 200).all()


def test_the_path_as_json(tmp_path):
    write_path(MOVING, tmp_path / "path.json")
    document = json.loads((tmp_path / "path.json").read_text())
    assert document["format"] == "dtfsal.crop-path/1"
    assert document["windows"] == MOVING.windows.tolist()
    np.testing.assert_allclose(document["time_seconds"], MOVING.times)
    assert document["output"] == {"width": 36, "height": 36}
