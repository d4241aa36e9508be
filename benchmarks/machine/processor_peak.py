"""The most that the processor's vector units can do, by a program that keeps them busy and touches no memory.

A matrix product reaches some of it; no exact form of a model, however it is written, can exceed it.
"""

import concurrent.futures
import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

SOURCE = Path(__file__).with_name("processor_peak.cpp")
SECONDS = 0.3
REPEATS = 3
KINDS = ("fp32", "int8")


def processor_peak(threads: int) -> dict[str, float] | None:
    """Multiplications and additions of FP32 and of 8-bit integers, in 10^9 a second, by so many threads at once.

    The best of some runs. None where there is no C++ compiler to build the program with; a kind that the processor has
    no vector instructions for, or the program does not know them, is 0.
    """
    compiler = shutil.which("c++")
    if compiler is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "peak.so"
        words = [compiler, "-O2", "-march=native", "-std=c++17", "-fPIC", "-shared", str(SOURCE), "-o", str(library)]
        if subprocess.run(words, capture_output=True, check=False).returncode:
            return None
        program = ctypes.CDLL(str(library))
        return {kind: _best(getattr(program, f"{kind}_rate"), threads) for kind in KINDS}


def _best(rate: Callable[[float], float], threads: int) -> float:
    rate.restype, rate.argtypes = ctypes.c_double, [ctypes.c_double]  # type: ignore[attr-defined]
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        return max(sum(pool.map(rate, [SECONDS] * threads)) for _ in range(REPEATS)) / 1e9
