"""Builds dtfsal's native libraries with CMake, puts them in place only when they are complete, and finds them again."""

import contextlib
import ctypes
import dataclasses
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from dtfsal.engines.cache import cache_folder
from dtfsal.engines.errors import EngineError, OutputError, UnavailableError, UsageError
from dtfsal.engines.native.packaged import packaged_library, system_name
from dtfsal.engines.native.trust import built_here, own_folder, record_build, sources_digest
from dtfsal.engines.partial import held, partial_file

TENSORRT_VARIABLE = "TENSORRT_INCLUDE_DIR"
_TENSORRT_HEADER = "NvInfer.h"
_SDK_FOLDERS = ("/usr/include/x86_64-linux-gnu", "/usr/include/aarch64-linux-gnu", "/usr/local/tensorrt/include")
_COMPILER = "install cmake and g++"
_INSTALL = {"nvcc": "install NVIDIA's CUDA toolkit", "cmake": _COMPILER, "c++": _COMPILER}
Report = Callable[[str], None]


def _silent(_line: str) -> None:
    """Report nothing."""


@dataclasses.dataclass(frozen=True)
class FoundLibrary:
    """A library that may run.

    Attributes:
        path: of its file.
        origin: "named" by its variable, "built" here into the user's cache, or "packaged" in the wheel.
    """

    path: Path
    origin: Literal["named", "built", "packaged"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class NativeProject:
    """A native library: its sources, and what is its own in its build.

    Attributes:
        name: on the command line, such as "deform-conv".
        title: what it is in a sentence, such as "the TensorRT plugin".
        sources: the folder of its CMakeLists.txt.
        library: the name by which engines ask for it, such as "libdtfsal_plugins.so": its file name on Linux.
        variable: the environment variable that names a built library, or "".
        uses_cuda: whether nvcc compiles it, for the GPUs that are asked for.
        tensorrt: whether it needs TensorRT's headers. A build that can do without takes them only where they are given.
        installs: whether it can be installed with what other programs need to compile against it.
        kept_by_sources: whether each version of the sources has a folder of its own in the user's cache.
        version: of what it offers to engines; see `dtfsal.engines.native.trust`.
        uses: folders of other projects whose files it compiles.
        soversion: of its interface to programs that link it, such as "0" of "libdtfsal.so.0"; or "".
    """

    name: str
    title: str
    sources: Path
    library: str
    variable: str = ""
    uses_cuda: bool = False
    tensorrt: Literal["unused", "optional", "needed"] = "unused"
    installs: bool = False
    kept_by_sources: bool = False
    version: int = 1
    uses: tuple[Path, ...] = ()
    soversion: str = ""

    @property
    def needs(self) -> tuple[str, ...]:
        """What a build needs, in words."""
        headers = {"unused": (), "optional": ("TensorRT's headers (optional)",), "needed": ("TensorRT's headers",)}
        return (*self._programs, *headers[self.tensorrt])

    @property
    def remedy(self) -> str:
        """What to do where it is missing."""
        return f"build it with `dtfsal native build {self.name}`"

    @property
    def default_library(self) -> Path:
        """Where the library is built to if nothing else is said: in the user's cache folder."""
        cache = cache_folder()
        if self.kept_by_sources:
            cache /= f"{self.name}-{sources_digest(self.sources, *self.uses)[:12]}"
        return cache / system_name(self.library)

    @property
    def place(self) -> Path:
        """Where the library would be if it were built: where its variable says, else in the user's cache folder."""
        return Path(self._named or self.default_library)

    @property
    def _named(self) -> str:
        """What its variable says, or nothing."""
        return os.environ.get(self.variable, "") if self.variable else ""

    def locate(self) -> FoundLibrary | None:
        """The library that its variable names, else the one in the user's cache, else the wheel's; None without any.

        Raises:
            UnavailableError: there is one that may not run: it is not of these sources, not the wheel's, or somebody
                else could have written it; or the variable names no file.
        """
        if self._named:
            if not self.place.is_file():
                raise UnavailableError(f"{self.variable} names {self.place}, which is not a file; {self.remedy}")
            return FoundLibrary(self.place, "named")
        refusal = None
        if self.default_library.is_file():
            try:
                return FoundLibrary(self._built_here(), "built")
            except UnavailableError as error:
                refusal = error
        packaged = packaged_library(system_name(self.library, self.soversion), self.title)
        if packaged is not None:
            return FoundLibrary(packaged, "packaged")
        if refusal is not None:
            raise refusal
        return None

    def find(self) -> Path:
        """The library that `locate` gives.

        Raises:
            UnavailableError: there is none, or it may not run.
        """
        found = self.locate()
        return self._built_here() if found is None else found.path

    def load(self, path: str | os.PathLike[str], functions: Mapping[str, Sequence[Any]]) -> ctypes.CDLL:
        """Open a built library.

        Args:
            path: of the library.
            functions: which it must have, by name: the type of the result, then those of the arguments.

        Raises:
            UnavailableError: it cannot be loaded, or lacks a function.
        """
        try:
            library = ctypes.CDLL(os.fspath(path))
            for name, (result, *arguments) in functions.items():
                function = getattr(library, name)
                function.restype, function.argtypes = result, arguments
        except (OSError, AttributeError) as error:
            raise UnavailableError(f"{path} cannot be used as {self.title} ({error}): {self.remedy}") from error
        return library

    def check_needs(self, tensorrt_include: Path | None = None) -> None:
        """See that this machine has what a build needs.

        Args:
            tensorrt_include: the folder of TensorRT's headers; None to look for them.

        Raises:
            UnavailableError: it has not.
        """
        _need(self.title, self._programs)
        if self.tensorrt == "needed" and tensorrt_include is None:
            tensorrt_headers()

    def build(
        self,
        output: Path | None = None,
        *,
        architectures: Sequence[str] = (),
        tensorrt_include: Path | None = None,
        report: Report = _silent,
    ) -> Path:
        """Build the library.

        Args:
            output: the folder it goes to; the user's cache by default.
            architectures: GPUs by compute capability without the point, such as "90"; by default all that the CUDA
                toolkit has.
            tensorrt_include: the folder of TensorRT's headers; None to look for them where they are needed.
            report: told each line of the build.

        Returns:
            The library's path.

        Raises:
            UsageError: the headers are not where they were said to be.
            UnavailableError: CMake, a compiler or the headers are missing.
            EngineError: the compilation failed.
            OutputError: the library cannot be put in its place.
        """
        options = self._options(architectures, tensorrt_include)
        target = self.default_library if output is None else output / system_name(self.library)
        return build_library(self.sources, target, options, report, self.uses)

    def built(self, report: Report = _silent) -> Path:
        """The library that `find` gives, built first if there is none that may run; raises what `build` does.

        Raises:
            UnavailableError: its variable names no file, or what a build needs is missing.
        """
        try:
            return self.find()
        except UnavailableError:
            if self._named:
                raise
            return self.build(report=report)

    def build_host(self, output: Path) -> Path:
        """Build the CPU's twin of a library for GPUs, which tests use, into a folder; raises what `build` does."""
        name = system_name(self.library.replace(".so", "_host.so"))
        return build_library(self.sources, output / name, ["-DDTFSAL_HOST_ONLY=ON"])

    def install(self, prefix: Path, *, tensorrt_include: Path | None = None, report: Report = _silent) -> None:
        """Build the library and install it with its header and its packages for CMake and pkg-config.

        Args:
            prefix: such as /usr/local. What is installed may be moved as a whole.
            tensorrt_include: see `build`.
            report: told each line of the build.

        Raises:
            UsageError: the headers are not where they were said to be.
            UnavailableError: CMake or a compiler is missing.
            EngineError: the compilation failed.
            OutputError: the prefix cannot be written to.
        """
        options = self._options((), tensorrt_include)
        nearest = next(folder for folder in (prefix.absolute(), *prefix.absolute().parents) if folder.exists())
        if not (nearest.is_dir() and os.access(nearest, os.W_OK)):
            raise OutputError(
                f"cannot install to {prefix}: {nearest} is not a folder that can be written to; choose another"
            )
        with _built(self.sources, options, report) as folder:
            try:
                _run(["cmake", "--install", str(folder), "--prefix", str(prefix.absolute())], report)
            except EngineError as error:
                raise OutputError(f"cannot install to {prefix}: {error}; choose another folder") from error

    def _built_here(self) -> Path:
        """The library in the user's cache, or an `UnavailableError`."""
        return built_here(self.default_library, self.sources, self.title, self.remedy, self.uses)

    @property
    def _programs(self) -> tuple[str, ...]:
        return ("nvcc", "cmake", "c++") if self.uses_cuda else ("cmake", "c++")

    def _options(self, architectures: Sequence[str], tensorrt_include: Path | None) -> list[str]:
        """CMake's."""
        if tensorrt_include is not None and not (tensorrt_include / _TENSORRT_HEADER).is_file():
            raise UsageError(f"{tensorrt_include} has no {_TENSORRT_HEADER}: give the folder of TensorRT's headers")
        self.check_needs(tensorrt_include)
        headers = tensorrt_headers() if tensorrt_include is None and self.tensorrt == "needed" else tensorrt_include
        return [
            *([f"-D{TENSORRT_VARIABLE}={headers.absolute()}"] if headers else []),
            *([f"-DCMAKE_CUDA_ARCHITECTURES={';'.join(architectures)}"] if architectures else []),
        ]


def build_library(
    sources: Path,
    target: Path,
    options: Sequence[str] = (),
    report: Report = _silent,
    uses: Sequence[Path] = (),
) -> Path:
    """Configure and build a project, and put its library in place.

    Args:
        sources: the folder of its CMakeLists.txt.
        target: where the library goes; its file name is that of the project's library.
        options: of CMake.
        report: told each line of the build.
        uses: folders of other projects whose files it compiles.

    Returns:
        `target`.

    Raises:
        UnavailableError: CMake or the C++ compiler is missing.
        EngineError: the compilation failed.
        OutputError: the library cannot be put in its place.
    """
    try:
        own_folder(target.parent)
        # A library and its record belong together, so who builds the same one waits.
        with held(target, waits=True), _built(sources, options, report) as folder:
            with partial_file(target) as partial:
                shutil.copyfile(folder / target.name, partial)
                partial.chmod(0o644)
            record_build(target, sources, *uses)
    except OSError as error:
        raise OutputError(f"cannot write {target}: {error.strerror or error}; choose another folder") from error
    return target


def tensorrt_headers() -> Path:
    """The folder of TensorRT's C++ headers: TENSORRT_INCLUDE_DIR's, an SDK's, or those in the package kernel-lens.

    Raises:
        UnavailableError: there are none.
    """
    package = importlib.util.find_spec("kernel_lens")
    places = [Path(folder) for folder in (os.environ.get(TENSORRT_VARIABLE), *_SDK_FOLDERS) if folder]
    places += [Path(place) / "include" / "tensorrt" for place in (package and package.submodule_search_locations) or ()]
    for place in places:
        if (place / _TENSORRT_HEADER).is_file():
            return place
    raise UnavailableError(
        f"TensorRT's C++ headers were not found: install TensorRT's SDK and set {TENSORRT_VARIABLE}, or "
        "`pip install kernel-lens`, which carries a copy of them"
    )


def run_moved_command(module: str, name: str) -> int:
    """What `python -m MODULE` was, until the next release: `dtfsal native build NAME`, which prints the path alone.

    Args:
        module: the old command's.
        name: the library's.

    Returns:
        The exit code.
    """
    sys.stderr.write(f"`python -m {module}` goes with the next release: use `dtfsal native build {name}`\n")
    (command,) = importlib.metadata.entry_points(group="console_scripts", name="dtfsal")
    return int(command.load()(["native", "build", name, "--quiet", *sys.argv[1:]]))


def _need(what: str, programs: Sequence[str]) -> None:
    for program in programs:
        if shutil.which(program) is None:
            raise UnavailableError(f"{what} needs {program}, which is not on PATH: {_INSTALL[program]}")


@contextlib.contextmanager
def _built(sources: Path, options: Sequence[str], report: Report) -> Iterator[Path]:
    """A folder with what the project builds, for as long as the context."""
    _need("a native library", ("cmake", "c++"))
    with tempfile.TemporaryDirectory(prefix="dtfsal-build-") as folder:
        _run(["cmake", "-S", str(sources), "-B", folder, *options], report)
        _run(["cmake", "--build", folder, "--parallel", str(os.cpu_count() or 1)], report)
        yield Path(folder)


def _run(command: Sequence[str], report: Report) -> None:
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line.rstrip())
            report(line.rstrip())
    if process.returncode:
        causes = [line for line in lines if "error" in line.lower()] or lines[-1:] or ["no output"]
        raise EngineError(f"`{command[0]}` failed with exit code {process.returncode}: {causes[0].strip()}")
