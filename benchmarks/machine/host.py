"""The machine that figures were measured on: what it is, what runs on it, and how busy it was with other things."""

import datetime
import os
import platform
import shlex
import statistics
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from dtfsal.benchmarks.machine.hardware import fingerprint, hardware

BUSY_CORES = 0.1  # other processes' share above which figures are not to be trusted


class OtherCores:
    """How many cores other processes use, from the making of this to the asking.

    Args:
        ours: processes that do this one's work, which are no others; they must live until the asking.
    """

    def __init__(self, ours: Sequence[int] = ()) -> None:
        self._ours = ours
        self._since, self._busy = time.perf_counter(), other_busy_seconds(ours=ours)

    def mean(self) -> float | None:
        """Cores, as a mean over the time since; None where the system does not say."""
        now = other_busy_seconds(ours=self._ours)
        if now is None or self._busy is None:
            return None
        return max(0.0, now - self._busy) / (time.perf_counter() - self._since)


def mean_other_cores(found: Iterable[float | None]) -> float | None:
    """The mean of what `OtherCores` said in several runs; None where the system did not say."""
    known = [cores for cores in found if cores is not None]
    return statistics.mean(known) if known else None


def other_busy_seconds(stat: Path = Path("/proc/stat"), ours: Sequence[int] = ()) -> float | None:
    """CPU seconds since the start that went to anything but this process, over all cores; None outside Linux.

    Args:
        stat: where Linux tells them; processes are described beside it.
        ours: other processes whose seconds do not count either.
    """
    try:
        user, nice, system, _idle, _iowait, *rest = map(int, stat.read_text().split(maxsplit=9)[1:9])
        own = sum(_busy_ticks(stat.with_name(str(process)) / "stat") for process in ours)
    except (OSError, ValueError):
        return None
    return (user + nice + system + sum(rest) - own) / os.sysconf("SC_CLK_TCK") - time.process_time()


def machine(packages: Sequence[str]) -> dict[str, Any]:
    """What the figures were measured on and with."""
    versions: dict[str, str | None] = {}
    for package in packages:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    facts = hardware()
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "cpu": facts["cpu"],
        "cores": len(os.sched_getaffinity(0)),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": versions,
        "commit": _commit(),
        "hardware": facts,
        "fingerprint": fingerprint(facts),
    }


def software(host: dict[str, Any], other_cores: float | None) -> str:
    """What `machine` says of a system, its packages and the date, and what other processes used, as a line's end."""
    versions = ", ".join(f"{name} {number}" for name, number in host["versions"].items() if number)
    meanwhile = "" if other_cores is None else f"other processes used {other_cores:.2f} cores meanwhile; "
    return f"{meanwhile}{host['system']}, Python {host['python']}, {versions}; {host['date']}"


def measured_on(report: Mapping[str, Any], beside: str = "") -> str:
    """The end of a report's text: its machine, `software`, and the command.

    Args:
        report: with `machine` and `command`, and `other_cores` where it was measured.
        beside: more about the processor.
    """
    host = report["machine"]
    meanwhile = software(host, report.get("other_cores"))
    return f"{host['cpu']}, {host['cores']} cores{beside}; {meanwhile}. `{shlex.join(report['command'])}`"


def _busy_ticks(stat: Path) -> int:
    """User and system time of a process, its threads' too: fields 14 and 15, counted behind the name in brackets."""
    fields = stat.read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def _commit() -> str | None:
    """The commit, `-dirty` behind it where tracked files differ."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
