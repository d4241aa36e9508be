"""How many CPU threads are worth starting: physical cores that this process may use, within its container's quota.

Matrix products gain little from a second thread on a core, and threads beyond a quota are throttled in bursts.
"""

from __future__ import annotations

import math
import os
from collections.abc import Collection
from pathlib import Path


def default_threads() -> int:
    """Physical cores in the process's CPU affinity, at most the cgroup's CPU quota (rounded down), at least 1."""
    cpus = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    cores = physical_cores(cpus)
    quota = cpu_quota()
    return max(1, cores if quota is None else min(cores, math.floor(quota)))


def physical_cores(cpus: Collection[int], sysfs: Path = Path("/sys/devices/system/cpu")) -> int:
    """Count the distinct physical cores behind logical CPUs; a CPU that the system does not describe counts as one.

    Args:
        cpus: logical CPU numbers.
        sysfs: where Linux describes them.
    """
    cores = set()
    for cpu in cpus:
        try:
            cores.add((sysfs / f"cpu{cpu}" / "topology" / "thread_siblings_list").read_text().strip() or str(cpu))
        except OSError:
            cores.add(str(cpu))
    return len(cores)


def cpu_quota(cgroups: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> float | None:
    """CPUs' worth of time that the process's control group (version 1 or 2) and those above it grant.

    Args:
        cgroups: where the control groups are mounted.
        membership: the file that says which one the process is in.

    Returns:
        The least quota on the way to the root, in CPUs, or None where none is set.
    """
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return None
    quotas = []
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            root, read = cgroups, _quota_v2
        elif "cpu" in controllers.split(","):
            root, read = cgroups / "cpu", _quota_v1
        else:
            continue
        folder = root / group.lstrip("/")
        for level in (folder, *folder.parents):
            quotas.append(read(level))
            if level == root:
                break
    return min((quota for quota in quotas if quota is not None), default=None)


def _quota_v2(group: Path) -> float | None:
    try:
        limit, period = (group / "cpu.max").read_text().split()
        return None if limit == "max" else int(limit) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _quota_v1(group: Path) -> float | None:
    try:
        limit = int((group / "cpu.cfs_quota_us").read_text())
        return limit / int((group / "cpu.cfs_period_us").read_text()) if limit > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None
