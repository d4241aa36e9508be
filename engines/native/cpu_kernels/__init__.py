"""Custom operators for ONNX Runtime on the CPU: the library that has them, how it is built and registered.

python -m dtfsal.engines.native.cpu_kernels            builds it for this user (needs CMake and a C++ compiler)
"""

from dtfsal.engines.native.cpu_kernels.library import (
    DOMAIN,
    HEAD_DIM_MULTIPLE,
    LIBRARY_NAME,
    LINEAR,
    POOLED_ATTENTION,
    WINOGRAD_CONV,
    build_cpu_kernels,
    cpu_kernels_library,
    register_cpu_kernels,
)

__all__ = [
    "DOMAIN",
    "HEAD_DIM_MULTIPLE",
    "LIBRARY_NAME",
    "LINEAR",
    "POOLED_ATTENTION",
    "WINOGRAD_CONV",
    "build_cpu_kernels",
    "cpu_kernels_library",
    "register_cpu_kernels",
]
