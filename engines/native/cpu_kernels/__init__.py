"""Custom operators for ONNX Runtime on the CPU: their names, and how the library that has them is registered."""

from dtfsal.engines.native.cpu_kernels.library import (
    DOMAIN,
    HEAD_DIM_MULTIPLE,
    LINEAR,
    POOLED_ATTENTION,
    WINOGRAD_CONV,
    register_cpu_kernels,
)

__all__ = [
    "DOMAIN",
    "HEAD_DIM_MULTIPLE",
    "LINEAR",
    "POOLED_ATTENTION",
    "WINOGRAD_CONV",
    "register_cpu_kernels",
]
