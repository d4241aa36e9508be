"""How an engine computes a model: what costs how much, what was fused into one kernel, and what was not.

The costs come from the graph. How it was compiled comes from the engine: from its inspector where there is a GPU, from
the schedule in a TensorRT-RTX engine's file where there is none (see `dtfsal.export.tensor_rt.schedule`). Where neither
can be had, as for ONNX Runtime, the report says "not known" (null) and no more.

python -m dtfsal.export.report ENGINE --times profile.json      draws it again with the times of a run
"""

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from dtfsal.engines.errors import MALFORMED, EngineMismatchError, UsageError
from dtfsal.export.graph.costs import NodeCost, totals
from dtfsal.export.tensor_rt.schedule import Step, with_times

Evidence = Literal["inspector", "plan", "graph"]
PRODUCTS = ("matrix product", "fused product")
EVIDENCE: Mapping[Evidence, str] = {
    "inspector": "the engine's own report on a GPU",
    "plan": "the schedule in the engine's file; it was built without a GPU",
    "graph": "the graph alone; how it was compiled is not known",
}
# What no file tells, without a GPU.
UNKNOWN = (
    "which kernel a convolution or matrix product gets: the library chooses it on the GPU",
    "the time of each step",
)


@dataclasses.dataclass(frozen=True)
class Compiled:
    """How a node that matters was compiled.

    Attributes:
        node: its name.
        place: in the model.
        shape: the sizes that describe it, by name.
        flops: two for each multiply-accumulate.
        bytes_moved: its inputs, weights and output, once each.
        kernels: names of the steps that compute it, in order; None where they are not known.
        fused: whether one kernel does its arithmetic; None where not known.
    """

    node: str
    place: str
    shape: dict[str, int]
    flops: int
    bytes_moved: int
    kernels: list[str] | None
    fused: bool | None

    @property
    def intensity(self) -> float:
        """Operations for each byte."""
        return self.flops / max(self.bytes_moved, 1)


@dataclasses.dataclass(frozen=True)
class LayerReport:
    """A graph of an engine, as it was compiled.

    Attributes:
        model: the model's name, and the graph's where an engine has several.
        target: the back end.
        precision: of its weights.
        builder: what made it, with the version.
        evidence: what is known of the compiled engine, and whence.
        windows: that the costs are for.
        flops: by part of the model and kind of arithmetic.
        attentions: each Attention node. Fused is one kernel of the "attention" kind and no matrix product beside it.
        poolings: each depthwise convolution of a 3-D grid. Fused is one convolution and no other step.
        decoders: the convolutions and resizings of the decoders. Fused is one step for the node and what follows it.
        steps: the engine's, in order; None where they are not known.
    """

    model: str
    target: str
    precision: str
    builder: str
    evidence: Evidence
    windows: int
    flops: dict[str, dict[str, int]]
    attentions: list[Compiled]
    poolings: list[Compiled]
    decoders: list[Compiled]
    steps: list[Step] | None

    @property
    def not_fused(self) -> list[str]:
        """Names of the attentions, poolings and decoder nodes that take several kernels."""
        return [row.node for row in (*self.attentions, *self.poolings, *self.decoders) if row.fused is False]

    @property
    def step_kinds(self) -> dict[str, int]:
        """How many steps there are of each kind."""
        return dict(Counter(step.kind for step in self.steps or []).most_common())

    def to_dict(self) -> dict[str, Any]:
        """JSON types: the fields, and what follows from them."""
        fields = dataclasses.asdict(self)
        steps = fields.pop("steps")
        return {
            **fields,
            "evidence": self.evidence,
            "evidence_in_words": EVIDENCE[self.evidence],
            "total_flops": sum(sum(row.values()) for row in self.flops.values()),
            "not_fused": self.not_fused,
            "not_known": [] if self.evidence == "inspector" else list(UNKNOWN) if self.steps else ["all of it"],
            "step_kinds": self.step_kinds,
            "steps": steps,
        }


def layer_report(
    costs: list[NodeCost],
    steps: Sequence[Step] | None,
    *,
    model: str,
    target: str,
    precision: str,
    builder: str,
    evidence: Evidence,
    windows: int = 1,
) -> LayerReport:
    """Put a graph's costs and an engine's steps together.

    Args:
        costs: of the graph's nodes.
        steps: of the engine; None where they are not known.
        model: see `LayerReport`, as for the rest.
        target: see there.
        precision: see there.
        builder: see there.
        evidence: where the steps come from.
        windows: that the costs are for.
    """
    by_node: dict[str, list[Step]] = {}
    for step in steps or []:
        for node in step.nodes:
            by_node.setdefault(node, []).append(step)

    def steps_of(cost: NodeCost) -> list[Step] | None:
        return None if steps is None else by_node.get(cost.name, [])

    attentions = [_attention(cost, steps_of(cost)) for cost in costs if cost.kind == "attention"]
    poolings = [_pooling(cost, steps_of(cost)) for cost in costs if cost.kind == "depthwise convolution"]
    decoders = [
        _decoder_node(cost, steps_of(cost))
        for cost in costs
        if cost.part == "decoders" and (cost.flops or cost.operator == "Resize")
    ]
    return LayerReport(
        model,
        target,
        precision,
        builder,
        evidence if steps else "graph",
        windows,
        {part: {str(kind): flops for kind, flops in row.items()} for part, row in totals(costs).items()},
        attentions,
        poolings,
        decoders,
        None if steps is None else list(steps),
    )


def _attention(cost: NodeCost, steps: list[Step] | None) -> Compiled:
    query, key, value = cost.inputs[:3]
    shape = {
        "batch": query[0],
        "heads": query[1],
        "queries": query[2],
        "keys": key[2],
        "head_dim": query[3],
        "value_dim": value[3],
    }
    fused = None
    if steps:
        kinds = [step.kind for step in steps]
        fused = kinds.count("attention") == 1 and not any(kind in PRODUCTS for kind in kinds)
    return _compiled(cost, shape, steps, fused)


def _pooling(cost: NodeCost, steps: list[Step] | None) -> Compiled:
    batch, channels, *sizes = cost.inputs[0]
    names = ("times", "height", "width")[-len(sizes) :]
    shape = {"batch": batch, "channels": channels, "stride": cost.strides[-1], **dict(zip(names, sizes, strict=True))}
    fused = None
    if steps:
        fused = [step.kind for step in steps] in (["convolution"], ["fused product"])
    return _compiled(cost, shape, steps, fused)


def _decoder_node(cost: NodeCost, steps: list[Step] | None) -> Compiled:
    batch, channels, height, width = cost.output
    shape = {"batch": batch, "channels": channels, "height": height, "width": width}
    return _compiled(cost, shape, steps, len(steps) == 1 if steps else None)


def _compiled(cost: NodeCost, shape: dict[str, int], steps: list[Step] | None, fused: bool | None) -> Compiled:
    kernels = None if steps is None else [step.name for step in steps]
    return Compiled(cost.name, cost.place, shape, cost.flops, cost.bytes_moved, kernels, fused)


def read_report(path: Path) -> LayerReport:
    """A report from its JSON.

    Raises:
        UsageError: the file is not one.
    """
    try:
        fields = json.loads(path.read_text())
        wanted = {field.name for field in dataclasses.fields(LayerReport)}
        values = {name: fields[name] for name in wanted}
        for name in ("attentions", "poolings", "decoders"):
            values[name] = [Compiled(**row) for row in values[name]]
        if values["steps"] is not None:
            values["steps"] = [Step(**{**row, "nodes": tuple(row["nodes"])}) for row in values["steps"]]
        return LayerReport(**values)
    except (OSError, *MALFORMED) as error:
        raise UsageError(f"{path} is not a layer report: {error}") from error


def read_profile(path: Path) -> list[dict[str, Any]]:
    """The times of an engine's steps, as `trtexec --exportProfile` writes them.

    Raises:
        UsageError: the file is not a profile.
    """
    try:
        rows = [dict(row) for row in json.loads(path.read_text())]
        return [{**row, "averageMs": float(row["averageMs"])} for row in rows if {"name", "averageMs"} <= row.keys()]
    except (OSError, *MALFORMED) as error:
        raise UsageError(f"{path} is not a profile of `trtexec --exportProfile`: {error}") from error


def with_profile(report: LayerReport, profile: Sequence[Mapping[str, Any]]) -> LayerReport:
    """The report with times of a run.

    Raises:
        EngineMismatchError: no step has a time in the profile.
    """
    steps = with_times(report.steps or [], profile)
    if not any(step.milliseconds is not None for step in steps):
        raise EngineMismatchError("the profile has no step of this engine: it belongs to another engine")
    return dataclasses.replace(report, steps=steps)
