"""What people looked at is cut out of its photograph, and nothing else."""

import sys

import numpy as np
import pytest

from dtfsal.engines.errors import UnavailableError
from dtfsal.training.synthetic import Photograph, gaze_cutouts, photograph
from dtfsal.training.synthetic.cutouts import gaze_cutout

pytest.importorskip("cv2")
GREY, ORANGE = (90, 95, 90), (230, 120, 30)


@pytest.fixture
def disc():
    """An orange disc of 30 pixels' radius at (140, 80) on noisy grey, and 40 fixations in it."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:200, :260]
    inside = np.hypot(columns - 140, rows - 80) < 30
    rgb = np.where(inside[..., None], ORANGE, GREY) + rng.integers(-10, 11, (200, 260, 3))
    points = rng.normal((140, 72), 6, (40, 2)).astype(np.float32)
    return Photograph("disc", rgb.astype(np.uint8), points), inside


def test_a_thing_is_cut_along_its_edge(disc):
    picture, inside = disc
    cutout = gaze_cutout(picture)
    assert cutout.name == "disc"
    shown = cutout.rgba[..., 3] > 128
    assert shown.sum() == pytest.approx(inside.sum(), rel=0.08)
    assert np.abs(cutout.rgba[shown][:, :3].astype(int) - ORANGE).max(axis=1).mean() < 15
    # Gaze is at the disc's upper half: 8 of 60 pixels above its middle.
    assert cutout.gaze == pytest.approx((0.5, 0.37), abs=0.08)
    again = gaze_cutout(picture)
    assert again.rgba.tobytes() == cutout.rgba.tobytes()


def test_where_nothing_stands_out_nothing_is_cut(disc):
    picture, _ = disc
    plain = Photograph("plain", np.full((200, 260, 3), 90, np.uint8), picture.points)
    nobody = Photograph("nobody", picture.rgb, np.full((3, 2), 900, np.float32))
    assert gaze_cutouts([plain, nobody, photograph("not looked at", picture.rgb)]) == []
    assert [cutout.name for cutout in gaze_cutouts([plain, picture])] == ["disc"]


def test_without_opencv_the_remedy_is_named(disc, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(UnavailableError, match=r"needs OpenCV; run `pip install 'dtfsal\[evaluate\]'`"):
        gaze_cutouts([disc[0]])
