"""What each node of a graph costs: operations and bytes, from the shapes alone.

`flops` count two for each multiply-accumulate of convolutions, matrix products and attentions, as
`dtfsal.benchmarks.count.flops` does; `other_operations` is the rest, by `dtfsal.export.graph.operation_counts`. An
operator of our own counts what it stands for, not what it spares. Bytes are those of a node's inputs and outputs read
and written once each, so a kernel that fuses nodes moves fewer.
"""

import copy
import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Literal

import onnx
from onnx import NodeProto

from dtfsal.export.graph.conversion import ExportError
from dtfsal.export.graph.lowering import PLUGIN_DOMAIN
from dtfsal.export.graph.operation_counts import attention_sizes, other_operations

CostKind = Literal[
    "attention", "matrix product", "convolution", "depthwise convolution", "deformable convolution", "other"
]
KINDS: tuple[CostKind, ...] = (
    "matrix product",
    "attention",
    "convolution",
    "depthwise convolution",
    "deformable convolution",
    "other",
)
# The parts of a model, by the beginnings of the places in it.
PARTS: Mapping[str, str] = {
    "encoder": "visual encoder",
    "top_down": "top-down path",
    "enhance": "token enhancement",
    "audio": "sound encoder",
    "mixing": "mixing along time",
    "synchrony": "synchrony",
    "fusion": "fusion",
    "decoders": "decoders",
}
OTHER_PART = "final fusion, casts"

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class NodeCost:
    """A node and what it costs.

    Attributes:
        name: of the node.
        operator: ONNX's, or `dtfsal::Name`.
        place: of the node in the model, e.g. "encoder.blocks.0.attn".
        part: the part of the model, one of `PARTS` or `OTHER_PART`.
        kind: of its arithmetic.
        flops: two for each multiply-accumulate.
        bytes_moved: of inputs, weights and outputs.
        inputs: their shapes; an absent optional input is ().
        output: the first output's shape.
        groups: of a convolution, else 1.
        strides: of a convolution, else empty.
        other_operations: arithmetic that is not a product.
        output_bytes: of all outputs.
    """

    name: str
    operator: str
    place: str
    part: str
    kind: CostKind
    flops: int
    bytes_moved: int
    inputs: tuple[Shape, ...]
    output: Shape
    groups: int = 1
    strides: Shape = ()
    other_operations: int = 0
    output_bytes: int = 0


def node_costs(model: onnx.ModelProto, *, windows: int = 1) -> list[NodeCost]:
    """The costs of all nodes, in the graph's order.

    What depends on weights alone costs nothing: back ends compute it once, as they load the graph. Values that a
    DequantizeLinear gives take what its input does, since back ends have their readers take those.

    Args:
        model: a graph from `to_onnx` or `to_reduced`, its weights with it.
        windows: how many a graph for any batch is counted for.

    Raises:
        ExportError: a shape is not known.
    """
    values = _values(model, windows)
    constants, costs = {tensor.name for tensor in model.graph.initializer}, []
    for node in model.graph.node:
        cost = _cost(node, values)
        if all(name in constants for name in node.input if name):
            constants.update(node.output)
            cost = dataclasses.replace(cost, flops=0, other_operations=0, bytes_moved=0, output_bytes=0)
        costs.append(cost)
    return costs


def _values(model: onnx.ModelProto, windows: int) -> dict[str, tuple[Shape, int]]:
    """Shape and bytes per element of each value."""
    closed = copy.deepcopy(model)
    # Symbols stand in the way of the number; what no schema tells, our own operators' outputs, must stay.
    known = [v for v in closed.graph.value_info if not any(s.dim_param for s in v.type.tensor_type.shape.dim)]
    del closed.graph.value_info[:]
    closed.graph.value_info.extend(known)
    for value in [*closed.graph.input, *closed.graph.output]:
        for size in value.type.tensor_type.shape.dim:
            if size.dim_param:
                size.dim_value = windows
    found = {
        name: (tuple(size.dim_value for size in kind.shape.dim), _element_bytes(kind.elem_type))
        for name, kind in value_types(closed).items()
        if all(size.HasField("dim_value") for size in kind.shape.dim)
    }
    for tensor in closed.graph.initializer:
        found[tensor.name] = (tuple(tensor.dims), _element_bytes(tensor.data_type))
    for node in closed.graph.node:
        if node.op_type == "DequantizeLinear" and node.output[0] in found:
            found[node.output[0]] = (found[node.output[0]][0], found[node.input[0]][1])
    return found


def value_types(model: onnx.ModelProto) -> dict[str, onnx.TypeProto.Tensor]:
    """Type and shape of each value that can be told, weights aside.

    No schema describes the custom operator's output: it has its weight's type and channels, and its offsets' sizes.
    """
    model = copy.deepcopy(model)
    while True:
        graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
        found = {value.name: value.type.tensor_type for value in [*graph.value_info, *graph.input, *graph.output]}
        weights = {tensor.name: tensor for tensor in graph.initializer}
        own = [node for node in graph.node if node.domain == PLUGIN_DOMAIN and node.op_type == "DeformConv2d"]
        node = next((n for n in own if n.output[0] not in found and n.input[2] in found), None)
        if node is None:
            return found
        weight, offsets = weights[node.input[1]], found[node.input[2]].shape.dim
        batch, *sizes = [size.dim_param or size.dim_value for size in offsets]
        shape = [batch or None, weight.dims[0], *sizes[1:]]
        model.graph.value_info.append(onnx.helper.make_tensor_value_info(node.output[0], weight.data_type, shape))


def _cost(node: NodeProto, values: Mapping[str, tuple[Shape, int]]) -> NodeCost:
    for name in [*filter(None, node.input), node.output[0]]:
        if name not in values:
            raise ExportError(f"the shape of {name!r}, of the node {node.name!r}, is not known")
    inputs = tuple(values[name][0] if name else () for name in node.input)
    output = values[node.output[0]][0]
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    groups = int(attributes.get("group", 1))
    kind, macs = _multiply_accumulates(node.op_type, inputs, output, attributes, groups)
    place = node.name.split("/")[0]
    return NodeCost(
        name=node.name,
        operator=f"{node.domain}::{node.op_type}" if node.domain else node.op_type,
        place=place,
        part=PARTS.get(place.split(".")[0], OTHER_PART),
        kind=kind,
        flops=2 * macs,
        bytes_moved=sum(_bytes(values[name]) for name in [*filter(None, node.input), *filter(None, node.output)]),
        inputs=inputs,
        output=output,
        groups=groups,
        strides=tuple(attributes.get("strides", ())),
        other_operations=other_operations(node.op_type, inputs, output, attributes),
        output_bytes=sum(_bytes(values[name]) for name in node.output if name),
    )


def _multiply_accumulates(
    operator: str, inputs: tuple[Shape, ...], output: Shape, attributes: Mapping[str, object], groups: int
) -> tuple[CostKind, int]:
    if operator == "Conv":
        weight = inputs[1]
        depthwise = groups > 1 and weight[1] == 1
        return ("depthwise convolution" if depthwise else "convolution"), math.prod(output) * math.prod(weight[1:])
    if operator in ("DeformConv", "DeformConv2d"):
        return "deformable convolution", math.prod(output) * math.prod(inputs[1][1:])
    if operator == "MatMul":
        return "matrix product", math.prod(output) * inputs[0][-1]
    if operator == "Linear":
        return "matrix product", math.prod(output) * inputs[0][-1]
    if operator == "WinogradConv":
        images, _, rows, columns = inputs[0]
        return "convolution", images * rows * columns * math.prod(inputs[1])
    if operator == "PooledAttention":
        queries, keys, heads, dim = attention_sizes(inputs, output, attributes)
        positions = sum(table[1] for table in inputs[3:6])  # b_t, b_h, b_w = q R
        pooling = 27 * heads * dim * (queries + 2 * keys)
        return "attention", 2 * heads * queries * keys * dim + heads * queries * positions * dim + pooling
    if operator == "Gemm":
        return "matrix product", math.prod(output) * inputs[0][0 if attributes.get("transA") else 1]
    if operator == "Attention":
        q, k, v = inputs[:3]  # (B, heads, N, d); keys may have fewer heads, each shared by several of the queries'
        return "attention", q[0] * q[1] * q[2] * k[2] * (q[3] + v[3])
    return "other", 0


def _bytes(value: tuple[Shape, int]) -> int:
    shape, element = value
    return math.prod(shape) * element


def _element_bytes(kind: int) -> int:
    return int(onnx.helper.tensor_dtype_to_np_dtype(kind).itemsize)


def totals(costs: list[NodeCost]) -> dict[str, dict[CostKind, int]]:
    """FLOPs by part and kind, parts in the order of `PARTS`; those without any are left out."""
    found: dict[str, dict[CostKind, int]] = {}
    for part in (*PARTS.values(), OTHER_PART):
        row = {kind: sum(cost.flops for cost in _of(costs, part, kind)) for kind in KINDS}
        if any(row.values()):
            found[part] = row
    return found


def _of(costs: list[NodeCost], part: str, kind: CostKind) -> Iterator[NodeCost]:
    return (cost for cost in costs if cost.part == part and cost.kind == kind)
