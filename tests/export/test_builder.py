"""Builds from the command line: whole or not at all, for each target that a machine without a GPU can build."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest

from dtfsal.benchmarks.parity import BARS, compare_engine, synthetic_windows, worst
from dtfsal.engines import open_engine
from dtfsal.engines.bundle import read_bundle
from dtfsal.engines.errors import OutputError, UnavailableError, UsageError
from dtfsal.export import builder, tensorrt_builder
from dtfsal.export.builder import BuildRequest, build_engine
from dtfsal.training.seeded import seeded_model
from dtfsal.training.weights import WeightsError, save_weights

SCRIPT = Path(builder.__file__).parent / "build_engine.py"


def run_script(*arguments, **options):
    return subprocess.run(
        [sys.executable, SCRIPT, *map(str, arguments)], capture_output=True, text=True, check=False, **options
    )


@pytest.fixture
def quick_export(monkeypatch, graph_of):
    """Take the tiny graphs from the session's exports."""

    def copied(model, target, precision, _part):
        graph = onnx.ModelProto()
        graph.CopyFrom(graph_of(model.config.name, target, precision))
        return graph

    monkeypatch.setattr(builder, "export_graph", copied)


def test_the_script_builds_an_engine_that_computes_what_pytorch_computes(tmp_path):
    output = tmp_path / "tiny.engine"
    done = run_script("--preset", "tiny", "--output", output, "--json", "--inspect")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["manifest"]["model_name"] == "tiny"
    assert sum(layer["type"] == "DeformConv" for layer in result["layers"]) == 1
    assert "random" in done.stderr  # it says that the weights are
    manifest = read_bundle(output).manifest
    assert manifest.weights == {"source": "random, seed 0", "sha256": None}
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.engine"]
    model = seeded_model("tiny")
    with open_engine(output) as engine:
        results = list(compare_engine(model, engine, synthetic_windows(model.config, 1)))
    assert not BARS["fp32"].misses(worst(results))

    again = run_script("--preset", "tiny", "--output", output)
    assert again.returncode == 2
    assert again.stderr.splitlines()[-1].startswith("dtfsal: error:")
    assert "Traceback" not in again.stderr


def test_weights_travel_into_the_engine(tmp_path, quick_export):
    model = seeded_model("tiny")
    weights = tmp_path / "w.safetensors"
    save_weights(model, weights)
    request = BuildRequest(weights=weights, output=tmp_path / "e", target="onnxruntime", precision="fp16")
    manifest = build_engine(request)
    assert manifest.weights["source"] == "w.safetensors"
    assert len(manifest.weights["sha256"]) == 64
    assert manifest.precision == "fp16"
    assert manifest.model_config == model.config.to_dict()
    with open_engine(tmp_path / "e") as engine:
        saliency_map = engine.run(next(iter(synthetic_windows(model.config, 1))))["saliency_map"]
    assert saliency_map.dtype == np.float32
    assert saliency_map.shape == (1, 1, 96, 160)


def test_weights_of_another_model_than_asked_for(tmp_path):
    weights = tmp_path / "w.safetensors"
    save_weights(seeded_model("tiny"), weights)
    request = BuildRequest(
        weights=weights, preset="tiny-v", output=tmp_path / "e", target="onnxruntime", precision="fp32"
    )
    with pytest.raises(UsageError, match="tiny-v"):
        build_engine(request)
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_tensorrt_rtx_builds_without_a_gpu(tmp_path, quick_export, precision):
    pytest.importorskip("tensorrt_rtx")
    steps = []
    request = BuildRequest(
        preset="tiny",
        output=tmp_path / "rtx",
        target="tensorrt-rtx",
        precision=precision,
    )
    manifest = build_engine(request, progress=lambda *step: steps.append(step))
    assert manifest.graphs["window"].file == "model.engine"
    assert manifest.deform_conv == "gather"
    assert "8.9" in manifest.compute_capabilities
    assert any(total for _, _, total in steps)  # the builder's own progress came through
    layers = json.loads((tmp_path / "rtx" / "layers.json").read_text())
    assert any("Attention" in layer["name"] for layer in layers) == (precision == "fp16")
    assert read_bundle(tmp_path / "rtx").manifest == manifest
    with pytest.raises(UnavailableError, match="onnxruntime"):
        open_engine(tmp_path / "rtx")


def test_ctrl_c_reaches_the_tensorrt_builder_and_leaves_nothing(tmp_path, quick_export):
    pytest.importorskip("tensorrt_rtx")

    def interrupt(_stage, done, _steps):
        if done:
            raise KeyboardInterrupt

    request = BuildRequest(preset="tiny", output=tmp_path / "rtx", target="tensorrt-rtx", precision="fp16")
    with pytest.raises(KeyboardInterrupt):
        build_engine(request, progress=interrupt)
    assert not list(tmp_path.iterdir())


def test_interrupting_the_script_leaves_nothing(tmp_path):
    process = subprocess.Popen(
        [sys.executable, SCRIPT, "--preset", "tiny", "--output", tmp_path / "e"], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "building: ONNX" in line:
            break
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert not list(tmp_path.iterdir())


def test_without_tensorrt_the_error_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    request = BuildRequest(preset="tiny", output=tmp_path / "e", target="tensorrt", precision="fp16")
    with pytest.raises(UnavailableError, match=r"dtfsal\[tensorrt\]"):
        build_engine(request)
    assert not list(tmp_path.iterdir())


def test_with_tensorrt_but_no_gpu_the_error_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(tensorrt_builder, "import_tensorrt", lambda _target: object())
    monkeypatch.setattr(tensorrt_builder, "_driver_present", lambda: False)
    request = BuildRequest(preset="tiny", output=tmp_path / "e", target="tensorrt", precision="fp16")
    with pytest.raises(UnavailableError, match="tensorrt-rtx"):
        build_engine(request)


def test_a_plugin_node_never_reaches_the_parser_that_it_would_abort(tmp_path, graph_of):
    pytest.importorskip("tensorrt_rtx")
    with pytest.raises(tensorrt_builder.EngineBuildError, match="no plugins"):
        tensorrt_builder.build_tensorrt(graph_of("tiny", "tensorrt", "fp16"), "tensorrt-rtx", tmp_path)


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path, quick_export, monkeypatch):
    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(builder.onnx, "save", full)
    request = BuildRequest(preset="tiny", output=tmp_path / "e", target="onnxruntime", precision="fp32")
    with pytest.raises(OutputError, match="No space left"):
        build_engine(request)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_output_that_cannot_be_written(tmp_path):
    tmp_path.chmod(0o500)
    request = BuildRequest(preset="tiny", output=tmp_path / "e", target="onnxruntime", precision="fp32")
    with pytest.raises(OutputError, match="cannot build"):
        build_engine(request)


def test_missing_weights(tmp_path):
    request = BuildRequest(weights=tmp_path / "none", output=tmp_path / "e", target="onnxruntime", precision="fp32")
    with pytest.raises(WeightsError, match="there is no weights file"):
        build_engine(request)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"preset": None}, "which model"),
        ({"batch_size": 0}, "batch_size"),
        ({"target": "coreml"}, "target"),
        ({"precision": "int8"}, "precision"),
        ({"target": "tensorrt-rtx", "timing_cache": Path("t")}, "no timing cache"),
    ],
)
def test_requests_that_cannot_be(tmp_path, change, match):
    with pytest.raises(UsageError, match=match):
        BuildRequest(**({"preset": "tiny", "output": tmp_path, "target": "onnxruntime", "precision": "fp32"} | change))


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("--preset", "tiny"), 2),
        (("--preset", "huge", "--output", "e"), 2),
        (("--weights", "none.safetensors", "--output", "e"), 4),
        (("--preset", "tiny", "--target", "tensorrt", "--output", "e"), 5),
    ],
)
def test_exit_codes(tmp_path, arguments, status):
    done = run_script(*arguments, cwd=tmp_path)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("dtfsal: error:")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_full_model_builds_for_tensorrt_rtx_without_a_gpu(tmp_path):
    pytest.importorskip("tensorrt_rtx")
    done = run_script(
        "--preset", "dtfsal", "--target", "tensorrt-rtx", "--precision", "fp16", "--output", tmp_path / "e"
    )
    assert done.returncode == 0, done.stderr
    manifest = read_bundle(tmp_path / "e").manifest
    assert manifest.graphs["window"].inputs[0].shape == (1, 3, 32, 224, 384)
    layers = json.loads((tmp_path / "e" / "layers.json").read_text())
    attentions = {layer["name"].split("/")[0] for layer in layers if "Attention." in layer["name"]}
    assert len(attentions) == 17
