"""Standard operators of a graph replaced by our own, for ONNX Runtime on the CPU (`dtfsal.engines.native.cpu_kernels`).

- `dtfsal::WinogradConv` is a 3x3 convolution in a quarter of the multiplications, with the activation behind it, and
  with the spatial mean behind that where the graph wants nothing else (the token gate of eq. 4).
- `dtfsal::Linear` is a matrix product with constant weights, its bias, and the GELU behind it, which then costs no pass
  over memory of its own.
"""

import dataclasses
from collections import Counter

import onnx
from onnx import NodeProto, helper, numpy_helper

from dtfsal.engines.native.cpu_kernels import DOMAIN, LINEAR, WINOGRAD_CONV
from dtfsal.export.graph.costs import value_types

# Below these a direct convolution is as fast (measured: 32 channels to 16 or 32 are slower, 48 to 16 twice as fast).
LEAST_CHANNELS, LEAST_OUT_CHANNELS = 48, 16
# Below these a matrix product is too small to matter.
LEAST_DEPTH, LEAST_COLUMNS = 64, 64
_ACTIVATIONS = {"Relu": 1, "Sigmoid": 2}


def with_own_operators(model: onnx.ModelProto) -> onnx.ModelProto:
    """A graph with our own operators where they pay.

    Args:
        model: an FP32 graph from `to_onnx`; it is changed and returned. Nodes keep their place in the model.
    """
    graph = model.graph
    look = _Look.at(graph)
    types = value_types(model)
    gone: set[str] = set()
    replaced: dict[str, NodeProto] = {}
    for node in graph.node:
        if (found := _convolution(node, look, graph) or _linear(node, look)) is None:
            continue
        made, chain = found
        gone.update(part.name for part in chain)
        replaced[chain[-1].name] = made
        _keep_type(graph, made.output[0], types)
    nodes = [replaced.get(node.name, node) for node in graph.node if node.name in replaced or node.name not in gone]
    del graph.node[:]
    graph.node.extend(nodes)
    if replaced and all(opset.domain != DOMAIN for opset in model.opset_import):
        model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    return model


@dataclasses.dataclass(frozen=True)
class _Look:
    """Where a graph's values are made constant, and used."""

    weights: dict[str, onnx.TensorProto]
    uses: Counter[str]
    users: dict[str, NodeProto]

    @classmethod
    def at(cls, graph: onnx.GraphProto) -> "_Look":
        uses = Counter(name for node in graph.node for name in node.input)
        uses.update(value.name for value in graph.output)
        users = {name: node for node in graph.node for name in node.input}
        return cls({tensor.name: tensor for tensor in graph.initializer}, uses, users)

    def only_user(self, node: NodeProto) -> NodeProto | None:
        """The node that alone takes a node's output, if there is just one."""
        return self.users.get(node.output[0]) if self.uses[node.output[0]] == 1 else None


def _convolution(conv: NodeProto, look: _Look, graph: onnx.GraphProto) -> tuple[NodeProto, list[NodeProto]] | None:
    """What replaces a convolution, and the nodes that it replaces, in order; None where it stays."""
    if not _is_convolution(conv, look.weights):
        return None
    chain, activation, mean = [conv], 0, False
    follower = look.only_user(conv)
    if follower is not None and follower.op_type in _ACTIVATIONS:
        chain.append(follower)
        activation = _ACTIVATIONS[follower.op_type]
        follower = look.only_user(follower)
        if follower is not None and _is_spatial_mean(follower, look.weights):
            chain.append(follower)
            mean = True
    bias = conv.input[2] if len(conv.input) > 2 else _zero_bias(graph, look.weights[conv.input[1]])
    inputs = [*conv.input[:2], bias]
    return _own(WINOGRAD_CONV, inputs, chain, activation=activation, spatial_mean=int(mean)), chain


def _linear(product: NodeProto, look: _Look) -> tuple[NodeProto, list[NodeProto]] | None:
    """As `_convolution`, of a linear layer."""
    weight = look.weights.get(product.input[1]) if product.op_type == "MatMul" else None
    if weight is None or len(weight.dims) != 2 or weight.data_type != onnx.TensorProto.FLOAT:
        return None
    add = look.only_user(product)
    if weight.dims[0] < LEAST_DEPTH or weight.dims[1] < LEAST_COLUMNS or add is None or add.op_type != "Add":
        return None
    (bias,) = [name for name in add.input if name != product.output[0]] or [""]
    if bias not in look.weights or list(look.weights[bias].dims) != [weight.dims[1]]:
        return None
    chain = [product, add]
    gelu = look.only_user(add)
    attributes = {} if gelu is None else {a.name: a.s for a in gelu.attribute}
    if gelu is not None and gelu.op_type == "Gelu" and attributes.get("approximate", b"none") == b"none":
        chain.append(gelu)
    return _own(LINEAR, [*product.input, bias], chain, gelu=int(len(chain) == 3)), chain


def _own(operator: str, inputs: list[str], chain: list[NodeProto], **attributes: int) -> NodeProto:
    place, number = chain[0].name.split("/")[0], chain[0].name.rsplit(".", 1)[-1]
    name = f"{place}/{operator}.{number}"
    return helper.make_node(operator, inputs, [chain[-1].output[0]], name=name, domain=DOMAIN, **attributes)


def _is_convolution(node: NodeProto, weights: dict[str, onnx.TensorProto]) -> bool:
    if node.op_type != "Conv" or node.domain or node.input[1] not in weights:
        return False
    weight = weights[node.input[1]]
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    wanted = {"strides": [1, 1], "dilations": [1, 1], "pads": [1, 1, 1, 1], "group": 1}
    plain = all(attributes.get(name, [0] * 4 if name == "pads" else value) == value for name, value in wanted.items())
    shape = list(weight.dims)
    return (
        plain
        and weight.data_type == onnx.TensorProto.FLOAT
        and shape[2:] == [3, 3]
        and shape[0] >= LEAST_OUT_CHANNELS
        and shape[1] >= LEAST_CHANNELS
    )


def _is_spatial_mean(node: NodeProto, weights: dict[str, onnx.TensorProto]) -> bool:
    if node.op_type != "ReduceMean" or len(node.input) < 2 or node.input[1] not in weights:
        return False
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    axes = sorted(int(axis) % 4 for axis in numpy_helper.to_array(weights[node.input[1]]))
    return axes == [2, 3] and attributes.get("keepdims", 1) == 0


def _zero_bias(graph: onnx.GraphProto, weight: onnx.TensorProto) -> str:
    name = f"{weight.name}/zero_bias"
    graph.initializer.append(helper.make_tensor(name, onnx.TensorProto.FLOAT, [weight.dims[0]], [0.0] * weight.dims[0]))
    return name


def _keep_type(graph: onnx.GraphProto, name: str, types: dict[str, onnx.TypeProto.Tensor]) -> None:
    """Write down the type of a value that no schema tells any more."""
    if any(value.name == name for value in (*graph.value_info, *graph.output)):
        return
    kind = types[name]
    sizes = [size.dim_param or size.dim_value for size in kind.shape.dim]
    graph.value_info.append(helper.make_tensor_value_info(name, kind.elem_type, sizes))
