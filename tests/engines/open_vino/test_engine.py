"""The OpenVINO back end on a model in closed form; skipped where OpenVINO is absent."""

import subprocess
import sys

import numpy as np
import pytest
from onnx import helper

from dtfsal.engines import EngineError, EngineMismatchError, UnavailableError, UsageError, open_engine
from dtfsal.engines.open_vino import engine as backend

pytest.importorskip("openvino")

# As for ONNX Runtime: single-precision means of 48 values and a sigmoid.
TOLERANCE = 1e-6


@pytest.fixture
def make_engine(make_bundle, tiny_manifest, tiny_model):
    """Make a bundle for OpenVINO of a batch and a precision."""

    def make(batch=-1, precision="fp32", model=None):
        manifest = tiny_manifest(batch=batch)
        values = {**manifest.__dict__, "target": "openvino", "precision": precision}
        if model is None:
            model = tiny_model(batch="batch" if batch < 0 else batch)
        return make_bundle(model, type(manifest)(**values))

    return make


def reference(video, audio):
    sound = audio.astype(np.float64).mean((1, 2, 3, 4))[:, None, None, None]
    return 1 / (1 + np.exp(-(video.astype(np.float64).mean((1, 2))[:, None] + sound)))


def test_it_computes_what_the_model_is(make_engine, inputs):
    with open_engine(make_engine(), threads=1) as engine:
        np.testing.assert_allclose(engine.run(inputs)["saliency_map"], reference(**inputs), rtol=0, atol=TOLERANCE)
        one = {name: array[:1] for name, array in inputs.items()}  # another batch
        np.testing.assert_allclose(engine.run(one)["saliency_map"], reference(**one), rtol=0, atol=TOLERANCE)


def test_outputs_belong_to_the_caller(make_engine, inputs):
    with open_engine(make_engine(2), threads=1) as engine:
        first = engine.run(inputs)["saliency_map"]
        before = first.copy()
        engine.run({name: -array for name, array in inputs.items()})
    np.testing.assert_array_equal(first, before)


def test_inputs_are_neither_kept_nor_changed(make_engine, inputs):
    copies = {name: array.copy() for name, array in inputs.items()}
    with open_engine(make_engine(2), threads=1) as engine:
        engine.run(inputs)
        for name, array in inputs.items():
            np.testing.assert_array_equal(array, copies[name])
            array[...] = 0
        np.testing.assert_allclose(engine.run(copies)["saliency_map"], reference(**copies), rtol=0, atol=TOLERANCE)


def test_what_it_says_of_itself(make_engine):
    with open_engine(make_engine(), threads=1) as engine:
        backend_said = engine.describe()["backend"]
    assert (backend_said["name"], backend_said["device"], backend_said["threads"]) == ("openvino", "cpu", 1)
    assert backend_said["computes_in"] == "f32"


def test_bf16_is_computed_as_the_processor_can(make_engine, inputs):
    has_bf16 = "BF16" in backend._core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    with open_engine(make_engine(precision="bf16"), threads=1) as engine:
        assert engine.describe()["backend"]["computes_in"] == ("bf16" if has_bf16 else "f32")
        y = engine.run(inputs)["saliency_map"]
    # BF16 keeps 8 bits; sums of values below 1.
    np.testing.assert_allclose(y, reference(**inputs), rtol=0, atol=2e-2 if has_bf16 else TOLERANCE)


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        (b"not a model", EngineError, r"OpenVINO .* cannot load .*model\.onnx: .*; build the engine again"),
        ({"video_name": "frames"}, EngineMismatchError, "input.* are .*frames.* and the manifest says video, audio"),
        ({"batch": 3}, EngineMismatchError, r"input 'video' is float32 \[3, 3, 2, 4, 6\]"),
    ],
)
def test_models_that_are_not_what_they_should_be(make_engine, tiny_model, model, error, message):
    model = model if isinstance(model, bytes) else tiny_model(**model)
    with pytest.raises(error, match=message) as raised:
        open_engine(make_engine(model=model), threads=1)
    assert len(str(raised.value).splitlines()) == 1


def test_a_gpu_is_refused(make_engine):
    with pytest.raises(UnavailableError, match="use device 'cpu'"):
        open_engine(make_engine(), device="cuda")


def test_ctrl_c_after_engines_were_closed_in_the_order_of_opening(make_engine):
    """A signal's handler runs on the stack that was set for it, which must still be there."""
    script = f"""
import signal
from dtfsal.engines import open_engine
engines = [open_engine({str(make_engine())!r}, threads=1) for _ in range(2)]
while engines:
    engines.pop(0).close()
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("alive")
"""
    done = subprocess.run([sys.executable, "-X", "faulthandler", "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "alive\n")


def test_a_closed_engine(make_engine, inputs):
    engine = open_engine(make_engine(), threads=1)
    engine.close()
    with pytest.raises(UsageError, match="closed"):
        engine.run(inputs)


def test_without_openvino(make_engine, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    with pytest.raises(UnavailableError, match="pip install 'dtfsal\\[openvino\\]'"):
        open_engine(make_engine())


def test_the_cause_of_an_error_is_found_and_nothing_printed(make_engine, tiny_model, capfd):
    cut = tiny_model().SerializeToString()[:-10]
    with pytest.raises(EngineError, match="Model can't be parsed; build the engine again"):
        open_engine(make_engine(model=cut), threads=1)
    operator = helper.make_node("Fold", ["video"], ["saliency_map"], domain="ours")
    model = tiny_model()
    del model.graph.node[:]
    model.graph.node.append(operator)
    model.opset_import.append(helper.make_opsetid("ours", 1))
    with pytest.raises(EngineError, match=r"No conversion rule found for operations: .*Fold"):
        open_engine(make_engine(model=model), threads=1)
    assert backend._cause(RuntimeError()) == "RuntimeError"
    assert capfd.readouterr() == ("", "")
