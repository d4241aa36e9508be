"""Latency of the same model in several forms, interleaved in one run, with the machine it was measured on.

Interleaving does not make a busy machine fair. PyTorch's threads wait for each other at every operator, so a process
that takes one of their cores can slow a small model tens of times, while ONNX Runtime's own threads lose little: the
speed-up comes out too high. So the report holds what other processes used meanwhile.
"""

import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from dtfsal.benchmarks.flops import count
from dtfsal.benchmarks.host import OtherCores, machine, software
from dtfsal.benchmarks.parity import synthetic_windows
from dtfsal.benchmarks.plain import plain
from dtfsal.engines import open_engine
from dtfsal.engines.threads import default_threads
from dtfsal.export.builder import BuildRequest, build_engine
from dtfsal.training.config import resolve_config
from dtfsal.training.seeded import seeded_model

BASELINE = "eager plain"
PACKAGES = ("dtfsal", "torch", "onnx", "onnxruntime", "numpy")


@dataclasses.dataclass(frozen=True)
class Timing:
    """One form's runs.

    Attributes:
        name: of the form.
        seconds: each run's time, warm-up not among them, in the order they were made.
        first_seconds: the first run's time, warm-up included.
    """

    name: str
    seconds: tuple[float, ...]
    first_seconds: float

    @property
    def median_seconds(self) -> float:
        """The median run."""
        return statistics.median(self.seconds)

    @property
    def quartiles_seconds(self) -> tuple[float, float]:
        """First and third quartile, inclusive method; of one run, that run twice."""
        if len(self.seconds) == 1:
            return self.seconds[0], self.seconds[0]
        low, _, high = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return low, high


def measure(forms: dict[str, Callable[[], object]], *, runs: int, progress: Callable[[], None]) -> list[Timing]:
    """Time each form `runs` times in turn (A B C A B C ...), after one warm-up of each."""
    first, seconds = {}, {name: list[float]() for name in forms}
    for turn in range(runs + 1):
        for name, run in forms.items():
            started = time.perf_counter()
            run()
            elapsed = time.perf_counter() - started
            if turn == 0:
                first[name] = elapsed
            else:
                seconds[name].append(elapsed)
            progress()
    return [Timing(name, tuple(seconds[name]), first[name]) for name in forms]


def latency(
    preset: str, *, runs: int, threads: int | None, command: Sequence[str], progress: Callable[[], None]
) -> dict[str, Any]:
    """Measure a preset on the CPU: plain eager, eager with the exact rewrites, ONNX Runtime FP32.

    Args:
        preset: the model.
        runs: timed runs of each form.
        threads: of PyTorch and ONNX Runtime alike; None takes the machine's physical cores. PyTorch's number is put
            back afterwards.
        command: the command line, to be kept with the result.
        progress: called after each of the 3 * (runs + 1) runs.

    Returns:
        The report as JSON types.
    """
    threads, before = threads or default_threads(), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return _latency(preset, runs, threads, command, progress)
    finally:
        torch.set_num_threads(before)


def _latency(
    preset: str, runs: int, threads: int, command: Sequence[str], progress: Callable[[], None]
) -> dict[str, Any]:
    config = resolve_config(preset)
    inputs = next(iter(synthetic_windows(config, 1)))
    tensors = [torch.from_numpy(inputs[name]) for name in ("video", "audio") if name in inputs]
    model = seeded_model(config)
    written = plain(model)
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "engine"
        build_engine(
            BuildRequest(output=bundle, target="onnxruntime", precision="fp32", preset=preset, graphs="window")
        )
        with open_engine(bundle, device="cpu", threads=threads) as engine, torch.no_grad():
            forms: dict[str, Callable[[], object]] = {
                BASELINE: lambda: written(*tensors),
                "eager": lambda: model(*tensors),
                "ONNX Runtime fp32": lambda: engine.run(inputs),
            }
            others = OtherCores()
            timings = measure(forms, runs=runs, progress=progress)
            other_cores = others.mean()
    deployed, plainly = (count(config, form=form).total.true_flops / 1e9 for form in ("deployed", "written"))
    baseline = timings[0].median_seconds
    rows = [
        {
            "form": timing.name,
            "median_seconds": timing.median_seconds,
            "quartiles_seconds": timing.quartiles_seconds,
            "first_seconds": timing.first_seconds,
            "ratio_to_baseline": baseline / timing.median_seconds,
            "true_gflop_per_second": (plainly if timing.name == BASELINE else deployed) / timing.median_seconds,
            "seconds": timing.seconds,
        }
        for timing in timings
    ]
    return {
        "preset": preset,
        "runs": runs,
        "threads": threads,
        "baseline": BASELINE,
        "true_gflop": {"deployed": deployed, "written": plainly},
        "matrix_product_gflop_per_second": matrix_product_rate(),
        "other_cores": other_cores,
        "rows": rows,
        "machine": machine(PACKAGES),
        "command": list(command),
    }


def matrix_product_rate(size: int = 2048, repeats: int = 7) -> float:
    """The machine's FP32 matrix product rate in GFLOP/s: the best of some products in PyTorch."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    best = float("inf")
    for _ in range(repeats):
        started = time.perf_counter()
        torch.mm(a, b)
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best / 1e9


def markdown(report: dict[str, Any]) -> str:
    """The report as a table with the facts it stands on."""
    lines = [
        f"| {report['preset']} on the CPU | median | quartiles | first run | speed-up | GFLOP/s (true) |",
        "|---|---|---|---|---|---|",
    ]
    for row in report["rows"]:
        low, high = row["quartiles_seconds"]
        cells = (
            row["form"],
            f"{row['median_seconds']:.3g} s",
            f"{low:.3g}-{high:.3g} s",
            f"{row['first_seconds']:.3g} s",
            f"{row['ratio_to_baseline']:.2f}x",
            f"{row['true_gflop_per_second']:.0f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    host = report["machine"]
    peak = f"{report['matrix_product_gflop_per_second']:.0f} GFLOP/s"
    lines += [
        "",
        f"{report['runs']} interleaved runs each, {report['threads']} threads; {host['cpu']}, {host['cores']} cores, "
        f"whose FP32 matrix products reach {peak}; {software(host, report['other_cores'])}. "
        f"`{' '.join(report['command'])}`",
    ]
    return "\n".join(lines) + "\n"
