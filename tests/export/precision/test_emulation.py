"""A reduced graph's rounding on a machine without kernels of its type: where it is, and what BF16 costs the maps.

ONNX Runtime's CPU provider has no BF16 kernels and computes FP16 in steps of its own. In the emulation every weight
and every value of the reduced type is rounded to it once, at the node that gives it, and each node computes in float32.
That is what a GPU's kernels do that accumulate in float32; fused ones round less often.

TF32 is no type of a graph: a GPU's kernels round the factors of float32 products to it. There the emulation rounds each
product's factors.
"""

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from dtfsal.benchmarks.accuracy.parity import BARS, Bars, compare, worst
from dtfsal.export.precision.half import REDUCED_TYPES, to_reduced
from dtfsal.training.model.inputs import synthetic_windows

# Measured with seeded weights (docs/explanation/precision.md): CC 0.9982 and 1.4 px for `tiny`, 0.9982 and 0 px for
# `dtfsal`.
BF16_BARS = Bars(cc=0.995, peak_shift_pixels=2.0)
PRODUCTS = ("Conv", "ConvTranspose", "MatMul", "Gemm")
TYPES = {"fp16": np.float16, "bf16": ml_dtypes.bfloat16}


def run(graph, inputs):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Its optimiser may take two casts that lose digits for none.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, inputs)[0]


def emulated(model, precision):
    """A float32 graph that gives the values of what `to_reduced` gave."""
    reduced = REDUCED_TYPES[precision].onnx_type
    inferred = onnx.shape_inference.infer_shapes(model).graph
    kinds = {value.name: value.type.tensor_type.elem_type for value in [*inferred.value_info, *inferred.output]}
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    nodes = []
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == reduced:
                attribute.i = TensorProto.FLOAT
        nodes.append(node)
        for position, name in enumerate(node.output):
            if kinds.get(name) == reduced:
                node.output[position] = f"{name}/exact"
                nodes += rounding(f"{name}/exact", name, reduced)
    weights = [
        numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name)
        if tensor.data_type == reduced
        else tensor
        for tensor in graph.initializer
    ]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(weights)
    return copy


def rounding(name, result, reduced):
    """Casts to the reduced type and back."""
    narrow = f"{result}/narrow"
    return [
        helper.make_node("Cast", [name], [narrow], name=f"round/{result}", to=reduced),
        helper.make_node("Cast", [narrow], [result], name=f"widen/{result}", to=TensorProto.FLOAT),
    ]


def emulated_tf32(model):
    """A float32 graph whose products take factors of 10 bits of mantissa, rounded to nearest.

    x - (x - c) with c = x (2^13 + 1) keeps the upper 11 of a float32's 24 digits (Veltkamp's splitting).
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    nodes = []
    for node in graph.node:
        if node.op_type in PRODUCTS:
            for position, name in enumerate(node.input[:2]):
                part = f"{node.name}/{position}"
                nodes += [
                    helper.make_node("Mul", [name, "tf32/splitter"], [f"{part}/c"]),
                    helper.make_node("Sub", [f"{part}/c", name], [f"{part}/rest"]),
                    helper.make_node("Sub", [f"{part}/c", f"{part}/rest"], [f"{part}/tf32"]),
                ]
                node.input[position] = f"{part}/tf32"
        nodes.append(node)
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.append(numpy_helper.from_array(np.float32(2**13 + 1), "tf32/splitter"))
    return copy


def test_factors_are_rounded_to_the_ten_bits_of_tf32():
    rng = np.random.default_rng(0)
    x, w = (rng.normal(size=size).astype(np.float32) for size in ((5, 3), (3, 4)))
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, s) for name, s in (("x", [5, 3]), ("y", [5, 4]))]
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="product")
    graph = helper.make_graph([node], "g", tensors[:1], tensors[1:], [numpy_helper.from_array(w, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)

    def rounded(value):
        bits = value.view(np.uint32)
        return ((bits + 0x0FFF + ((bits >> 13) & 1)) & ~np.uint32(0x1FFF)).view(np.float32)

    got = run(emulated_tf32(model), {"x": x})
    np.testing.assert_allclose(got, rounded(x).astype(np.float64) @ rounded(w), rtol=1e-6, atol=1e-7)
    assert np.abs(got - x.astype(np.float64) @ w).max() > 1e-5


def test_tf32_misses_the_bar_of_fp32_and_keeps_its_own(model_of, graph_of):
    """Why a build for "fp32" tells the library not to round: it does unless told."""
    model = model_of("tiny")
    graph = emulated_tf32(graph_of("tiny", "onnxruntime", "fp32"))
    inputs = next(iter(synthetic_windows(model.config, 1)))
    with torch.no_grad():
        expected = model(*(torch.from_numpy(value) for value in inputs.values()))[0, 0].numpy()
    found = compare(expected, run(graph, inputs)[0, 0])
    assert BARS["fp32"].misses(found)
    assert not BARS["tf32"].misses(found), found


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_values_and_weights_are_rounded_where_the_graph_rounds(precision):
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(2, 5, 7)).astype(np.float32)
    nodes = [
        helper.make_node("Mul", ["x", "w"], ["p"], name="encoder/Mul.0"),
        helper.make_node("Add", ["p", "w"], ["s"], name="encoder/Add.1"),
        helper.make_node("ReduceMean", ["s"], ["y"], name="model/ReduceMean.2", keepdims=1),
    ]
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, s) for name, s in (("x", [5, 7]), ("y", [1, 1]))]
    graph = helper.make_graph(nodes, "g", tensors[:1], tensors[1:], [numpy_helper.from_array(w, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)
    got = run(emulated(to_reduced(model, precision, {}), precision), {"x": x})

    def rounded(value):
        return value.astype(TYPES[precision]).astype(np.float32)

    product = rounded(rounded(x) * rounded(w))
    expected = rounded(product + rounded(w)).mean()  # the mean is an island
    np.testing.assert_allclose(got, [[expected]], rtol=1e-6)
    assert abs(float(got[0, 0]) - float((x * w + w).mean())) > 1e-6  # it did round


def test_bf16_keeps_the_maps_bars(model_of, graph_of):
    model = model_of("tiny")
    graph = emulated(graph_of("tiny", "tensorrt-rtx", "bf16"), "bf16")
    onnx.checker.check_model(graph)
    kinds = {tensor.data_type for tensor in graph.graph.initializer}
    assert TensorProto.BFLOAT16 not in kinds
    results = []
    for inputs in synthetic_windows(model.config, 2):
        with torch.no_grad():
            expected = model(*(torch.from_numpy(value) for value in inputs.values()))[0, 0].numpy()
        found = run(graph, inputs)[0, 0]
        results.append(compare(expected, found))
        # Random weights give several peaks of nearly one height; which of them is the highest, rounding may change.
        assert expected.flat[found.argmax()] > expected.max() - 0.005
    assert worst(results).cc >= BF16_BARS.cc
    assert worst(results).max_abs_error > 1e-3  # it did round
