"""Engines for OpenVINO of real models, several graphs and one, against PyTorch and ONNX Runtime; skipped without it."""

import json

import numpy as np
import onnx
import pytest

from dtfsal.benchmarks.accuracy.parity import BARS, compare_engine, worst
from dtfsal.engines import open_engine
from dtfsal.engines.bundle.folder import read_bundle
from dtfsal.export import builder, refit
from dtfsal.export.builder import build_engine
from dtfsal.export.refit import RefitRequest, refit_engine
from dtfsal.export.request import BuildRequest
from dtfsal.runtime import SaliencyPredictor
from dtfsal.runtime.cli import main
from dtfsal.training.model.inputs import synthetic_windows
from dtfsal.training.model.seeded import seeded_model
from dtfsal.training.model.weights import load_weights

pytest.importorskip("openvino")

# Random weights amplify float32's rounding, in one graph as in three: see test_parts.py. Seen: 7e-5.
TOLERANCE = 1e-3


@pytest.fixture(scope="module")
def openvino_engine(tmp_path_factory, lite_engine, lite_weights):
    """The small lite's engine; only its sound and head are exported: with attention and deformable convolution."""
    original = builder.export_graph

    def export(model, target, precision, part, forms):
        if part.name in ("sound", "head"):
            return original(model, target, precision, part, forms)
        return onnx.load(lite_engine / f"{part.stem}.onnx")

    output = tmp_path_factory.mktemp("openvino") / "lite.engine"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(builder, "export_graph", export)
        build_engine(BuildRequest(weights=lite_weights, output=output, target="openvino", precision="fp32"))
    return output


@pytest.fixture
def quick_export(monkeypatch, openvino_engine):
    """Take the graphs of that engine."""

    def loaded(_model, target, precision, part, _forms):
        assert target == "openvino"
        assert precision in ("fp32", "bf16")
        return onnx.load(openvino_engine / f"{part.stem}.onnx")

    monkeypatch.setattr(builder, "export_graph", loaded)
    monkeypatch.setattr(refit, "export_graph", loaded)


def test_several_graphs_of_what_openvino_reads(openvino_engine):
    manifest = read_bundle(openvino_engine).manifest
    assert list(manifest.graphs) == ["frame", "motion", "decode", "slice", "sound", "head"]
    assert (manifest.target, manifest.precision, manifest.deform_conv) == ("openvino", "fp32", "gather")
    kinds = {
        name: {node.op_type for node in onnx.load(openvino_engine / f"model_{name}.onnx").graph.node}
        for name in ("sound", "head")
    }
    assert "Attention" in kinds["sound"]
    assert "DeformConv" not in kinds["head"]


def test_they_compute_what_pytorch_computes(openvino_engine, lite_weights):
    model = load_weights(lite_weights)
    with open_engine(openvino_engine, threads=1) as engine:
        found = worst(list(compare_engine(model, engine, synthetic_windows(model.config, 2))))
    assert found.max_abs_error < TOLERANCE
    assert found.cc > 0.99999


def test_a_video_has_the_maps_of_onnx_runtime(openvino_engine, lite_engine):
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (20, 64, 96, 3), np.uint8)
    sound = rng.normal(0, 0.1, 8000).astype(np.float32)  # half a second, then silence
    maps = {}
    for path in (openvino_engine, lite_engine):
        with SaliencyPredictor(path, device="cpu", threads=1) as predictor:
            name = predictor.engine.describe()["backend"]["name"]
            maps[name] = predictor.predict_arrays(frames, 25.0, sound, 16000)
    assert np.ptp(maps["onnxruntime"]) > 0.1
    np.testing.assert_allclose(maps["openvino"], maps["onnxruntime"], rtol=0, atol=TOLERANCE)


def test_bf16_is_the_same_graph(tmp_path, openvino_engine, quick_export, lite_weights, capsys):
    """OpenVINO rounds, where the processor has the instructions."""
    output = tmp_path / "bf16.engine"
    arguments = ("--weights", str(lite_weights), "--target", "openvino", "--precision", "bf16", "--output", str(output))
    assert main(["build", *arguments, "--inspect", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["manifest"]["precision"] == "bf16"
    frame = np.random.default_rng(0).standard_normal((1, 3, 64, 96), np.float32)
    features, rounds = [], False
    for path in (output, openvino_engine):
        with open_engine(path, threads=1) as engine:
            features.append(engine.run({"frame": frame}, graph="frame"))
            rounds = rounds or engine.describe()["backend"]["computes_in"] == "bf16"
    for name, exact in features[1].items():
        # 8 bits of each of some fifty layers' values: 0.106 of the largest with AVX-512's BF16 instructions.
        bound = (0.2 if rounds else 0) * np.abs(exact).max()
        np.testing.assert_allclose(features[0][name], exact, rtol=0, atol=bound)


def test_it_takes_a_files_weights(tmp_path, openvino_engine, quick_export, lite_weights):
    again = tmp_path / "again.engine"
    manifest = refit_engine(RefitRequest(engine=openvino_engine, weights=lite_weights, output=again))
    assert manifest == read_bundle(openvino_engine).manifest
    assert (again / "model_head.onnx.data").read_bytes() == (openvino_engine / "model_head.onnx.data").read_bytes()


@pytest.mark.slow
def test_one_graph_computes_what_pytorch_computes(tmp_path):
    output = tmp_path / "tiny.engine"
    assert main(["build", "--preset", "tiny", "--target", "openvino", "--output", str(output), "--quiet"]) == 0
    assert list(read_bundle(output).manifest.graphs) == ["window"]
    model = seeded_model("tiny")
    with open_engine(output) as engine:
        found = worst(list(compare_engine(model, engine, synthetic_windows(model.config, 2))))
    assert not BARS["fp32"].misses(found)
