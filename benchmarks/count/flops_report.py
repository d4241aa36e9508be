"""A model's counts as a report: its parts, the paper's figures beside ours, an engine's graphs, and the roofline."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dtfsal.benchmarks.count.flops import (
    GFLOPS,
    PAPER_ROWS,
    PAPER_TABLE_2,
    FlopReport,
    Form,
    beside_paper,
    count_forms,
    macs_of_one_token_map,
    memory,
)
from dtfsal.benchmarks.count.graph_flops import engine_flops
from dtfsal.benchmarks.count.torch_memory import REST, TorchMemory
from dtfsal.benchmarks.machine.host import OtherCores, machine, software
from dtfsal.benchmarks.machine.processor_peak import processor_peak
from dtfsal.benchmarks.machine.rates import copy_rate, matrix_product_rate
from dtfsal.benchmarks.report.figures import COLOURS, new_figure
from dtfsal.benchmarks.tables import markdown_table
from dtfsal.engines.cpu.threads import default_threads
from dtfsal.training.model.config import PRESETS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PACKAGES = ("dtfsal", "torch", "onnx", "numpy")
OURS = {"dtfsal-v": "DTFSal(V)", "dtfsal": "DTFSal"}  # our preset, and the paper's name of it
LEAST_SHARE = 1e-3  # of an engine's operations, for a point in the picture
MARKERS = {
    "matrix product": "o",
    "attention": "*",
    "convolution": "s",
    "depthwise convolution": "^",
    "deformable convolution": "D",
    "other": "x",
}


def flops_report(
    preset: str,
    *,
    form: Form = "deployed",
    engine: Path | None = None,
    roofline: bool = False,
    threads: int | None = None,
) -> dict[str, Any]:
    """Count a model, and an engine's graphs beside it.

    Args:
        preset: the model.
        form: see `FlopReport`.
        engine: an engine for ONNX Runtime or OpenVINO.
        roofline: measure the machine's rates.
        threads: for that; None for the physical cores.

    Returns:
        The report as JSON types.

    Raises:
        UsageError: there is no such preset.
        EngineError: the engine is not one.
        EngineMismatchError: it keeps no graph.
    """
    threads = threads or default_threads()
    counted = {name: count_forms(name) for name in dict.fromkeys((preset, *OURS))}
    report = counted[preset][form]
    others = OtherCores()
    rates = _rates(threads) if roofline else None
    other_cores = others.mean() if roofline else None
    return {
        "kind": "flops",
        **report.to_dict(),
        "eager": _eager(report, memory(preset, form=form)),
        "beside_paper": [row.to_dict() for row in beside_paper(counted[preset])],
        "table_2": {"paper": [dataclasses.asdict(row) for row in PAPER_TABLE_2], "ours": _ours(counted)},
        "engine": None if engine is None else engine_flops(engine),
        "rates": rates,
        "other_cores": other_cores,
        "threads": threads,
        "machine": machine(PACKAGES),
    }


def _rates(threads: int) -> dict[str, Any]:
    return {
        "processor_peak_gop_per_second": processor_peak(threads),
        "matrix_product_gflop_per_second": matrix_product_rate(threads),
        "copy_gb_per_second": copy_rate(threads),
    }


def _eager(report: FlopReport, held: TorchMemory) -> dict[str, Any]:
    """What the operators of eager PyTorch hold, move and compute for each byte, as JSON types."""
    operations = {name: cost.true_flops + cost.other_operations for name, cost in report.parts.items()}
    operations[REST] = report.rest_operations
    rows = {name: (number, held.moved_bytes.get(name, 0)) for name, number in operations.items()}
    rows["total"] = (sum(operations.values()), held.total_moved_bytes)
    return {
        "activation_peak_bytes": held.activation_peak_bytes,
        "peak_operator": held.peak_operator,
        "peak_place": held.peak_place,
        "weight_bytes": held.weight_bytes,
        "parts": {
            name: {"operations": number, "bytes_moved": moved, "intensity": number / max(moved, 1)}
            for name, (number, moved) in rows.items()
        },
    }


def paper_report() -> dict[str, Any]:
    """Both of the paper's models beside its figures, in both forms, as JSON types."""
    models = []
    for preset, name in OURS.items():
        forms = count_forms(preset)
        once = macs_of_one_token_map(forms, PRESETS[preset].times) / 1e9
        away = 100 * (once / PAPER_ROWS[preset].gflops - 1)
        models.append(
            {
                "model": preset,
                "name": name,
                "beside_paper": [row.to_dict() for row in beside_paper(forms)],
                "one_token_map": {"gflops": once, "deviation_percent": away},
            }
        )
    return {"kind": "flops-paper", "models": models, "machine": machine(PACKAGES)}


def paper_markdown(report: dict[str, Any]) -> str:
    """The report of `paper_report` as a table; it holds nothing of the machine, which a count does not depend on."""
    lines, once = list(_BESIDE_HEAD), []
    for model in report["models"]:
        lines += _beside_rows(model["beside_paper"], f"{model['name']}, ")
        one = model["one_token_map"]
        once.append(f"{one['gflops']:.2f} ({one['deviation_percent']:+.1f} %) for {model['name']}")
    lines += [
        "",
        f"{GFLOPS}, of the equations with eq. 7's convolution once a window: {' and '.join(once)}. "
        f"`{' '.join(report['command'])}`",
    ]
    return "\n".join(lines) + "\n"


_BESIDE_HEAD = ("| | paper | equations as written | as computed here |", "|---|---|---|---|")


def _beside_rows(rows: Sequence[dict[str, Any]], prefix: str = "") -> list[str]:
    """Table rows of `BesidePaper` as JSON types, with how far ours are from the paper's."""
    lines = []
    for row in rows:
        paper = "not stated" if row["paper"] is None else f"{row['paper']:.2f}"
        away = row["deviation_percent"] or {}
        ours = [
            f"{row[form]:.2f}" + (f" ({away[form]:+.1f} %)" if form in away else "") for form in ("written", "deployed")
        ]
        lines.append(f"| {prefix}{row['what']} | {paper} | {' | '.join(ours)} |")
    return lines


def _ours(counted: Mapping[str, Mapping[Form, FlopReport]]) -> list[dict[str, Any]]:
    rows = []
    for preset in OURS:
        report = counted[preset]["deployed"]
        rows.append(
            {
                "model": preset,
                "kind": "visual" if preset.endswith("-v") else "audio-visual",
                "gflops": report.total.macs / 1e9,
                "written_gflops": counted[preset]["written"].total.macs / 1e9,
                "true_gflops": (report.total.true_flops + report.other_operations) / 1e9,
                "size_mib": report.size_mib,
            }
        )
    return rows


def markdown(report: dict[str, Any]) -> str:
    """The report as tables with the facts they stand on."""
    title = f"{report['model']}, {report['form']} form"
    headings = (title, "parameters, M", "GMAC as the paper", "attention GMAC", "GFLOP", "other GFLOP")
    eager, rows = report["eager"], []
    for name, cost in report["parts"].items():
        attention = (cost["attention_macs"] + cost["position_macs"]) / 1e9
        cells = [name, f"{cost['parameters'] / 1e6:.3f}", f"{cost['macs'] / 1e9:.2f}", f"{attention:.2f}"]
        other = report["other_operations"] if name == "total" else cost["other_operations"]
        moved = eager["parts"][name]
        cells += [f"{cost['true_flops'] / 1e9:.2f}", f"{other / 1e9:.2f}", f"{moved['bytes_moved'] / 1e9:.2f}"]
        rows.append([*cells, f"{moved['intensity']:.1f}"])
    lines = [
        *markdown_table((*headings, "GB moved, eager", "operations per byte"), rows),
        "",
        "Other arithmetic is normalisation, activations, softmax, resizing and sampling. Eager PyTorch holds at most "
        f"{eager['activation_peak_bytes'] / 2**20:.0f} MiB of activations at once "
        f"(in {eager['peak_place'] or 'forward'}), "
        f"and {eager['weight_bytes'] / 2**20:.0f} MiB of weights and constants.",
    ]
    lines += _paper_lines(report) + _engine_lines(report) + _rate_lines(report)
    lines += ["", f"{software(report['machine'], report['other_cores'])}. `{' '.join(report['command'])}`"]
    return "\n".join(lines) + "\n"


def _rate_lines(report: dict[str, Any]) -> list[str]:
    """What the machine was measured to do, where it was."""
    rates = report["rates"]
    if rates is None:
        return []
    said = (
        f"{report['threads']} threads: FP32 matrix products reach {rates['matrix_product_gflop_per_second']:.0f} "
        f"GFLOP/s, copies {rates['copy_gb_per_second']:.3g} GB/s"
    )
    if (units := rates["processor_peak_gop_per_second"]) is not None:
        said += f"; the cores' vector units do at most {units['fp32']:.0f} GFLOP/s of FP32"
        said += f" and {units['int8']:.0f} 10^9 operations a second of 8-bit integers" if units["int8"] else ""
    return ["", f"{said}."]


def _paper_lines(report: dict[str, Any]) -> list[str]:
    lines = ["", *_BESIDE_HEAD, *_beside_rows(report["beside_paper"])]
    lines += [
        "",
        f"| Table 2 of the paper, and what is counted here | input | {GFLOPS} | size, MB | true GFLOP |",
        "|---|---|---|---|---|",
    ]
    ours = {name: preset for preset, name in OURS.items()}
    counted = {row["model"]: row for row in report["table_2"]["ours"]}
    for row in report["table_2"]["paper"]:
        width, height = row["input_size"]
        gflops = "not given" if row["gflops"] is None else f"{row['gflops']:g}"
        lines.append(
            f"| {row['model']} ({row['kind']}), the paper's | {width}x{height} | {gflops} | {row['size_mb']:g} | |"
        )
        if row["model"] in ours:
            mine = counted[ours[row["model"]]]
            gflops = f"{mine['written_gflops']:.2f} as written, {mine['gflops']:.2f} as computed"
            size = f"{mine['size_mib']:.2f} (MiB) | {mine['true_gflops']:.0f}"
            lines.append(f"| **{mine['model']}**, counted | {width}x{height} | {gflops} | {size} |")
    return lines


def _engine_lines(report: dict[str, Any]) -> list[str]:
    engine = report["engine"]
    if engine is None:
        return []
    title = f"{engine['engine']} ({engine['model']}), {engine['precision']}, {engine['target']}; one run"
    lines = ["", f"| {title} | nodes | true GFLOP | GB moved | operations per byte |", "|---|---|---|---|---|"]
    memory_lines = []
    for name, graph in engine["graphs"].items():
        rows = {**graph["parts"], f"**graph {name}**": graph}
        for part, cost in rows.items():
            lines.append(
                f"| {part} | {cost['nodes']} | {cost['total'] / 1e9:.2f} | {cost['bytes_moved'] / 1e9:.2f} | "
                f"{cost['intensity']:.1f} |"
            )
        runs = graph["runs_in_a_window"]
        often = "" if runs == 1 else f", which runs {runs} times for a window that shares nothing with its neighbours"
        peak, weights = graph["activation_peak_bytes"] / 2**20, graph["weight_bytes"] / 2**20
        memory_lines += [
            "",
            f"Graph {name}{often}: activations need {peak:.0f} MiB at once at least, "
            f"weights and graph {weights:.0f} MiB.",
        ]
    lines += memory_lines
    if engine["model"] == report["model"]:
        graphs = engine["graphs"].values()
        products = sum(graph["runs_in_a_window"] * sum(graph["flops"].values()) for graph in graphs) / 1e9
        other = sum(graph["runs_in_a_window"] * graph["other_operations"] for graph in graphs) / 1e9
        lines += [
            "",
            f"For a window the graphs count {products:.2f} GFLOP of products and {other:.2f} of other "
            f"arithmetic, PyTorch's operators {report['parts']['total']['true_flops'] / 1e9:.2f} and "
            f"{report['other_operations'] / 1e9:.2f}: "
            "a graph folds batch norms, pads attention's groups of queries, and resamples the sound by a product; "
            "the custom attention adds positions to the scores, where the fused one has them in its inner product.",
        ]
    return lines


def draw(report: dict[str, Any]) -> Figure:
    """The roofline: what the machine allows at each intensity, and where each kind of layer of each part lies."""
    rates, engine = report["rates"], report["engine"]
    peak, bandwidth = rates["matrix_product_gflop_per_second"], rates["copy_gb_per_second"]
    layers = [row for graph in engine["graphs"].values() for row in graph["layers"]]
    least = LEAST_SHARE * sum(row["total"] for row in layers)
    points = [row for row in layers if row["total"] >= least]
    colours = dict(zip(dict.fromkeys(row["part"] for row in points), COLOURS, strict=False))
    with new_figure(height=4.6) as (figure, (axes,)):
        edge = peak / bandwidth
        low = min(0.3, *(row["intensity"] / 2 for row in points))
        high = max(4 * edge, *(2 * row["intensity"] for row in points))
        axes.plot([low, edge, high], [low * bandwidth, peak, peak], color="#000000", label="matrix products and copies")
        if (units := rates["processor_peak_gop_per_second"]) is not None:
            most = units["fp32"]
            axes.plot([most / bandwidth, high], [most, most], "--", color="#000000", label="all that the cores can do")
        for row in points:
            # The area is the share of all operations, so that what weighs much is seen to.
            size = 18 + 300 * math.sqrt(row["total"] / sum(point["total"] for point in points))
            bound = min(peak, row["intensity"] * bandwidth)
            marker, colour = MARKERS[row["kind"]], colours[row["part"]]
            axes.scatter([row["intensity"]], [bound], s=size, marker=marker, color=colour, alpha=0.75, zorder=3)
        for part, colour in colours.items():
            gflop = sum(row["total"] for row in points if row["part"] == part) / 1e9
            axes.plot([], [], "-", linewidth=4, color=colour, label=f"{part}: {gflop:.3g} GFLOP")
        for kind in dict.fromkeys(row["kind"] for row in points):
            axes.plot([], [], MARKERS[kind], color="#666666", linestyle="none", label=kind)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("operations per byte that nodes read and write")
        axes.set_ylabel("GFLOP/s that the machine allows")
        host = report["machine"]
        axes.set_title(
            f"{engine['engine']}, {host['cpu']}, {report['threads']} threads: {peak:.0f} GFLOP/s, {bandwidth:.0f} GB/s",
            fontsize=9,
        )
        axes.legend(fontsize=7, loc="lower right")
    return figure
