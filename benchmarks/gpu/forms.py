"""Latency of a model in PyTorch, in every form that PyTorch offers on a GPU, interleaved in one run."""

import contextlib
import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dtfsal.benchmarks.accuracy.parity import compare
from dtfsal.benchmarks.count.flops import count
from dtfsal.benchmarks.count.plain import plain
from dtfsal.benchmarks.gpu.machine import DTYPES, tf32
from dtfsal.benchmarks.measure.stopwatch import Timing, first_line, measure_forms, stopwatch_for
from dtfsal.training.model.config import resolve_config
from dtfsal.training.model.inputs import synthetic_windows
from dtfsal.training.model.network import DTFSal
from dtfsal.training.model.seeded import seeded_model

BASELINE = "eager plain fp32"
Run = Callable[[], Tensor]


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
    forms: dict[str, Run] = {}
    memory: dict[str, int | None] = {}
    parities: dict[str, dict[str, float]] = {}
    wanted = [form for form in FORMS if names is None or form.name in names]
    for form in wanted:
        if reason := _unfit(form, device):
            left_out[form.name] = reason
            continue
        tensors = [x.to(device, DTYPES[form.precision]).repeat(batch_size, *[1] * (x.ndim - 1)) for x in inputs]
        try:
            with _peak_memory(device) as peak:
                run = _prepared(form, model, device, tensors)
                output = run()[0, 0].float().cpu().numpy()
            memory[form.name] = peak.get("bytes")
            parities[form.name] = dataclasses.asdict(compare(reference, np.nan_to_num(output)))
            forms[form.name] = run
        except (RuntimeError, ValueError) as error:
            left_out[form.name] = first_line(error)
    timings, failed = measure_forms(forms, stopwatch_for(device), runs=runs)
    flops = {written: count(config, form="written" if written else "deployed").total for written in (False, True)}
    by_name = {form.name: form for form in wanted}
    rows = [
        {
            **timing_row(timing, batch_size),
            "precision": by_name[timing.name].precision,
            "true_tflops": flops[by_name[timing.name].written].true_flops * batch_size / timing.median_seconds / 1e12,
            "peak_memory_bytes": memory[timing.name],
            "parity": parities[timing.name],
        }
        for timing in timings
    ]
    return {"preset": preset, "batch_size": batch_size, "runs": runs, "rows": rows, "left_out": left_out | failed}


def timing_row(timing: Timing, batch_size: int) -> dict[str, Any]:
    """A form's timing as JSON values."""
    return {
        "form": timing.name,
        "batch_size": batch_size,
        "median_ms": 1e3 * timing.median_seconds,
        "quartiles_ms": [1e3 * value for value in timing.quartiles_seconds],
        "first_ms": 1e3 * timing.first_seconds,
        "windows_per_second": batch_size / timing.median_seconds,
    }


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

    def run() -> Tensor:
        with torch.no_grad(), tf32(form.precision == "tf32"):
            return network(*inputs)

    return run


def _captured(model: nn.Module, inputs: Sequence[Tensor], allow_tf32: bool) -> Run:
    """Capture a forward pass; the output is the same tensor after every replay."""
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

    def run() -> Tensor:
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
    """Rows with their speed-up over a baseline of the same batch size and their share of the matrix product rate."""
    medians = {row["batch_size"]: row["median_ms"] for row in rows if row["form"] == baseline}
    completed = []
    for row in rows:
        rate = rates.get(f"{row['precision']}_tflops")
        reference = medians.get(row["batch_size"])
        tflops = row.get("true_tflops")
        completed.append(
            {
                **row,
                "ratio_to_baseline": None if reference is None else reference / row["median_ms"],
                "share_of_matrix_rate": None if rate is None or tflops is None else tflops / rate,
            }
        )
    return completed
