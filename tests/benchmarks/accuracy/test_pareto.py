"""Accuracy against speed, and what follows from it: made maps by hand, one run on an engine in closed form."""

import json
import math

import av
import numpy as np
import pytest

from dtfsal.benchmarks.accuracy.pareto import compare_with, draw, drawn_fixations, front, label, markdown
from dtfsal.benchmarks.accuracy.recommend import choose, estimates, measured_here, of_one_model, read_results
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


def test_the_front_by_hand():
    places = {"near": (5, 1.0), "same": (5, 1.0), "rounded": (4, 1 + 1e-9), "slow": (4, 0.99), "quick": (9, 0.9)}
    rows = [{"form": form, "frames_per_second": fps, "cc": cc} for form, (fps, cc) in places.items()]
    assert [row["form"] for row in front(rows)] == ["near", "same", "quick"]


def test_a_type_other_than_asked_for_is_shown():
    row = {"precision": "bf16", "computes_in": "f32"}
    assert label(row, "e, stride 1") == "e, stride 1 (in f32)"
    for precision, said in (("bf16", "bf16"), ("fp32", "f32"), ("fp32", None), ("int8", "f32")):
        assert label({"precision": precision, "computes_in": said}, "e") == "e"


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
    assert every in front(report["rows"])
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
    build = "dtfsal build --weights none --frames 4 --size 24x40 --target onnxruntime --precision fp32"
    assert told["choice"]["commands"][0].startswith(build)
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
        "size": [32, 64],
        "clip_frames": 8,
    }
    found = [
        {**fields, "form": form, "stride": 1, "cc": cc, "frames_per_second_interval": [fps, 2 * fps]}
        for form, fps, cc in rows
    ]
    machine = {"fingerprint": fingerprint}
    return {"kind": "pareto", "rows": found, "machine": machine, "matrix_product_gflop_per_second": rate}


def test_choices_by_hand():
    report = made_report("here", 100.0, ("exact", 5, 1.0), ("near", 20, 0.998), ("nearer", 18, 0.999), ("far", 90, 0.9))
    found = measured_here([("a.json", report)], device="cpu", fingerprint="here")
    choice, others = choose(found, fps=15, least_cc=0.995)
    assert choice.row["form"] == "nearer"  # the best of those that keep up
    assert others[0].row["form"] == "near"
    same = made_report("here", 100.0, ("slow", 20, 0.99801), ("quick", 25, 0.998))
    choice, _ = choose(measured_here([("a.json", same)], device="cpu", fingerprint="here"), fps=15, least_cc=0.995)
    assert choice.row["form"] == "quick"
    choice, others = choose(found, fps=50, least_cc=0.995)
    assert choice is None
    assert next(one.row["form"] for one in others) == "near"  # slow by 60 %, and not wrong
    assert measured_here([("a.json", report)], device="cuda", fingerprint="here") == []


def test_results_of_other_machines_are_scaled_and_called_estimates():
    theirs = made_report("there", 200.0, ("x", 20, 1.0))
    (scaled,) = estimates([("b.json", theirs)], rate=50.0)
    assert (scaled.frames_per_second, scaled.scale, scaled.estimated) == (5.0, 0.25, True)
    ours = made_report("here", 50.0, ("y", 7, 1.0))
    (own,) = measured_here([("a.json", ours), ("b.json", theirs)], device="cpu", fingerprint="here")
    assert (own.row["form"], own.frames_per_second, own.estimated) == ("y", 7, False)
    theirs["rows"][0]["device"] = "cuda"  # a GPU's rate does not follow from the CPU's products
    assert estimates([("b.json", theirs)], rate=50.0) == []


def test_models_are_not_mixed():
    report = made_report("here", 50.0, ("x", 20, 1.0), ("y", 7, 1.0))
    report["rows"][1]["model"] = "other"
    found = measured_here([("a.json", report)], device="cpu", fingerprint="here")
    assert [one.row["form"] for one in of_one_model(found, "other")] == ["y"]
    assert of_one_model(found[:1], None) == found[:1]
    with pytest.raises(UsageError, match="give --model m, or another of m, other"):
        of_one_model(found, None)
    with pytest.raises(UsageError, match="no result is of the model 'z'"):
        of_one_model(found, "z")


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ("m.safetensors", "--preset m"),  # what the package ships for the preset
        ("random, seed 3", "--preset m --seed 3"),
        ("my own.safetensors", "--weights 'my own.safetensors'"),
    ],
)
def test_commands(weights, words):
    report = made_report("here", 50.0, ("x", 20, 1.0))
    report["rows"][0] |= {"weights": weights, "own_kernels": True, "stride": 4}
    (one,) = measured_here([("a.json", report)], device="cpu", fingerprint="here")
    assert one.commands() == [
        f"dtfsal build {words} --frames 8 --size 32x64 --target t --precision fp32 --cpu-kernels --output e",
        "dtfsal predict VIDEO --engine e --stride 4 --output out.mp4",
    ]


@pytest.mark.parametrize(
    ("frames", "size", "words"),
    [
        (16, [224, 384], "--preset lite"),
        (8, [224, 384], "--preset lite --frames 8"),
        (16, [160, 288], "--preset lite --size 160x288"),
    ],
)
def test_a_clip_that_is_the_presets_own_is_not_said(frames, size, words):
    report = made_report("here", 50.0, ("x", 20, 1.0))
    report["rows"][0] |= {"model": "lite", "weights": "lite.safetensors", "clip_frames": frames, "size": size}
    (one,) = measured_here([("a.json", report)], device="cpu", fingerprint="here")
    assert one.commands()[0] == f"dtfsal build {words} --target t --precision fp32 --output e"


def test_what_people_are_told(tmp_path, capsys):
    path = tmp_path / "pareto-a.json"
    path.write_text(json.dumps(made_report("a machine that is none", 1e-3, ("x", 20, 1.0), ("y", 40, 0.5))))
    assert main(["recommend", "--fps", "1", "--results", str(tmp_path)]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[1].startswith("-> x: at least")
    assert told[3].startswith("estimates: measured on another machine")
    assert main(["recommend", "--fps", "1", "--device", "cuda", "--results", str(path)]) == 2
    assert "for the device 'cuda'" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "[]", '{"kind": "pareto", "rows": []}', '{"kind": "latency", "rows": [1]}'])
def test_results_that_are_none(text, tmp_path):
    (tmp_path / "pareto-x.json").write_text(text)
    with pytest.raises(UsageError, match="is not a result of"):
        read_results([tmp_path])
    with pytest.raises(UsageError, match="there is no result"):
        read_results([])
    assert main(["recommend", "--fps", "-1"]) == 2
