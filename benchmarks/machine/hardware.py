"""What a machine is made of, as far as it decides how fast a model runs, and a short fingerprint of that.

Two results with the same fingerprint come from machines of one kind. Dates, versions of software and how busy a
machine was are no part of it.
"""

import hashlib
import json
import platform
from pathlib import Path
from typing import Any

from dtfsal.engines.cpu.threads import default_threads
from dtfsal.engines.gpu.driver import find_gpu_driver

# The instructions that libraries choose their kernels by, as /proc/cpuinfo names them on x86 and on Arm.
FLAGS_THAT_MATTER = (
    *("sse4_2", "avx", "avx2", "fma", "f16c", "avx_vnni", "avx_vnni_int8"),
    *("avx512f", "avx512bw", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16"),
    *("asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2", "sme"),
)
_KINDS = {"Data": "d", "Instruction": "i", "Unified": ""}


def hardware(processors: Path = Path("/proc/cpuinfo"), memory: Path = Path("/proc/meminfo")) -> dict[str, Any]:
    """The machine's facts as JSON types; what the system does not report is None or empty.

    Args:
        processors: where Linux describes the processors.
        memory: where it reports the memory.

    Returns:
        `cpu`, `architecture`, `flags` (of `FLAGS_THAT_MATTER`), `physical_cores` (that this process may use), `caches`
        (sizes by name, "L1d" say), `memory_gib` (whole GiB), `governor`, `max_frequency_mhz` and `gpus`.
    """
    facts = processor_facts(processors)
    return {
        "cpu": facts.get("model name") or platform.processor() or platform.machine(),
        "architecture": platform.machine(),
        "flags": flags_of(facts),
        "physical_cores": default_threads(),
        "caches": caches(),
        "memory_gib": memory_gib(memory),
        **frequency(),
        "gpus": [name for name, _ in find_gpu_driver().gpus],
    }


def fingerprint(facts: dict[str, Any]) -> str:
    """The first 12 hexadecimal digits of the SHA-256 of a machine's facts, whatever their order."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]


def processor_facts(processors: Path) -> dict[str, str]:
    """The first processor's lines of /proc/cpuinfo, by name; empty where there is none."""
    try:
        first = processors.read_text().split("\n\n", 1)[0]
    except OSError:
        return {}
    pairs = (line.split(":", 1) for line in first.splitlines() if ":" in line)
    return {name.strip(): value.strip() for name, value in pairs}


def flags_of(facts: dict[str, str]) -> list[str]:
    """Those of `FLAGS_THAT_MATTER` that the processor has."""
    present = set((facts.get("flags") or facts.get("Features") or "").split())
    return [flag for flag in FLAGS_THAT_MATTER if flag in present]


def caches(folder: Path = Path("/sys/devices/system/cpu/cpu0/cache")) -> dict[str, str]:
    """The first processor's caches: "L1d", "L1i", "L2", "L3" and their sizes as the system writes them."""
    found = {}
    for index in sorted(folder.glob("index*")):
        level, kind, size = (_line(index / name) for name in ("level", "type", "size"))
        if level and kind and size:
            found[f"L{level}{_KINDS.get(kind, kind)}"] = size
    return found


def memory_gib(memory: Path) -> int | None:
    """The memory in whole GiB."""
    try:
        (line,) = (line for line in memory.read_text().splitlines() if line.startswith("MemTotal:"))
    except (OSError, ValueError):
        return None
    return round(int(line.split()[1]) / 2**20)


def frequency(folder: Path = Path("/sys/devices/system/cpu/cpu0/cpufreq")) -> dict[str, Any]:
    """`governor` and `max_frequency_mhz` of the first processor; a virtual machine mostly tells neither."""
    hertz = _line(folder / "cpuinfo_max_freq")
    return {
        "governor": _line(folder / "scaling_governor"),
        "max_frequency_mhz": int(hertz) // 1000 if hertz and hertz.isdecimal() else None,
    }


def _line(path: Path) -> str | None:
    try:
        return path.read_text().strip() or None
    except OSError:
        return None
