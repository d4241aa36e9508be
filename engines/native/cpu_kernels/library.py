"""Where the library of the CPU's operators is, how it is built, and its way into ONNX Runtime's sessions."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dtfsal.engines.errors import EngineError
from dtfsal.engines.native.builder import build_library, cached_library

LIBRARY_NAME = "libdtfsal_cpu_kernels.so"
SOURCES = Path(__file__).parent / "source"
DOMAIN = "dtfsal"
POOLED_ATTENTION = "PooledAttention"
WINOGRAD_CONV = "WinogradConv"
LINEAR = "Linear"
HEAD_DIM_MULTIPLE = 16  # of PooledAttention: the floats of an AVX-512 register


def cpu_kernels_library(report: Callable[[str], None] = lambda _line: None) -> Path:
    """The library in the user's cache, built there first if that of these sources is not there yet.

    Args:
        report: told each line of a build.

    Raises:
        UnavailableError: it has to be built, and CMake or the C++ compiler is missing.
        EngineError: the compilation failed.
        OutputError: the cache cannot be written to.
    """
    library = cached_library(f"cpu-kernels-{_sources_digest()}") / LIBRARY_NAME
    return library if library.is_file() else build_cpu_kernels(library.parent, report=report)


def build_cpu_kernels(output: Path, *, report: Callable[[str], None] = lambda _line: None) -> Path:
    """Build `libdtfsal_cpu_kernels.so` for this processor's architecture, whatever its instruction set.

    Args:
        output: the folder it goes to.
        report: told each line of the build.

    Returns:
        The library's path.

    Raises:
        UnavailableError: CMake or the C++ compiler is missing.
        EngineError: the compilation failed.
        OutputError: the library cannot be put in its place.
    """
    return build_library(SOURCES, output / LIBRARY_NAME, report=report)


def register_cpu_kernels(options: Any, library: Path) -> None:
    """Let sessions made with these options run the library's operators.

    Args:
        options: an `onnxruntime.SessionOptions`.
        library: `libdtfsal_cpu_kernels.so` of the engine.

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


def _sources_digest() -> str:
    """What tells these sources from those of another version."""
    digest = hashlib.sha256()
    for file in (*sorted(SOURCES.iterdir()), SOURCES.parents[1] / "project.cmake"):
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:12]
