"""Building the front-end's library with CMake and nvcc."""

from collections.abc import Sequence
from pathlib import Path

from dtfsal.engines.native.builder import architecture_options, build_library, cached_library, need_nvcc
from dtfsal.engines.native.frontend.library import LIBRARY_NAME

SOURCES = Path(__file__).parent / "source"
HOST_LIBRARY_NAME = "libdtfsal_frontend_host.so"


def build_front_end_library(output: Path | None = None, *, architectures: Sequence[str] = ()) -> Path:
    """Build `libdtfsal_frontend.so`.

    Args:
        output: the folder it goes to; the user's cache by default.
        architectures: compute capabilities without the point, such as "90"; all that the toolkit has by default.

    Returns:
        The library's path.

    Raises:
        UnavailableError: CMake or a compiler is missing.
        EngineError: the compilation failed.
        OutputError: the library cannot be put in its place.
    """
    need_nvcc("the GPU's front-end")
    target = cached_library(LIBRARY_NAME) if output is None else output / LIBRARY_NAME
    return build_library(SOURCES, target, architecture_options(architectures))


def build_host_library(output: Path) -> Path:
    """Build `libdtfsal_frontend_host.so`, the same program on the CPU, which tests use, into a folder.

    Raises:
        UnavailableError: CMake or the C++ compiler is missing.
        EngineError: the compilation failed.
        OutputError: the library cannot be put in its place.
    """
    return build_library(SOURCES, output / HOST_LIBRARY_NAME, ["-DDTFSAL_HOST_ONLY=ON"])
