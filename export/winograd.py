"""3x3 convolutions as an operator of our own, for ONNX Runtime on the CPU (`dtfsal.engines.cpu_kernels`).

`dtfsal::WinogradConv` is a convolution in a quarter of the multiplications, with the activation behind it, and with the
spatial mean behind that where the graph wants nothing else (the token gate of eq. 4).
"""

from collections import Counter

import onnx
from onnx import NodeProto, helper, numpy_helper

from dtfsal.engines.cpu_kernels import DOMAIN, WINOGRAD_CONV
from dtfsal.export.graph_costs import value_types

# Below these a direct convolution is as fast (measured: 32 channels to 16 or 32 are slower, 48 to 16 twice as fast).
LEAST_CHANNELS, LEAST_OUT_CHANNELS = 48, 16
_ACTIVATIONS = {"Relu": 1, "Sigmoid": 2}


def with_winograd(model: onnx.ModelProto) -> onnx.ModelProto:
    """A graph whose 3x3 convolutions of stride 1 and padding 1, where it pays, are `dtfsal::WinogradConv`.

    Args:
        model: an FP32 graph from `to_onnx`; it is changed and returned. Nodes keep their place in the model.
    """
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    types = value_types(model)
    uses = Counter(name for node in graph.node for name in node.input)
    uses.update(value.name for value in graph.output)
    users = {name: node for node in graph.node for name in node.input}

    def only_user(node: NodeProto) -> NodeProto | None:
        return users.get(node.output[0]) if uses[node.output[0]] == 1 else None

    gone: set[str] = set()
    replaced: dict[str, NodeProto] = {}
    for conv in graph.node:
        if not _pays(conv, weights):
            continue
        chain, activation, mean = [conv], 0, False
        follower = only_user(conv)
        if follower is not None and follower.op_type in _ACTIVATIONS:
            chain.append(follower)
            activation = _ACTIVATIONS[follower.op_type]
            follower = only_user(follower)
            if follower is not None and _is_spatial_mean(follower, weights):
                chain.append(follower)
                mean = True
        last = chain[-1]
        gone.update(node.name for node in chain)
        node = helper.make_node(
            WINOGRAD_CONV,
            [*conv.input[:2], conv.input[2] if len(conv.input) > 2 else _zero_bias(graph, weights[conv.input[1]])],
            [last.output[0]],
            name=f"{conv.name.split('/')[0]}/{WINOGRAD_CONV}.{conv.name.rsplit('.', 1)[-1]}",
            domain=DOMAIN,
            activation=activation,
            spatial_mean=int(mean),
        )
        replaced[last.name] = node
        _keep_type(graph, last.output[0], types)
    nodes = [replaced.get(node.name, node) for node in graph.node if node.name in replaced or node.name not in gone]
    del graph.node[:]
    graph.node.extend(nodes)
    if replaced and all(opset.domain != DOMAIN for opset in model.opset_import):
        model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    return model


def _pays(node: NodeProto, weights: dict[str, onnx.TensorProto]) -> bool:
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


__all__ = ["with_winograd"]
