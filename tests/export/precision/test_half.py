"""FP16 graphs: strongly typed, with the islands that the module names and no cast inside them."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from dtfsal.export.graph.conversion import ExportError
from dtfsal.export.precision.half import fp32_nodes, to_reduced
from dtfsal.training.model.precision import EnginePrecision, declared_precisions


@pytest.fixture(scope="module")
def declared(model_of):
    return declared_precisions(model_of("tiny"))


@pytest.fixture(scope="module")
def typed(graph_of):
    return onnx.shape_inference.infer_shapes(
        graph_of("tiny", "tensorrt-rtx", "fp16"), check_type=True, strict_mode=True
    )


def kinds(graph):
    known = {v.name: v.type.tensor_type.elem_type for v in [*graph.value_info, *graph.input, *graph.output]}
    return known | {tensor.name: tensor.data_type for tensor in graph.initializer}


def test_nodes_outside_the_islands_are_fp16(typed, declared):
    islands, known = fp32_nodes(typed, declared), kinds(typed.graph)
    floats = (TensorProto.FLOAT, TensorProto.FLOAT16)
    for node in typed.graph.node:
        if node.op_type == "Cast":
            continue
        wanted = TensorProto.FLOAT if node.name in islands else TensorProto.FLOAT16
        inputs = node.input[:1] if node.op_type == "Resize" else node.input
        for name in [*inputs, *node.output]:
            if known.get(name) in floats:
                assert known[name] == wanted, (node.name, name)


def test_islands_are_the_tail_the_means_and_the_coordinates(typed, declared):
    islands = fp32_nodes(typed, declared)
    by_name = {node.name: node for node in typed.graph.node}
    operators = {by_name[name].op_type for name in islands}
    assert {"ReduceMean", "Sigmoid", "Floor", "Resize"} <= operators
    assert not operators & {"Attention", "LayerNormalization", "Gelu", "MatMul", "Gemm", "GatherElements"}
    convolutions = [name for name in islands if by_name[name].op_type == "Conv"]
    assert [name.split("/")[0] for name in convolutions] == ["final"]


def test_no_value_is_rounded_inside_an_island(typed):
    producers = {name: node for node in typed.graph.node for name in node.output}
    for node in typed.graph.node:
        if node.op_type == "Cast" and node.name.startswith("cast/"):
            before = producers.get(node.input[0])
            assert before is None or not before.name.startswith("cast/"), node.name


def test_the_weights_are_half_the_size(graph_of):
    def size(target, precision):
        return sum(len(t.raw_data) for t in graph_of("tiny", target, precision).graph.initializer)

    ratio = size("onnxruntime", "fp16") / size("onnxruntime", "fp32")
    assert 0.49 < ratio < 0.52


def model_of_nodes(nodes, weight, shape):
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy")
    graph = helper.make_graph(nodes, "g", [x], [y], [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)])


def test_a_weight_beyond_fp16_is_said():
    weight = numpy_helper.from_array(np.array([1.0, 1e5], np.float32), "huge")
    nodes = [
        helper.make_node("Mul", ["x", "huge"], ["z"], name="encoder/Mul.0"),
        helper.make_node("ReduceMean", ["z"], ["y"], name="model/ReduceMean.1"),
    ]
    with pytest.raises(ExportError, match="huge"):
        to_reduced(model_of_nodes(nodes, weight, [2]), "fp16", {})


def test_a_weight_used_in_both_precisions_stands_in_both():
    weight = numpy_helper.from_array(np.eye(2, dtype=np.float32), "w")
    nodes = [
        helper.make_node("Mul", ["x", "w"], ["p"], name="decoders.0.predict/Conv.0"),
        helper.make_node("Mul", ["p", "w"], ["y"], name="model/Mul.1"),
    ]
    declared = {"decoders.0.predict": EnginePrecision(float32_after=True)}
    converted = to_reduced(model_of_nodes(nodes, weight, [2, 2]), "fp16", declared)
    onnx.checker.check_model(converted, full_check=True)
    found = {tensor.name: tensor.data_type for tensor in converted.graph.initializer}
    assert found == {"w": TensorProto.FLOAT, "w/fp16": TensorProto.FLOAT16}
