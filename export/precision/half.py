"""FP32 to FP16 or BF16 graphs: strong typing, with FP32 islands where measurement or arithmetic asks for them.

Everything has the reduced type but three islands (figures: `docs/explanation/precision.md`). Modules of the model
declare the first and the last; see `dtfsal.training.model.precision`.

- The tail, which follows modules that declare `float32_after`: the decoders' last convolutions. In FP16 the map has
  steps of 2^-11 near 1, in BF16 of 2^-8, so that the peak is a tie of many pixels. It is 0.02 % of the work.
- Spatial means (the token gate's 5,376 summands at level 1, and the scores' pooling). Their sums may be accumulated in
  the type of the tensor, and FP16 loses whole summands past 2,048, BF16 past 256.
- Sampling positions of modules that declare `float32_positions`, in the `gather` form of deformable convolution:
  coordinates are never FP16 or BF16.

Layer normalisation needs no island: ONNX computes its statistics in FP32 whatever its input (`stash_type` 1).
"""

import copy
import dataclasses
from collections.abc import Mapping
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import onnx
from ml_dtypes import bfloat16
from onnx import NodeProto, TensorProto, helper, numpy_helper

from dtfsal.engines.errors import UsageError
from dtfsal.export.graph.conversion import ExportError
from dtfsal.training.model.precision import EnginePrecision

ReducedPrecision = Literal["fp16", "bf16"]

MEAN_OPERATORS = frozenset({"ReduceMean", "GlobalAveragePool"})
# These operators of the gather form work on features, not on coordinates.
GATHER_FEATURE_OPERATORS = frozenset({"GatherElements", "MatMul"})
# Operators whose float inputs beyond the first are parameters that ONNX fixes to float32.
FIRST_INPUT_ONLY = frozenset({"Resize"})


@dataclasses.dataclass(frozen=True)
class ReducedType:
    """A 16-bit type: its name here, ONNX's number of it, NumPy's type, and its greatest finite value."""

    name: ReducedPrecision
    onnx_type: int
    dtype: npt.DTypeLike
    maximum: float


REDUCED_TYPES: dict[ReducedPrecision, ReducedType] = {
    "fp16": ReducedType("fp16", TensorProto.FLOAT16, np.float16, float(np.finfo(np.float16).max)),
    "bf16": ReducedType("bf16", TensorProto.BFLOAT16, bfloat16, (2 - 2**-7) * 2.0**127),
}


def to_reduced(
    model: onnx.ModelProto, precision: ReducedPrecision, declared: Mapping[str, EnginePrecision]
) -> onnx.ModelProto:
    """An FP16 or BF16 copy of a graph from `to_onnx`, its inputs and outputs still float32.

    Casts stand only where a value crosses the border of an island. (ONNX Runtime's converter casts around every node
    that it leaves in FP32, and so rounds between the nodes of one island.)

    Args:
        model: an FP32 graph whose node names are places in the model.
        precision: the type outside the islands.
        declared: what the model's modules ask for, by place. A graph may be a part of the model: a place that it does
            not hold has no effect.

    Raises:
        UsageError: there is no such reduced precision.
        ExportError: a weight lies outside the type's range.
    """
    if precision not in REDUCED_TYPES:
        raise UsageError(
            f"a reduced precision must be one of {', '.join(get_args(ReducedPrecision))}, not {precision!r}"
        )
    reduced = REDUCED_TYPES[precision]
    islands = fp32_nodes(model, declared)
    converted = copy.deepcopy(model)
    graph = converted.graph
    typing = _Typing(model, reduced)
    nodes: list[NodeProto] = []
    for node in graph.node:
        wanted = TensorProto.FLOAT if node.name in islands else reduced.onnx_type
        for position, name in enumerate(node.input):
            if typing.is_float(name) and not (position and node.op_type in FIRST_INPUT_ONLY):
                node.input[position] = typing.as_type(name, wanted, nodes)
        if node.op_type == "Cast" and wanted == reduced.onnx_type:
            _retype_cast(node, reduced)
        typing.produced(node, wanted)
        nodes.append(node)
    for output in graph.output:
        if typing.types[output.name] == reduced.onnx_type:  # features; a map is in the FP32 tail
            _widen_output(nodes, output.name, reduced)
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(typing.initializers(nodes))
    return converted


class _Typing:
    """What type each float value has so far, and the casts and converted weights made for it."""

    def __init__(self, model: onnx.ModelProto, reduced: ReducedType) -> None:
        self.reduced = reduced
        graph = onnx.shape_inference.infer_shapes(model, data_prop=False).graph
        known = {value.name: value.type.tensor_type.elem_type for value in [*graph.value_info, *graph.output]}
        self.float_values = {name for name, kind in known.items() if kind == TensorProto.FLOAT}
        self.weights = {tensor.name: tensor for tensor in model.graph.initializer}
        self.types = {value.name: value.type.tensor_type.elem_type for value in model.graph.input}
        self._converted: dict[str, TensorProto] = {}
        self._casts: dict[str, str] = {}

    def is_float(self, name: str) -> bool:
        if name in self.weights:
            return self.weights[name].data_type == TensorProto.FLOAT
        return self.types.get(name) in (TensorProto.FLOAT, self.reduced.onnx_type)

    def as_type(self, name: str, wanted: int, nodes: list[NodeProto]) -> str:
        """The name of the value in the wanted type; a cast is appended to `nodes` where there is none yet."""
        if name in self.weights:
            return name if wanted == TensorProto.FLOAT else self._reduced_weight(name)
        if self.types[name] == wanted:
            return name
        suffix = "fp32" if wanted == TensorProto.FLOAT else self.reduced.name
        if (cast := self._casts.get(f"{name}/{suffix}")) is None:
            cast = self._casts[f"{name}/{suffix}"] = f"{name}/{suffix}"
            nodes.append(helper.make_node("Cast", [name], [cast], name=f"cast/{name}.{suffix}", to=wanted))
        return cast

    def produced(self, node: NodeProto, wanted: int) -> None:
        for name in node.output:
            if name in self.float_values:
                self.types[name] = wanted

    def initializers(self, nodes: list[NodeProto]) -> list[TensorProto]:
        """The weights that the nodes use, each in the types it is used in."""
        used = {name for node in nodes for name in node.input}
        return [tensor for name, tensor in self.weights.items() if name in used] + list(self._converted.values())

    def _reduced_weight(self, name: str) -> str:
        if name not in self._converted:
            reduced, values = self.reduced, numpy_helper.to_array(self.weights[name])
            if values.size and float(np.abs(values).max()) > reduced.maximum:
                raise ExportError(
                    f"the weight {name!r} exceeds {reduced.name.upper()}'s range ({reduced.maximum:g}); "
                    "build with --precision fp32"
                )
            self._converted[name] = numpy_helper.from_array(values.astype(reduced.dtype), f"{name}/{reduced.name}")
        return self._converted[name].name


def _widen_output(nodes: list[NodeProto], name: str, reduced: ReducedType) -> None:
    """Give the reduced value behind an output another name, and the output's to its cast."""
    inner = f"{name}/{reduced.name}"
    for node in nodes:
        for names in (node.input, node.output):
            for position, used in enumerate(names):
                if used == name:
                    names[position] = inner
    nodes.append(helper.make_node("Cast", [inner], [name], name=f"cast/{name}.output", to=TensorProto.FLOAT))


def _retype_cast(node: NodeProto, reduced: ReducedType) -> None:
    for attribute in node.attribute:
        if attribute.name == "to" and attribute.i == TensorProto.FLOAT:
            attribute.i = reduced.onnx_type


def fp32_nodes(model: onnx.ModelProto, declared: Mapping[str, EnginePrecision]) -> set[str]:
    """Names of the nodes that stay FP32; see `to_reduced`."""
    before_tail = {place for place, precision in declared.items() if precision.float32_after}
    positions = {place for place, precision in declared.items() if precision.float32_positions}
    return _tail(model, before_tail) | _means(model) | _gather_coordinates(model, positions)


def _means(model: onnx.ModelProto) -> set[str]:
    return {node.name for node in model.graph.node if node.op_type in MEAN_OPERATORS}


def _tail(model: onnx.ModelProto, before: set[str]) -> set[str]:
    """All that comes after the modules at these places."""
    after: set[str] = set()
    names = set()
    for node in model.graph.node:  # topologically sorted
        if any(name in after for name in node.input):
            names.add(node.name)
            after.update(node.output)
        elif node.name.split("/")[0] in before:
            after.update(node.output)
    return names


def _gather_coordinates(model: onnx.ModelProto, places: set[str]) -> set[str]:
    """The gather form's arithmetic on positions: what leads to its indices and shares, not what uses features."""
    nodes = [node for node in model.graph.node if node.name.split("/")[0] in places]
    gathering = {node.name.split("/")[0] for node in nodes if node.op_type == "GatherElements"}
    return {
        node.name
        for node in nodes
        if node.name.split("/")[0] in gathering and node.op_type not in GATHER_FEATURE_OPERATORS
    }
