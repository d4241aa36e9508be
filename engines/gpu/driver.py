"""NVIDIA's driver, asked before anything that would crash without it."""

from __future__ import annotations

import ctypes
import dataclasses
from typing import Any

CUDA_LIBRARY = "libcuda.so.1"


@dataclasses.dataclass(frozen=True)
class GpuDriver:
    """NVIDIA's driver as it presents itself.

    Attributes:
        version: the newest CUDA version that it supports, e.g. "13.0"; None where it is not there or does not start.
        gpus: each GPU's name and compute capability, e.g. ("NVIDIA L4", "8.9").
        problem: why it is not usable, or empty.
    """

    version: str | None
    gpus: tuple[tuple[str, str], ...] = ()
    problem: str = ""


def find_gpu_driver(library: str = CUDA_LIBRARY) -> GpuDriver:
    """Ask NVIDIA's driver library, if it is there, for its version and its GPUs. No GPU memory is taken.

    Args:
        library: the driver's library, looked for where the system's loader looks.
    """
    try:
        cuda: Any = ctypes.CDLL(library)
    except OSError:
        return GpuDriver(None, problem=f"{library} is not there, so there is no NVIDIA driver")
    try:
        code = cuda.cuInit(0)
        number = ctypes.c_int()
        count = ctypes.c_int()
        if code or cuda.cuDriverGetVersion(ctypes.byref(number)) or cuda.cuDeviceGetCount(ctypes.byref(count)):
            return GpuDriver(None, problem=f"{library} exists but does not start (CUDA error {code})")
        gpus = tuple(_gpu(cuda, device) for device in range(count.value))
    except AttributeError:
        return GpuDriver(None, problem=f"{library} exists but is not NVIDIA's driver")
    version = f"{number.value // 1000}.{number.value % 1000 // 10}"
    return GpuDriver(version, gpus, "" if gpus else "the driver finds no GPU")


def _gpu(cuda: Any, ordinal: int) -> tuple[str, str]:
    device = ctypes.c_int()
    cuda.cuDeviceGet(ctypes.byref(device), ordinal)
    name = ctypes.create_string_buffer(256)
    cuda.cuDeviceGetName(name, len(name), device)
    capability = []
    for attribute in (75, 76):  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
        value = ctypes.c_int()
        cuda.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
        capability.append(str(value.value))
    return name.value.decode(errors="replace"), ".".join(capability)
