"""Engines on a GPU: each target's build, its parity with PyTorch, and its latency beside the PyTorch forms."""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from dtfsal.benchmarks.accuracy.parity import BARS, compare_engine, model_of, worst
from dtfsal.benchmarks.count.flops import count
from dtfsal.benchmarks.gpu.forms import Ways, measure_ways, timing_row
from dtfsal.benchmarks.measure.stopwatch import HostStopwatch
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
    EngineForm("TensorRT-RTX fp32", "tensorrt-rtx", "fp32"),
    EngineForm("TensorRT-RTX tf32", "tensorrt-rtx", "tf32"),
    EngineForm("TensorRT-RTX fp16", "tensorrt-rtx", "fp16"),
    EngineForm("TensorRT-RTX bf16", "tensorrt-rtx", "bf16"),
    EngineForm("TensorRT fp32", "tensorrt", "fp32"),
    EngineForm("TensorRT tf32", "tensorrt", "tf32"),
    EngineForm("TensorRT fp16", "tensorrt", "fp16"),
    EngineForm("TensorRT bf16", "tensorrt", "bf16"),
)


def engine_form(
    form: EngineForm, preset: str, device: Device, folder: Path, *, batch_size: int, runs: int, windows: int = 3
) -> dict[str, Any]:
    """Build one engine of a preset, hold it to PyTorch, and time it.

    Latency is from arrays in the host's memory to maps there. A back end that leaves maps on the GPU is also timed from
    arrays in the GPU's memory to maps there. Either way the run is over when the call returns.

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
        ways: dict[str, Callable[[], object]] = {"host": lambda: engine.run(inputs)}
        if tensorrt is not None:
            placed = {name: engine.keep(array) for name, array in inputs.items()}
            ways["device"] = lambda: engine.run_kept(placed)
        found: dict[str, Ways] = {form.name: ways}
        timings, failed = measure_ways(found, HostStopwatch(), runs=runs)
        held = held_bytes(device)
        backend = engine.describe()["backend"]
    memory = None if held is None or before is None else held - before
    flops = count(config).total.true_flops * batch_size
    return {
        "rows": [
            timing_row(name, timing, batch_size, flops) | {"precision": form.precision, "peak_memory_bytes": memory}
            for name, timing in timings.items()
        ],
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
