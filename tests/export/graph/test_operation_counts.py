"""Arithmetic beside products: what a graph's nodes count against what the operators of PyTorch do."""

import pytest
import torch

from dtfsal.benchmarks.count.flops import count
from dtfsal.benchmarks.count.graph_flops import by_part
from dtfsal.benchmarks.count.torch_memory import FusedOnMeta
from dtfsal.benchmarks.count.torch_operations import OtherOperations
from dtfsal.export.graph.costs import node_costs
from dtfsal.export.graph.operation_counts import BATCH_NORM, SOFTMAX
from dtfsal.export.graph.parts import window_part
from dtfsal.training import build_model
from dtfsal.training.model.blocks import LTEB

# ONNX's operators and PyTorch's that do the same.
SAME = {
    "Resize": ("upsample_bilinear2d",),
    "LayerNormalization": ("native_layer_norm",),
    "Gelu": ("gelu",),
    "Sigmoid": ("sigmoid",),
    "Relu": ("relu", "relu_"),
    "MaxPool": ("max_pool2d_with_indices", "max_pool3d_with_indices"),
    "ReduceMean": ("mean",),
    "Softmax": ("_softmax",),
}
# The graph attends in groups of queries, and pads the last of each head: block 0 has 7,681 queries and 121 keys, in 16
# groups of 481, and block 1 two heads of 1,921 and 481, in 4 groups of 481.
PADDED_SCORES = (16 * 481 - 7681) * 121 + 2 * (4 * 481 - 1921) * 481
PARTS = {
    "visual encoder": ("encoder", SOFTMAX * PADDED_SCORES),
    "top-down path": ("top_down", 0),
    "token enhancement": ("enhance", 0),
    "sound encoder": ("audio", 0),
}


@pytest.fixture(scope="module")
def costs(graph_of):
    """Of the tiny preset's graph for ONNX Runtime."""
    return node_costs(graph_of("tiny", "onnxruntime", "fp32"))


@pytest.fixture(scope="module")
def operators():
    """Operations by PyTorch's operators, of the model with its tokens' maps folded, as a graph has them."""
    with torch.device("meta"), torch.no_grad():
        model = build_model("tiny").eval()
        for block in model.modules():
            if isinstance(block, LTEB):
                block.fold_tokens()
        inputs = tuple(tensor.to("meta") for tensor in window_part(model.config, 1).example_inputs())
        with FusedOnMeta(), OtherOperations() as counter:
            model(*inputs)
    return counter.by_operator


@pytest.mark.parametrize("operator", SAME)
def test_an_operator_counts_alike_in_both(costs, operators, operator):
    nodes = sum(cost.other_operations for cost in costs if cost.operator == operator)
    assert nodes == sum(operators[name] for name in SAME[operator]) > 0


def test_attention_counts_alike_but_for_padding(costs, operators):
    nodes = sum(cost.other_operations for cost in costs if cost.operator == "Attention")
    assert nodes - SOFTMAX * PADDED_SCORES == operators["_scaled_dot_product_flash_attention_for_cpu"] > 0


@pytest.mark.parametrize("part", PARTS)
def test_a_part_counts_alike_in_both(costs, part):
    name, more = PARTS[part]
    assert by_part(costs)[part].other_operations == count("tiny").parts[name].other_operations + more > 0


def test_only_the_folded_batch_norms_are_missing_in_the_decoders(costs, operators):
    """The other batch norms are the fusion's: three streams of 32 channels at 3x5, 8 times."""
    decoders = operators["native_batch_norm"] - 3 * BATCH_NORM * 32 * 8 * 3 * 5
    assert (
        count("tiny").parts["decoders"].other_operations - by_part(costs)["decoders"].other_operations == decoders > 0
    )


def test_the_definition_of_deformable_sampling_takes_little_more(costs):
    """It computes positions and the corners' weights besides, once for all channels."""
    fusion = count("tiny").parts["fusion"].other_operations - 3 * BATCH_NORM * 32 * 8 * 3 * 5
    assert 1 < fusion / by_part(costs)["fusion"].other_operations < 1.1


def test_what_is_in_no_part(costs):
    report = count("tiny")
    rest = report.parts["final"].other_operations + report.rest_operations
    assert by_part(costs)["final fusion, casts"].other_operations == rest > 0


# ONNX's operators in graphs of ours that move values, make constants, or only say how large something is.
MOVES = {
    *("Cast", "Concat", "Constant", "ConstantOfShape", "DepthToSpace", "Expand", "Flatten", "Gather", "GatherElements"),
    *("GatherND", "Identity", "Pad", "Reshape", "Shape", "Slice", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"),
}


@pytest.mark.parametrize("target", ["onnxruntime", "tensorrt-rtx"])
def test_every_node_that_computes_is_counted(graph_of, target):
    costs = node_costs(graph_of("tiny", target, "fp32" if target == "onnxruntime" else "fp16"))
    assert {cost.operator for cost in costs if not cost.flops + cost.other_operations} <= MOVES
