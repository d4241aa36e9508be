"""An FP32 graph whose weights lie in half precision where that changes none of them.

The shipped weights are saved in half precision. A graph has them in FP32: as they are, or times a channel's scale where
a normalisation was folded in. Such a tensor is stored in half precision, and the graph casts and scales it back to the
same bits. The token maps (see `LTEB`) are stored as the tokens that they are interpolated and convolved from. A back
end folds all of this into constants as it loads the graph, so a run costs the same. The file is less than half as big.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from dtfsal.export.graph.conversion import ExportError
from dtfsal.training.model.blocks import LTEB
from dtfsal.training.model.network import DTFSal

# Smaller tensors stay: a cast costs more bytes than it saves.
_MIN_VALUES = 256
# Of the graph's bytes; more of them mean that these are not weights that were saved in half precision.
_MOST = 0.75
# Of token maps that are computed again, relative to their largest value: sums of 432 products in another order.
_MAPS_TOLERANCE = 1e-5

Values = npt.NDArray[np.float32]


def with_half_weights(graph: onnx.ModelProto, model: DTFSal) -> onnx.ModelProto:
    """The graph with each weight in half precision that half precision holds exactly.

    Args:
        graph: in FP32, of any part of the model.
        model: what it was exported from.

    Returns:
        A graph of the same function, whose constants are equal bit for bit; token maps up to the order of sums.

    Raises:
        ExportError: few weights are half-precision numbers, so little would be gained.
    """
    scales = list(_scales(model))
    layers = [module for module in model.modules() if isinstance(module, LTEB)]
    kept: list[TensorProto] = []
    nodes: list[onnx.NodeProto] = []
    for tensor in graph.graph.initializer:
        stored = _stored(tensor, scales, layers)
        if stored is None:
            kept.append(tensor)
        else:
            kept += stored[0]
            nodes += stored[1]
    large, left = (sum(len(t.raw_data) for t in tensors if _is_large(t)) for tensors in (graph.graph.initializer, kept))
    if left > _MOST * large:
        raise ExportError("most of these weights are no half-precision numbers: build without --half-weights")
    compact = onnx.ModelProto()
    compact.CopyFrom(graph)
    del compact.graph.initializer[:]
    compact.graph.initializer.extend(kept)
    rest = list(compact.graph.node)
    del compact.graph.node[:]
    compact.graph.node.extend(nodes + rest)
    return compact


def _scales(model: DTFSal) -> Iterator[Values]:
    """What folding multiplies each channel's weights with, once for each batch normalisation."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            assert module.running_var is not None
            with torch.no_grad():
                yield (module.weight * torch.rsqrt(module.running_var + module.eps)).numpy()


def _stored(
    tensor: TensorProto, scales: list[Values], layers: list[LTEB]
) -> tuple[list[TensorProto], list[onnx.NodeProto]] | None:
    """The tensors and nodes that give a constant again; None for one that stays as it is."""
    if not _is_large(tensor):
        return None
    values = numpy_helper.to_array(tensor)
    name = tensor.name
    if _is_half(values):
        return [_half(values, name)], [helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT)]
    for scale in scales:
        for axis in (axis for axis, size in enumerate(values.shape) if size == len(scale)):
            column = scale.reshape([-1 if place == axis else 1 for place in range(values.ndim)])
            with np.errstate(all="ignore"):
                unscaled = (values / column).astype(np.float16).astype(np.float32)
            if np.array_equal(unscaled * column, values):
                return (
                    [_half(unscaled, name), numpy_helper.from_array(column, f"{name}.scale")],
                    [
                        helper.make_node("Cast", [f"{name}.half"], [f"{name}.unscaled"], to=TensorProto.FLOAT),
                        helper.make_node("Mul", [f"{name}.unscaled", f"{name}.scale"], [name]),
                    ],
                )
    for layer in layers:
        with torch.no_grad():
            maps = layer.token_maps(layer.nominal_grid).numpy()
        if maps.size == values.size and maps.shape[0] == values.shape[0]:
            difference = np.abs(maps.reshape(values.shape) - values).max()
            if difference <= _MAPS_TOLERANCE * np.abs(values).max() and _is_half(layer.tokens.detach().numpy()):
                return _token_maps(layer, name, values.shape)
    return None


def _token_maps(layer: LTEB, name: str, shape: tuple[int, ...]) -> tuple[list[TensorProto], list[onnx.NodeProto]]:
    """Conv(Interp(tokens)), (N, C*, h, w), in the constant's own shape."""
    tokens = layer.tokens.detach().numpy()
    sizes = np.array([*tokens.shape[:2], *layer.nominal_grid], np.int64)
    weight, bias = layer.token_conv.weight.detach().numpy(), layer.token_conv.bias
    assert bias is not None
    constants = [
        _half(tokens, name),
        numpy_helper.from_array(sizes, f"{name}.sizes"),
        numpy_helper.from_array(weight, f"{name}.weight"),
        numpy_helper.from_array(bias.detach().numpy(), f"{name}.bias"),
        numpy_helper.from_array(np.array(shape, np.int64), f"{name}.shape"),
    ]
    nodes = [
        helper.make_node("Cast", [f"{name}.half"], [f"{name}.tokens"], to=TensorProto.FLOAT),
        helper.make_node(
            "Resize",
            [f"{name}.tokens", "", "", f"{name}.sizes"],
            [f"{name}.interpolated"],
            mode="linear",
            coordinate_transformation_mode="half_pixel",
        ),
        helper.make_node(
            "Conv", [f"{name}.interpolated", f"{name}.weight", f"{name}.bias"], [f"{name}.maps"], pads=[1, 1, 1, 1]
        ),
        helper.make_node("Reshape", [f"{name}.maps", f"{name}.shape"], [name]),
    ]
    return constants, nodes


def _is_large(tensor: TensorProto) -> bool:
    return tensor.data_type == TensorProto.FLOAT and int(np.prod(tensor.dims)) >= _MIN_VALUES


def _is_half(values: Values) -> bool:
    with np.errstate(over="ignore"):
        return bool(np.array_equal(values.astype(np.float16).astype(np.float32), values))


def _half(values: Values, name: str) -> TensorProto:
    return numpy_helper.from_array(values.astype(np.float16), f"{name}.half")
