"""Nothing phones home: programs under watch ask nothing of the network, and write nothing but their output.

`watch.c` stands between a program and the C library, so it sees what Python, ONNX Runtime, OpenVINO, PyTorch and FFmpeg
ask for, whichever thread asks. A library that calls the kernel itself would pass unseen; none of these does.
"""

import sys

import pytest

# ONNX Runtime writes its device identifier at once and looks its host up some seconds later.
PROGRAM = "import sys, time; from dtfsal.runtime.cli import main; code = main(); time.sleep(6); sys.exit(code)"
OPENVINO = "import time; from dtfsal.engines.open_vino.engine import import_openvino; import_openvino(); time.sleep(3)"
SEEN = """
import socket, sys
far = socket.socket()
far.setblocking(False)
far.connect_ex(("192.0.2.1", 9))
with socket.create_server(("127.0.0.1", 0)) as near:
    socket.create_connection(near.getsockname()).close()
socket.getaddrinfo("localhost", 1)
open(sys.argv[1], "w").close()
open(sys.argv[1]).close()
"""


def dtfsal(*words):
    return sys.executable, "-c", PROGRAM, *words


def test_the_watch_sees(watched, tmp_path):
    """Else nothing here could fail."""
    network, files = watched(sys.executable, "-c", SEEN, tmp_path / "file")
    assert network == {"connect 192.0.2.1", "lookup 127.0.0.1", "lookup localhost"}
    assert files == {tmp_path / "file"}


def test_predict(watched, toy_engine, make_toy_clip, tmp_path):
    clip, output = make_toy_clip(count=12, sound_seconds=0.4), tmp_path / "out"
    output.mkdir()
    network, files = watched(*dtfsal("predict", clip, "-e", toy_engine, "-o", output / "o.mp4", "-o", output / "o.npz"))
    assert network == set()
    assert {path for path in files if not path.is_relative_to(output)} == set()
    assert sorted(path.name for path in output.iterdir()) == ["o.mp4", "o.npz"]


def test_live_without_a_page(watched, toy_engine, make_toy_clip):
    clip = make_toy_clip(count=12, sound_seconds=0.4)
    network, files = watched(*dtfsal("live", clip, "-e", toy_engine, "--no-page"))
    assert (network, files) == (set(), set())


def test_build(watched, tmp_path):
    output = tmp_path / "out"
    output.mkdir()
    network, files = watched(*dtfsal("build", "--preset", "tiny", "-o", output / "tiny.engine"), OMP_NUM_THREADS="1")
    assert network == set()
    assert {path for path in files if not path.is_relative_to(output)} == set()


def test_openvino(watched):
    pytest.importorskip("openvino")
    network, files = watched(sys.executable, "-c", OPENVINO)
    assert (network, files) == (set(), set())
