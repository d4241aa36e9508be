"""What runs cost in energy, by the meters that a machine has: RAPL for its processors, NVML for its GPUs.

A meter counts for all that runs on the machine and at rest, too, so that joules of a run are fair on a quiet one only.
"""

import ctypes
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

LEAST_SECONDS = 2.0  # NVML's counter moves some ten times a second
LEAST_RUNS = 3
POWERCAP = Path("/sys/class/powercap")
NVML_LIBRARY = "libnvidia-ml.so.1"


class Meter(Protocol):
    """Counts joules from a start that is the same from reading to reading."""

    @property
    def name(self) -> str:
        """What it meters."""
        ...

    def joules(self) -> float:
        """The count; differences of two readings are what matters."""
        ...


class RaplMeter:
    """A processor package's energy, as the kernel's powercap reads it.

    Args:
        zone: the package's folder under /sys/class/powercap.

    Raises:
        OSError: the zone cannot be read; the counter itself is mostly root's alone.
        ValueError: it holds no numbers.
    """

    def __init__(self, zone: Path) -> None:
        self.name = f"RAPL {(zone / 'name').read_text().strip()}"
        self._counter = zone / "energy_uj"
        self._range = int((zone / "max_energy_range_uj").read_text())
        self._last = int(self._counter.read_text())
        self._total = 0

    def joules(self) -> float:
        """See `Meter`; a counter that began again since the last reading is made whole."""
        now = int(self._counter.read_text())
        self._total += (now - self._last) % (self._range + 1)
        self._last = now
        return self._total / 1e6


class NvmlMeter:
    """A GPU's energy since its driver was loaded, as NVML tells it (Volta and later)."""

    def __init__(self, library: Any, index: int) -> None:
        self.name = f"NVML GPU {index}"
        self._library, self._handle = library, ctypes.c_void_p()
        if library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(self._handle)):
            raise OSError(f"NVML has no GPU {index}")
        self.joules()

    def joules(self) -> float:
        """See `Meter`."""
        millijoules = ctypes.c_ulonglong()
        if self._library.nvmlDeviceGetTotalEnergyConsumption(self._handle, ctypes.byref(millijoules)):
            raise OSError(f"{self.name} reports no energy")
        return millijoules.value / 1e3


def find_meters(powercap: Path = POWERCAP, nvml: str = NVML_LIBRARY) -> tuple[list[Meter], list[str]]:
    """The machine's meters, and why there are no more, in words."""
    meters: list[Meter] = []
    reasons = []
    # intel-rapl:0 is a package, intel-rapl:0:0 a part of it; AMD's processors go by the same name.
    zones = [zone for zone in sorted(powercap.glob("*rapl:*")) if zone.name.count(":") == 1]
    for zone in zones:
        try:
            meters.append(RaplMeter(zone))
        except PermissionError:
            reasons.append(f"only root can read {zone.name}'s counter")
        except (OSError, ValueError) as error:
            reasons.append(f"{zone.name} cannot be read ({error.__class__.__name__})")
    if not zones:
        reasons.append("the system has no RAPL")
    try:
        meters += _gpu_meters(ctypes.CDLL(nvml))
    except (OSError, AttributeError):
        reasons.append("there is no NVML, or it reports no energy")
    return meters, reasons


def joules_per_run(
    run: Callable[[], object], meters: Sequence[Meter], *, seconds: float = LEAST_SECONDS
) -> list[float]:
    """Run for so long, and `LEAST_RUNS` times at least, and give each meter's joules per run."""
    before, started, runs = [meter.joules() for meter in meters], time.perf_counter(), 0
    while runs < LEAST_RUNS or time.perf_counter() - started < seconds:
        run()
        runs += 1
    return [(meter.joules() - joules) / runs for meter, joules in zip(meters, before, strict=True)]


def _gpu_meters(library: Any) -> list[Meter]:
    count = ctypes.c_uint()
    if library.nvmlInit_v2() or library.nvmlDeviceGetCount_v2(ctypes.byref(count)):
        raise OSError("NVML does not start")
    return [NvmlMeter(library, index) for index in range(count.value)]
