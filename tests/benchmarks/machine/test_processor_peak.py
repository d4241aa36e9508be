"""The program that keeps the vector units busy: it is built, it runs in each thread, and it may be absent."""

import ctypes
import math
import os
import shutil
import subprocess

import pytest

from dtfsal.benchmarks.machine import processor_peak as module
from dtfsal.benchmarks.machine.processor_peak import KINDS, SOURCE, processor_peak

needs_compiler = pytest.mark.skipif(
    shutil.which("c++") is None and os.environ.get("DTFSAL_REQUIRE_COMPILERS") != "1", reason="there is no C++ compiler"
)


@needs_compiler
def test_each_kind_has_a_rate(monkeypatch):
    monkeypatch.setattr(module, "SECONDS", 0.01)
    found = processor_peak(2)
    assert found is not None
    assert set(found) == set(KINDS)
    assert found["fp32"] > 0
    assert all(math.isfinite(rate) and rate >= 0 for rate in found.values())


@needs_compiler
def test_the_baseline_knows_no_bytes(tmp_path):
    """Built for any processor of the kind the program still runs, and says of what it cannot do that it is 0."""
    library = tmp_path / "peak.so"
    subprocess.run(["c++", "-O2", "-std=c++17", "-fPIC", "-shared", str(SOURCE), "-o", str(library)], check=True)
    program = ctypes.CDLL(str(library))
    for kind in KINDS:
        rate = getattr(program, f"{kind}_rate")
        rate.restype, rate.argtypes = ctypes.c_double, [ctypes.c_double]
        assert (rate(0.01) > 0) == (kind == "fp32")


def test_without_a_compiler_nothing_is_said(monkeypatch):
    monkeypatch.setattr(module.shutil, "which", lambda _name: None)
    assert processor_peak(1) is None


def test_a_compiler_that_fails_says_nothing(monkeypatch):
    monkeypatch.setattr(module.shutil, "which", lambda _name: "/bin/false")
    assert processor_peak(1) is None
