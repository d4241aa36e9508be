"""Builds from the command line: whole or not at all, for each target that a machine without a GPU can build."""

import dataclasses
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

from dtfsal.benchmarks.accuracy.parity import BARS, compare_engine, model_of, worst
from dtfsal.benchmarks.gpu.targets import EngineForm, engine_form
from dtfsal.engines import open_engine
from dtfsal.engines.bundle.folder import read_bundle
from dtfsal.engines.errors import OutputError, UnavailableError, UsageError
from dtfsal.engines.gpu.driver import GpuDriver
from dtfsal.export import builder
from dtfsal.export.builder import build_engine
from dtfsal.export.cli.build import main as build
from dtfsal.export.refit import RefitRequest, refit_engine
from dtfsal.export.request import BuildRequest
from dtfsal.export.tensor_rt import builder as tensorrt_builder
from dtfsal.export.tensor_rt import flavours as tensorrt_flavours
from dtfsal.runtime.cli import main
from dtfsal.training.model.config import ModelConfig
from dtfsal.training.model.inputs import synthetic_windows
from dtfsal.training.model.seeded import seeded_model
from dtfsal.training.model.weights import WeightsError, save_weights

SCRIPT = Path(builder.__file__).parent / "build_engine.py"


def run_script(*arguments, **options):
    return subprocess.run(
        [sys.executable, SCRIPT, *map(str, arguments)], capture_output=True, text=True, check=False, **options
    )


@pytest.fixture
def quick_export(monkeypatch, graph_of):
    """Take the tiny graphs from the session's exports."""

    def copied(model, target, precision, _part, _forms):
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


def test_an_engine_that_stands_at_the_output_is_said_before_any_work(toy_engine, tmp_path):
    def worked(stage, *_):
        pytest.fail(f"began with {stage}")

    request = BuildRequest(preset="tiny", output=toy_engine, target="onnxruntime", precision="fp32")
    with pytest.raises(UsageError, match="already holds an engine"):
        build_engine(request, progress=worked)
    refit = RefitRequest(engine=tmp_path / "none", weights=tmp_path / "none", output=toy_engine)
    with pytest.raises(UsageError, match="already holds an engine"):
        refit_engine(refit, progress=worked)


def test_an_engine_of_another_clip_length_and_frame_size(tmp_path):
    """The engine computes what the weights compute at that size, and finds them again for parity and refits."""
    model, weights = seeded_model("tiny"), tmp_path / "w.safetensors"
    save_weights(model, weights)
    request = BuildRequest(
        weights=weights, frames=8, height=64, width=96, output=tmp_path / "e", target="onnxruntime", precision="fp32"
    )
    manifest = build_engine(request)
    assert (manifest.clip.frames, manifest.clip.height, manifest.clip.width) == (8, 64, 96)
    assert manifest.clip.target == model.config.clip.target
    resized = model_of(manifest, weights=weights)
    assert resized.config == model.config.for_clip(frames=8, height=64, width=96)
    assert resized.config.token_grid == (3, 5)  # of the weights' 96x160
    with open_engine(tmp_path / "e") as engine:
        results = list(compare_engine(resized, engine, synthetic_windows(resized.config, 1)))
    assert not BARS["fp32"].misses(worst(results))
    refit_engine(RefitRequest(engine=tmp_path / "e", weights=weights, output=tmp_path / "again"))
    first, second = (read_bundle(tmp_path / name).file("model.onnx.data") for name in ("e", "again"))
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.slow
def test_random_weights_of_another_size(tmp_path):
    done = run_script("--preset", "tiny", "--seed", "3", "--frames", "8", "--size", "64x96", "--output", tmp_path / "e")
    assert done.returncode == 0, done.stderr
    clip = read_bundle(tmp_path / "e").manifest.clip
    assert (clip.frames, clip.height, clip.width) == (8, 64, 96)


def test_weights_of_another_model_than_asked_for(tmp_path):
    weights = tmp_path / "w.safetensors"
    save_weights(seeded_model("tiny"), weights)
    request = BuildRequest(
        weights=weights, preset="tiny-v", output=tmp_path / "e", target="onnxruntime", precision="fp32"
    )
    with pytest.raises(UsageError, match="tiny-v"):
        build_engine(request)
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]


@pytest.mark.parametrize("precision", ["fp16", "bf16", pytest.param("fp32", marks=pytest.mark.slow)])
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
    assert any("Attention" in layer["name"] for layer in layers) == (precision != "fp32")
    assert read_bundle(tmp_path / "rtx").manifest == manifest
    with pytest.raises(UnavailableError, match="onnxruntime"):
        open_engine(tmp_path / "rtx")


def test_tensorrt_rtx_builds_for_the_gpus_that_are_named(tmp_path, quick_export):
    pytest.importorskip("tensorrt_rtx")
    request = BuildRequest(
        preset="tiny",
        output=tmp_path / "rtx",
        target="tensorrt-rtx",
        precision="fp16",
        compute_capabilities=("8.6", "12.0"),
    )
    assert build_engine(request).compute_capabilities == ("8.6", "12.0")
    with pytest.raises(UsageError, match=r"no compute capability 9\.9: it builds for 7\.5, 8\.0"):
        build_engine(dataclasses.replace(request, output=tmp_path / "e", compute_capabilities=("9.9",)))
    assert [path.name for path in tmp_path.iterdir()] == ["rtx"]


def test_a_gpu_that_cannot_run_the_engine_is_said_before_the_build(tmp_path, quick_export, monkeypatch, capsys):
    trt = pytest.importorskip("tensorrt_rtx")
    driver = GpuDriver("13.0", (("H100", "9.0"),))
    monkeypatch.setattr(tensorrt_flavours, "find_gpu_driver", lambda: driver)

    def build(request, progress):
        del request, progress
        assert f"tensorrt_rtx {trt.__version__} does not run on this machine's GPU, H100" in capsys.readouterr().err
        raise UnavailableError("enough")

    monkeypatch.setattr(builder, "build_engine", build)
    assert main(["build", "--target", "tensorrt-rtx", "--output", str(tmp_path / "e")]) == 5
    form = EngineForm("TensorRT-RTX fp16", "tensorrt-rtx", "fp16")
    with pytest.raises(UnavailableError, match="does not run on this machine's GPU, H100"):
        engine_form(form, "tiny", "cuda", tmp_path, batch_size=1, runs=1)


def test_weights_that_can_change_need_a_gpu_at_the_build(tmp_path, monkeypatch):
    pytest.importorskip("tensorrt_rtx")
    monkeypatch.setattr(tensorrt_flavours, "driver_present", lambda: False)
    request = BuildRequest(
        preset="tiny", output=tmp_path / "e", target="tensorrt-rtx", precision="fp16", refittable=True
    )
    with pytest.raises(UnavailableError, match="leave --refittable and --strip-weights out"):
        build_engine(request)


def test_the_engine_names_the_plugin_library(tmp_path, quick_export, monkeypatch):
    """As far as a machine without TensorRT goes: found before the build, handed to it, and named in the manifest."""
    library = tmp_path / "libdtfsal_plugins.so"
    library.write_bytes(b"a library")
    monkeypatch.setenv("DTFSAL_PLUGIN_LIBRARY", str(library))
    monkeypatch.setattr(
        builder, "check_machine", lambda *_args, **_options: type("Trt", (), {"__version__": "10.14.1"})
    )
    given = []

    def build(model, target, folder, *, stem, options, progress):
        given.append(options.plugin_library)
        (folder / f"{stem}.engine").write_bytes(b"an engine")
        return tensorrt_builder.BuiltEngine(
            folder / f"{stem}.engine", "tensorrt", "10.14.1", ("9.0",), [], None, None, attention_fused=True
        )

    monkeypatch.setattr(builder, "build_tensorrt", build)
    manifest = build_engine(BuildRequest(preset="tiny", output=tmp_path / "trt", target="tensorrt", precision="fp16"))
    assert given == [library]
    assert manifest.deform_conv == "plugin"
    assert manifest.native_libraries == {"libdtfsal_plugins.so": 1}
    assert not read_bundle(tmp_path / "trt").native_code
    assert read_bundle(tmp_path / "trt").manifest == manifest

    monkeypatch.setenv("DTFSAL_PLUGIN_LIBRARY", str(tmp_path / "none.so"))
    request = BuildRequest(preset="tiny", output=tmp_path / "e", target="tensorrt", precision="fp16")
    with pytest.raises(UnavailableError, match=r"none\.so"):
        build_engine(request)
    assert len(given) == 1


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
    monkeypatch.setattr(tensorrt_flavours, "import_tensorrt", lambda _target: object())
    monkeypatch.setattr(tensorrt_flavours, "driver_present", lambda: False)
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
        ({"batch_size": 4, "max_batch_size": 2}, "must not exceed"),
        ({"max_batch_size": True}, "max_batch_size"),
        ({"frames": 0}, "frames"),
        ({"height": -32}, "height"),
        ({"precision": "int4"}, "precision"),
        ({"precision": "bf16"}, "no kernels for bf16: build with --precision fp32 or tf32 or fp16 or int8"),
        ({"target": "tensorrt", "precision": "int8"}, "no kernels for int8.*target onnxruntime, openvino"),
        ({"pooling": "conv1d"}, "pooling"),
        ({"target": "tensorrt-rtx", "timing_cache": Path("t")}, "no timing cache"),
        ({"refittable": True}, "can always be refitted"),
        ({"strip_weights": True}, "can always be refitted"),
        ({"compute_capabilities": ("8.6",)}, "not built for a GPU"),
        ({"hardware_compatibility": "ampere+"}, "not built for a GPU"),
        ({"target": "tensorrt-rtx", "hardware_compatibility": "ampere+"}, "--compute-capability"),
        ({"target": "tensorrt", "compute_capabilities": ("8.6",)}, "--hardware-compatibility"),
        ({"target": "tensorrt-rtx", "compute_capabilities": ("sm_86",)}, "looks like 8.6"),
        ({"target": "tensorrt-rtx", "compute_capabilities": ("8.6", "8.6")}, "may occur only once"),
    ],
)
def test_requests_that_cannot_be(tmp_path, change, match):
    with pytest.raises(UsageError, match=match):
        BuildRequest(**({"preset": "tiny", "output": tmp_path, "target": "onnxruntime", "precision": "fp32"} | change))


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("--preset", "tiny"), 2),
        (("--weights", "none.safetensors", "--output", "e"), 4),
        (("--preset", "tiny", "--target", "tensorrt", "--output", "e"), 5),
        (("--preset", "tiny", "--precision", "bf16", "--output", "e"), 2),
        (("--preset", "tiny", "--size", "64", "--output", "e"), 2),
        (("--preset", "tiny", "--size", "50x96", "--output", "e"), 2),
        (("--preset", "tiny", "--target", "tensorrt-rtx", "--strip-weights", "--output", "e"), 5),
        (("--refit", "none.engine", "--output", "e"), 2),
        (("--refit", "none.engine", "--weights", "w", "--seed", "0", "--output", "e"), 2),
        (("--refit", "none.engine", "--weights", "w", "--output", "e"), 4),
    ],
)
def test_exit_codes(tmp_path, monkeypatch, capsys, arguments, status):
    monkeypatch.chdir(tmp_path)
    assert build(arguments) == status
    assert capsys.readouterr().err.splitlines()[-1].startswith("dtfsal: error:")
    assert not list(tmp_path.iterdir())


def test_a_wrong_argument_of_the_script(tmp_path):
    done = run_script("--preset", "huge", "--output", "e", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("dtfsal: error:")
    assert not list(tmp_path.iterdir())


def test_refit_is_what_build_with_an_option_was(lite_engine, tmp_path, capsys):
    """Both give the engine the weights of the file, byte for byte; the old words say the new name and no more."""
    weights = tmp_path / "other.safetensors"
    engine = read_bundle(lite_engine)
    config = ModelConfig.from_dict(engine.manifest.model_config)
    save_weights(seeded_model(config, seed=5), weights)
    files, results = [], []
    for words, lines in (
        (["refit", str(lite_engine), "--weights", str(weights)], 0),
        (["build", "--weights", str(weights), "--refit", str(lite_engine)], 1),
        (["build", f"--refit={lite_engine}", "--weights", str(weights)], 1),
    ):
        output = tmp_path / str(len(files))
        assert main([*words, "--output", str(output), "--json", "--inspect", "--quiet"]) == 0
        captured = capsys.readouterr()
        assert len(captured.err.splitlines()) == lines == captured.err.count("`dtfsal refit`")
        results.append(json.loads(captured.out) | {"engine": None, "seconds": None})
        files.append({path.name: path.read_bytes() for path in output.iterdir()})
    assert files[0] == files[1] == files[2]
    assert results[0] == results[1] == results[2]
    assert results[0]["layers"]
    made = read_bundle(tmp_path / "0").manifest
    assert made.weights["source"] == "other.safetensors"
    with open_engine(tmp_path / "0", threads=1) as opened:
        found = list(compare_engine(model_of(made, weights=weights), opened, synthetic_windows(config, 1)))
    assert not BARS["fp32"].misses(worst(found))
    assert engine.manifest.files != made.files


@pytest.mark.slow
def test_the_full_model_builds_for_tensorrt_rtx_without_a_gpu(tmp_path):
    pytest.importorskip("tensorrt_rtx")
    done = run_script(
        "--preset", "dtfsal", "--target", "tensorrt-rtx", "--precision", "fp16", "--report", "--output", tmp_path / "e"
    )
    assert done.returncode == 0, done.stderr
    manifest = read_bundle(tmp_path / "e").manifest
    assert manifest.graphs["window"].inputs[0].shape == (1, 3, 32, 224, 384)
    layers = json.loads((tmp_path / "e" / "layers.json").read_text())
    attentions = {layer["name"].split("/")[0] for layer in layers if "Attention." in layer["name"]}
    assert len(attentions) == 17
    report = json.loads((tmp_path / "e" / "report.json").read_text())
    assert [row["fused"] for row in report["attentions"]] == [True] * 17
