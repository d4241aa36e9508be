"""Two results of one benchmark, compared: what became faster or slower, and whether that could be chance.

Rows are matched by their "form" and compared by their runs' seconds. The p-values of all rows are corrected together by
Holm's method, so that of many rows that did not change none is likely to seem so.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from dtfsal.benchmarks.measure.intervals import difference_p_value, median_ratio, ratio_interval
from dtfsal.benchmarks.tables import markdown_table
from dtfsal.engines.errors import MALFORMED, UsageError

SIGNIFICANCE = 0.05
Verdict = Literal["faster", "slower", "no difference shown"]


def read_result(path: Path) -> dict[str, Any]:
    """A report's JSON.

    Raises:
        UsageError: it is not a result, or has no timed rows.
    """
    try:
        report = json.loads(path.read_text())
        rows = {row["form"]: [float(value) for value in row["seconds"]] for row in report["rows"]}
        if not rows or not all(rows.values()) or min(min(values) for values in rows.values()) <= 0:
            raise ValueError("it has no timed rows")
    except (OSError, *MALFORMED) as error:
        raise UsageError(f"{path} is no result with timed rows ({error}): give the JSON of a benchmark") from error
    return dict(report)


def compare(before: dict[str, Any], after: dict[str, Any], *, minimum: float = 0.02) -> list[dict[str, Any]]:
    """Compare the rows that two reports have in common, in the first one's order.

    Args:
        before: a report with rows that have `form` and `seconds`.
        after: another.
        minimum: a smaller change of the median, as a share, does not count, however sure.

    Returns:
        For each row its medians, `ratio` (after to before: below 1 is faster) with an interval, the corrected p-value
        (None where there are too few runs), and the verdict.
    """
    old = {row["form"]: row["seconds"] for row in before["rows"]}
    new = {row["form"]: row["seconds"] for row in after["rows"]}
    common = [form for form in old if form in new]
    values = holm([difference_p_value(new[form], old[form]) for form in common])
    rows = []
    for form, p_value in zip(common, values, strict=True):
        ratio = median_ratio(new[form], old[form])
        verdict: Verdict = "no difference shown"
        if p_value is not None and p_value < SIGNIFICANCE and abs(ratio - 1) >= minimum:
            verdict = "faster" if ratio < 1 else "slower"
        rows.append(
            {
                "form": form,
                "before_seconds": statistics.median(old[form]),
                "after_seconds": statistics.median(new[form]),
                "ratio": ratio,
                "ratio_interval": list(ratio_interval(new[form], old[form])),
                "p_value": p_value,
                "verdict": verdict,
            }
        )
    return rows


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's correction: the k-th smallest of n p-values times n - k + 1, none below one before it, at most 1."""
    known = sorted((value, index) for index, value in enumerate(p_values) if value is not None)
    corrected: list[float | None] = [None] * len(p_values)
    most = 0.0
    for rank, (value, index) in enumerate(known):
        most = max(most, min(1.0, value * (len(known) - rank)))
        corrected[index] = most
    return corrected


def other_machine(before: dict[str, Any], after: dict[str, Any]) -> str | None:
    """How the machines of two reports differ, in words; None if they are of one kind.

    Older results, without fingerprints, are compared by processor and cores.
    """
    old, new = before.get("machine", {}), after.get("machine", {})
    names = ("fingerprint",) if "fingerprint" in old and "fingerprint" in new else ("cpu", "cores")
    if all(old.get(name) == new.get(name) for name in names):
        return None
    described = [
        f"{host.get('cpu')}, {host.get('cores')} cores ({host.get('fingerprint', 'no fingerprint')})"
        for host in (old, new)
    ]
    return f"the results are of different machines: {described[0]}; {described[1]}"


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The comparison as a table."""
    table = []
    for row in rows:
        low, high = row["ratio_interval"]
        p_value = "too few runs" if row["p_value"] is None else f"{row['p_value']:.3g}"
        cells = (
            row["form"],
            f"{row['before_seconds']:.4g} s",
            f"{row['after_seconds']:.4g} s",
            f"{row['ratio']:.3f}",
            f"{low:.3f}-{high:.3f}",
            p_value,
            row["verdict"],
        )
        table.append(cells)
    headings = ("form", "before", "after", "after/before", "95 %", "p (Holm)", "")
    return "\n".join(markdown_table(headings, table)) + "\n"
