import dataclasses
import shutil
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from dtfsal.engines import (
    EngineError,
    EngineMismatchError,
    UnavailableError,
    UsageError,
    open_engine,
    write_bundle,
)
from dtfsal.engines.onnx_runtime import engine as backend

# Single-precision means of 48 values and a sigmoid: a few units in the last place (6e-8) of values below 1.
TOLERANCE = 1e-6


def reference(video: np.ndarray, audio: np.ndarray) -> np.ndarray:
    """What the tiny model computes, in float64."""
    sound = audio.astype(np.float64).mean((1, 2, 3, 4))[:, None, None, None]
    return 1 / (1 + np.exp(-(video.astype(np.float64).mean((1, 2))[:, None] + sound)))


def for_one_clip_only(model: onnx.ModelProto) -> onnx.ModelProto:
    """Add a reshape of the sound to 54 values, which fails inside a run on more than one clip."""
    model.graph.initializer.append(numpy_helper.from_array(np.array([9 * 2 * 3], np.int64), "one_clip"))
    model.graph.node[-1].output[0] = "free"
    model.graph.node.extend(
        [
            helper.make_node("Reshape", ["audio", "one_clip"], ["flat"]),
            helper.make_node("ReduceMax", ["flat"], ["loudest"], keepdims=0),
            helper.make_node("Mul", ["free", "loudest"], ["saliency_map"]),
        ]
    )
    return model


# Models that are not what they should be.


def test_garbage_under_a_right_hash(make_bundle):
    with pytest.raises(EngineError, match=r"cannot load .*model\.onnx: .*; build the engine again"):
        open_engine(make_bundle(model=b"not a model"), device="cpu", threads=1)


def test_edited_file_is_never_loaded(make_bundle, monkeypatch):
    folder = make_bundle()
    content = bytearray((folder / "model.onnx").read_bytes())
    content[-1] ^= 1
    (folder / "model.onnx").write_bytes(content)
    monkeypatch.setattr(backend, "import_onnxruntime", lambda: pytest.fail("loaded"))
    with pytest.raises(EngineError, match="SHA-256"):
        open_engine(folder)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"video_name": "frames"}, "input.* are frames, audio and the manifest says video, audio"),
        ({"video_type": TensorProto.FLOAT16}, r"input 'video' is tensor\(float16\) .* says tensor\(float\)"),
        ({"batch": 3}, r"input 'video' is tensor\(float\) \[3, 3, 2, 4, 6\] .* \['any', 3, 2, 4, 6\]"),
    ],
)
def test_model_and_manifest_that_do_not_belong_together(make_bundle, tiny_model, model, message):
    with pytest.raises(EngineMismatchError, match=message):
        open_engine(make_bundle(model=tiny_model(**model)), device="cpu", threads=1)


def test_fixed_batch(make_bundle, tiny_model, tiny_manifest, inputs):
    with open_engine(make_bundle(tiny_model(batch=2), tiny_manifest(batch=2)), device="cpu", threads=1) as engine:
        np.testing.assert_allclose(engine.run(inputs)["saliency_map"], reference(**inputs), rtol=0, atol=TOLERANCE)
        with pytest.raises(UsageError, match=r"must have shape \(2, 3, 2, 4, 6\)"):
            engine.run({name: array[:1] for name, array in inputs.items()})


def test_failure_inside_a_run_is_an_engine_error(make_bundle, tiny_model, inputs):
    with open_engine(make_bundle(model=for_one_clip_only(tiny_model())), device="cpu", threads=1) as engine:
        engine.run({name: array[:1] for name, array in inputs.items()})
        with pytest.raises(EngineError, match="failed in graph 'window'") as caught:
            engine.run(inputs)
        assert len(str(caught.value).splitlines()) == 1


def test_weights_in_an_external_data_file(tmp_path, tiny_model, tiny_manifest, inputs):
    model = tiny_model()
    scale = np.linspace(0, 2, 24, dtype=np.float32).reshape(1, 1, 4, 6)
    model.graph.initializer.append(numpy_helper.from_array(scale, "scale"))
    model.graph.node[-1].output[0] = "free"
    model.graph.node.append(helper.make_node("Mul", ["free", "scale"], ["saliency_map"]))
    source = tmp_path / "model.onnx"
    onnx.save(model, source, save_as_external_data=True, location="model.onnx.data", size_threshold=64)
    assert (tmp_path / "model.onnx.data").stat().st_size >= scale.nbytes
    files = {"model.onnx": source, "model.onnx.data": tmp_path / "model.onnx.data"}
    write_bundle(tmp_path / "engine", tiny_manifest(), files)
    for file in files.values():
        file.unlink()
    with open_engine(tmp_path / "engine", device="cpu", threads=1) as engine:
        expected = reference(**inputs) * scale
        np.testing.assert_allclose(engine.run(inputs)["saliency_map"], expected, rtol=0, atol=2 * TOLERANCE)


def test_external_data_outside_the_bundle_is_refused(tmp_path, make_bundle, tiny_model):
    model = tiny_model()
    model.graph.initializer.append(numpy_helper.from_array(np.ones((1, 1, 4, 6), np.float32), "scale"))
    model.graph.node[-1].output[0] = "free"
    model.graph.node.append(helper.make_node("Mul", ["free", "scale"], ["saliency_map"]))
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="secret.data", size_threshold=64)
    content = (tmp_path / "m.onnx").read_bytes()
    assert content.count(b"secret.data") == 1
    edited = onnx.load_from_string(content)
    for tensor in edited.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../secret.data"
    with pytest.raises(EngineError, match="cannot load"):
        open_engine(make_bundle(model=edited), device="cpu", threads=1)


# What else may be missing.


def has_cuda() -> bool:
    return "CUDAExecutionProvider" in backend.import_onnxruntime().get_available_providers()


@pytest.mark.skipif(has_cuda(), reason="ONNX Runtime here has a CUDA provider")
def test_cuda_that_is_not_there(make_bundle, inputs):
    with pytest.raises(UnavailableError, match="pip install --no-deps onnxruntime-gpu"):
        open_engine(make_bundle(), device="cuda")
    with open_engine(make_bundle(), device="auto", threads=1) as engine:
        engine.run(inputs)
        assert engine.describe()["backend"]["device"] == "cpu"


class FallingBack:
    """ONNX Runtime's GPU package on a machine without CUDA: the provider is listed, the session has only the CPU's."""

    def __init__(self, real, *, raises):
        self.real, self.raises, self.asked = real, raises, []

    def __getattr__(self, name):
        return getattr(self.real, name)

    def get_available_providers(self):
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]

    def preload_dlls(self):
        sys.stdout.write("Failed to load libcudart.so\n")
        raise OSError("libcudart.so")

    def InferenceSession(self, path, options, providers, **rest):  # noqa: N802
        self.asked.append(providers)
        if self.raises and len(providers) > 1:
            raise RuntimeError("CUDA failure 35")
        return self.real.InferenceSession(path, options, providers=["CPUExecutionProvider"], **rest)


@pytest.mark.parametrize("raises", [False, True])
def test_the_gpu_package_that_falls_back_to_the_cpu(make_bundle, inputs, monkeypatch, capfd, raises):
    fake = FallingBack(backend.import_onnxruntime(), raises=raises)
    monkeypatch.setattr(backend, "import_onnxruntime", lambda: fake)
    folder = make_bundle()
    with pytest.raises((UnavailableError, EngineError), match=r"fell back to the CPU|CUDA failure 35"):
        open_engine(folder, device="cuda", threads=1)
    with open_engine(folder, device="auto", threads=1) as engine:
        assert engine.describe()["backend"]["providers"] == ["CPUExecutionProvider"]
        assert engine.describe()["backend"]["device"] == "cpu"
        engine.run(inputs)
    assert fake.asked[0] == [("CUDAExecutionProvider", {"device_id": 0, "use_tf32": 0}), "CPUExecutionProvider"]
    fake.asked.clear()
    open_engine(folder, device="cpu", threads=1).close()
    assert fake.asked == [["CPUExecutionProvider"]]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("precision", "tf32"), [("fp32", 0), ("tf32", 1), ("fp16", 0)])
def test_a_gpu_rounds_to_tf32_only_where_the_engine_says_so(make_bundle, manifest, monkeypatch, precision, tf32):
    """ONNX Runtime's CUDA provider does it unless told otherwise."""
    fake = FallingBack(backend.import_onnxruntime(), raises=False)
    monkeypatch.setattr(backend, "import_onnxruntime", lambda: fake)
    open_engine(make_bundle(manifest=dataclasses.replace(manifest, precision=precision)), threads=1).close()
    assert fake.asked[0][0] == ("CUDAExecutionProvider", {"device_id": 0, "use_tf32": tf32})


def test_two_onnxruntime_packages_side_by_side(make_bundle, tmp_path, monkeypatch):
    for name in ("onnxruntime", "onnxruntime_gpu"):
        (tmp_path / "site" / f"{name}-1.31.0.dist-info").mkdir(parents=True)
        metadata = f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.31.0\n"
        (tmp_path / "site" / f"{name}-1.31.0.dist-info" / "METADATA").write_text(metadata)
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert backend.installed_distributions() == {"onnxruntime": "1.31.0", "onnxruntime-gpu": "1.31.0"}
    with pytest.raises(UnavailableError, match="pip uninstall -y onnxruntime onnxruntime-gpu"):
        open_engine(make_bundle())


def test_onnxruntime_absent(make_bundle, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UnavailableError, match="pip install onnxruntime"):
        open_engine(make_bundle())


def test_onnxruntime_stays_silent(make_bundle, tiny_model, tmp_path):
    """Its C++ log lines about broken models, failed runs and the machine do not reach the terminal."""
    model = for_one_clip_only(tiny_model())
    model.graph.initializer.append(numpy_helper.from_array(np.ones(3, np.float32), "unused"))  # makes it warn
    fails, broken = make_bundle(model=model), make_bundle(model=b"broken")
    script = f"""
import numpy as np
from dtfsal.engines import EngineError, open_engine
try:
    open_engine({str(broken)!r}, threads=1)
except EngineError:
    print("broken", end=" ")
with open_engine({str(fails)!r}, threads=1) as engine:
    try:
        engine.run({{"video": np.zeros((2, 3, 2, 4, 6), np.float32), "audio": np.zeros((2, 9, 1, 2, 3), np.float32)}})
    except EngineError:
        print("failed", end="")
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (result.stdout, result.stderr) == ("broken failed", "")


def test_the_bundle_may_go_once_loaded(make_bundle, inputs):
    folder = make_bundle()
    with open_engine(folder, device="cpu", threads=1) as engine:
        shutil.rmtree(folder)
        np.testing.assert_allclose(engine.run(inputs)["saliency_map"], reference(**inputs), rtol=0, atol=TOLERANCE)
