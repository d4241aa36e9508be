"""Building the plugin library with CMake and nvcc, into place only when it is whole."""

import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from dtfsal.engines.errors import EngineError, OutputError, UnavailableError
from dtfsal.engines.plugins.library import LIBRARY_NAME, default_library

SOURCES = Path(__file__).parent / "deform_conv"
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
        f"TensorRT's C++ headers are not here: install TensorRT's SDK and set {INCLUDE_VARIABLE}, or "
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
    if shutil.which("nvcc") is None:
        raise UnavailableError("the plugin needs nvcc, which is not on PATH: install NVIDIA's CUDA toolkit")
    options = [f"-D{INCLUDE_VARIABLE}={tensorrt_include or tensorrt_headers()}"]
    if architectures:
        options.append(f"-DCMAKE_CUDA_ARCHITECTURES={';'.join(architectures)}")
    target = default_library() if output is None else output / LIBRARY_NAME
    return _build(target, options, report)


def build_host_library(output: Path) -> Path:
    """Build `libdtfsal_deform_conv_host.so`, the kernel's program on the CPU, which tests use, into a folder.

    Raises:
        UnavailableError: CMake or the C++ compiler is missing.
        EngineError: the compilation failed.
        OutputError: the library cannot be put in its place.
    """
    return _build(output / HOST_LIBRARY_NAME, ["-DDTFSAL_HOST_ONLY=ON"], lambda _line: None)


def _build(target: Path, options: Sequence[str], report: Callable[[str], None]) -> Path:
    for program in ("cmake", "c++"):
        if shutil.which(program) is None:
            raise UnavailableError(f"the plugin needs {program}, which is not on PATH: install cmake and g++")
    with tempfile.TemporaryDirectory(prefix="dtfsal-plugins-") as folder:
        _run(["cmake", "-S", str(SOURCES), "-B", folder, *options], report)
        _run(["cmake", "--build", folder, "--parallel", str(os.cpu_count() or 1)], report)
        partial = target.with_name(f".{target.name}.partial-{os.getpid()}")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(Path(folder) / target.name, partial)
            partial.replace(target)
        except OSError as error:
            raise OutputError(f"cannot write {target}: {error.strerror or error}; choose another folder") from error
        finally:
            partial.unlink(missing_ok=True)
    return target


def _run(command: Sequence[str], report: Callable[[str], None]) -> None:
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line.rstrip())
            report(line.rstrip())
    if process.returncode:
        causes = [line for line in lines if "error" in line.lower()] or lines[-1:] or ["no output"]
        raise EngineError(f"`{command[0]}` failed with exit code {process.returncode}: {causes[0].strip()}")
