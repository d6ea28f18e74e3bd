"""How the machine is doing, and what that means."""

import os

from cdpbridge.server.limits import Machine, read_machine, strain
from tests.cases import cases

MIB = 1 << 20
LIMITS = {"max_load": 4, "min_memory": 256 * MIB, "min_disk": 512 * MIB}


def machine(*, cpus=2.0, load=1.0, memory=1024 * MIB, disk=1024 * MIB):
    return Machine(cpus, load, 2048 * MIB, memory, disk)


@cases(
    ("reading", "reason"),
    [
        (machine(), None),
        (machine(load=8), None),
        (machine(load=8.1), "cpu"),
        (machine(cpus=0.5, load=2.1), "cpu"),
        (machine(memory=256 * MIB), None),
        (machine(memory=256 * MIB - 1), "memory"),
        (machine(disk=512 * MIB - 1), "disk"),
        (machine(memory=0, disk=0, load=100), "memory"),  # what kills comes first
    ],
)
def test_strain(reading, reason):
    problem = strain(reading, **LIMITS)
    assert (problem and problem[0]) == reason


def test_strain_says_how_much_is_missing():
    assert strain(machine(memory=100 * MIB), **LIMITS) == (
        "memory",
        "100 MiB of memory are left, 256 are kept",
    )


def test_this_machine(tmp_path):
    found = read_machine(tmp_path)
    assert 0 < found.memory_available <= found.memory_total
    assert found.cpus > 0
    assert found.disk_free > 0


def test_the_limits_of_a_container(tmp_path):
    (tmp_path / "memory.max").write_text(f"{512 * MIB}\n")
    (tmp_path / "memory.current").write_text(f"{400 * MIB}\n")
    (tmp_path / "memory.stat").write_text(f"anon 1\ninactive_file {100 * MIB}\n")
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    found = read_machine(tmp_path, cgroup=tmp_path)
    assert (found.memory_total, found.memory_available, found.cpus) == (512 * MIB, 212 * MIB, 0.5)


def test_the_limits_of_an_older_container(tmp_path):
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory/memory.limit_in_bytes").write_text(f"{512 * MIB}\n")
    (tmp_path / "memory/memory.usage_in_bytes").write_text(f"{600 * MIB}\n")
    (tmp_path / "memory/memory.stat").write_text("total_inactive_file 0\n")
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("150000\n")
    (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000\n")
    found = read_machine(tmp_path, cgroup=tmp_path)
    assert (found.memory_total, found.memory_available) == (512 * MIB, 0)
    assert found.cpus == min(
        1.5, len(os.sched_getaffinity(0))
    )  # a quota gives no processor that is not there


def test_a_container_without_limits(tmp_path):
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("1\n")
    (tmp_path / "memory.stat").write_text("inactive_file 0\n")
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert read_machine(tmp_path, cgroup=tmp_path).memory_total == read_machine(tmp_path).memory_total
