import os

import pytest

from dtfsal.engines.cpu.threads import cpu_quota, default_threads, physical_cores


def describe_cpus(folder, siblings):
    for cpu, group in siblings.items():
        (folder / f"cpu{cpu}" / "topology").mkdir(parents=True)
        (folder / f"cpu{cpu}" / "topology" / "thread_siblings_list").write_text(group + "\n")


def test_hyperthreads_count_once(tmp_path):
    describe_cpus(tmp_path, {0: "0,4", 1: "1,5", 2: "2,6", 3: "3,7", 4: "0,4", 5: "1,5", 6: "2,6", 7: "3,7"})
    assert physical_cores(range(8), tmp_path) == 4
    assert physical_cores({0, 4}, tmp_path) == 1  # the affinity leaves one core's two threads
    assert physical_cores({0, 1, 5}, tmp_path) == 2


def test_cpus_that_the_system_says_nothing_about_count_as_cores(tmp_path):
    assert physical_cores(range(3), tmp_path) == 3


@pytest.mark.parametrize(
    ("files", "membership", "quota"),
    [
        ({}, "0::/\n", None),
        ({"cpu.max": "max 100000\n"}, "0::/\n", None),
        ({"cpu.max": "150000 100000\n"}, "0::/\n", 1.5),
        ({"a/cpu.max": "400000 100000", "a/b/cpu.max": "max 100000"}, "0::/a/b\n", 4.0),  # a parent's limit holds
        ({"a/cpu.max": "200000 100000", "a/b/cpu.max": "400000 100000"}, "0::/a/b\n", 2.0),
        ({"cpu.max": "nonsense"}, "0::/\n", None),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, "4:cpu,cpuacct:/\n", None),
        ({"cpu/x/cpu.cfs_quota_us": "50000", "cpu/x/cpu.cfs_period_us": "100000"}, "5:cpuset:/\n4:cpu:/x\n", 0.5),
    ],
)
def test_quota_of_control_groups(tmp_path, files, membership, quota):
    root = tmp_path / "cgroup"
    root.mkdir()
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    (tmp_path / "membership").write_text(membership)
    assert cpu_quota(root, tmp_path / "membership") == quota


def test_no_control_groups(tmp_path):
    assert cpu_quota(tmp_path, tmp_path / "absent") is None


def test_default_lies_within_the_affinity():
    assert 1 <= default_threads() <= len(os.sched_getaffinity(0))


@pytest.mark.parametrize(("quota", "threads"), [(0.5, 1), (1.9, 1), (3.0, 3), (64.0, 4), (None, 4)])
def test_quota_bounds_the_default(monkeypatch, quota, threads):
    monkeypatch.setattr("dtfsal.engines.cpu.threads.physical_cores", lambda _: 4)
    monkeypatch.setattr("dtfsal.engines.cpu.threads.cpu_quota", lambda: quota)
    assert default_threads() == threads
