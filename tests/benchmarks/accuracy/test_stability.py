"""Change and flicker on maps whose figures are known in closed form."""

import json

import numpy as np
import pytest

from dtfsal.benchmarks.accuracy.stability import stability
from dtfsal.engines import UsageError
from dtfsal.runtime.cli import main


def spot(x, width=8):
    frame_map = np.zeros((4, width), np.float32)
    frame_map[1, x] = 0.7  # any gain: maps are compared as distributions
    return frame_map


def test_equal_maps_are_still():
    found = stability([spot(3)] * 5)
    assert (found.frames, found.change, found.flicker, found.peak_step) == (5, 0, 0, 0)


def test_gain_is_no_change():
    assert stability([spot(3), 2 * spot(3), 0.1 * spot(3)]).change == pytest.approx(0, abs=1e-12)


def test_a_map_that_trembles_flickers_as_much_as_it_changes():
    found = stability([spot(3), spot(4)] * 4)
    assert found.change == pytest.approx(1)
    assert found.flicker == pytest.approx(1)
    assert found.peak_step == pytest.approx(1 / 8)


def test_a_map_that_moves_on_flickers_less_than_it_changes():
    rows, columns = np.mgrid[:40, :80]
    maps = [np.exp(-((columns - 10 - 2 * t) ** 2 + (rows - 20) ** 2) / (2 * 8.0**2)) for t in range(20)]
    found = stability(maps)
    # A gaussian moved by d: TV = erf(d / (2 sqrt 2 sigma)); the border cuts off less than 1e-2 of it.
    assert found.change == pytest.approx(0.0995, abs=0.01)
    assert found.flicker < 0.2 * found.change


def test_two_frames_are_too_few():
    with pytest.raises(UsageError, match="three frames or more, and there are 2"):
        stability([spot(1), spot(2)])


def test_the_command_measures_videos(toy_engine, make_toy_clip, tmp_path, capsys):
    clip_file = make_toy_clip()
    output = tmp_path / "stability.json"
    command = ["benchmark", "stability", "--engine", str(toy_engine), "--video", str(clip_file)]
    assert main([*command, "--output", str(output), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["videos"][clip_file.name]["frames"] > 3
    assert json.loads(output.read_text()) == report
    assert clip_file.name in output.with_suffix(".md").read_text()
