"""libdtfsal, its parts and its programs, built once for all tests.

DTFSAL_TEST_SANITIZE=address,undefined builds them with sanitizers; `make sanitize` sets it, and what Python needs.
"""

import ctypes
import dataclasses
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from dtfsal.runtime.capi.build import C_LIBRARY
from dtfsal.runtime.capi.library import NativeLibrary, onnxruntime_library

EXAMPLES = Path(__file__).parents[3] / "examples"


@dataclasses.dataclass(frozen=True)
class Build:
    """A build folder of runtime/capi."""

    folder: Path

    def program(self, name):
        return self.folder / ("fuzz" if name.startswith("fuzz_") else "tools") / name

    def run(self, name, *words, timeout=300, **options):
        """Run a program; its output is in the error where it fails."""
        environment = {**os.environ, "DTFSAL_ONNXRUNTIME_LIBRARY": onnxruntime_library(), **options.pop("env", {})}
        return run([self.program(name), *words], env=environment, timeout=timeout, **options)


def run(command, **options):
    done = subprocess.run([str(word) for word in command], capture_output=True, check=False, **options)
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout[-2000:]!r}\n{done.stderr[-4000:]!r}"
    return done.stdout


def make_build(folder, *options):
    if sanitize := os.environ.get("DTFSAL_TEST_SANITIZE"):
        options = (f"-DDTFSAL_SANITIZE={sanitize}", *options)
    run(["cmake", "-S", C_LIBRARY.sources, "-B", folder, "-DDTFSAL_TOOLS=ON", *options])
    run(["cmake", "--build", folder, "--parallel", os.cpu_count() or 1])
    return Build(folder)


@pytest.fixture(scope="session")
def build(tmp_path_factory, need_programs):
    need_programs("cmake", "c++")
    return make_build(tmp_path_factory.mktemp("capi"))


@pytest.fixture(scope="session")
def make_sanitized(tmp_path_factory, need_programs):
    """Build all programs with sanitizers, such as "address,undefined"."""

    def make(sanitizers):
        need_programs("cmake", "c++")
        options = (f"-DDTFSAL_SANITIZE={sanitizers}", "-DDTFSAL_FUZZ=ON")
        return make_build(tmp_path_factory.mktemp(sanitizers.replace(",", "-")), *options)

    return make


@pytest.fixture(scope="session")
def library(build):
    return NativeLibrary(build.folder / "libdtfsal.so")


@pytest.fixture(scope="session")
def parts(build):
    """The functions of tools/parts.cpp."""
    library = ctypes.CDLL(str(build.folder / "tools" / "libdtfsal_parts.so"))
    for name, result in (("tap_interval", ctypes.c_double), ("folded", ctypes.c_double), ("float", ctypes.c_float)):
        getattr(library, f"part_{name}").restype = result
    for name in ("resample", "nearest", "first_slice"):
        getattr(library, f"part_{name}").restype = ctypes.c_int64
    library.part_half.restype = ctypes.c_uint16
    return library


def noise(count, size=(30, 50), seed=0):
    """(count, H, W, 3) uint8."""
    return np.random.default_rng(seed).integers(0, 256, (count, *size, 3), dtype=np.uint8)


def rustle(seconds, rate=16000, seed=1, channels=None):
    """(n,) or (n, channels) float32 in [-0.5, 0.5]."""
    shape = round(seconds * rate) if channels is None else (round(seconds * rate), channels)
    return np.random.default_rng(seed).uniform(-0.5, 0.5, shape).astype(np.float32)


@pytest.fixture(scope="session")
def media():
    """The functions above."""
    import types

    return types.SimpleNamespace(noise=noise, rustle=rustle)
