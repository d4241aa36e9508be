"""Building and installing libdtfsal from the sources beside this module."""

from collections.abc import Callable
from pathlib import Path

from dtfsal.engines.errors import UsageError
from dtfsal.engines.native.builder import build_library, cached_library, install_project

SOURCES = Path(__file__).resolve().parent  # where CMake's `../..` leads, too: not the link in dtfsal/
LIBRARY_NAME = "libdtfsal.so"


def build_native_runtime(
    output: Path | None = None,
    *,
    tensorrt_include: Path | None = None,
    report: Callable[[str], None] = lambda _line: None,
) -> Path:
    """Build `libdtfsal.so`.

    Args:
        output: the folder it goes to; the user's cache, where `NativePredictor` looks for it, by default.
        tensorrt_include: the folder of TensorRT's headers, to run its engines too; CUDA's toolkit has to be there.
        report: told each line of the build.

    Returns:
        The library's path.

    Raises:
        UsageError: the headers are not there.
        UnavailableError: CMake or the C++ compiler is missing.
        EngineError: the compilation failed.
        OutputError: the library cannot be put in its place.
    """
    target = cached_library(LIBRARY_NAME) if output is None else output / LIBRARY_NAME
    return build_library(SOURCES, target, _options(tensorrt_include), report)


def install_native_runtime(
    prefix: Path,
    *,
    tensorrt_include: Path | None = None,
    report: Callable[[str], None] = lambda _line: None,
) -> None:
    """Build the library and install it with its header and its packages for CMake and pkg-config.

    Args:
        prefix: such as /usr/local. What is installed may be moved as a whole.
        tensorrt_include: see `build_native_runtime`.
        report: told each line of the build.

    Raises:
        UsageError: the headers are not there.
        UnavailableError: CMake or the C++ compiler is missing.
        EngineError: the compilation failed.
        OutputError: the prefix cannot be written to.
    """
    install_project(SOURCES, prefix, _options(tensorrt_include), report)


def _options(tensorrt_include: Path | None) -> list[str]:
    if tensorrt_include is None:
        return []
    if not (tensorrt_include / "NvInfer.h").is_file():
        raise UsageError(f"{tensorrt_include} has no NvInfer.h: give the folder of TensorRT's headers")
    return [f"-DTENSORRT_INCLUDE_DIR={tensorrt_include.absolute()}"]
