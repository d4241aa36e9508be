"""Which engine and stride keep up with a video, chosen from measured results of `dtfsal benchmark pareto`.

Nothing is guessed: a choice was measured, on this machine's kind or on another. Of another, a CPU's frames per second
are scaled by the ratio of the two machines' measured matrix-product rates, which is an estimate and is called one. Of
another machine's GPU nothing is said.
"""

import dataclasses
import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dtfsal.engines.errors import MALFORMED, UsageError
from dtfsal.training.model.config import PRESETS

SHIPPED = Path(__file__).parents[1] / "results"
PATTERN = "pareto-*.json"
CC_DIGITS = 4  # a difference beyond is no reason to take the slower one
# Of a row, the fields that choices are told by.
_FIELDS = (
    *("form", "engine", "stride", "model", "weights", "target", "precision", "own_kernels", "device"),
    *("size", "clip_frames", "cc", "worst_cc"),
)
_SEEDED = re.compile(r"random, seed (\d+)")


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A measured engine and stride.

    Attributes:
        row: of the report.
        frames_per_second: on this machine, the lower end of its interval: measured, or estimated.
        scale: what the measured rate was multiplied by; None for one of this machine's kind.
        source: the result's file name.
    """

    row: dict[str, Any]
    frames_per_second: float
    scale: float | None
    source: str

    @property
    def estimated(self) -> bool:
        """Whether the rate is scaled from another machine's."""
        return self.scale is not None

    def to_dict(self) -> dict[str, Any]:
        """JSON types, with the commands that make and use it."""
        return {
            **{name: self.row[name] for name in _FIELDS},
            "frames_per_second": self.frames_per_second,
            "estimated": self.estimated,
            "scale": self.scale,
            "source": self.source,
            "commands": self.commands(),
        }

    def commands(self) -> list[str]:
        """What builds the engine, and what predicts with it."""
        row = self.row
        build = ["dtfsal", "build", *self._weights(), *self._clip()]
        build += ["--target", row["target"], "--precision", row["precision"]]
        build += ["--cpu-kernels"] if row["own_kernels"] else []
        predict = ["dtfsal", "predict", "VIDEO", "--engine", row["engine"], "--stride", str(row["stride"])]
        return [shlex.join([*build, "--output", row["engine"]]), shlex.join([*predict, "--output", "out.mp4"])]

    def _weights(self) -> list[str]:
        """How `dtfsal build` is told the weights: a preset takes those that the package ships for it."""
        model, weights = self.row["model"], self.row["weights"]
        if weights == f"{model}.safetensors":
            return ["--preset", model]
        if seeded := _SEEDED.fullmatch(weights):
            return ["--preset", model, "--seed", seeded[1]]
        return ["--weights", weights]

    def _clip(self) -> list[str]:
        """How `dtfsal build` is told the clip length and frame size, where they are not the preset's own."""
        row = self.row
        own = PRESETS[row["model"]].clip if row["model"] in PRESETS else None
        height, width = row["size"]
        words = [] if own and row["clip_frames"] == own.frames else ["--frames", str(row["clip_frames"])]
        return words if own and (height, width) == (own.height, own.width) else [*words, "--size", f"{height}x{width}"]


def read_results(places: Sequence[Path]) -> list[tuple[str, dict[str, Any]]]:
    """The Pareto reports among files and folders, with their names.

    Raises:
        UsageError: a file is not such a report, or there is none.
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
                and isinstance(report["machine"], dict)
                and report["matrix_product_gflop_per_second"] > 0
                and all({*_FIELDS, "frames_per_second_interval"} <= set(row) for row in rows)
            )
            if not complete:
                raise ValueError("it is of another kind")
        except (OSError, *MALFORMED) as error:
            raise UsageError(f"{file} is not a result of `dtfsal benchmark pareto` ({error}): measure one") from error
        found.append((file.name, report))
    if not found:
        raise UsageError(
            f"there is no result {PATTERN} in {', '.join(map(str, places))}: make one with `dtfsal benchmark pareto`"
        )
    return found


def measured_here(reports: Sequence[tuple[str, dict[str, Any]]], *, device: str, fingerprint: str) -> list[Candidate]:
    """The choices that were measured on a machine of this kind.

    Args:
        reports: from `read_results`.
        device: "cpu" or "cuda".
        fingerprint: of this machine.
    """
    return [
        Candidate(row, row["frames_per_second_interval"][0], None, name)
        for name, report in reports
        if report["machine"].get("fingerprint") == fingerprint
        for row in report["rows"]
        if row["device"] == device
    ]


def estimates(reports: Sequence[tuple[str, dict[str, Any]]], *, rate: float) -> list[Candidate]:
    """All choices on the CPU, measured on whatever machine, with rates scaled to this one.

    Args:
        reports: from `read_results`.
        rate: this machine's matrix-product rate in GFLOP/s.
    """
    scales = [rate / report["matrix_product_gflop_per_second"] for _, report in reports]
    return [
        Candidate(row, scale * row["frames_per_second_interval"][0], scale, name)
        for (name, report), scale in zip(reports, scales, strict=True)
        for row in report["rows"]
        if row["device"] == "cpu"
    ]


def of_one_model(found: Sequence[Candidate], model: str | None) -> list[Candidate]:
    """Those of a model: each one's CC is to its own full-rate maps, so that those of two models cannot be compared.

    Args:
        found: what there is to choose from.
        model: its name; None where there is but one.

    Raises:
        UsageError: there is no result of it, or there are several and none is chosen.
    """
    models = sorted({one.row["model"] for one in found})
    if model is None and len(models) > 1:
        raise UsageError(
            f"the results are of several models, whose CC cannot be compared: give --model {models[0]}, "
            f"or another of {', '.join(models)}"
        )
    if model is not None and model not in models:
        raise UsageError(f"no result is of the model {model!r}; there are: {', '.join(models)}")
    return [one for one in found if model in (None, one.row["model"])]


def choose(found: Sequence[Candidate], *, fps: float, least_cc: float) -> tuple[Candidate | None, list[Candidate]]:
    """The nearest to the reference of those that keep up; then the rest, the next best first.

    Args:
        found: what there is to choose from, of one model.
        fps: frames per second that are wanted.
        least_cc: the least mean CC to the full-rate FP32 maps.

    Returns:
        The choice, None if nothing meets both wishes; and the others, those that miss least first.
    """

    def miss(one: Candidate) -> tuple[float, float, float]:
        slow = max(0.0, 1 - one.frames_per_second / fps)
        far = max(0.0, least_cc - one.row["cc"])
        return (slow + far / max(1 - least_cc, 1e-6), -round(one.row["cc"], CC_DIGITS), -one.frames_per_second)

    ordered = sorted(found, key=miss)
    if ordered and miss(ordered[0])[0] == 0:
        return ordered[0], ordered[1:]
    return None, ordered
