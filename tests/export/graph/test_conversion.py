"""The exported graphs: clean, named, and in the form that each target takes."""

import numpy as np
import onnx
import pytest
import torch

from dtfsal.export.graph.conversion import ExportError, check, count_operators
from dtfsal.export.graph.lowering import QUERIES_PER_CHUNK

TARGETS = [("onnxruntime", "fp32"), ("tensorrt-rtx", "fp16"), ("tensorrt", "fp16")]


@pytest.mark.parametrize(("target", "precision"), TARGETS)
def test_graphs_are_clean(graph_of, target, precision):
    graph = graph_of("tiny", target, precision)
    onnx.checker.check_model(graph)
    assert {opset.domain for opset in graph.opset_import} <= {"", "dtfsal"}
    assert next(opset.version for opset in graph.opset_import if opset.domain == "") == 23
    operators = count_operators(graph)
    unwanted = {"Shape", "Range", "Loop", "If", "GridSample", "BatchNormalization", "NonZero", "Identity", "Dropout"}
    assert not unwanted & operators.keys()
    assert not graph.metadata_props
    assert all(not node.metadata_props and not node.doc_string for node in graph.graph.node)
    text = graph.SerializeToString()
    assert b"site-packages" not in text
    assert b".py" not in text


def test_inputs_and_outputs(graph_of):
    def shapes(values):
        return {v.name: [dim.dim_value for dim in v.type.tensor_type.shape.dim] for v in values}

    graph = graph_of("tiny", "onnxruntime", "fp32").graph
    assert shapes(graph.input) == {"video": [1, 3, 16, 96, 160], "audio": [1, 9, 1, 48, 80]}
    assert shapes(graph.output) == {"saliency_map": [1, 1, 96, 160]}
    fp16 = graph_of("tiny", "tensorrt-rtx", "fp16").graph
    kinds = {value.type.tensor_type.elem_type for value in [*fp16.input, *fp16.output]}
    assert kinds == {onnx.TensorProto.FLOAT}


def test_node_names_are_places_in_the_model(graph_of):
    names = [node.name for node in graph_of("tiny", "onnxruntime", "fp32").graph.node]
    assert len(set(names)) == len(names)
    places = ("encoder.blocks.0.attn/Attention", "fusion.adaptive_stream.conv/DeformConv", "decoders.3.predict/MatMul")
    for start in places:
        assert any(name.startswith(start) for name in names)


def test_one_deformable_convolution_in_the_form_of_the_target(graph_of):
    native = count_operators(graph_of("tiny", "onnxruntime", "fp32"))
    assert native["DeformConv"] == 1
    assert "GatherElements" not in native
    plugin = graph_of("tiny", "tensorrt", "fp16")
    assert count_operators(plugin)["dtfsal::DeformConv2d"] == 1
    (node,) = [node for node in plugin.graph.node if node.domain == "dtfsal"]
    attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    assert attributes == {
        "plugin_version": b"1",
        "plugin_namespace": b"dtfsal",
        "stride": [1, 1],
        "padding": [1, 1],
        "dilation": [1, 1],
        "groups": 1,
        "offset_groups": 1,
    }
    assert len(node.input) == 5
    assert not {"DeformConv", "GridSample", "GatherElements"} & count_operators(plugin).keys()
    assert {opset.domain: opset.version for opset in plugin.opset_import} == {"": 23, "dtfsal": 1}
    gather = count_operators(graph_of("tiny", "tensorrt-rtx", "fp16"))
    assert gather["GatherElements"] == 4
    assert "DeformConv" not in gather


def test_every_attention_is_one_node(graph_of):
    for target, precision in TARGETS:
        operators = count_operators(graph_of("tiny", target, precision))
        assert operators["Attention"] == 5 + 1  # the encoder's blocks and the sound's Transformer layer
        assert operators["Softmax"] == 4  # the token weights of four levels


def test_chunks_share_keys_and_values(graph_of):
    graph = onnx.shape_inference.infer_shapes(graph_of("tiny", "onnxruntime", "fp32")).graph
    shapes = {v.name: [dim.dim_value for dim in v.type.tensor_type.shape.dim] for v in graph.value_info}
    first = next(node for node in graph.node if node.op_type == "Attention")
    query, key = (shapes[name] for name in first.input[:2])
    queries = 1 + 8 * 24 * 40
    assert key[1] == 1
    assert query[1] == -(-queries // QUERIES_PER_CHUNK)
    assert queries <= query[1] * query[2] < queries + query[1]


def test_token_maps_and_statistics_are_constants(graph_of):
    graph = graph_of("tiny", "onnxruntime", "fp32").graph
    names = {node.name for node in graph.node}
    assert not any("token_conv" in name for name in names)
    produced = {name for node in graph.node for name in node.output}
    weights = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Conv":  # no convolution computes its kernel
            assert node.input[1] in weights
            assert node.input[1] not in produced


def test_a_graph_that_computes_shapes_is_refused():
    node = onnx.helper.make_node("Shape", ["x"], ["y"])
    x = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [2])
    y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.INT64, [1])
    with pytest.raises(ExportError, match="Shape"):
        check(onnx.helper.make_model(onnx.helper.make_graph([node], "g", [x], [y])))


def test_exporting_leaves_the_model_as_it_was(model_of, graph_of):
    graph_of("tiny", "onnxruntime", "fp32")
    model = model_of("tiny")
    assert all(block.folded is None for block in model.enhance)
    assert any(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules())


def test_weights_are_the_models(model_of, graph_of):
    graph = graph_of("tiny", "onnxruntime", "fp32").graph
    weights = [onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer]
    ours = model_of("tiny").encoder.conv_proj.weight.detach().numpy()
    assert any(value.shape == ours.shape and np.array_equal(value, ours) for value in weights)
