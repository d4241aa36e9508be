"""What TensorRT-RTX itself writes into an engine of one convolution, which it builds without a GPU."""

import re

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from dtfsal.engines.tensor_rt.log import make_logger
from dtfsal.export.request import BuildRequest
from dtfsal.export.tensor_rt import builder
from dtfsal.export.tensor_rt.builder import build_tensorrt

pytest.importorskip("tensorrt_rtx")


@pytest.fixture
def convolution():
    weights = np.random.default_rng(0).standard_normal((16, 16, 3, 3)).astype(np.float32)
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 16, 8, 8]) for name in "xy")
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="conv", pads=[1, 1, 1, 1])
    graph = helper.make_graph([node], "one", [x], [y], [numpy_helper.from_array(weights, "w")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)


def settings_of(plan):
    """The compiler's settings, which stand in the file as `name=value`."""
    found = re.findall(rb"\n  (tf32|stream_capturable)=(-?\d+)", plan.read_bytes())
    return {name.decode(): int(value) for name, value in found}


@pytest.mark.parametrize(("precision", "tf32"), [("fp32", 0), ("tf32", 1), ("fp16", 0), ("bf16", 0)])
def test_products_are_rounded_to_tf32_only_where_asked(convolution, tmp_path, precision, tf32):
    """FP16 and BF16 graphs have float32 islands. Left alone, the library rounds in all of them."""
    request = BuildRequest(preset="tiny", output=tmp_path, target="tensorrt-rtx", precision=precision)
    built = build_tensorrt(convolution, "tensorrt-rtx", tmp_path, options=request.engine_options())
    assert settings_of(built.path) == {"tf32": tf32, "stream_capturable": 1}


def test_an_engine_that_cannot_be_read_back_here_has_the_plans_record(convolution, tmp_path, monkeypatch):
    """As on a GPU that the engine is not for, here the library cannot read an engine: there is no GPU."""
    monkeypatch.setattr(builder, "driver_present", lambda: True)
    built = build_tensorrt(convolution, "tensorrt-rtx", tmp_path)
    assert [step.kind for step in built.steps if "conv" in step.nodes] == ["convolution"]
    assert built.steps_from == "plan"
    assert [layer["type"] for layer in built.layers] == ["CONVOLUTION"]


def test_attention_without_a_fused_kernel_is_built_whatever_words_the_library_has_for_it(tmp_path, monkeypatch):
    shape = [1, 2, 8, 32]  # no kernel computes it in FP32
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("q", "k", "v", "y")]
    node = helper.make_node("Attention", ["q", "k", "v"], ["y"], name="attention")
    graph = helper.make_graph([node], "one", tensors[:3], tensors[3:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)

    def foreign(trt):
        log = make_logger(trt)
        monkeypatch.setattr(type(log), "log", lambda self, *_: setattr(self, "last_error", "in other words"))
        return log

    monkeypatch.setattr(builder, "make_logger", foreign)
    assert not build_tensorrt(model, "tensorrt-rtx", tmp_path).attention_fused
