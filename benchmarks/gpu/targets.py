"""Engines on a GPU: each target's build, its parity with PyTorch, and its latency beside the PyTorch forms."""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from dtfsal.benchmarks.accuracy.parity import BARS, compare_engine, model_of, worst
from dtfsal.benchmarks.count.flops import count
from dtfsal.benchmarks.gpu.forms import timing_row
from dtfsal.benchmarks.measure.stopwatch import HostStopwatch, Timing, measure_forms
from dtfsal.engines import Device, open_engine
from dtfsal.engines.bundle.manifest import EngineTarget, Precision
from dtfsal.engines.errors import UnavailableError
from dtfsal.export.builder import build_engine
from dtfsal.export.request import BuildRequest
from dtfsal.export.tensor_rt.flavours import import_tensorrt, tensorrt_target, unknown_gpu
from dtfsal.training.model.config import resolve_config
from dtfsal.training.model.inputs import synthetic_windows


@dataclasses.dataclass(frozen=True)
class EngineForm:
    """An engine to build and run: its name in the table, the back end and the precision."""

    name: str
    target: EngineTarget
    precision: Precision


FORMS = (
    EngineForm("ONNX Runtime fp32", "onnxruntime", "fp32"),
    EngineForm("ONNX Runtime fp16", "onnxruntime", "fp16"),
    EngineForm("TensorRT-RTX fp16", "tensorrt-rtx", "fp16"),
    EngineForm("TensorRT-RTX bf16", "tensorrt-rtx", "bf16"),
    EngineForm("TensorRT fp32", "tensorrt", "fp32"),
    EngineForm("TensorRT fp16", "tensorrt", "fp16"),
    EngineForm("TensorRT bf16", "tensorrt", "bf16"),
)


def engine_form(
    form: EngineForm, preset: str, device: Device, folder: Path, *, batch_size: int, runs: int, windows: int = 3
) -> dict[str, Any]:
    """Build one engine of a preset, hold it to PyTorch, and time it.

    Latency is from arrays in the host's memory to maps there.

    Args:
        form: which engine.
        preset: the model.
        device: what runs it.
        folder: where the engine goes.
        batch_size: windows at once.
        runs: timed runs.
        windows: compared with PyTorch.

    Returns:
        `rows` with latency and GPU memory, `left_out`, the seconds that the build took, the back end's description, the
        parity and what of it misses the precision's bars.

    Raises:
        DtfsalError: the engine cannot be built or run here.
    """
    tensorrt = tensorrt_target(form.target) if device == "cuda" else None
    if tensorrt is not None and (problem := unknown_gpu(tensorrt, import_tensorrt(tensorrt))) is not None:
        raise UnavailableError(problem)
    config = resolve_config(preset)
    bundle = folder / f"{preset}-{form.target}-{form.precision}-{batch_size}"
    started = time.perf_counter()
    manifest = build_engine(
        BuildRequest(
            output=bundle,
            target=form.target,
            precision=form.precision,
            preset=preset,
            batch_size=batch_size,
            graphs="window",
        )
    )
    build_seconds = time.perf_counter() - started
    before = held_bytes(device)
    with open_engine(bundle, device=device) as engine:
        summary = worst(list(compare_engine(model_of(manifest), engine, synthetic_windows(config, windows))))
        inputs = {
            name: np.repeat(value, batch_size, axis=0)
            for name, value in next(iter(synthetic_windows(config, 1))).items()
        }
        forms: dict[str, Callable[[], object]] = {form.name: lambda: engine.run(inputs)}
        timings, failed = measure_forms(forms, HostStopwatch(), runs=runs)
        held = held_bytes(device)
        backend = engine.describe()["backend"]
    memory = None if held is None or before is None else held - before
    flops = count(config).total.true_flops * batch_size
    return {
        "rows": [_row(timing, form, batch_size, flops, memory) for timing in timings],
        "left_out": failed,
        "build_seconds": build_seconds,
        "size_bytes": manifest.size_bytes,
        "backend": backend,
        "parity": dataclasses.asdict(summary),
        "misses": BARS[form.precision].misses(summary),
    }


def held_bytes(device: str) -> int | None:
    """GPU memory that is in use, by whomever; None on a CPU. The engine's is what it grows by, its context included."""
    if device != "cuda":
        return None
    import torch

    free, total = torch.cuda.mem_get_info()
    return int(total - free)


def _row(timing: Timing, form: EngineForm, batch_size: int, flops: float, memory: int | None) -> dict[str, Any]:
    return {
        **timing_row(timing, batch_size),
        "precision": form.precision,
        "peak_memory_bytes": memory,
        "true_tflops": flops / timing.median_seconds / 1e12,
    }
