"""The report of `dtfsal.benchmarks.timing.scaling` as a table and as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dtfsal.benchmarks.machine.host import measured_on
from dtfsal.benchmarks.measure.growth import AmdahlLaw, PowerLaw
from dtfsal.benchmarks.report.figures import COLOURS, new_figure
from dtfsal.benchmarks.tables import markdown_table
from dtfsal.benchmarks.timing.latency_report import logarithmic

if TYPE_CHECKING:
    from matplotlib.figure import Figure

AXES = {
    "frames": "frames of a window",
    "size": "pixels of a frame",
    "batch": "windows at once",
    "threads": "threads",
}


def markdown(report: dict[str, Any]) -> str:
    """The report as a table with the law below it."""
    first, level = report["rows"][0], f"{100 * report['confidence']:g} %"
    headings = (report["vary"], "median", f"{level} interval", "beside the first", "GFLOP (true)", "GFLOP/s", "memory")
    rows = []
    for row in report["rows"]:
        (low, high), memory = row["median_interval_seconds"], row["cold"]["peak_memory_bytes"]
        cells = (
            row["label"],
            f"{row['median_seconds']:.3g} s",
            f"{low:.3g}-{high:.3g} s",
            f"{row['median_seconds'] / first['median_seconds']:.2f}x",
            f"{row['true_gflop']:.3g}",
            f"{row['true_gflop_per_second']:.0f}",
            "-" if memory is None else f"{memory / 2**20:.0f} MiB",
        )
        rows.append(cells)
    fingerprint = f" (machine {report['machine']['fingerprint']})"
    held = ", ".join(f"{name} {value}" for name, value in report["fixed"].items())
    lines = [
        *markdown_table(headings, rows),
        "",
        f"{report['preset']} by {report['form']} ({held}): {law_in_words(report)}.",
        "",
        f"{report['runs']} interleaved runs at each point, whose intervals cover the true median with "
        f"{100 * report['interval_coverage']:.0f} %; {measured_on(report, fingerprint)}",
    ]
    return "\n".join(lines) + "\n"


def law_in_words(report: dict[str, Any]) -> str:
    """The fitted law as a clause."""
    law, axis = report["law"], AXES[report["vary"]]
    fit = f"the largest deviation is {100 * law['largest_deviation']:.0f} %"
    if len(report["rows"]) == 2:
        fit = "any such law goes through two points"
    if law["name"] == "amdahl":
        low, high = law["serial_share_interval"]
        share = f"{100 * law['serial_share']:.0f} % of the work is serial ({100 * low:.0f} to {100 * high:.0f} %)"
        return f"by Amdahl's law {share}; {fit}"
    low, high = law["exponent_interval"]
    return (
        f"seconds grow as {axis} to the power {law['exponent']:.2f} ({low:.2f} to {high:.2f}), operations to the power "
        f"{law['flops_exponent']:.2f}; {fit}"
    )


def draw(report: dict[str, Any]) -> Figure:
    """Runs, medians and the law over what grows; the operations beside them.

    Raises:
        UnavailableError: matplotlib is absent.
    """
    rows, fields = report["rows"], {key: value for key, value in report["law"].items() if key != "name"}
    law: PowerLaw | AmdahlLaw
    if report["law"]["name"] == "amdahl":
        law, words = AmdahlLaw(**fields), f"Amdahl, {100 * fields['serial_share']:.0f} % serial"
    else:
        fields.pop("flops_exponent")
        law, words = PowerLaw(**fields), f"power {fields['exponent']:.2f}"
    x = [row["x"] for row in rows]
    dense = [x[0] * (x[-1] / x[0]) ** (step / 50) for step in range(51)]
    with new_figure(width=9, height=3.6, columns=2) as (figure, (times, operations)):
        for row in rows:
            times.plot([row["x"]] * len(row["seconds"]), row["seconds"], ".", color=COLOURS[7], alpha=0.6)
            times.plot([row["x"]] * 2, row["median_interval_seconds"], color=COLOURS[0], linewidth=3)
        times.plot(x, [row["median_seconds"] for row in rows], "o", color=COLOURS[0], label="median and its interval")
        times.plot(dense, [law.at(value) for value in dense], "--", color=COLOURS[1], label=words)
        times.set_ylabel("seconds")
        times.set_title(f"{report['preset']} by {report['form']}", fontsize=9)
        times.legend()
        operations.plot(x, [row["true_gflop"] for row in rows], "o-", color=COLOURS[2])
        operations.set_ylabel("GFLOP (true)")
        operations.set_title("operations", fontsize=9)
        for axes in (times, operations):
            logarithmic(axes, "x")
            logarithmic(axes, "y")
            axes.set_xticks(x, [row["label"] for row in rows])
            axes.set_xlabel(AXES[report["vary"]])
    return figure
