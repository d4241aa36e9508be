"""Accuracy against speed, and what follows from it: made maps by hand, one run on an engine in closed form."""

import json
import math

import av
import numpy as np
import pytest

from dtfsal.benchmarks.pareto import compare_with, draw, drawn_fixations, markdown
from dtfsal.benchmarks.recommend import candidates, choose, read_results
from dtfsal.engines import ClipSpec
from dtfsal.engines.errors import UsageError
from dtfsal.runtime.cli import main

CLIP = ClipSpec(frames=4, height=24, width=40, frame_rate_hz=25.0)


def test_equal_maps_are_equal_and_fixations_follow_the_map():
    maps = np.zeros((2, 6, 8), np.float32)
    maps[0, 2, 5] = 1
    maps[1, 4, 1] = 0.5
    fixations = drawn_fixations(maps, number=5)
    np.testing.assert_array_equal(fixations[0], [[5, 2]] * 5)  # x, y
    np.testing.assert_array_equal(fixations[1], [[1, 4]] * 5)
    same = compare_with(maps, maps, fixations)
    assert (same["cc"], same["worst_cc"], same["sim"]) == (pytest.approx(1), pytest.approx(1), pytest.approx(1))
    assert same["nss"] == pytest.approx(math.sqrt(47))  # one pixel of 48: (1 - 1/48) / sqrt(47/48^2)
    swapped = compare_with(maps, maps[::-1], fixations)
    assert swapped["cc"] == pytest.approx(-1 / 47)
    assert swapped["sim"] == 0


def test_another_number_of_maps():
    maps = np.ones((2, 6, 8), np.float32)
    with pytest.raises(UsageError, match="2 and 1 maps"):
        compare_with(maps, maps[:1], drawn_fixations(maps))


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, width=64, height=48, pix_fmt="yuv420p")
        for index in range(9):
            picture = np.zeros((48, 64, 3), np.uint8)
            picture[:, 4 * index : 4 * index + 16] = 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def test_the_commands(make_toy_engine, video, tmp_path, capsys):
    engine, output = make_toy_engine(CLIP, None), tmp_path / "pareto-toy.json"
    words = ["--engine", str(engine), "--video", str(video), "--stride", "1", "--stride", "4", "--runs", "1"]
    assert main(["benchmark", "pareto", *words, "--threads", "1", "-o", str(output)]) == 0
    report = json.loads(output.read_text())
    every, fourth = report["rows"]
    assert every["cc"] == pytest.approx(1, abs=1e-6)
    assert every["on_front"]
    assert fourth["cc"] < every["cc"]  # maps in between are straight lines in time, and the clip is none
    for row in report["rows"]:
        assert row["frames_per_second"] == pytest.approx(9 / row["seconds"][0])
    assert markdown(report) == capsys.readouterr().out
    assert str(tmp_path) not in output.read_text()
    assert draw(report).axes[0].get_xscale() == "log"

    wish = ["recommend", "--results", str(output), "--json", "--fps"]
    assert main([*wish, "0.001", "--min-cc", "0.999"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["choice"]["stride"] == 1
    assert not told["choice"]["estimated"]
    assert told["choice"]["commands"][0].startswith("dtfsal build --preset toy --target onnxruntime --precision fp32")
    assert main([*wish, "999999"]) == 1
    assert json.loads(capsys.readouterr().out)["choice"] is None


def made_report(fingerprint, rate, *rows):
    fields = {
        "engine": "e",
        "model": "m",
        "weights": "w",
        "target": "t",
        "precision": "fp32",
        "own_kernels": False,
        "device": "cpu",
        "worst_cc": 0.9,
    }
    found = [
        {**fields, "form": form, "stride": 1, "cc": cc, "frames_per_second_interval": [fps, 2 * fps]}
        for form, fps, cc in rows
    ]
    machine = {"fingerprint": fingerprint}
    return {"kind": "pareto", "rows": found, "machine": machine, "matrix_product_gflop_per_second": rate}


def test_choices_by_hand():
    report = made_report("here", 100.0, ("exact", 5, 1.0), ("near", 20, 0.998), ("nearer", 18, 0.999), ("far", 90, 0.9))
    found = candidates([("a.json", report)], device="cpu", fingerprint="here", rate=None)
    choice, others = choose(found, fps=15, least_cc=0.995)
    assert choice.row["form"] == "nearer"  # the best of those that keep up
    assert others[0].row["form"] == "near"
    choice, others = choose(found, fps=50, least_cc=0.995)
    assert choice is None
    assert next(one.row["form"] for one in others) == "near"  # slow by 60 %, and not wrong
    assert candidates([("a.json", report)], device="cuda", fingerprint="here", rate=None) == []


def test_results_of_other_machines_are_scaled_and_called_estimates():
    theirs = made_report("there", 200.0, ("x", 20, 1.0))
    (scaled,) = candidates([("b.json", theirs)], device="cpu", fingerprint="here", rate=50.0)
    assert (scaled.frames_per_second, scaled.estimated) == (5.0, True)
    ours = made_report("here", 50.0, ("y", 7, 1.0))
    (own,) = candidates([("a.json", ours), ("b.json", theirs)], device="cpu", fingerprint="here", rate=50.0)
    assert (own.row["form"], own.frames_per_second, own.estimated) == ("y", 7, False)


@pytest.mark.parametrize("text", ["", "[]", '{"kind": "pareto", "rows": []}', '{"kind": "latency", "rows": [1]}'])
def test_results_that_are_none(text, tmp_path):
    (tmp_path / "pareto-x.json").write_text(text)
    with pytest.raises(UsageError, match="no result of"):
        read_results([tmp_path])
    with pytest.raises(UsageError, match="there is no result"):
        read_results([])
    assert main(["recommend", "--fps", "-1"]) == 2
