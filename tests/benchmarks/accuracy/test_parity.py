"""The measures between two maps, by hand and by property; and the command on a toy engine."""

import dataclasses
import json
import math
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dtfsal.benchmarks.accuracy import parity
from dtfsal.benchmarks.accuracy.parity import (
    BARS,
    Bars,
    Parity,
    compare,
    compare_maps,
    model_of,
    worst,
)
from dtfsal.benchmarks.accuracy.polygraphy_files import comparison
from dtfsal.engines import open_engine
from dtfsal.engines.bundle.folder import read_bundle
from dtfsal.engines.errors import EngineMismatchError, UsageError
from dtfsal.export.builder import build_engine
from dtfsal.export.request import BuildRequest
from dtfsal.runtime.cli import main
from dtfsal.training import PRESETS
from dtfsal.training.model.inputs import synthetic_windows, video_windows
from dtfsal.training.model.seeded import seeded_model
from dtfsal.training.model.weights import save_weights


def test_three_by_three_by_hand():
    a = np.array([[0, 0, 0], [0, 1, 0], [0, 0, 1]])
    b = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 0]])
    result = compare(a, b)
    assert result.max_abs_error == 1
    assert result.mean_abs_error == pytest.approx(2 / 9)
    # Means 2/9; covariance sum 1 - 9 * (2/9)^2 = 5/9, variance sums 2 - 4/9 = 14/9.
    assert result.cc == pytest.approx(5 / 14)
    assert result.sim == pytest.approx(0.5)
    assert result.kl == pytest.approx(0.5 * math.log((0.5 + 1e-7) / 1e-7), rel=1e-6)
    assert result.peak_shift_pixels == pytest.approx(math.sqrt(2))


def test_equal_maps():
    saliency_map = np.random.default_rng(0).random((7, 9))
    result = compare(saliency_map, saliency_map)
    assert result == Parity(0, 0, pytest.approx(1), 0, pytest.approx(1), 0)


def test_constant_maps_give_no_nan():
    for a, b in ((0.0, 0.0), (0.5, 0.5), (0.0, 1.0)):
        values = dataclasses.astuple(compare(np.full((3, 3), a), np.full((3, 3), b)))
        assert all(math.isfinite(value) for value in values)
    assert compare(np.full((3, 3), 0.5), np.full((3, 3), 0.5)).cc == 1
    assert compare(np.full((3, 3), 0.5), np.eye(3)).cc == 0


@given(seed=st.integers(0, 2**32 - 1), gain=st.floats(0.1, 10), offset=st.floats(0, 1))
def test_correlation_ignores_gain_and_offset_and_similarity_ignores_gain(seed, gain, offset):
    a, b = np.random.default_rng(seed).random((2, 6, 5))
    assert compare(a, gain * b + offset).cc == pytest.approx(compare(a, b).cc, abs=1e-6)
    assert compare(a, gain * b).sim == pytest.approx(compare(a, b).sim, abs=1e-6)
    assert compare(a, b).cc == pytest.approx(np.corrcoef(a.ravel(), b.ravel())[0, 1], abs=1e-9)


@pytest.mark.parametrize(("a", "b"), [((3, 3), (3, 4)), ((3,), (3,)), ((0, 3), (0, 3))])
def test_maps_that_cannot_be_compared(a, b):
    with pytest.raises(UsageError):
        compare(np.zeros(a), np.zeros(b))
    with pytest.raises(UsageError, match="finite"):
        compare(np.zeros((2, 2)), np.full((2, 2), np.nan))


def test_the_worst_of_each_measure():
    a, b = Parity(1, 2, 0.9, 0.1, 0.8, 3), Parity(0.5, 3, 0.95, 0.2, 0.7, 0)
    assert worst([a, b]) == Parity(1, 3, 0.9, 0.2, 0.7, 3)


def test_bars():
    good, bad = Parity(1e-5, 0, 1, 0, 1, 0), Parity(1e-3, 0, 0.99, 0, 1, 2)
    assert not BARS["fp32"].misses(good)
    assert not BARS["fp16"].misses(good)
    assert len(BARS["fp32"].misses(bad)) == 1
    assert len(BARS["fp16"].misses(bad)) == 2
    assert len(Bars(max_abs_error=1.0).misses(dataclasses.replace(good, max_abs_error=math.nan))) == 1


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    path = tmp_path_factory.mktemp("engines") / "tiny"
    build_engine(BuildRequest(preset="tiny", output=path, target="onnxruntime", precision="fp32"))
    return path


def test_the_command_on_synthetic_windows(engine, capsys):
    assert main(["parity", str(engine), "--windows", "1", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["passed"]
    assert 0 < report["worst"]["max_abs_error"] <= 1e-4
    assert main(["parity", str(engine), "--windows", "1", "--min-cc", "0.5", "--json"]) == 0
    bars = json.loads(capsys.readouterr().out)["bars"]
    assert bars == {"max_abs_error": 1e-4, "cc": 0.5, "peak_shift_pixels": None}  # fp32's own stays
    for value in ("nan", "inf"):
        assert main(["parity", str(engine), "--max-error", value]) == 2
    assert main(["parity", str(engine), "--windows", "1", "--max-error", "0"]) == 1
    assert "parity is missed" in capsys.readouterr().out
    assert main(["parity", str(engine), "--windows", "0"]) == 2
    assert main(["parity", str(engine.parent / "none")]) == 4


def test_the_command_on_an_engine_of_three_graphs(lite_engine, lite_weights, make_toy_clip, capsys):
    clip = make_toy_clip(count=12, sound_seconds=0.5)
    arguments = ["parity", str(lite_engine), "--weights", str(lite_weights), "--windows", "2", "--video", str(clip)]
    # Random weights amplify float32's rounding, in one graph as in three: see tests/export/graph/test_parts.py.
    assert main([*arguments, "--max-error", "1e-3", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert len(report["windows"]) == 2
    assert report["worst"]["max_abs_error"] > 0


def test_the_worst_map_of_a_batch_counts():
    """One map of a batch is off; the error of the other must not hide it."""
    model = seeded_model("tiny-v")

    def run(inputs):
        with torch.no_grad():
            maps = model(torch.from_numpy(inputs["video"])).numpy()
        maps[1] = np.clip(maps[1] + 0.25, 0, 2)
        return maps

    (result,) = compare_maps(model, run, synthetic_windows(model.config, 1), batch_size=2)
    assert result.max_abs_error == pytest.approx(0.25, abs=1e-5)  # fp32 rounding of two batch sizes
    (alone,) = compare_maps(
        model, lambda x: model(torch.from_numpy(x["video"])).detach().numpy(), synthetic_windows(model.config, 1)
    )
    assert alone.max_abs_error < 1e-5


def test_the_command_on_a_real_clip(engine, make_toy_clip, tmp_path, capsys):
    clip = make_toy_clip(tmp_path / "clip.mp4")
    assert main(["parity", str(engine), "--windows", "2", "--video", str(clip), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["windows"]) == 2


def test_video_windows_are_the_runtimes(engine, make_toy_clip, tmp_path):
    """The same windows as the predictor's: the engine gives the same maps on both ways."""
    from dtfsal.runtime import SaliencyPredictor

    clip = make_toy_clip(tmp_path / "clip.mp4")
    with open_engine(engine) as opened:
        ours = [opened.run(inputs)["saliency_map"][0, 0] for inputs in video_windows(clip, PRESETS["tiny"], 10**6)]
    with SaliencyPredictor(engine) as predictor:
        theirs = [frame.saliency_map for frame in predictor.predict_file(clip)]
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_model_of_an_engine(engine, tmp_path):
    manifest = read_bundle(engine).manifest
    assert model_of(manifest).config == PRESETS["tiny"]
    weights = tmp_path / "w.safetensors"
    save_weights(seeded_model("tiny", seed=5), weights)
    with pytest.raises(EngineMismatchError, match="seed 0"):
        model_of(manifest, weights=weights)
    of_file = dataclasses.replace(manifest, weights={"source": "w.safetensors", "sha256": parity.sha256_file(weights)})
    assert model_of(of_file, weights=weights).config == PRESETS["tiny"]
    with pytest.raises(UsageError, match="--weights"):
        model_of(of_file)
    save_weights(seeded_model("tiny", seed=6), weights)
    with pytest.raises(EngineMismatchError, match="not the file"):
        model_of(of_file, weights=weights)


def test_synthetic_windows_repeat():
    first, again = (list(synthetic_windows(PRESETS["tiny"], 2)) for _ in range(2))
    assert not np.array_equal(first[0]["video"], first[1]["video"])
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a["video"], b["video"])
        np.testing.assert_array_equal(a["audio"], b["audio"])


@pytest.fixture(scope="module")
def polygraphy_files(engine, tmp_path_factory):
    pytest.importorskip("polygraphy", reason="needs Polygraphy (pip install 'dtfsal[polygraphy]')")
    folder = tmp_path_factory.mktemp("polygraphy") / "check"
    assert main(["parity", str(engine), "--windows", "2", "--polygraphy", str(folder)]) == 0
    return folder


def polygraphy_run(model, folder):
    """The command of docs/how-to/building.md, without TensorRT."""
    text = (Path(__file__).parents[3] / "docs" / "how-to" / "building.md").read_text()
    (line,) = re.findall(r"^(polygraphy run .*--load-outputs[^#\n]*)", text.replace("\\\n", ""), re.MULTILINE)
    words = shlex.split(line.replace("check/", f"{folder}/").replace("--trt ", ""))
    words[2] = str(model)
    environment = {**os.environ, "POLYGRAPHY_AUTOINSTALL_DEPS": "0"}
    command = [sys.executable, "-c", "import sys; from polygraphy.tools import main; sys.exit(main())", *words[1:]]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_polygraphy_holds_onnx_runtime_to_pytorch(engine, polygraphy_files):
    done = polygraphy_run(engine / "model.onnx", polygraphy_files)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("saliency_map: CC 1.000000, KL ") == 2
    assert "PASSED" in done.stdout


def test_polygraphys_comparison_by_the_bars(capsys):
    """Of batches of maps; the worst of each counts."""
    first = np.random.default_rng(0).random((2, 1, 5, 6), np.float32)
    second = first.copy()
    second[1] = second[1, :, :, ::-1]
    shift = compare(first[1, 0], second[1, 0]).peak_shift_pixels
    assert shift > 0
    equal, turned = {"saliency_map": first}, {"saliency_map": second}
    strict = comparison(Bars(cc=0.999, peak_shift_pixels=1.0))
    assert strict(equal, equal) == {"saliency_map": True}
    assert strict(equal, turned) == {"saliency_map": False}
    assert comparison(Bars())(equal, turned) == {"saliency_map": True}
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("saliency_map: CC 1.000000, KL 0, SIM 1.000000, peak shift 0.00 px, max abs error 0")
    assert f"peak shift {shift:.2f} px" in lines[1]
    assert "; CC " in lines[1]


def test_polygraphys_files_replace_nothing(engine, polygraphy_files, capsys):
    assert main(["parity", str(engine), "--windows", "1", "--polygraphy", str(polygraphy_files)]) == 6
    assert "exists; name a new folder" in capsys.readouterr().err
    assert main(["parity", str(engine), "--windows", "1", "--polygraphy", str(engine / "check")]) == 2


def test_without_polygraphy(engine, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "polygraphy.comparator", None)
    assert main(["parity", str(engine), "--windows", "1", "--polygraphy", str(tmp_path / "check")]) == 5
    assert "pip install 'dtfsal[polygraphy]'" in capsys.readouterr().err
