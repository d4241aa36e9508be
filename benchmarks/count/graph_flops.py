"""What an engine's ONNX graphs cost: operations by kind, bytes, and the most memory that activations need at once."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx

from dtfsal.engines import read_bundle
from dtfsal.engines.bundle.chain import SLICE, chain_of
from dtfsal.engines.bundle.manifest import GRAPH_TARGETS, Manifest
from dtfsal.engines.errors import EngineMismatchError
from dtfsal.export.graph.costs import KINDS, NodeCost, node_costs

# Their output is their input's memory; what DequantizeLinear gives, its readers take as its input.
VIEWS = ("Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "DequantizeLinear")


@dataclasses.dataclass(frozen=True)
class GraphCost:
    """A graph, or a part of the model in it.

    Attributes:
        flops: two for each multiply-accumulate, by kind of arithmetic; kinds without any are left out.
        other_operations: arithmetic that is not a product, as `dtfsal.export.graph.operation_counts` counts it.
        bytes_moved: what its nodes read and write, once each, weights included; `VIEWS` move nothing.
        nodes: how many.
    """

    flops: Mapping[str, int]
    other_operations: int
    bytes_moved: int
    nodes: int

    @property
    def total(self) -> int:
        """All operations."""
        return sum(self.flops.values()) + self.other_operations

    @property
    def intensity(self) -> float:
        """Operations for each byte, were every node's tensors to come from memory and go there."""
        return self.total / max(self.bytes_moved, 1)

    def to_dict(self) -> dict[str, Any]:
        """JSON types, with what follows from the fields."""
        return {**dataclasses.asdict(self), "total": self.total, "intensity": self.intensity}


def graph_cost(costs: list[NodeCost]) -> GraphCost:
    """The sum of nodes' costs."""
    kinds = {kind: sum(cost.flops for cost in costs if cost.kind == kind) for kind in KINDS}
    return GraphCost(
        {kind: flops for kind, flops in kinds.items() if flops},
        sum(cost.other_operations for cost in costs),
        sum(cost.bytes_moved for cost in costs if cost.operator not in VIEWS),
        len(costs),
    )


def by_part(costs: list[NodeCost]) -> dict[str, GraphCost]:
    """Costs by part of the model, in the graph's order."""
    parts = dict.fromkeys(cost.part for cost in costs)
    return {part: graph_cost([cost for cost in costs if cost.part == part]) for part in parts}


def by_part_and_kind(costs: list[NodeCost]) -> list[tuple[str, str, GraphCost]]:
    """Part, kind of arithmetic and costs, in the graph's order of parts; what computes nothing is left out."""
    groups = dict.fromkeys((cost.part, kind) for cost in costs for kind in KINDS)
    rows = [
        (part, kind, graph_cost([cost for cost in costs if (cost.part, cost.kind) == (part, kind)]))
        for part, kind in groups
    ]
    return [row for row in rows if row[2].total]


def activation_peak_bytes(model: onnx.ModelProto, costs: list[NodeCost]) -> int:
    """The most that inputs, outputs and values in between take at once, nodes run in the graph's order.

    A value lives from the node that makes it to the last that reads it; a node's inputs and outputs live at once. What
    an operator needs within itself, and values that share memory, are not seen. Weights are not counted.
    """
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    last = {name: at for at, node in enumerate(graph.node) for name in node.input}
    last |= {value.name: len(graph.node) for value in (*graph.output, *graph.input)}  # the caller's, to the end
    live = {value.name: _value_bytes(value) for value in graph.input}
    most = sum(live.values())
    for at, (node, cost) in enumerate(zip(graph.node, costs, strict=True)):
        live[node.output[0]] = cost.output_bytes  # all outputs, under the name of the first
        most = max(most, sum(live.values()))
        keep = max(last.get(name, at) for name in node.output)
        last[node.output[0]] = keep
        live = {name: size for name, size in live.items() if last.get(name, at) > at and name not in weights}
    return most


def _value_bytes(value: onnx.ValueInfoProto) -> int:
    kind = value.type.tensor_type
    size = int(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).itemsize)
    for axis in kind.shape.dim:
        size *= max(axis.dim_value, 1)
    return size


def runs_in_a_window(manifest: Manifest, graph: str) -> int:
    """How often a graph runs for a window that shares nothing."""
    if "window" in manifest.graphs:
        return manifest.audio.slices if graph == "slice" and manifest.audio is not None else 1
    chain = chain_of(manifest)
    return chain.slices if graph == SLICE else len(chain.runs.get(graph, (0,)))


def engine_flops(engine: Path) -> dict[str, Any]:
    """What each graph of an engine costs in one run, as JSON types.

    Raises:
        EngineError: it is not an engine.
        EngineMismatchError: its graphs are not kept as ONNX.
    """
    bundle = read_bundle(engine, verify=False)
    manifest = bundle.manifest
    if manifest.target not in GRAPH_TARGETS:
        raise EngineMismatchError(
            f"{engine} is for {manifest.target}, which keeps no graph: count an engine for "
            f"{' or '.join(sorted(GRAPH_TARGETS))}"
        )
    graphs = {}
    for name, spec in manifest.graphs.items():
        model = onnx.load(bundle.file(spec.file))
        costs = node_costs(model)
        total = graph_cost(costs)
        graphs[name] = {
            **total.to_dict(),
            "parts": {part: cost.to_dict() for part, cost in by_part(costs).items()},
            "layers": [{"part": part, "kind": kind, **cost.to_dict()} for part, kind, cost in by_part_and_kind(costs)],
            "runs_in_a_window": runs_in_a_window(manifest, name),
            "activation_peak_bytes": activation_peak_bytes(model, costs),
            "weight_bytes": sum(
                bundle.manifest.files[f].size_bytes for f in (spec.file, f"{spec.file}.data") if f in manifest.files
            ),
        }
    return {
        "engine": engine.name,
        "model": manifest.model_name,
        "target": manifest.target,
        "precision": manifest.precision,
        "graphs": graphs,
    }
