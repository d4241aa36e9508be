"""Graphs with our own operators: what is replaced, what is left alone, and that they compute the same."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from dtfsal.benchmarks.accuracy.parity import BARS, compare_engine, model_of, worst
from dtfsal.engines import open_engine
from dtfsal.engines.errors import UsageError
from dtfsal.engines.native.cpu_kernels import register_cpu_kernels
from dtfsal.engines.native.projects import CPU_KERNELS
from dtfsal.export.builder import build_engine
from dtfsal.export.graph.conversion import count_operators
from dtfsal.export.graph.own_operators import with_own_operators
from dtfsal.export.request import BuildRequest
from dtfsal.training.model.inputs import synthetic_windows

RNG = np.random.default_rng(0)


def make_graph(nodes, x, weights, outputs):
    """A checked graph; node names are places in a model, as `to_onnx` makes them."""
    for number, node in enumerate(nodes):
        node.name = f"place.{number}/{node.op_type}.{number}"
    graph = helper.make_graph(
        nodes,
        "some",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)
    onnx.checker.check_model(model)
    return model


def random(*shape):
    return RNG.standard_normal(shape).astype(np.float32) * 0.1


def conv(x, weight, y, bias="b", **attributes):
    return helper.make_node("Conv", [x, weight, *([bias] if bias else [])], [y], **{"pads": [1] * 4} | attributes)


def run(model, x, library=None):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if library is not None:
        register_cpu_kernels(options, library)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    return session.run(None, {"x": x})


def assert_same(model, x, library, operators):
    before = run(model, x)
    replaced = with_own_operators(model)
    assert {name: n for name, n in count_operators(replaced).items() if "::" in name} == operators
    for a, b in zip(before, run(replaced, x, library), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)  # rounding of Winograd's transforms, on values of size 1


def test_a_gate_is_one_operator(kernel_library):
    """Convolution, sigmoid and spatial mean; the weights stay what they are, so that others can be put in."""
    nodes = [
        conv("x", "w", "c"),
        helper.make_node("Sigmoid", ["c"], ["s"]),
        helper.make_node("ReduceMean", ["s", "axes"], ["y"], keepdims=0),
    ]
    weights = {"w": random(48, 48, 3, 3), "b": random(48), "axes": np.array([2, 3])}
    model = make_graph(nodes, [2, 48, 8, 12], weights, {"y": [2, 48]})
    assert_same(model, random(2, 48, 8, 12), kernel_library, {"dtfsal::WinogradConv": 1})
    assert [node.name for node in model.graph.node] == ["place.0/WinogradConv.0"]


def test_what_else_is_asked_of_a_value_stays(kernel_library):
    """The convolution's output goes two ways, so its activation is not folded; a bias is made where there is none."""
    nodes = [
        conv("x", "w", "c", bias=None),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Add", ["c", "r"], ["y"]),
    ]
    model = make_graph(nodes, [1, 48, 8, 8], {"w": random(48, 48, 3, 3)}, {"y": [1, 48, 8, 8]})
    assert_same(model, random(1, 48, 8, 8), kernel_library, {"dtfsal::WinogradConv": 1})
    assert [node.op_type for node in model.graph.node] == ["WinogradConv", "Relu", "Add"]


@pytest.mark.parametrize(
    ("weight", "attributes", "size"),
    [
        ((48, 48, 3, 3), {"strides": [2, 2]}, 4),
        ((48, 48, 3, 3), {"pads": [0] * 4}, 6),
        ((48, 48, 3, 3), {"dilations": [2, 2]}, 6),
        ((48, 24, 3, 3), {"group": 2}, 8),
        ((48, 48, 1, 1), {"pads": [0] * 4}, 8),
        ((8, 48, 3, 3), {}, 8),
    ],
)
def test_other_convolutions_stay(weight, attributes, size):
    weights = {"w": random(*weight), "b": random(weight[0])}
    model = make_graph([conv("x", "w", "y", **attributes)], [1, 48, 8, 8], weights, {"y": [1, weight[0], size, size]})
    assert not any("::" in name for name in count_operators(with_own_operators(model)))


def test_linear_layers(kernel_library):
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["m1"]),
        helper.make_node("Add", ["m1", "b1"], ["a1"]),
        helper.make_node("Gelu", ["a1"], ["g"]),
        helper.make_node("MatMul", ["g", "w2"], ["m2"]),
        helper.make_node("Add", ["b2", "m2"], ["a2"]),
        helper.make_node("Gelu", ["a2"], ["t"], approximate="tanh"),  # another function: it stays
        helper.make_node("MatMul", ["t", "w3"], ["y"]),  # no bias: it stays
    ]
    weights = {"w1": random(64, 96), "b1": random(96), "w2": random(96, 64), "b2": random(64), "w3": random(64, 64)}
    model = make_graph(nodes, [2, 5, 64], weights, {"y": [2, 5, 64]})
    assert_same(model, random(2, 5, 64), kernel_library, {"dtfsal::Linear": 2})
    assert [node.op_type for node in model.graph.node] == ["Linear", "Linear", "Gelu", "MatMul"]


@pytest.mark.parametrize(("target", "precision"), [("onnxruntime", "fp16"), ("openvino", "fp32")])
def test_other_engines_have_none(target, precision, tmp_path):
    with pytest.raises(UsageError, match="for the target onnxruntime and --precision fp32"):
        BuildRequest(output=tmp_path / "e", preset="tiny", target=target, precision=precision, cpu_kernels=True)


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["tiny", "lite"])
def test_an_engine_with_them_keeps_parity(preset, tmp_path):
    request = BuildRequest(
        output=tmp_path / "own.engine", preset=preset, target="onnxruntime", precision="fp32", cpu_kernels=True
    )
    manifest = build_engine(request)
    assert manifest.native_libraries == {CPU_KERNELS.library: 1}
    assert CPU_KERNELS.library not in manifest.files
    with open_engine(request.output, device="cpu") as engine:
        model = model_of(manifest)
        found = worst(list(compare_engine(model, engine, synthetic_windows(model.config, 3))))
    assert not BARS["fp32"].misses(found)
