"""A model's counts as a report: its parts, the paper's Table 2 with ours, an engine's graphs, and the roofline."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dtfsal.benchmarks.figures import COLOURS, new_figure
from dtfsal.benchmarks.flops import PAPER_TABLE_2, Form, count
from dtfsal.benchmarks.graph_flops import engine_flops
from dtfsal.benchmarks.host import machine, software
from dtfsal.benchmarks.machine_rates import copy_rate, matrix_product_rate
from dtfsal.engines.threads import default_threads

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PACKAGES = ("dtfsal", "torch", "onnx", "numpy")
OURS = ("dtfsal-v", "dtfsal")


def flops_report(
    preset: str,
    *,
    form: Form = "deployed",
    engine: Path | None = None,
    roofline: bool = False,
    threads: int | None = None,
    command: Sequence[str] = (),
) -> dict[str, Any]:
    """Count a model, and an engine's graphs beside it.

    Args:
        preset: the model.
        form: see `FlopReport`.
        engine: an engine for ONNX Runtime or OpenVINO.
        roofline: measure the machine's rates.
        threads: for that; None for the physical cores.
        command: the command line, to be kept with the result.

    Returns:
        The report as JSON types.

    Raises:
        UsageError: there is no such preset.
        EngineError: the engine is none.
        EngineMismatchError: it keeps no graph.
    """
    threads = threads or default_threads()
    report = count(preset, form=form)
    rates = {"matrix_product_gflop_per_second": matrix_product_rate(threads), "copy_gb_per_second": copy_rate(threads)}
    return {
        "kind": "flops",
        **report.to_dict(),
        "beside_paper": [list(row) for row in report.beside_paper()],
        "table_2": {"paper": [dataclasses.asdict(row) for row in PAPER_TABLE_2], "ours": _ours()},
        "engine": None if engine is None else engine_flops(engine),
        "rates": rates if roofline else None,
        "threads": threads,
        "machine": machine(PACKAGES),
        "command": list(command),
    }


def _ours() -> list[dict[str, Any]]:
    rows = []
    for preset in OURS:
        report = count(preset)
        rows.append(
            {
                "model": preset,
                "kind": "visual" if preset.endswith("-v") else "audio-visual",
                "gflops": report.total.macs / 1e9,
                "true_gflops": (report.total.true_flops + report.other_operations) / 1e9,
                "size_mib": report.size_mib,
            }
        )
    return rows


def markdown(report: dict[str, Any]) -> str:
    """The report as tables with the facts they stand on."""
    lines = [
        f"| {report['model']}, {report['form']} form | parameters, M | GMAC as the paper | attention GMAC | GFLOP |",
        "|---|---|---|---|---|",
    ]
    for name, cost in report["parts"].items():
        attention = (cost["attention_macs"] + cost["position_macs"]) / 1e9
        cells = (name, f"{cost['parameters'] / 1e6:.3f}", f"{cost['macs'] / 1e9:.2f}", f"{attention:.2f}")
        lines.append(f"| {' | '.join(cells)} | {cost['true_flops'] / 1e9:.2f} |")
    other = report["other_operations"] / 1e9
    lines += ["", f"Normalisation, activations, softmax, resizing and sampling are {other:.2f} GFLOP more."]
    lines += _paper_lines(report) + _engine_lines(report)
    lines += ["", f"{software(report['machine'], None)}. `{' '.join(report['command'])}`"]
    return "\n".join(lines) + "\n"


def _paper_lines(report: dict[str, Any]) -> list[str]:
    lines = []
    if report["beside_paper"]:
        lines += ["", "| beside the paper (Tables 1, 2 and 5) | here | paper | difference |", "|---|---|---|---|"]
    for name, mine, theirs in report["beside_paper"]:
        lines.append(f"| {name} | {mine:.2f} | {theirs:.2f} | {100 * (mine / theirs - 1):+.2f} % |")
    lines += [
        "",
        "| Table 2 of the paper, and what is counted here | input | GFLOPs as counted there | size, MB | true GFLOP |",
        "|---|---|---|---|---|",
    ]
    ours = {"DTFSal(V)": "dtfsal-v", "DTFSal": "dtfsal"}
    counted = {row["model"]: row for row in report["table_2"]["ours"]}
    for row in report["table_2"]["paper"]:
        width, height = row["input_size"]
        gflops = "not given" if row["gflops"] is None else f"{row['gflops']:g}"
        lines.append(
            f"| {row['model']} ({row['kind']}), the paper's | {width}x{height} | {gflops} | {row['size_mb']:g} | |"
        )
        if row["model"] in ours:
            mine = counted[ours[row["model"]]]
            size = f"{mine['size_mib']:.2f} (MiB) | {mine['true_gflops']:.0f}"
            lines.append(f"| **{mine['model']}**, counted | {width}x{height} | {mine['gflops']:.2f} | {size} |")
    return lines


def _engine_lines(report: dict[str, Any]) -> list[str]:
    engine = report["engine"]
    if engine is None:
        return []
    title = f"{engine['engine']}, {engine['precision']}, {engine['target']}"
    lines = ["", f"| {title} | nodes | true GFLOP | GB moved | operations per byte |", "|---|---|---|---|---|"]
    for name, graph in engine["graphs"].items():
        rows = {**graph["parts"], f"graph {name}": graph}
        for part, cost in rows.items():
            lines.append(
                f"| {part} | {cost['nodes']} | {cost['total'] / 1e9:.2f} | {cost['bytes_moved'] / 1e9:.2f} | "
                f"{cost['intensity']:.1f} |"
            )
        peak, weights = graph["activation_peak_bytes"] / 2**20, graph["weight_bytes"] / 2**20
        lines += [
            "",
            f"Graph {name}: activations need {peak:.0f} MiB at once at least, weights and graph {weights:.0f} MiB.",
            "",
        ]
    return lines[:-1]


def draw(report: dict[str, Any]) -> Figure:
    """The roofline: what the machine allows at each intensity, and where the engine's parts lie."""
    rates, engine = report["rates"], report["engine"]
    peak, bandwidth = rates["matrix_product_gflop_per_second"], rates["copy_gb_per_second"]
    points = [
        (part, cost)
        for graph in engine["graphs"].values()
        for part, cost in graph["parts"].items()
        if cost["total"] > 1e7
    ]
    with new_figure(height=4.2) as (figure, (axes,)):
        edge = peak / bandwidth
        low = min(0.3, *(cost["intensity"] / 2 for _, cost in points))
        high = max(4 * edge, *(2 * cost["intensity"] for _, cost in points))
        axes.plot([low, edge, high], [low * bandwidth, peak, peak], color="#000000")
        for index, (part, cost) in enumerate(points):
            intensity = cost["intensity"]
            bound = min(peak, intensity * bandwidth)
            colour = COLOURS[index % len(COLOURS)]
            axes.plot([intensity, intensity], [low * bandwidth, bound], color=colour, linestyle=":", linewidth=1)
            label = f"{part}: {cost['total'] / 1e9:.1f} GFLOP, {intensity:.0f} per byte"
            axes.plot([intensity], [bound], "o", color=colour, label=label)
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
