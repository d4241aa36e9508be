"""Building the plugin library with CMake and nvcc."""

import importlib.util
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from dtfsal.engines.errors import UnavailableError
from dtfsal.engines.native.builder import architecture_options, build_library, need_nvcc
from dtfsal.engines.native.deform_conv.library import LIBRARY_NAME, default_library

SOURCES = Path(__file__).parent / "source"
HOST_LIBRARY_NAME = "libdtfsal_deform_conv_host.so"
HEADER = "NvInferRuntime.h"
INCLUDE_VARIABLE = "TENSORRT_INCLUDE_DIR"
_SDK_FOLDERS = ("/usr/include/x86_64-linux-gnu", "/usr/include/aarch64-linux-gnu", "/usr/local/tensorrt/include")


def tensorrt_headers() -> Path:
    """The folder of TensorRT's C++ headers: TENSORRT_INCLUDE_DIR's, an SDK's, or those in the package kernel-lens.

    Raises:
        UnavailableError: there are none.
    """
    package = importlib.util.find_spec("kernel_lens")
    places = [Path(folder) for folder in (os.environ.get(INCLUDE_VARIABLE), *_SDK_FOLDERS) if folder]
    places += [Path(place) / "include" / "tensorrt" for place in (package and package.submodule_search_locations) or ()]
    for place in places:
        if (place / HEADER).is_file():
            return place
    raise UnavailableError(
        f"TensorRT's C++ headers were not found: install TensorRT's SDK and set {INCLUDE_VARIABLE}, or "
        "`pip install kernel-lens`, which carries a copy of them"
    )


def build_plugin_library(
    output: Path | None = None,
    *,
    architectures: Sequence[str] = (),
    tensorrt_include: Path | None = None,
    report: Callable[[str], None] = lambda _line: None,
) -> Path:
    """Build `libdtfsal_plugins.so`.

    Args:
        output: the folder it goes to; the user's cache by default.
        architectures: compute capabilities without the point, such as "90"; all that the toolkit has by default.
        tensorrt_include: the folder of TensorRT's headers; see `tensorrt_headers`.
        report: told each line of the build.

    Returns:
        The library's path.

    Raises:
        UnavailableError: CMake, the compilers or the headers are missing.
        EngineError: the compilation failed.
        OutputError: the library cannot be put in its place.
    """
    need_nvcc("the plugin")
    options = [f"-D{INCLUDE_VARIABLE}={tensorrt_include or tensorrt_headers()}", *architecture_options(architectures)]
    target = default_library() if output is None else output / LIBRARY_NAME
    return build_library(SOURCES, target, options, report)


def build_host_library(output: Path) -> Path:
    """Build `libdtfsal_deform_conv_host.so`, the kernel's program on the CPU, which tests use, into a folder.

    Raises:
        UnavailableError: CMake or the C++ compiler is missing.
        EngineError: the compilation failed.
        OutputError: the library cannot be put in its place.
    """
    return build_library(SOURCES, output / HOST_LIBRARY_NAME, ["-DDTFSAL_HOST_ONLY=ON"])
