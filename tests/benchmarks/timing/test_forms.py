"""The forms that there are, what they lack, and how a form's process starts, warms up, runs and fails."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest

from dtfsal.benchmarks.timing import forms as module
from dtfsal.benchmarks.timing.form_process import FormProcess
from dtfsal.benchmarks.timing.form_worker import WorkerSpec, warm_up
from dtfsal.benchmarks.timing.forms import BuiltForm, Workload, choose_forms, engine_form, known_forms, lacking
from dtfsal.engines import read_bundle
from dtfsal.engines.errors import UnavailableError, UsageError
from dtfsal.engines.gpu.driver import GpuDriver
from dtfsal.export.request import FORMS
from dtfsal.training.model.config import PRESETS, ModelConfig


def test_every_engine_that_can_be_built_is_a_form():
    built = [form for form in known_forms() if isinstance(form, BuiltForm) and not form.cpu_kernels]
    assert {(form.target, form.precision) for form in built} == {(t, p) for t, ps in FORMS.items() for p in ps}
    names = [form.name for form in known_forms()]
    assert len(set(names)) == len(names)
    assert {"eager plain", "eager", "torch.compile", "ONNX Runtime fp32", "ONNX Runtime CUDA fp16"} <= set(names)
    assert {"TensorRT fp16", "TensorRT-RTX fp16"} <= set(names)


def test_a_new_target_is_a_new_form(monkeypatch):
    monkeypatch.setattr(module, "ENGINE_FORMS", {"abacus": {"int8": None}})
    (form,) = (form for form in known_forms() if isinstance(form, BuiltForm) and not form.cpu_kernels)
    assert (form.name, form.device, form.lacks()) == ("abacus int8", "cpu", "abacus is not installed")


def test_what_a_form_lacks_is_said(monkeypatch):
    monkeypatch.setattr(module, "find_gpu_driver", lambda: GpuDriver(None, problem="no driver"))
    assert lacking("onnxruntime", "cpu") is None
    assert lacking("onnxruntime", "cuda") == "needs an NVIDIA GPU: no driver"
    monkeypatch.setattr(module, "find_gpu_driver", lambda: GpuDriver("13.0", (("G", "8.9"),)))
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    assert "install onnxruntime-gpu" in lacking("onnxruntime", "cuda")
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CUDAExecutionProvider"])
    assert lacking("onnxruntime", "cuda") is None
    monkeypatch.setattr("shutil.which", lambda _: None)
    (compiled,) = choose_forms(["torch.compile"])
    assert compiled.lacks() == "torch.compile needs a C++ compiler: install g++"


def test_choosing_forms(toy_engine):
    assert choose_forms([]) == known_forms()
    assert [form.name for form in choose_forms(["eager"], [toy_engine])] == ["eager", "engine"]
    assert engine_form(toy_engine).device == "cpu"
    with pytest.raises(UsageError, match="no form 'slow'; choose among eager plain, eager"):
        choose_forms(["slow"])
    with pytest.raises(UsageError, match="'eager' is there twice"):
        choose_forms(["eager", "eager"])


@pytest.mark.parametrize(
    ("seconds", "number"),
    [
        ([9.0, 1.0, 1.02, 5.0], 3),  # the third differs by 2 % from the second
        ([1.0, 2.0, 1.0, 2.0, 1.0, 2.0], 5),  # never steady, and long enough
        ([0.01, 0.02] * 40, 34),  # never steady, and short: half a second of them
    ],
)
def test_warming_up_by_hand(seconds, number):
    runs = iter(seconds)
    assert warm_up(lambda: next(runs)) == seconds[:number]


TAP_WEIGHTS = (0.1, 0.2, 0.4, 0.3)  # the toy engine's; see tests/conftest.py


def toy_spec(toy_engine, tmp_path, **changes):
    manifest, generator = read_bundle(toy_engine).manifest, np.random.default_rng(0)
    video, audio = (
        generator.normal(size=(2, *tensor.shape[1:])).astype(np.float32) for tensor in manifest.graphs["window"].inputs
    )
    np.savez(tmp_path / "inputs.npz", video=video, audio=audio)
    fields = {
        "imports": ("onnxruntime",),
        "inputs": str(tmp_path / "inputs.npz"),
        "maps": str(tmp_path / "maps.npy"),
        "threads": 1,
        "bundle": str(toy_engine),
    }
    return WorkerSpec(**(fields | changes)), video, audio


def test_a_form_in_its_process(toy_engine, tmp_path):
    spec, video, audio = toy_spec(toy_engine, tmp_path)
    with FormProcess(spec, tmp_path / "log") as process:
        cold = process.cold_start
        assert min(cold.import_seconds, cold.load_seconds, cold.first_seconds) > 0
        assert cold.backend["name"] == "onnxruntime"
        assert process.warm_up()
        assert process.run() > 0
        assert process.peak_memory_bytes() >= cold.memory_before_bytes
    assert process._process.returncode == 0
    # The toy engine's closed form, and batch 2 of it.
    clip = read_bundle(toy_engine).manifest.clip
    std, mean = (np.array(values).reshape(1, 3, 1, 1, 1) for values in (clip.std, clip.mean))
    grey = (video * std + mean).mean(axis=1)  # (B, T, H, W)
    seen = np.tensordot(grey, TAP_WEIGHTS, (1, 0))
    heard = audio.mean(axis=(1, 2, 3, 4))[:, None, None]
    expected = np.clip(0.25 + 0.5 * seen + 0.05 * heard, 0, 1)
    np.testing.assert_allclose(np.load(spec.maps)[:, 0], expected, atol=1e-5)


def test_a_form_that_fails_says_why_and_leaves_no_process(toy_engine, tmp_path):
    spec, *_ = toy_spec(toy_engine, tmp_path, bundle=str(tmp_path / "nowhere"))
    process = FormProcess(spec, tmp_path / "log")
    with pytest.raises(UnavailableError, match=r"EngineError: .*nowhere"), process:
        pytest.fail("opened")
    assert process._process.returncode == 1


def test_a_form_whose_process_dies_says_its_last_words(toy_engine, tmp_path):
    spec, *_ = toy_spec(toy_engine, tmp_path)
    with FormProcess(spec, tmp_path / "log") as process:
        (tmp_path / "log").write_text("first\nout of luck\n")
        process._process.kill()
        with pytest.raises(UnavailableError, match="ended with code -9: out of luck"):
            process.run()


def test_a_worker_of_an_engine_never_imports_torch(toy_engine, tmp_path):
    spec, *_ = toy_spec(toy_engine, tmp_path)
    code = (
        "import io, sys; from dtfsal.benchmarks.timing.form_worker import WorkerSpec, work; import json; "
        "work(WorkerSpec(**json.loads(sys.argv[1])), io.StringIO('run\\nmemory\\n'), sys.stdout); "
        "assert 'torch' not in sys.modules"
    )
    fields = json.dumps(spec.__dict__)
    done = subprocess.run([sys.executable, "-c", code, fields], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [sorted(answer) for answer in answers[1:]] == [["seconds"], ["peak_memory_bytes"]]


def test_an_engine_of_the_batch_is_built_once_for_both_devices(tmp_path, monkeypatch):
    requests = []

    def build(request):
        requests.append(request)
        request.output.mkdir()

    monkeypatch.setattr(module, "build_engine", build)
    monkeypatch.setattr(module, "bundle_prepared", lambda form, bundle, *_: (form.device, bundle.name))
    workload = Workload(
        config=PRESETS["tiny"], weights=tmp_path / "w", folder=tmp_path, batch_size=3, threads=1, largest_batch=None
    )
    prepared = [form.prepare(workload) for form in choose_forms(["ONNX Runtime fp16", "ONNX Runtime CUDA fp16"])]
    assert prepared == [(device, "16x96x160-3-onnxruntime-fp16.engine") for device in ("cpu", "cuda")]
    (request,) = requests
    assert (request.target, request.precision, request.batch_size, request.graphs) == (
        "onnxruntime",
        "fp16",
        3,
        "window",
    )
    # One engine for several batch sizes.
    varied = [dataclasses.replace(workload, batch_size=batch, largest_batch=4) for batch in (1, 4)]
    assert len({choose_forms(["ONNX Runtime fp16"])[0].prepare(each) for each in varied}) == 1
    assert [request.max_batch_size for request in requests] == [None, 4]


def test_an_engine_for_another_clip_or_batch_is_refused(toy_engine, lite_engine, tmp_path):
    workload = Workload(config=PRESETS["tiny"], weights=tmp_path / "w", folder=tmp_path, batch_size=2, threads=1)
    with pytest.raises(UsageError, match="engine is for clips of 4x24x40 with sound, not 16x96x160 with sound"):
        engine_form(toy_engine).prepare(workload)
    config = ModelConfig.from_dict(read_bundle(lite_engine).manifest.model_config)
    with pytest.raises(UsageError, match="runs 1 windows at once, not 2"):
        engine_form(lite_engine).prepare(dataclasses.replace(workload, config=config))
    with pytest.raises(UsageError, match="not 8x64x96 without sound"):
        engine_form(lite_engine).prepare(dataclasses.replace(workload, config=dataclasses.replace(config, audio=None)))
