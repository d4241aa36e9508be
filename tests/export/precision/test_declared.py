"""Precision follows what modules declare, not what they are called."""

import copy

import onnx
import pytest

from dtfsal.export.precision.half import fp32_nodes
from dtfsal.export.precision.int8 import quantised_layers
from dtfsal.training.model.precision import EnginePrecision, declared_precisions

RENAMED = {
    "predict": "logits",
    "qkv": "queries_keys_values",
    "project": "out",
    "offset_mask": "moves",
    "mlp": "feed_forward",
    "decoders": "heads",
    "adaptive_stream": "deformable",
    "vggish": "ear",
}


@pytest.fixture(scope="module")
def graph(graph_of):
    """The tiny preset with deformable convolution in the gather form, and so with all three islands."""
    return graph_of("tiny", "tensorrt-rtx", "fp32")


def with_renamed_modules(model, graph):
    """A model whose modules have other names, and its graph."""
    model, renamed = copy.deepcopy(model), onnx.ModelProto()
    for module in list(model.modules()):
        for name in RENAMED.keys() & module._modules.keys():
            module._modules[RENAMED[name]] = module._modules.pop(name)
    renamed.CopyFrom(graph)
    for node in renamed.graph.node:
        node.name = new_name(node.name)
    return model, renamed


def new_name(node_name):
    place, _, operator = node_name.partition("/")
    return ".".join(RENAMED.get(part, part) for part in place.split(".")) + f"/{operator}"


@pytest.mark.parametrize("chosen", [fp32_nodes, quantised_layers])
def test_renamed_modules_keep_their_precision(model_of, graph, chosen):
    before = chosen(graph, declared_precisions(model_of("tiny")))
    model, renamed = with_renamed_modules(model_of("tiny"), graph)
    after = chosen(renamed, declared_precisions(model))
    assert set(after) == {new_name(name) for name in before} != set(before)
    # The names alone no longer say it.
    assert set(chosen(renamed, declared_precisions(model_of("tiny")))) != set(after)


@pytest.mark.parametrize("chosen", [fp32_nodes, quantised_layers])
def test_a_place_that_the_graph_lacks_has_no_effect(model_of, graph, chosen):
    declared = declared_precisions(model_of("tiny"))
    absent = EnginePrecision(int8=False, float32_positions=True, float32_after=True)
    assert chosen(graph, declared | {"encoder.no_such_module": absent}) == chosen(graph, declared)
