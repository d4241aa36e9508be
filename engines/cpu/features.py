"""What a CPU's instruction set has that decides which engine is fast on it."""

from __future__ import annotations

from pathlib import Path

# Linux's names of x86's features.
FEATURES = ("avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_int8")
BF16_FEATURES = frozenset({"avx512_bf16", "amx_bf16"})


def cpu_features(cpuinfo: Path = Path("/proc/cpuinfo")) -> tuple[str, ...]:
    """Those of `FEATURES` that the CPU has, in their order; none where the system does not say."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return ()
    flags = next((line.split(":", 1)[1].split() for line in lines if line.startswith("flags")), [])
    return tuple(name for name in FEATURES if name in flags)
