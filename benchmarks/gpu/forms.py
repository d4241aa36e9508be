"""Latency of a model in PyTorch, in every form that PyTorch offers on a GPU, interleaved in one run.

Each form is timed both ways that an engine is: "host", from float32 arrays in pinned memory to a map in the host's
memory, and "device", from arrays in the GPU's memory to a map there. Both are the wall clock until the GPU rests, so
that every library is timed alike.
"""

import contextlib
import copy
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dtfsal.benchmarks.accuracy.parity import compare
from dtfsal.benchmarks.count.flops import count
from dtfsal.benchmarks.count.plain import plain
from dtfsal.benchmarks.gpu.machine import DTYPES, tf32
from dtfsal.benchmarks.measure.stopwatch import Stopwatch, Timing, first_line, measure_forms, settled_stopwatch
from dtfsal.training.model.config import resolve_config
from dtfsal.training.model.inputs import synthetic_windows
from dtfsal.training.model.network import DTFSal
from dtfsal.training.model.seeded import seeded_model

BASELINE = "eager plain fp32"
Run = Callable[..., Tensor]  # of the model's inputs
WAYS = ("host", "device")
Ways = Mapping[str, Callable[[], object]]  # "host" and "device", the ways of timing


@dataclasses.dataclass(frozen=True)
class Form:
    """A way to run the model.

    Attributes:
        name: as the table has it.
        precision: a key of `dtfsal.benchmarks.gpu.machine.DTYPES`.
        written: with the definitions as they are written, instead of the exact rewrites.
        compiled: through `torch.compile`, in this mode.
        captured: as a CUDA graph, captured once and replayed.
    """

    name: str
    precision: str
    written: bool = False
    compiled: str | None = None
    captured: bool = False


# "SDPA" forms have the exact rewrites, whose attention is PyTorch's scaled_dot_product_attention.
FORMS = (
    Form(BASELINE, "fp32", written=True),
    Form("eager plain fp16", "fp16", written=True),
    *(Form(f"eager SDPA {precision}", precision) for precision in DTYPES),
    *(Form(f"CUDA graph {precision}", precision, captured=True) for precision in ("tf32", "fp16", "bf16")),
    *(Form(f"torch.compile {precision}", precision, compiled="default") for precision in ("tf32", "fp16", "bf16")),
    Form("torch.compile reduce-overhead fp16", "fp16", compiled="reduce-overhead"),
)


def torch_forms(
    preset: str, device: torch.device, *, batch_size: int, runs: int, names: Sequence[str] | None = None
) -> dict[str, Any]:
    """Measure the forms of a preset with random weights at one batch size.

    Args:
        preset: the model.
        device: a GPU; on a CPU the forms that need a GPU are left out.
        batch_size: windows at once.
        runs: timed runs of each form.
        names: of the forms to measure; all by default.

    Returns:
        `rows`, a row for each form that ran, with its parity to FP32 on the CPU; `left_out`, why others did not.
    """
    config = resolve_config(preset)
    model = seeded_model(config)
    window = next(iter(synthetic_windows(config, 1)))
    inputs = [torch.from_numpy(window[name]) for name in ("video", "audio") if name in window]
    with torch.no_grad():
        reference = model(*inputs)[0, 0].numpy()
    left_out: dict[str, str] = {}
    forms: dict[str, Ways] = {}
    memory: dict[str, int | None] = {}
    parities: dict[str, dict[str, float]] = {}
    wanted = [form for form in FORMS if names is None or form.name in names]
    arrays = [x.repeat(batch_size, *[1] * (x.ndim - 1)) for x in inputs]
    if device.type == "cuda":
        arrays = [array.pin_memory() for array in arrays]
    for form in wanted:
        if reason := _unfit(form, device):
            left_out[form.name] = reason
            continue
        dtype = DTYPES[form.precision]
        tensors = [array.to(device, dtype) for array in arrays]
        try:
            with _peak_memory(device) as peak:
                run = _prepared(form, model, device, tensors)
                output = run(*tensors)[0, 0].float().cpu().numpy()
            memory[form.name] = peak.get("bytes")
            parities[form.name] = dataclasses.asdict(compare(reference, np.nan_to_num(output)))
            forms[form.name] = {
                "host": functools.partial(_from_host, run, arrays, device, dtype),
                "device": functools.partial(run, *tensors),
            }
        except (RuntimeError, ValueError) as error:
            left_out[form.name] = first_line(error)
    timings, failed = measure_ways(forms, settled_stopwatch(device), runs=runs)
    flops = {written: count(config, form="written" if written else "deployed").total for written in (False, True)}
    by_name = {form.name: form for form in wanted}
    rows = [
        timing_row(name, found, batch_size, flops[by_name[name].written].true_flops * batch_size)
        | {
            "precision": by_name[name].precision,
            "peak_memory_bytes": memory[name],
            "parity": parities[name],
        }
        for name, found in timings.items()
    ]
    return {"preset": preset, "batch_size": batch_size, "runs": runs, "rows": rows, "left_out": left_out | failed}


def measure_ways(
    forms: Mapping[str, Ways], stopwatch: Stopwatch, *, runs: int
) -> tuple[dict[str, dict[str, Timing]], dict[str, str]]:
    """Time forms in their ways, all of one way interleaved.

    Returns:
        Timings by form and way, of forms that ran in every way that they have; why others failed, by form.
    """
    found: dict[str, dict[str, Timing]] = {name: {} for name in forms}
    failed: dict[str, str] = {}
    for way in WAYS:
        chosen = {name: ways[way] for name, ways in forms.items() if way in ways and name not in failed}
        timings, missing = measure_forms(chosen, stopwatch, runs=runs)
        failed |= missing
        for timing in timings:
            found[timing.name][way] = timing
    return {name: timings for name, timings in found.items() if name not in failed}, failed


def timing_row(name: str, timings: Mapping[str, Timing], batch_size: int, flops: float) -> dict[str, Any]:
    """A form's timings as JSON values: for each way its median, quartiles and first run; None for a way it lacks.

    `true_tflops` is of the way with the least besides the arithmetic: on the device where there is that.
    """
    row: dict[str, Any] = {"form": name, "batch_size": batch_size}
    for way in WAYS:
        timing = timings.get(way)
        row[way] = (
            None
            if timing is None
            else {
                "median_ms": 1e3 * timing.median_seconds,
                "quartiles_ms": [1e3 * value for value in timing.quartiles_seconds],
                "first_ms": 1e3 * timing.first_seconds,
                "windows_per_second": batch_size / timing.median_seconds,
            }
        )
    nearest = row["device"] or row["host"]
    return {**row, "true_tflops": flops / nearest["median_ms"] / 1e9}


def _from_host(run: Run, arrays: Sequence[Tensor], device: torch.device, dtype: torch.dtype) -> Tensor:
    return run(*(array.to(device, non_blocking=True).to(dtype) for array in arrays)).float().cpu()


def _unfit(form: Form, device: torch.device) -> str | None:
    if device.type == "cuda":
        if form.precision in ("tf32", "bf16") and torch.cuda.get_device_capability(device) < (8, 0):
            return f"{form.precision} needs compute capability 8.0"
        return None
    return "needs a GPU" if form.captured or form.precision == "tf32" else None


def _prepared(form: Form, model: DTFSal, device: torch.device, inputs: Sequence[Tensor]) -> Run:
    chosen = plain(model) if form.written else copy.deepcopy(model)
    network: Callable[..., Tensor] = chosen.to(device, DTYPES[form.precision])
    if form.compiled is not None:
        torch._dynamo.reset()
        network = torch.compile(chosen, mode=form.compiled, dynamic=False)
    if form.captured:
        return _captured(chosen, inputs, form.precision == "tf32")

    def run(*given: Tensor) -> Tensor:
        with torch.no_grad(), tf32(form.precision == "tf32"):
            return network(*given)

    return run


def _captured(model: nn.Module, inputs: Sequence[Tensor], allow_tf32: bool) -> Run:
    """Capture a forward pass; the output is the same tensor after every replay. Other inputs are copied to these."""
    with torch.no_grad(), tf32(allow_tf32):
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # libraries allocate and choose algorithms in the first runs
            for _ in range(3):
                model(*inputs)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            output = model(*inputs)

    def run(*given: Tensor) -> Tensor:
        for captured, other in zip(inputs, given, strict=True):
            if other is not captured:
                captured.copy_(other, non_blocking=True)
        graph.replay()
        return output

    return run


@contextlib.contextmanager
def _peak_memory(device: torch.device) -> Iterator[dict[str, int]]:
    """What the block's work took at most on a GPU, beyond what was held before; empty on a CPU."""
    peak: dict[str, int] = {}
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    yield peak
    if device.type == "cuda":
        torch.cuda.synchronize()
        peak["bytes"] = torch.cuda.max_memory_allocated() - before


def with_ratios(rows: Sequence[Mapping[str, Any]], rates: Mapping[str, float], baseline: str) -> list[dict[str, Any]]:
    """Rows with their speed-up over the baseline of their batch size and way, and their share of the matrix rate."""
    medians = {
        (row["batch_size"], way): row[way]["median_ms"]
        for row in rows
        if row["form"] == baseline
        for way in WAYS
        if row[way] is not None
    }
    completed = []
    for row in rows:
        rate = rates.get(f"{row['precision']}_tflops")
        ratios = {
            way: None
            if row[way] is None or (reference := medians.get((row["batch_size"], way))) is None
            else reference / row[way]["median_ms"]
            for way in WAYS
        }
        completed.append(
            {
                **row,
                "ratio_to_baseline": ratios,
                "share_of_matrix_rate": None if rate is None else row["true_tflops"] / rate,
            }
        )
    return completed
