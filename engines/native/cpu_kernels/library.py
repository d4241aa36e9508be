"""The CPU's operators: their names, and the library's way into ONNX Runtime's sessions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dtfsal.engines.errors import EngineError

DOMAIN = "dtfsal"
POOLED_ATTENTION = "PooledAttention"
WINOGRAD_CONV = "WinogradConv"
LINEAR = "Linear"
HEAD_DIM_MULTIPLE = 16  # of PooledAttention: the floats of an AVX-512 register


def register_cpu_kernels(options: Any, library: Path) -> None:
    """Let sessions made with these options run the library's operators.

    Args:
        options: an `onnxruntime.SessionOptions`.
        library: `libdtfsal_cpu_kernels.so`, as `dtfsal.engines.native.trust` allows it.

    Raises:
        EngineError: it cannot be loaded.
    """
    try:
        options.register_custom_ops_library(str(library))
    except Exception as error:  # ONNX Runtime's exceptions have no base of their own
        raise EngineError(
            f"{library} cannot be loaded; it may be for another kind of processor or system: build the engine "
            "again on a machine like this one, or without --cpu-kernels"
        ) from error
