"""How a form's latency grows with clip length, frame size, batch or threads, and the law that fits it.

The points of the grid take turns, as forms do in `dtfsal.benchmarks.timing.latency`: a machine that slows down in
between does not bend the law.
"""

import contextlib
import dataclasses
import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from dtfsal.benchmarks.count.flops import count
from dtfsal.benchmarks.machine.host import OtherCores, machine
from dtfsal.benchmarks.measure.growth import exponent, fit_amdahl, fit_power_law
from dtfsal.benchmarks.measure.intervals import CONFIDENCE, median_coverage, median_interval
from dtfsal.benchmarks.timing.forms import AnyForm, Workload, seeded_weights
from dtfsal.benchmarks.timing.interleaved import Job, Progress, cold_start, open_jobs, take_turns
from dtfsal.benchmarks.timing.latency import PACKAGES
from dtfsal.engines.cpu.threads import default_threads
from dtfsal.engines.errors import UnavailableError, UsageError
from dtfsal.training.model.config import PYRAMID_STRIDES, ModelConfig, resolve_config

Vary = Literal["frames", "size", "batch", "threads"]
FACTORS: dict[Vary, tuple[float, ...]] = {"frames": (0.5, 1, 1.5, 2), "size": (2 / 3, 1, 4 / 3, 5 / 3, 2)}
BATCHES = (1, 2, 3, 4)


@dataclasses.dataclass(frozen=True)
class Point:
    """A point of the grid.

    Attributes:
        label: as the table has it, e.g. "96x160".
        x: what grows: frames, pixels, windows or threads.
        config: the model's there.
        batch_size: windows at once.
        threads: CPU threads.
    """

    label: str
    x: int
    config: ModelConfig
    batch_size: int
    threads: int


def grid(config: ModelConfig, vary: Vary, values: Sequence[str], *, batch_size: int, threads: int) -> list[Point]:
    """The points of a grid, in rising order.

    Args:
        config: the model's.
        vary: what grows.
        values: of it, sizes as "HxW"; empty for a few around the configuration.
        batch_size: windows at once where it does not grow.
        threads: CPU threads where they do not grow, and the most where they do.

    Raises:
        UsageError: a value is not valid, does not fit the model, or there are fewer than two.
    """
    points = {
        point.x: point
        for point in (
            _point(config, vary, value, batch_size, threads) for value in values or _default(config, vary, threads)
        )
    }
    if len(points) < 2:
        raise UsageError(
            f"growth with {vary} needs two values or more: give them with --grid"
            + (", on a machine of two cores or more" if vary == "threads" else "")
        )
    return [points[x] for x in sorted(points)]


def _point(config: ModelConfig, vary: Vary, value: str, batch_size: int, threads: int) -> Point:
    height, _, width = value.partition("x")
    numbers = [height, width] if vary == "size" else [value]
    if not all(number.isdecimal() and int(number) for number in numbers):
        raise UsageError(f"{value!r} is not a value of {vary}: give {'HxW' if vary == 'size' else 'a number'}")
    if vary == "size":
        rows, columns = int(height), int(width)
        return Point(value, rows * columns, config.resized(height=rows, width=columns), batch_size, threads)
    number = int(value)
    if vary == "frames":
        return Point(value, number, config.resized(frames=number), batch_size, threads)
    if vary == "batch":
        return Point(value, number, config, number, threads)
    return Point(value, number, config, batch_size, number)


def _default(config: ModelConfig, vary: Vary, threads: int) -> list[str]:
    clip = config.clip
    if vary == "frames":
        # Any multiple of eight fits every encoder.
        return [str(max(8, round(clip.frames * factor / 8) * 8)) for factor in FACTORS[vary]]
    if vary == "size":
        step = PYRAMID_STRIDES[-1]
        sizes = [[max(step, round(n * f / step) * step) for n in (clip.height, clip.width)] for f in FACTORS[vary]]
        return [f"{height}x{width}" for height, width in sizes]
    if vary == "batch":
        return [str(batch) for batch in BATCHES]
    return [str(number) for number in range(1, threads + 1) if number <= 4 or number == threads or number % 4 == 0]


def scaling(
    model: str | ModelConfig,
    form: AnyForm,
    vary: Vary,
    values: Sequence[str] = (),
    *,
    runs: int,
    batch_size: int = 1,
    threads: int | None = None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> dict[str, Any]:
    """Measure one form of a model with random weights over a grid, and fit its law of growth.

    Args:
        model: a preset or a configuration.
        form: from `choose_forms`, but no engine that exists, which is for one size.
        vary: what grows.
        values: see `grid`.
        runs: timed runs at each point.
        batch_size: where it does not grow.
        threads: where they do not grow, and the most where they do; None takes the machine's physical cores.
        progress: told of steps done and of all there are.

    Returns:
        The report as JSON types.

    Raises:
        UsageError: see `grid`.
        UnavailableError: the form cannot run here, or not at a point.
    """
    config = resolve_config(model)
    points = grid(config, vary, values, batch_size=batch_size, threads=threads or default_threads())
    largest = max(point.batch_size for point in points) if vary == "batch" else None  # one engine for every batch
    total = len(points) * (runs + 1)
    step: Progress = lambda steps: progress(steps, total)  # noqa: E731
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as stack:
        folder = Path(temporary)
        jobs = [Job(point.label, form, _workload(point, folder, largest)) for point in points]
        opened, left_out = open_jobs(stack, jobs, steps=runs, progress=step)
        if left_out:
            raise UnavailableError(
                f"{form.name} cannot run here: " + "; ".join(f"at {label}, {why}" for label, why in left_out.items())
            )
        others = OtherCores([job.process.pid for job in opened])
        seconds = take_turns({job.job.name: job.process.run for job in opened}, rounds=runs, progress=step)
        other_cores = others.mean()
        rows = [
            {
                "form": f"{form.name}, {vary} {point.label}",
                "x": point.x,
                "label": point.label,
                "median_seconds": statistics.median(seconds[point.label]),
                "median_interval_seconds": median_interval(seconds[point.label]),
                "true_gflop": _gflop(point, form),
                "true_gflop_per_second": _gflop(point, form) / statistics.median(seconds[point.label]),
                "warm_up_seconds": job.warm_up_seconds,
                "cold": cold_start(job),
                "build_seconds": job.prepared.build_seconds,
                "seconds": seconds[point.label],
            }
            for point, job in zip(points, opened, strict=True)
        ]
    return {
        "kind": "scaling",
        "preset": config.name,
        "form": form.name,
        "vary": vary,
        "fixed": _fixed(config, vary, batch_size, points[-1].threads),
        "runs": runs,
        "confidence": CONFIDENCE,
        "interval_coverage": median_coverage(runs),
        "law": law_of(vary, rows),
        "other_cores": other_cores,
        "rows": rows,
        "machine": machine(PACKAGES),
    }


def _workload(point: Point, folder: Path, largest_batch: int | None) -> Workload:
    return Workload(
        config=point.config,
        weights=seeded_weights(point.config, folder),
        folder=folder,
        batch_size=point.batch_size,
        threads=point.threads,
        largest_batch=largest_batch,
    )


def _gflop(point: Point, form: AnyForm) -> float:
    return point.batch_size * count(point.config, form=form.flops).total.true_flops / 1e9


def _fixed(config: ModelConfig, vary: Vary, batch_size: int, threads: int) -> dict[str, Any]:
    """What does not grow."""
    clip = config.clip
    held = {"frames": clip.frames, "size": f"{clip.height}x{clip.width}", "batch": batch_size, "threads": threads}
    return {name: value for name, value in held.items() if name != vary}


def law_of(vary: Vary, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The law that fits rows with `x`, `seconds` and `true_gflop`, as JSON values with its `name`.

    For all but threads it comes with `flops_exponent`, by which the operations grow.
    """
    x, seconds = [row["x"] for row in rows], [row["seconds"] for row in rows]
    if vary == "threads":
        return {"name": "amdahl", **dataclasses.asdict(fit_amdahl(x, seconds))}
    operations = exponent(x, [row["true_gflop"] for row in rows])
    return {"name": "power", **dataclasses.asdict(fit_power_law(x, seconds)), "flops_exponent": operations}
