"""A machine's facts from made files, its fingerprint, and its energy meters' arithmetic."""

import itertools

import pytest

from dtfsal.benchmarks.machine import energy
from dtfsal.benchmarks.machine.energy import NvmlMeter, RaplMeter, find_meters, joules_per_run
from dtfsal.benchmarks.machine.hardware import (
    caches,
    fingerprint,
    flags_of,
    frequency,
    hardware,
    memory_gib,
    processor_facts,
)
from dtfsal.benchmarks.machine.host import machine

CPUINFO = """\
processor\t: 0
model name\t: Some CPU @ 2.0GHz
flags\t\t: fpu fma avx2 avx512f amx_tile nothing

processor\t: 1
model name\t: Another
"""


def test_facts_of_made_files(tmp_path):
    (tmp_path / "cpuinfo").write_text(CPUINFO)
    (tmp_path / "meminfo").write_text("MemTotal:       24684092 kB\nMemFree: 1 kB\n")
    facts = processor_facts(tmp_path / "cpuinfo")
    assert facts["model name"] == "Some CPU @ 2.0GHz"
    assert flags_of(facts) == ["avx2", "fma", "avx512f", "amx_tile"]
    assert flags_of({"Features": "asimd sve fp"}) == ["asimd", "sve"]  # Arm's word
    assert memory_gib(tmp_path / "meminfo") == 24  # 23.54
    for index, level, kind, size in ((0, 1, "Data", "32K"), (1, 1, "Instruction", "64K"), (2, 3, "Unified", "16M")):
        folder = tmp_path / "cache" / f"index{index}"
        folder.mkdir(parents=True)
        for name, text in (("level", level), ("type", kind), ("size", size)):
            (folder / name).write_text(f"{text}\n")
    assert caches(tmp_path / "cache") == {"L1d": "32K", "L1i": "64K", "L3": "16M"}
    (tmp_path / "scaling_governor").write_text("performance\n")
    (tmp_path / "cpuinfo_max_freq").write_text("3600000\n")
    assert frequency(tmp_path) == {"governor": "performance", "max_frequency_mhz": 3600}


def test_a_system_that_tells_nothing(tmp_path):
    facts = hardware(tmp_path / "none", tmp_path / "none")
    assert facts["cpu"]
    assert (facts["flags"], facts["memory_gib"]) == ([], None)
    assert caches(tmp_path) == {}
    assert frequency(tmp_path) == {"governor": None, "max_frequency_mhz": None}


def test_a_fingerprint_is_of_facts_and_of_nothing_else():
    facts = {"cpu": "C", "flags": ["fma"], "memory_gib": 24}
    # printf '{"cpu": "C", "flags": ["fma"], "memory_gib": 24}' | sha256sum
    assert fingerprint(facts) == fingerprint(dict(reversed(facts.items()))) == "d88dc7fdb49a"
    assert fingerprint({**facts, "flags": []}) != fingerprint(facts)


def test_the_machine_has_one_fingerprint():
    first, second = machine(["numpy"]), machine(["no-such-package"])
    assert first["fingerprint"] == second["fingerprint"] == fingerprint(first["hardware"])
    assert second["versions"] == {"no-such-package": None}


def made_zone(folder, name, microjoules, most=10_000_000):
    folder.mkdir(parents=True)
    for file, text in (("name", name), ("energy_uj", microjoules), ("max_energy_range_uj", most)):
        (folder / file).write_text(f"{text}\n")
    return folder


def test_a_counter_that_begins_anew(tmp_path):
    zone = made_zone(tmp_path / "intel-rapl:0", "package-0", 9_000_000)
    meter = RaplMeter(zone)
    readings = []
    for count in (9_500_000, 499_999, 1_499_999):  # 0.5 J, then over the range's end 1 J, then 1 J
        (zone / "energy_uj").write_text(str(count))
        readings.append(meter.joules())
    assert readings == pytest.approx([0.5, 1.5, 2.5])
    assert meter.name == "RAPL package-0"


def test_meters_are_found_and_those_that_are_not_are_explained(tmp_path):
    made_zone(tmp_path / "intel-rapl:0", "package-0", 1)
    made_zone(tmp_path / "intel-rapl:0:0", "core", 1)  # a part of it
    (tmp_path / "intel-rapl:1").mkdir()
    meters, reasons = find_meters(tmp_path, "no-such-library.so")
    assert [meter.name for meter in meters] == ["RAPL package-0"]
    assert reasons == ["intel-rapl:1 cannot be read (FileNotFoundError)", "there is no NVML, or it reports no energy"]
    meters, reasons = find_meters(tmp_path / "none", "no-such-library.so")
    assert meters == []
    assert reasons[0] == "the system has no RAPL"


class MadeNvml:
    """Two GPUs, the second of which reports no energy."""

    def __init__(self):
        self.millijoules = itertools.count(7000, 500)

    def nvmlInit_v2(self):  # noqa: N802
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index, handle):  # noqa: N802
        handle._obj.value = index + 1
        return 0

    def nvmlDeviceGetTotalEnergyConsumption(self, handle, millijoules):  # noqa: N802
        millijoules._obj.value = next(self.millijoules)
        return 0 if handle.value == 1 else 3


def test_a_gpu_tells_millijoules():
    meter = NvmlMeter(MadeNvml(), 0)
    assert meter.joules() == 7.5  # 7.0 was read when it was made
    with pytest.raises(OSError, match="reports no energy"):
        NvmlMeter(MadeNvml(), 1)


def test_joules_of_a_run_by_hand(monkeypatch):
    runs = []
    monkeypatch.setattr(energy.time, "perf_counter", lambda: 0.5 * len(runs))  # a run takes half a second

    class Meter:
        name = "made"

        def joules(self):
            return 100 + 3 * len(runs)

    assert joules_per_run(lambda: runs.append(1), [Meter()], seconds=2.0) == [3]
    assert len(runs) == 4
    runs.clear()
    assert joules_per_run(lambda: runs.append(1), [Meter()], seconds=0) == [3]
    assert len(runs) == 3  # the least
