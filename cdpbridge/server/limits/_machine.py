"""Load, memory and disk of the machine, within the container's limits, and whether they allow new browsers."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["Machine", "read_machine", "strain"]

_MEMINFO: Final = Path("/proc/meminfo")
_CGROUP: Final = Path("/sys/fs/cgroup")
_V1_UNLIMITED: Final = 1 << 60  # version 1 writes a limit near 2**63 for none
_KIB: Final = 1024


@dataclass(frozen=True, slots=True)
class Machine:
    """Free resources of a machine.

    Attributes:
        cpus: Processors this process may use; fractions come from a container's quota.
        load: Mean number of runnable threads over the last minute, of the whole machine.
        memory_total: Bytes, the container's limit where there is one.
        memory_available: Bytes that programs can still take without swapping.
        disk_free: Bytes, where the data folder is.
    """

    cpus: float
    load: float
    memory_total: int
    memory_available: int
    disk_free: int

    @property
    def load_per_cpu(self) -> float:
        """Above 1, threads wait for a processor."""
        return self.load / self.cpus


def strain(machine: Machine, *, max_load: float, min_memory: int, min_disk: int) -> tuple[str, str] | None:
    """Return why a machine should start no further browser: a word for programs and a text for people; None when it may.

    Args:
        machine: As read.
        max_load: Threads per processor.
        min_memory: Bytes to be left.
        min_disk: Bytes to be left.
    """
    if machine.memory_available < min_memory:
        return (
            "memory",
            f"{machine.memory_available >> 20} MiB of memory are left, {min_memory >> 20} are kept",
        )
    if machine.disk_free < min_disk:
        return "disk", f"{machine.disk_free >> 20} MiB of disk are left, {min_disk >> 20} are kept"
    if machine.load_per_cpu > max_load:
        return (
            "cpu",
            f"the load is {machine.load_per_cpu:.1f} threads per processor, at most {max_load:g} are allowed",
        )
    return None


def read_machine(*folders: Path, cgroup: Path = _CGROUP) -> Machine:
    """Return the machine as it is now. Reads some files of the kernel's, and asks for the free space of `folders`, the least counts.

    Args:
        folders: Where browsers and the server write. One that does not exist yet does not count.
        cgroup: Where the kernel tells of the container's limits.
    """
    total, available = _memory(cgroup)
    return Machine(
        cpus=_cpus(cgroup),
        load=os.getloadavg()[0],
        memory_total=total,
        memory_available=available,
        disk_free=min(shutil.disk_usage(each).free for each in folders if each.exists()),
    )


def _memory(cgroup: Path) -> tuple[int, int]:
    """Linux: proc(5), section /proc/meminfo; cgroups: the kernel's admin-guide, "Memory Interface Files".

    macOS does not tell how much can be used without swapping; all of it counts as available there.
    """
    if not _MEMINFO.exists():
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return total, total
    host: dict[str, int] = {}
    for line in _MEMINFO.read_text().splitlines():
        name, _, rest = line.partition(":")
        if name in {"MemTotal", "MemAvailable"}:
            host[name] = int(rest.split()[0]) * _KIB
    total, available = host["MemTotal"], host["MemAvailable"]
    for limit, usage, stat in (
        ("memory.max", "memory.current", "memory.stat"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
    ):
        with suppress(OSError, ValueError):  # not this version, or "max"
            most = int((cgroup / limit).read_text())
            if most < min(total, _V1_UNLIMITED):  # else the rest, which the kernel adds up, is of no account
                used = int((cgroup / usage).read_text()) - _reclaimable(cgroup / stat)
                return most, max(min(most - used, available), 0)
    return total, available


def _reclaimable(stat: Path) -> int:
    """Bytes of file cache that the kernel gives back before it kills."""
    values = dict(line.split() for line in stat.read_text().splitlines())
    return int(values.get("total_inactive_file", values.get("inactive_file", 0)))


def _cpus(cgroup: Path) -> float:
    # macOS binds no process to processors
    usable = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    with suppress(OSError, ValueError):
        quota, period = (cgroup / "cpu.max").read_text().split()
        return min(usable, int(quota) / int(period))
    with suppress(OSError, ValueError):
        quota_us = int((cgroup / "cpu/cpu.cfs_quota_us").read_text())
        period_us = int((cgroup / "cpu/cpu.cfs_period_us").read_text())
        if quota_us > 0:
            return min(usable, quota_us / period_us)
    return usable
