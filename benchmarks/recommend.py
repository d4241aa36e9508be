"""Which engine and stride keep up with a video, chosen from measured results of `dtfsal benchmark pareto`.

Nothing is guessed: a choice was measured, on this machine's kind or on another. Of another, its frames per second are
scaled by the ratio of the two machines' measured matrix-product rates, which is an estimate and is called one.
"""

import dataclasses
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dtfsal.engines.errors import UsageError

SHIPPED = Path(__file__).parent / "results"
PATTERN = "pareto-*.json"
# Of a model, the fields that choices are told by.
_FIELDS = (
    "form",
    "engine",
    "stride",
    "model",
    "weights",
    "target",
    "precision",
    "own_kernels",
    "device",
    "cc",
    "worst_cc",
)


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A measured engine and stride.

    Attributes:
        row: of the report.
        frames_per_second: on this machine: measured, or estimated.
        estimated: whether it is scaled from another machine.
        source: the result's file name.
    """

    row: dict[str, Any]
    frames_per_second: float
    estimated: bool
    source: str

    def to_dict(self) -> dict[str, Any]:
        """JSON types, with the commands that make and use it."""
        return {
            **{name: self.row[name] for name in _FIELDS},
            "frames_per_second": self.frames_per_second,
            "estimated": self.estimated,
            "source": self.source,
            "commands": self.commands(),
        }

    def commands(self) -> list[str]:
        """What builds the engine, and what predicts with it."""
        row = self.row
        build = [
            "dtfsal",
            "build",
            "--preset",
            row["model"],
            "--target",
            row["target"],
            "--precision",
            row["precision"],
        ]
        build += ["--cpu-kernels"] if row["own_kernels"] else []
        predict = ["dtfsal", "predict", "VIDEO", "--engine", row["engine"], "--stride", str(row["stride"])]
        return [shlex.join([*build, "--output", row["engine"]]), shlex.join([*predict, "--output", "out.mp4"])]


def read_results(places: Sequence[Path]) -> list[tuple[str, dict[str, Any]]]:
    """The Pareto reports among files and folders, with their names.

    Raises:
        UsageError: a file is no such report, or there is none.
    """
    files = [file for place in places for file in (sorted(place.glob(PATTERN)) if place.is_dir() else [place])]
    found = []
    for file in files:
        try:
            report = json.loads(file.read_text())
            rows = report["rows"]
            complete = (
                report["kind"] == "pareto"
                and rows
                and all({*_FIELDS, "frames_per_second_interval"} <= set(row) for row in rows)
            )
            if not complete:
                raise ValueError("it is of another kind")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{file} is no result of `dtfsal benchmark pareto` ({error}): measure one") from error
        found.append((file.name, report))
    if not found:
        raise UsageError(
            f"there is no result {PATTERN} in {', '.join(map(str, places))}: make one with `dtfsal benchmark pareto`"
        )
    return found


def candidates(
    reports: Sequence[tuple[str, dict[str, Any]]], *, device: str, fingerprint: str, rate: float | None
) -> list[Candidate]:
    """All measured choices of a device; of this machine's kind if there are any, else estimates from others.

    Args:
        reports: from `read_results`.
        device: "cpu" or "cuda".
        fingerprint: of this machine.
        rate: its matrix-product rate in GFLOP/s, for estimates; None leaves results of other machines out.
    """
    own, others = [], []
    for name, report in reports:
        here = report["machine"].get("fingerprint") == fingerprint
        scale = 1.0 if here else (rate or 0.0) / report["matrix_product_gflop_per_second"]
        for row in report["rows"]:
            if row["device"] == device and scale > 0:
                # What it is sure to reach, not the median: the lower end of the interval.
                speed = scale * row["frames_per_second_interval"][0]
                (own if here else others).append(Candidate(row, speed, not here, name))
    return own or others


def choose(found: Sequence[Candidate], *, fps: float, least_cc: float) -> tuple[Candidate | None, list[Candidate]]:
    """The nearest to the reference of those that keep up; then the rest, the next best first.

    Args:
        found: what there is to choose from.
        fps: frames per second that are wanted.
        least_cc: the least mean CC to the full-rate FP32 maps.

    Returns:
        The choice, None if nothing meets both wishes; and the others, those that miss least first.
    """

    def miss(one: Candidate) -> tuple[float, float, float]:
        slow = max(0.0, 1 - one.frames_per_second / fps)
        far = max(0.0, least_cc - one.row["cc"])
        return (slow + far / max(1 - least_cc, 1e-6), -one.row["cc"], -one.frames_per_second)

    ordered = sorted(found, key=miss)
    if ordered and miss(ordered[0])[0] == 0:
        return ordered[0], ordered[1:]
    return None, ordered
