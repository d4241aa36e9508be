"""FP32 to INT8 graphs: the layers that tolerate it, between quantisation nodes with calibrated ranges.

A quantised layer takes 8-bit steps between the extremes that calibration saw, and multiplies by weights of 7 bits with
a scale for each output channel: two products of 8 by 8 bits overflow the 16-bit sums of processors without VNNI, two of
8 by 7 bits do not. The nodes are standard ones (QuantizeLinear, DequantizeLinear), which back ends fuse into integer
kernels. Inputs, outputs and everything between layers stay float32.

MLPs and 2-D convolutions of 96 channels or more, depthwise ones included, become integers. These stay float32 (figures:
`docs/explanation/precision.md`):

- modules that declare `int8=False`, and all inside them; see `dtfsal.training.model.precision`:
  - layers that write into residual sums (the transformer's and the blocks' last ones), and queries, keys and values:
    what they round stays or is sharpened by a softmax, and they alone cost as much accuracy as all others together;
  - VGGish and the decoders: a fourth of the convolutions' work in `dtfsal`, and half of what INT8 cost its maps;
  - the offsets of the deformable convolution, which are positions;
- narrow layers, the first ones among them: they average the rounding of few products, and have little work;
- the deformable convolution's own sampling;
- the tail of FP32 of every precision; attention's products and its pooling.
"""

from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np
import onnx
from onnx import NodeProto, TensorProto

from dtfsal.export.graph.conversion import quiet
from dtfsal.export.precision.calibration import ValueRange, value_ranges
from dtfsal.export.precision.half import fp32_nodes
from dtfsal.training.model.inputs import Inputs
from dtfsal.training.model.precision import EnginePrecision

LEAST_CHANNELS, LEAST_DEPTH = 96, 16
_ACTIVATIONS = frozenset({"Relu", "Clip"})
_QUANTISED = ("Conv", "MatMul")
_PRODUCTS = (*_QUANTISED, "Gemm", "Attention", "DeformConv")


def to_int8(model: onnx.ModelProto, runs: Iterator[Inputs], declared: Mapping[str, EnginePrecision]) -> onnx.ModelProto:
    """An INT8 copy of a graph from `to_onnx`, with float32 inputs and outputs; the graph if no layer tolerates it.

    Args:
        model: an FP32 graph whose node names are places in the model.
        runs: the inputs of the runs to calibrate on, at least one.
        declared: what the model's modules ask for, by place. A graph may be a part of the model: a place that it does
            not hold has no effect.
    """
    layers = quantised_layers(model, declared)
    if not layers:
        return model
    activations = _activations_behind(model, layers)
    names = _tensors_around(model, layers, activations)
    return with_quantisation(model, layers + activations, value_ranges(model, names, runs))


def quantised_layers(model: onnx.ModelProto, declared: Mapping[str, EnginePrecision]) -> list[str]:
    """Names of the nodes that compute in INT8, in the graph's order; see `to_int8`."""
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    floats = fp32_nodes(model, declared)
    float_modules = tuple(f"{place}." for place, precision in declared.items() if not precision.int8)
    return [
        node.name
        for node in model.graph.node
        if node.op_type in _QUANTISED
        and not node.domain
        and node.name not in floats
        and not f"{node.name.split('/')[0]}.".startswith(float_modules)
        and node.input[1] in weights
        and _is_wide_layer(node, weights[node.input[1]])
    ]


def with_quantisation(model: onnx.ModelProto, nodes: list[str], ranges: dict[str, ValueRange]) -> onnx.ModelProto:
    """A copy of a graph with quantisation nodes around some of its nodes.

    Args:
        model: an FP32 graph.
        nodes: names of convolutions and matrix products, and of activations that follow convolutions.
        ranges: of the activations that they take, and that convolutions and activations give.
    """
    from onnxruntime.quantization import CalibrationMethod, QDQQuantizer, QuantType
    from onnxruntime.quantization.calibrate import TensorData, TensorsData

    extremes = {
        name: TensorData(lowest=np.float32(found.lowest), highest=np.float32(found.highest))
        for name, found in ranges.items()
    }
    with quiet():  # the library's notes are about graphs of other makers
        quantiser = QDQQuantizer(
            onnx.shape_inference.infer_shapes(model),
            per_channel=True,
            reduce_range=True,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=TensorsData(CalibrationMethod.MinMax, extremes),
            nodes_to_quantize=nodes,
            nodes_to_exclude=[],
            op_types_to_quantize=[*_QUANTISED, *_ACTIVATIONS],
            # Products of a transformer go into sums and norms, which are float32 and want all their bits.
            extra_options={"OpTypesToExcludeOutputQuantization": ["MatMul"]},
        )
        quantised: onnx.ModelProto = quantiser.quantize_model()
        quantiser.model.topological_sort()
    del quantised.graph.value_info[:]
    _name_by_place(quantised)
    return quantised


def layer_types(model: onnx.ModelProto) -> dict[str, list[str]]:
    """Names of a quantised graph's layers with products, by what they compute in: "int8" or "fp32"."""
    producers = {name: node.op_type for node in model.graph.node for name in node.output}
    found: dict[str, list[str]] = {"int8": [], "fp32": []}
    for node in model.graph.node:
        if node.op_type in _PRODUCTS:
            integers = all(producers.get(name) == "DequantizeLinear" for name in node.input[:2])
            found["int8" if integers else "fp32"].append(node.name)
    return found


def _is_wide_layer(node: NodeProto, weight: TensorProto) -> bool:
    """Whether it is a linear layer, or a 2-D convolution with enough channels."""
    if node.op_type == "MatMul":
        return len(weight.dims) == 2 and weight.dims[0] >= LEAST_DEPTH
    groups = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
    return len(weight.dims) == 4 and weight.dims[1] * groups >= LEAST_CHANNELS


def _activations_behind(model: onnx.ModelProto, layers: list[str]) -> list[str]:
    """Names of the activations that alone take a quantised convolution's result.

    They go into its rounding: the steps begin at 0, or end at the activation's ceiling.
    """
    uses = Counter(name for node in model.graph.node for name in node.input)
    uses.update(value.name for value in model.graph.output)
    chosen = set(layers)
    convolved = {n.output[0] for n in model.graph.node if n.name in chosen and n.op_type == "Conv"}
    return [
        node.name
        for node in model.graph.node
        if node.op_type in _ACTIVATIONS and node.input[0] in convolved and uses[node.input[0]] == 1
    ]


def _tensors_around(model: onnx.ModelProto, layers: list[str], activations: list[str]) -> list[str]:
    """Names of the tensors that get steps of their own, each once."""
    chosen, acting = set(layers), set(activations)
    names: dict[str, None] = {}
    for node in model.graph.node:
        if node.name in chosen:
            names[node.input[0]] = None
        if node.name in acting or (node.name in chosen and node.op_type == "Conv"):
            names[node.output[0]] = None
    return list(names)


def _name_by_place(model: onnx.ModelProto) -> None:
    """Have quantisation nodes say where in the model they are: with the layer that takes what they give."""
    users = {name: node for node in reversed(model.graph.node) for name in node.input}
    producers = {name: node for node in model.graph.node for name in node.output}
    number = len(model.graph.node)
    for node in reversed(model.graph.node):
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        beside = users.get(node.output[0]) or producers[node.input[0]]
        number += 1
        node.name = f"{beside.name.split('/')[0]}/{node.op_type}.{number}"
