"""The report of `dtfsal.benchmarks.accuracy.delay` as a table and as a picture."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from dtfsal.benchmarks.machine.host import software
from dtfsal.benchmarks.report.figures import COLOURS, new_figure
from dtfsal.benchmarks.tables import markdown_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def markdown(report: dict[str, Any]) -> str:
    """The report as a table, a line for each engine and form, with the facts it stands on."""
    rows = {(row["engine"], row["form"], row["kind"]): row for row in report["rows"]}
    kinds = list(dict.fromkeys(kind for _, _, kind in rows))
    table = []
    for engine, form in dict.fromkeys((engine, form) for engine, form, _ in rows):
        of_kinds = [rows[engine, form, kind] for kind in kinds]
        stated = of_kinds[0]["stream_delay_ms"]
        cells = [_cell(row, report["times_ms"]) for row in of_kinds]
        table.append((f"{engine}, {form}", *cells, "" if stated is None else f"{stated:.0f} ms"))
    left_out: dict[str, list[str]] = {}
    for row in rows.values():
        if row["left_out"]:
            left_out.setdefault(f"{row['left_out']} of {row['kind']} by {row['engine']}", []).append(row["form"])
    said = ", ".join(f"{what} ({', '.join(forms)})" for what, forms in left_out.items())
    lines = [
        *markdown_table(("delay of the map after", *kinds, "comes out after"), table),
        "",
        "Milliseconds from the event until half of the map's mass that goes over to the new target has gone: where the "
        "median of the clips' curves crosses one half, and in brackets the quartiles of the clips' own; then the share "
        "that is gone at the last frame before the event. Maps that follow each frame exactly have 0 ms and 0 %. A "
        "stream's map is compared at its own frame's time, and comes out so much later. "
        f"{report['items']} clips of each kind at {report['frame_rate_hz']:g} Hz, of {report['photographs']} "
        f"photographs; left out for want of contrast: {said or 'none'}. "
        f"{software(report['machine'], None)}. `{shlex.join(report['command'])}`",
    ]
    return "\n".join(lines) + "\n"


def _cell(row: dict[str, Any], times_ms: list[float]) -> str:
    if not row["items"]:
        return "says nothing"
    delay = f"{round(row['delay_ms'])} ms" if row["delay_ms"] is not None else _beyond(row["curve"], times_ms)
    low, high = row["quartiles_ms"]  # rounded to integers, of which none is -0
    return f"{delay} ({round(low)} to {round(high)}), {round(100 * row['anticipation'])} %"


def _beyond(curve: list[float], times_ms: list[float]) -> str:
    return f"before {times_ms[0]:.0f} ms" if curve[0] >= 0.5 else f"over {times_ms[-1]:.0f} ms"


def draw(report: dict[str, Any]) -> Figure:
    """The median curves, a line for each kind; a row of axes for each engine, a column for each form.

    Raises:
        UnavailableError: matplotlib is absent.
    """
    rows, times = report["rows"], report["times_ms"]
    engines = list(dict.fromkeys(row["engine"] for row in rows))
    forms = list(dict.fromkeys(row["form"] for row in rows))
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    # What is new draws more at first than later on: curves may rise above 1.
    top = 0.1 + min(3.0, max([1.15, *(value for row in rows for value in row["curve"])]))
    width, height = max(5.0, 3.2 * len(forms)), 0.6 + 2.6 * len(engines)
    with new_figure(width=width, height=height, rows=len(engines), columns=len(forms)) as (figure, grid):
        for place, axes in enumerate(grid):
            engine, form = engines[place // len(forms)], forms[place % len(forms)]
            axes.step([times[0], 0, times[-1]], [0, 1, 1], where="post", color=COLOURS[7], label="the video itself")
            axes.axhline(0.5, color=COLOURS[7], linewidth=0.8, linestyle=":")
            stated = None
            for row in rows:
                if (row["engine"], row["form"]) == (engine, form):
                    stated = row["stream_delay_ms"]
                    if row["items"]:
                        axes.plot(times, row["curve"], ".-", color=COLOURS[kinds.index(row["kind"])], label=row["kind"])
            out = "" if stated is None else f"comes out {stated:.0f} ms later"
            axes.set_title(f"{engine}, {form}\n{out}", fontsize=8)
            axes.set_ylim(-0.25, top)
            if place % len(forms) == 0:
                axes.set_ylabel("mass on the new target")
            if place // len(forms) == len(engines) - 1:
                axes.set_xlabel("ms after the event, by the map's frame")
        grid[0].legend(fontsize=7)
    return figure
