"""Smoothness of paths in closed form."""

import numpy as np
import pytest

from dtfsal.applications.reframe.geometry import Framing
from dtfsal.applications.reframe.planner import CropPath, Shot
from dtfsal.benchmarks.accuracy.cropping import smoothness, spectral_residual


def path_of(left, shots=(0,)):
    framing = Framing.of(9 / 16, 640, 360)
    windows = np.zeros((len(left), 4), np.float32)
    windows[:, 0], windows[:, 2:] = left, (framing.width, framing.height)
    times = np.arange(len(left)) / 25
    return CropPath(framing, times, windows, np.ones(len(left), np.float32), tuple(Shot(f, False) for f in shots))


def test_an_even_pan_has_no_acceleration():
    width = path_of([0]).framing.width
    found = smoothness(path_of(np.arange(26) * width / 100))
    assert found["travel"] == pytest.approx(0.25, rel=1e-5)
    assert found["largest_speed"] == pytest.approx(0.25, rel=1e-5)
    assert found["acceleration"] == pytest.approx(0, abs=1e-3)
    assert found["jumps"] == 0


def test_a_jump_counts_within_a_shot_only():
    left = np.array([0.0] * 5 + [100.0] * 5)
    assert smoothness(path_of(left))["jumps"] == 1
    assert smoothness(path_of(left, (0, 5)))["jumps"] == 0
    assert smoothness(path_of(left, (0, 5)))["travel"] == 0


def test_the_classic_map_peaks_at_what_stands_out():
    pytest.importorskip("cv2")
    rgb = np.random.default_rng(0).integers(100, 110, (144, 256, 3), dtype=np.uint8)
    rgb[60:70, 180:190] = 250
    found = spectral_residual(rgb)
    row, column = np.unravel_index(found.argmax(), found.shape)
    assert abs(row - 65) < 15
    assert abs(column - 185) < 15
