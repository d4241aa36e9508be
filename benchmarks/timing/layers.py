"""Where an ONNX Runtime engine's time goes, layer by layer: its profile merged with FLOPs and bytes.

ONNX Runtime's profile names the kernels that really ran, after its optimiser has fused, split and renamed nodes. One
that kept its node's name has that node's costs. One that was renamed is found by the value it makes, for its place in
the model, and costed by the shapes in the profile. What is in neither way known counts no FLOPs, and is listed so.
"""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from dtfsal.benchmarks.machine.host import OtherCores, machine, measured_on
from dtfsal.benchmarks.machine.rates import matrix_product_rate
from dtfsal.benchmarks.report.figures import COLOURS, new_figure
from dtfsal.benchmarks.tables import markdown_table
from dtfsal.engines import Bundle, GraphSpec, read_bundle
from dtfsal.engines.arrays import zeros
from dtfsal.engines.cpu.threads import default_threads
from dtfsal.engines.errors import EngineMismatchError
from dtfsal.engines.native.cpu_kernels import register_cpu_kernels
from dtfsal.engines.native.projects import CPU_KERNELS
from dtfsal.engines.native.trust import engine_libraries
from dtfsal.engines.onnx_runtime.engine import CPU_PROVIDER, import_onnxruntime
from dtfsal.export.graph.costs import OTHER_PART, PARTS, NodeCost, node_costs

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PACKAGES = ("dtfsal", "onnxruntime", "onnx", "numpy")
MOVED = "moving data"  # the part of nodes that the optimiser put in and that have no place in the model
TOP = 12  # layers that the table lists
_SUFFIX = "_kernel_time"

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Layer:
    """A kernel that ran.

    Attributes:
        name: ONNX Runtime's.
        operator: what it computes.
        part: of the model.
        seconds: median over the runs.
        flops: two for each multiply-accumulate; 0 where there are none or they are not known.
        bytes_moved: inputs, weights and outputs, once each.
    """

    name: str
    operator: str
    part: str
    seconds: float
    flops: int
    bytes_moved: int


def layers(
    engine: Path,
    *,
    runs: int = 3,
    threads: int | None = None,
    trust: bool = False,
    progress: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Profile every graph of an engine on the CPU.

    Args:
        engine: an engine for ONNX Runtime.
        runs: profiled runs of each graph, after two to warm up.
        threads: None for the physical cores.
        trust: run native code that an engine brings.
        progress: called after each run of a graph.

    Returns:
        The report as JSON types.

    Raises:
        EngineError: it is not an engine, or cannot be loaded.
        EngineMismatchError: it is for another target.
    """
    threads = threads or default_threads()
    bundle = read_bundle(engine)
    if bundle.manifest.target != "onnxruntime":
        raise EngineMismatchError(
            f"{engine} is for {bundle.manifest.target}, and only ONNX Runtime reports layers: build an engine for it"
        )
    others = OtherCores()
    graphs = {}
    for name, spec in bundle.manifest.graphs.items():
        found, wall = _profiled(bundle, spec, runs, threads, progress, trust=trust)
        graphs[name] = _graph_report(found, wall)
    return {
        "kind": "layers",
        "engine": engine.name,
        "model": bundle.manifest.model_name,
        "precision": bundle.manifest.precision,
        "threads": threads,
        "runs": runs,
        "graphs": graphs,
        "matrix_product_gflop_per_second": matrix_product_rate(threads),
        "other_cores": others.mean(),
        "machine": machine(PACKAGES),
    }


def _graph_report(found: list[Layer], wall_seconds: float) -> dict[str, Any]:
    return {
        "wall_seconds": wall_seconds,
        "kernel_seconds": sum(layer.seconds for layer in found),
        "operators": grouped(found, lambda layer: layer.operator),
        "parts": grouped(found, lambda layer: layer.part),
        "cells": grouped(found, lambda layer: f"{layer.part}: {layer.operator}"),
        "without_flops": sorted({layer.operator for layer in found if not layer.flops}),
        "layers": [dataclasses.asdict(layer) for layer in sorted(found, key=lambda layer: -layer.seconds)],
    }


def grouped(found: Sequence[Layer], key: Callable[[Layer], str]) -> dict[str, dict[str, float]]:
    """Seconds, FLOPs and bytes by a key, the slowest first."""
    sums: dict[str, dict[str, float]] = defaultdict(lambda: {"seconds": 0.0, "flops": 0, "bytes_moved": 0})
    for layer in found:
        row = sums[key(layer)]
        row["seconds"] += layer.seconds
        row["flops"] += layer.flops
        row["bytes_moved"] += layer.bytes_moved
    return dict(sorted(sums.items(), key=lambda item: -item[1]["seconds"]))


def _profiled(
    bundle: Bundle, spec: GraphSpec, runs: int, threads: int, progress: Callable[[], None], *, trust: bool
) -> tuple[list[Layer], float]:
    onnxruntime = import_onnxruntime()
    model = onnx.load(bundle.file(spec.file))
    inputs = {tensor.name: zeros(tensor) for tensor in spec.inputs}
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        for library in engine_libraries(bundle, CPU_KERNELS, trust=trust):
            register_cpu_kernels(options, library)
        session = onnxruntime.InferenceSession(str(bundle.file(spec.file)), options, providers=[CPU_PROVIDER])
        for _ in range(runs + 2):
            session.run(None, inputs)
            progress()
        events = json.loads(Path(session.end_profiling()).read_text())
    wall = [event["dur"] / 1e6 for event in events if event["name"] == "model_run"]
    return merge(events, model, runs), statistics.median(wall[-runs:])


def merge(events: Sequence[Mapping[str, Any]], model: onnx.ModelProto, runs: int) -> list[Layer]:
    """The layers of a profile, with their costs.

    Args:
        events: of ONNX Runtime's profile.
        model: the graph that was loaded.
        runs: the last so many of each kernel count.
    """
    costs = {cost.name: cost for cost in node_costs(model)}
    makers = {name: node.name for node in model.graph.node for name in node.output}
    seconds: dict[str, list[float]] = defaultdict(list)
    last: dict[str, Mapping[str, Any]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(_SUFFIX):
            name = event["name"].removesuffix(_SUFFIX)
            seconds[name].append(event["dur"] / 1e6)
            last[name] = event["args"]
    return [_layer(name, args, statistics.median(seconds[name][-runs:]), costs, makers) for name, args in last.items()]


def _layer(
    name: str, args: Mapping[str, Any], seconds: float, costs: Mapping[str, NodeCost], makers: Mapping[str, str]
) -> Layer:
    operator = str(args["op_name"])
    # The optimiser names what it fuses or lays out again after a node, or after the value that it makes.
    base = name.split("/MatMulAddFusion")[0].split("/GemmAddFusion")[0]
    origin = base if base in costs else makers.get(name.removesuffix("_nchwc"), "")
    if base in costs and costs[base].operator.split("::")[-1] in (operator, "MatMul"):
        cost = costs[base]
        return Layer(name, operator, cost.part, seconds, cost.flops, cost.bytes_moved)
    inputs, outputs = (_shapes(args, which) for which in ("input_type_shape", "output_type_shape"))
    moved = 4 * sum(math.prod(shape) for shape in (*inputs, *outputs))
    place = origin.split("/")[0].split(".")[0]
    part = PARTS.get(place, OTHER_PART if origin else MOVED)
    return Layer(name, operator, part, seconds, products(operator, inputs, outputs), moved)


def _shapes(args: Mapping[str, Any], which: str) -> list[Shape]:
    """The shapes of a kernel's tensors: the profile has a record {type: sizes} for each."""
    return [tuple(int(size) for size in sizes) for record in args.get(which, ()) for sizes in record.values()]


def products(operator: str, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int:
    """Operations of the products of an operator of ONNX Runtime, by its tensors' shapes; 0 if they are not known."""
    if not outputs or len(inputs) < 2:
        return 0
    output, second = outputs[0], inputs[1]
    if operator in ("Conv", "FusedConv", "NchwcConv"):
        return 2 * math.prod(output) * math.prod(second[1:])
    if operator == "QLinearConv" and len(inputs) > 3:
        return 2 * math.prod(output) * math.prod(inputs[3][1:])
    if operator == "QLinearMatMul" and len(inputs) > 3:
        return 2 * math.prod(output) * inputs[0][-1]
    if operator in ("Gemm", "FusedGemm", "MatMul", "FusedMatMul", "MatMulInteger", "DynamicQuantizeMatMul"):
        return 2 * math.prod(output) * inputs[0][-1]
    if operator == "MatMulIntegerToFloat":
        return 2 * math.prod(output) * inputs[0][-1]
    return 0


def markdown(report: dict[str, Any]) -> str:
    """The report as tables with the facts they stand on."""
    peak = report["matrix_product_gflop_per_second"]
    headings, lines = ("time", "share", "GFLOP", "GFLOP/s", "of peak", "GB/s"), list[str]()
    for name, graph in report["graphs"].items():
        total, operators = graph["kernel_seconds"], graph["operators"]
        kept = {label: row for label, row in operators.items() if row["seconds"] >= 0.004 * total}
        sums = {of: sum(row[of] for row in operators.values()) for of in ("flops", "bytes_moved")}
        rows = [*kept.items(), ("**all**", {"seconds": total, **sums})]
        slowest = [(row["name"], row) for row in graph["layers"][:TOP]]
        for title, shown in ((f"{report['engine']}, graph {name}", rows), (f"its {TOP} slowest layers", slowest)):
            lines += ["", *markdown_table((title, *headings), [(at, *_cells(row, total, peak)) for at, row in shown])]
        explained = 100 * total / graph["wall_seconds"]
        lines += [
            "",
            f"Kernels explain {explained:.0f} % of the {1000 * graph['wall_seconds']:.0f} ms of a profiled run.",
            "",
        ]
    lines.append(
        f"Medians of {report['runs']} runs, {report['threads']} threads; peak is the machine's matrix-product rate, "
        f"{peak:.0f} GFLOP/s; {measured_on(report)}"
    )
    return "\n".join(lines[1:]) + "\n"


def _cells(row: Mapping[str, Any], total: float, peak: float) -> tuple[str, ...]:
    seconds, flops = max(row["seconds"], 1e-9), row["flops"]
    rate = flops / seconds / 1e9
    return (
        f"{1000 * seconds:.1f} ms",
        f"{100 * seconds / total:.1f} %",
        f"{flops / 1e9:.1f}" if flops else "",
        f"{rate:.0f}" if flops else "",
        f"{100 * rate / peak:.0f} %" if flops else "",
        f"{row['bytes_moved'] / seconds / 1e9:.1f}",
    )


def draw(report: dict[str, Any]) -> Figure:
    """Time by part and operator, with the rate that each reaches."""
    peak = report["matrix_product_gflop_per_second"]
    rows = [
        (label if len(report["graphs"]) == 1 else f"{name} {label}", row)
        for name, graph in report["graphs"].items()
        for label, row in graph["cells"].items()
    ]
    total = sum(row["seconds"] for _, row in rows)
    rows = sorted(rows, key=lambda item: item[1]["seconds"])
    kept = [(label, row) for label, row in rows if row["seconds"] >= 0.006 * total]
    rest = sum(row["seconds"] for _, row in rows) - sum(row["seconds"] for _, row in kept)
    kept = [("all the rest", {"seconds": rest, "flops": 0, "bytes_moved": 0}), *kept]
    with new_figure(height=1 + 0.24 * len(kept)) as (figure, (axes,)):
        for at, (_, row) in enumerate(kept):
            milliseconds = 1000 * row["seconds"]
            rate = row["flops"] / max(row["seconds"], 1e-9) / 1e9
            axes.barh(at, milliseconds, color=COLOURS[0] if row["flops"] else COLOURS[7])
            said = f" {rate:.0f} GFLOP/s, {100 * rate / peak:.0f} % of peak" if row["flops"] else ""
            axes.text(milliseconds, at, f" {milliseconds:.0f} ms{said}", va="center", fontsize=7)
        axes.set_yticks(range(len(kept)), [label for label, _ in kept], fontsize=7)
        axes.set_xlim(0, 1.35 * 1000 * max(row["seconds"] for _, row in kept))
        axes.set_xlabel("milliseconds of a run; grey: no products")
        axes.grid(visible=False, axis="y")
        host = report["machine"]
        axes.set_title(
            f"{report['engine']}, {report['threads']} threads of {host['cpu']}: {1000 * total:.0f} ms in kernels, "
            f"peak {peak:.0f} GFLOP/s",
            fontsize=9,
        )
    return figure
