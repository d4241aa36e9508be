"""The report of `dtfsal.benchmarks.timing.latency` as a table and as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from dtfsal.benchmarks.machine.host import measured_on
from dtfsal.benchmarks.report.figures import COLOURS, new_figure
from dtfsal.benchmarks.tables import markdown_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HEADINGS = (
    "median",
    "{level} interval",
    "quartiles",
    "speed-up",
    "GFLOP/s (true)",
    "CC",
    "load",
    "first run",
    "memory",
)


def markdown(report: dict[str, Any]) -> str:
    """The report as a table with the facts it stands on."""
    clip, level = report["clip"], f"{100 * report['confidence']:g} %"
    size = f"{clip['frames']} frames of {clip['height']}x{clip['width']}"
    metered = bool(report["meters"])
    headings = [heading.format(level=level) for heading in HEADINGS] + ["energy"] * metered
    title = f"{report['preset']}, {size}, batch {report['batch_size']}"
    peak = f"{report['matrix_product_gflop_per_second']:.0f} GFLOP/s"
    products = f", whose FP32 matrix products reach {peak} (machine {report['machine']['fingerprint']})"
    lines = [
        *markdown_table((title, *headings), [_cells(row, metered) for row in report["rows"]]),
        "",
        f"{report['runs']} interleaved runs each, {report['threads']} threads, speed-up over {report['baseline']}; "
        f"{measured_on(report, products)}",
    ]
    notes = []
    if report["interval_coverage"] < report["confidence"]:
        notes.append(
            f"Of {report['runs']} runs the interval of a median is their range, which covers the true one with "
            f"{100 * report['interval_coverage']:.0f} %."
        )
    if report["no_energy"]:
        notes.append(f"Energy: {report['no_energy']}.")
    if report["left_out"]:
        by_reason: dict[str, list[str]] = {}
        for name, reason in report["left_out"].items():
            by_reason.setdefault(reason, []).append(name)
        notes.append("Left out: " + "; ".join(f"{', '.join(names)} ({why})" for why, names in by_reason.items()) + ".")
    return "\n".join([*lines, *(f"\n{note}" for note in notes)]) + "\n"


def _cells(row: dict[str, Any], metered: bool) -> list[str]:
    cold, agreement, ratio = row["cold"], row["agreement"], f"{row['ratio_to_baseline']:.2f}x"
    if row["ratio_interval"] is not None:
        low, high = row["ratio_interval"]
        ratio += f" ({low:.2f}-{high:.2f})"
    correlation = "-"
    if agreement is not None:
        correlation = f"{agreement['cc']:.4f}" if agreement["finite"] else "not finite"
    computes_in = (cold.get("backend") or {}).get("computes_in")  # OpenVINO takes FP32 where the CPU has no BF16
    cells = [
        f"{row['form']} (in {computes_in})" if computes_in else row["form"],
        f"{row['median_seconds']:.3g} s",
        _span(row["median_interval_seconds"]),
        _span(row["quartiles_seconds"]),
        ratio,
        f"{row['true_gflop_per_second']:.0f}",
        correlation,
        f"{cold['load_seconds']:.3g} s",
        f"{cold['first_seconds']:.3g} s",
        "-" if cold["peak_memory_bytes"] is None else f"{cold['peak_memory_bytes'] / 2**20:.0f} MiB",
    ]
    if metered:
        cells.append(", ".join(f"{joules:.3g} J ({name})" for name, joules in (row["joules_per_run"] or {}).items()))
    return cells


def _span(ends: tuple[float, float]) -> str:
    return f"{ends[0]:.3g}-{ends[1]:.3g} s"


def draw(report: dict[str, Any]) -> Figure:
    """Each form's runs, their median and its interval, and beside them load and first run.

    Raises:
        UnavailableError: matplotlib is absent.
    """
    rows, places = report["rows"], range(len(report["rows"]))
    with new_figure(width=9, height=1.4 + 0.35 * len(rows), columns=2) as (figure, (steady, cold)):
        for place, row in zip(places, rows, strict=True):
            steady.plot(row["seconds"], [place] * len(row["seconds"]), ".", color=COLOURS[7], alpha=0.6)
            steady.plot(row["median_interval_seconds"], [place, place], color=COLOURS[0], linewidth=3)
            steady.plot(row["median_seconds"], place, "o", color=COLOURS[0])
            label = f"{row['ratio_to_baseline']:.2f}x"
            steady.annotate(label, (row["median_seconds"], place), (0, 6), textcoords="offset points", ha="center")
        for key, marker in (("import_seconds", "v"), ("load_seconds", "s"), ("first_seconds", "D")):
            seconds = [row["cold"][key] for row in rows]
            cold.plot(seconds, list(places), marker, label=key.removesuffix("_seconds"), alpha=0.8)
        cold.legend(loc="best")
        level = f"{100 * report['confidence']:g} %"
        steady.set_title(
            f"{report['preset']}, batch {report['batch_size']}: runs, median, {level} interval", fontsize=9
        )
        cold.set_title("cold start: libraries, load, first run", fontsize=9)
        steady.set_yticks(places, [row["form"] for row in rows])
        cold.set_yticks(places, [""] * len(rows))
        for axes in (steady, cold):
            logarithmic(axes, "x")
            axes.set_xlabel("seconds")
            axes.set_ylim(len(rows) - 0.4, -0.6)
    return figure


def logarithmic(axes: Axes, which: Literal["x", "y"]) -> None:
    """Give a drawn axis a logarithmic scale with plain numbers at powers of ten, and between them if those are few."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axis = axes.xaxis if which == "x" else axes.yaxis
    axes.set(**{f"{which}scale": "log"})
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())
