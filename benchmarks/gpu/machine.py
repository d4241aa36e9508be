"""The GPU that figures were measured on: what it is, and what it reaches in matrix products and copies."""

import functools
import shutil
import subprocess
from typing import Any

import torch

from dtfsal.benchmarks.measure.stopwatch import median_seconds, stopwatch_for

# What nvidia-smi is asked for, and the names in the report.
QUERIES = {
    "driver_version": "driver",
    "clocks.max.sm": "max_sm_clock_mhz",
    "clocks.sm": "sm_clock_mhz",
    "power.limit": "power_limit_w",
    "temperature.gpu": "temperature_c",
    "pstate": "performance_state",
}
DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def describe_gpu(device: torch.device) -> dict[str, Any]:
    """Name, memory, compute capability, CUDA and driver of a GPU; of a CPU, that it is one."""
    if device.type != "cuda":
        return {"name": "none, measured on the CPU"}
    properties = torch.cuda.get_device_properties(device)
    return {
        "name": properties.name,
        "compute_capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "memory_bytes": properties.total_memory,
        "cuda": torch.version.cuda,
        **_nvidia_smi(device.index or 0),
    }


def measured_rates(device: torch.device, *, size: int | None = None, runs: int = 10) -> dict[str, float]:
    """Matrix products of each precision in TFLOP/s and a copy within the device's memory in GB/s, medians.

    Args:
        device: a GPU, or the CPU.
        size: of the square matrices; by default 8192 on a GPU and 1024 on a CPU.
        runs: timed runs of each.
    """
    size = size or (8192 if device.type == "cuda" else 1024)
    stopwatch = stopwatch_for(device)
    rates = {}
    for name, dtype in DTYPES.items():
        if device.type != "cuda" and name != "fp32":
            continue
        a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
        with tf32(name == "tf32"):
            rates[f"{name}_tflops"] = (
                2 * size**3 / median_seconds(functools.partial(torch.matmul, a, b), stopwatch, runs=runs) / 1e12
            )
    source = torch.zeros(size * size, device=device)
    target = torch.empty_like(source)
    seconds = median_seconds(lambda: target.copy_(source), stopwatch, runs=runs)
    rates["copy_gb_per_second"] = 2 * source.nbytes / seconds / 1e9
    return rates


class tf32:  # noqa: N801 - reads as a statement: `with tf32(True):`
    """Whether matrix products and convolutions of float32 may round their factors to TF32, within the block."""

    def __init__(self, allowed: bool) -> None:
        self._allowed = allowed

    def __enter__(self) -> None:
        self._before = (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = self._allowed

    def __exit__(self, *_: object) -> None:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = self._before


def _nvidia_smi(index: int) -> dict[str, str]:
    if (program := shutil.which("nvidia-smi")) is None:
        return {}
    command = [program, f"--query-gpu={','.join(QUERIES)}", "--format=csv,noheader,nounits", f"--id={index}"]
    try:
        values = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.split(",")
    except (OSError, subprocess.SubprocessError):
        return {}
    return {name: value.strip() for name, value in zip(QUERIES.values(), values, strict=False)}
