"""The tests of this project that need a GPU, as a part of the check."""

import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree
from pathlib import Path
from typing import Any

from dtfsal.benchmarks.gpu.tools import has
from dtfsal.engines.errors import EngineError, UnavailableError

ROOT = Path(__file__).resolve().parents[2]  # the checkout, which `dtfsal` is importable from
GPU_TESTS = {
    "kernel": "tests/engines/native/deform_conv/test_kernel_gpu.py",
    "front-end": "tests/engines/native/frontend/test_gpu.py",
    "C library": "tests/runtime/capi/test_gpu.py",
}


def run_tests(file: Path) -> dict[str, Any]:
    """Run a file of tests, on a GPU that must be there.

    Returns:
        `passed`, how many did; `left_out`, the reason of each test that was skipped.

    Raises:
        UnavailableError: there are no tests here, or nothing to run them with, or all were skipped.
        EngineError: a test failed; the others ran.
    """
    if not file.is_file():
        raise UnavailableError(f"{file.name} is not there: run the check from a checkout")
    if missing := [name for name in ("pytest", "hypothesis") if not has(name)]:
        raise UnavailableError(f"needs the package {' and '.join(missing)}, which is not installed")
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.xml"
        options = ["-q", "-p", "no:cacheprovider", "-o", "addopts=--import-mode=importlib", f"--junitxml={result}"]
        process = subprocess.run(
            [sys.executable, "-m", "pytest", *options, str(file)],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env={**os.environ, "DTFSAL_REQUIRE_CUDA": "1"},
        )
        if not result.is_file():
            raise EngineError((process.stdout + process.stderr).strip().splitlines()[-1])
        return outcome_of_tests(result.read_text())


def outcome_of_tests(junit: str) -> dict[str, Any]:
    """What `run_tests` gives or raises, from pytest's own report, which is JUnit's XML."""
    failed: dict[str, str] = {}
    left_out: dict[str, str] = {}
    passed = 0
    for case in xml.etree.ElementTree.fromstring(junit).iter("testcase"):  # noqa: S314 - pytest wrote it
        name, said = case.get("name", "?"), {child.tag: child.get("message", "") for child in case}
        if problem := said.get("failure") or said.get("error"):
            failed[name] = problem.splitlines()[0]
        elif "skipped" in said:
            left_out[name] = said["skipped"]
        else:
            passed += 1
    if failed:
        name, problem = next(iter(failed.items()))
        raise EngineError(f"{len(failed)} of {len(failed) + passed} tests failed, the first {name}: {problem}")
    if not passed:
        raise UnavailableError(next(iter(left_out.values()), "the file holds no tests"))
    return {"passed": passed, "left_out": left_out}
