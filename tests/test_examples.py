"""The examples in Python, with what stands for a camera and for PyCUDA. Those in C and C++ are tests/runtime/capi's."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dtfsal.runtime import SaliencyPredictor

EXAMPLES = Path(__file__).parents[1] / "examples" / "python"


def load(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def cv2():
    return pytest.importorskip("cv2", reason="needs OpenCV (pip install 'dtfsal[evaluate]')")


@pytest.fixture
def clip(make_toy_clip):
    """A bright square on a grey ramp; three different channels, so that their order matters."""
    frames = np.empty((10, 48, 80, 3), np.uint8)
    frames[...] = np.arange(80)[:, None] + np.array([0, 40, 90])
    for index, frame in enumerate(frames):
        frame[10:22, 4 * index : 4 * index + 12] = (250, 120, 10)
    return make_toy_clip(frames=frames), frames


def test_opencvs_heat_map_of_a_video(cv2, clip, tmp_path):
    """Frames that OpenCV has read have the maps of those that the predictor reads itself."""
    path, frames = clip
    target = tmp_path / "heat.avi"
    command = [sys.executable, EXAMPLES / "opencv_heat_map.py", path, target]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "10 frames\n"
    heat_map = load("opencv_heat_map").heat_map
    with SaliencyPredictor() as predictor:
        maps = [frame.saliency_map for frame in predictor.predict_file(path)]
    capture = cv2.VideoCapture(str(target))
    for rgb, saliency_map in zip(frames, maps, strict=True):
        read, bgr = capture.read()
        assert read
        wanted = heat_map(np.ascontiguousarray(rgb[:, :, ::-1]), saliency_map)
        assert np.abs(bgr.astype(int) - wanted).mean() < 6  # JPEG's loss; with red and blue swapped it is over 20
    assert not capture.read()[0]


def test_opencvs_heat_map_of_what_is_no_video(cv2, tmp_path):
    with pytest.raises(SystemExit, match=r"none\.mp4 cannot be read as a video"):
        load("opencv_heat_map").convert(str(tmp_path / "none.mp4"), str(tmp_path / "heat.avi"))
    assert not (tmp_path / "heat.avi").exists()


def test_opencvs_heat_map_of_a_camera(cv2, monkeypatch):
    """Seven pictures, then Escape; the first are shown before any map is there."""
    shown, rng = [], np.random.default_rng(0)

    class Camera:
        def __init__(self, number):
            assert number == 0

        def read(self):
            return True, rng.integers(0, 256, (48, 80, 3), np.uint8)

    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    monkeypatch.setattr(cv2, "imshow", lambda _title, picture: shown.append(picture), raising=False)
    monkeypatch.setattr(cv2, "waitKey", lambda _milliseconds: 27 if len(shown) == 7 else -1, raising=False)
    load("opencv_heat_map").watch()
    assert [picture.shape for picture in shown] == [(48, 80, 3)] * 7
