"""The report of an evaluation: `scores.json` and its tables, and other evaluations' scores beside it."""

import json
import math
from pathlib import Path
from typing import Any

from dtfsal.engines.errors import MALFORMED, UsageError

SHOWN = ("cc", "nss", "sim", "kl", "auc_judd")
SAME = ("convention", "set", "split", "fold", "items", "every", "kinds", "seed")  # of evaluations beside each other


def read_scores(path: Path, convention: str, asked: dict[str, Any]) -> dict[str, Any]:
    """Another evaluation's scores.json, to stand beside one of ours.

    Args:
        path: of the file.
        convention: of our scores.
        asked: what is known of our items before they are scored, by the names of `SAME`.

    Raises:
        UsageError: it is not one, or of another convention or other items.
    """
    try:
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        every = [values for group in report["scores"].values() for values in group.values()]
        if not all(values[metric] is None or math.isfinite(values[metric]) for values in every for metric in SHOWN):
            raise ValueError("a score is not finite")
        theirs, _ = report.get("convention"), str(report["weights"]["file"])
    except (OSError, *MALFORMED) as error:
        raise UsageError(f"{path} is not a scores.json of dtfsal evaluate ({error})") from error
    if theirs != convention:
        said = f"under the convention {theirs!r}" if theirs else "under a convention that it does not name"
        raise UsageError(
            f"{path} was scored {said}, and these scores are {convention!r}: numbers compare only under one; "
            f"score those weights again with --convention {convention}"
        )
    _check_same(report, asked)
    return report


def _check_same(other: dict[str, Any], report: dict[str, Any]) -> None:
    """See that two evaluations are of the same items.

    Raises:
        UsageError: they are not.
    """
    differing = next((name for name in report if name in SAME and other.get(name) != report[name]), None)
    if differing is not None:
        file = other["weights"]["file"]
        raise UsageError(
            f"the scores of {file} have {differing} {other.get(differing)!r}, and these {report[differing]!r}: they "
            "are of other items; leave --beside out"
        )


def put_beside(report: dict[str, Any], others: list[dict[str, Any]]) -> None:
    """Add other evaluations' models to the tables, by the names of their weights.

    Raises:
        UsageError: one is of other items.
    """
    for other in others:
        _check_same(other, report)
        file = other["weights"]["file"]
        for group, predictors in report["scores"].items():
            found = other["scores"].get(group, {})
            predictors |= {f"{name} ({file})": value for name, value in found.items() if name.startswith("model")}
            ends = dict(other.get("intervals") or {}).get(group, {})
            report["intervals"][group] |= {f"{name} ({file})": value for name, value in ends.items()}


def markdown_tables(report: dict[str, Any]) -> str:
    """A table for each group, or for all where there is one."""
    lines = []
    scores = report["scores"]
    for group, predictors in scores.items():
        if len(scores) == 2 and group != "all":
            continue
        lines += [f"| {group} | CC | NSS | SIM | KL | AUC-Judd |", "|---|---|---|---|---|---|"]
        for name, values in predictors.items():
            ends = report["intervals"][group].get(name, {})
            cells = (f"{_number(values[metric])} {_interval(ends.get(metric))}".strip() for metric in SHOWN)
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        lines.append("")
    words = f"{report['items']} items; convention `{report['convention']}`; in brackets 95 % intervals over items"
    lines.append(f"{words}; `{report['command']}`")
    return "\n".join(lines) + "\n"


def plain(value: Any) -> Any:
    """Numbers rounded, NaN as null."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    return (round(value, 5) if math.isfinite(value) else None) if isinstance(value, float) else value


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _interval(ends: list[float | None] | None) -> str:
    return "" if ends is None or None in ends else f"({_number(ends[0])} to {_number(ends[1])})"


def text_table(scores: dict[str, Any]) -> str:
    """The groups' means for a terminal, a line for each predictor."""
    width = max(len(name) for group in scores.values() for name in group)
    lines = []
    for group, predictors in scores.items():
        if len(scores) == 2 and group != "all":
            continue  # a single group is all there is
        lines.append(f"{group:<{width + 2}}" + "".join(f"{metric.upper().replace('_', '-'):>10}" for metric in SHOWN))
        for name, values in predictors.items():
            lines.append(f"  {name:<{width}}" + "".join(f"{_number(values[metric]):>10}" for metric in SHOWN))
    return "\n".join(lines)
