"""Builds dtfsal's native libraries with CMake, and puts them in place only when they are complete."""

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from dtfsal.engines.errors import DtfsalError, EngineError, OutputError, UnavailableError


def build_library(
    sources: Path, target: Path, options: Sequence[str] = (), report: Callable[[str], None] = lambda _line: None
) -> Path:
    """Configure and build a project, and put its library in place.

    Args:
        sources: the folder of its CMakeLists.txt.
        target: where the library goes; its file name is that of the project's library.
        options: of CMake.
        report: told each line of the build.

    Returns:
        `target`.

    Raises:
        UnavailableError: CMake or the C++ compiler is missing.
        EngineError: the compilation failed.
        OutputError: the library cannot be put in its place.
    """
    with _built(sources, target.name, options, report) as folder:
        partial = target.with_name(f".{target.name}.partial-{os.getpid()}")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / target.name, partial)
            partial.replace(target)
        except OSError as error:
            raise OutputError(f"cannot write {target}: {error.strerror or error}; choose another folder") from error
        finally:
            partial.unlink(missing_ok=True)
    return target


def install_project(
    sources: Path, prefix: Path, options: Sequence[str] = (), report: Callable[[str], None] = lambda _line: None
) -> None:
    """Build a project and install it, headers and packages for CMake and pkg-config with it.

    Args:
        sources: the folder of its CMakeLists.txt.
        prefix: such as /usr/local; whole directories of it may be there already.
        options: of CMake.
        report: told each line of the build.

    Raises:
        UnavailableError: CMake or the C++ compiler is missing.
        EngineError: the compilation failed.
        OutputError: the prefix cannot be written to.
    """
    nearest = next(folder for folder in (prefix.absolute(), *prefix.absolute().parents) if folder.exists())
    if not (nearest.is_dir() and os.access(nearest, os.W_OK)):
        raise OutputError(
            f"cannot install to {prefix}: {nearest} is not a folder that can be written to; choose another"
        )
    with _built(sources, sources.name, options, report) as folder:
        try:
            _run(["cmake", "--install", str(folder), "--prefix", str(prefix.absolute())], report)
        except EngineError as error:
            raise OutputError(f"cannot install to {prefix}: {error}; choose another folder") from error


def need_nvcc(library: str) -> None:
    """See that NVIDIA's compiler is there.

    Raises:
        UnavailableError: it is not.
    """
    if shutil.which("nvcc") is None:
        raise UnavailableError(f"{library} needs nvcc, which is not on PATH: install NVIDIA's CUDA toolkit")


def architecture_options(architectures: Sequence[str]) -> list[str]:
    """CMake's options for compute capabilities without the point, such as "90"; none for the project's own choice."""
    return [f"-DCMAKE_CUDA_ARCHITECTURES={';'.join(architectures)}"] if architectures else []


def cached_library(name: str) -> Path:
    """Where a library is built to if nothing else is said: in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dtfsal" / name


@contextlib.contextmanager
def _built(sources: Path, what: str, options: Sequence[str], report: Callable[[str], None]) -> Iterator[Path]:
    """A folder with what the project builds, for as long as the context."""
    for program in ("cmake", "c++"):
        if shutil.which(program) is None:
            raise UnavailableError(f"{what} needs {program}, which is not on PATH: install cmake and g++")
    with tempfile.TemporaryDirectory(prefix="dtfsal-build-") as folder:
        _run(["cmake", "-S", str(sources), "-B", folder, *options], report)
        _run(["cmake", "--build", folder, "--parallel", str(os.cpu_count() or 1)], report)
        yield Path(folder)


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


def build_command(
    parser: argparse.ArgumentParser, build: Callable[[argparse.Namespace], Path], argv: Sequence[str] | None
) -> int:
    """Run a build from the command line: its result's path on success, else one sentence and the exit code.

    Args:
        parser: with the build's own options; `--output` and `--architecture` are added.
        build: of the parsed options.
        argv: the command line's words; None for the process's own.
    """
    parser.add_argument(
        "-o", "--output", type=Path, metavar="DIR", help="the library's folder (default: the user's cache)"
    )
    parser.add_argument(
        "--architecture", action="append", default=[], metavar="NN", help="a compute capability, such as 90; repeatable"
    )
    try:
        library = build(parser.parse_args(argv))
    except DtfsalError as error:
        sys.stderr.write(f"dtfsal: error: {error}\n")
        return error.exit_code
    sys.stdout.write(f"{library}\n")
    return 0
