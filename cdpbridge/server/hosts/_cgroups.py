"""Control groups of browsers (cgroups(7)): the kernel keeps each one to its memory and processes, and shares out the processors.

A process joins with its attendant, before there is a browser, so nothing of it is ever outside. Version 1 has a folder for each
controller. In version 2, a group with processes of its own has no groups with limits below it: so the server moves its processes
into a leaf first, which it does only where no others are in its group.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

__all__ = ["Cgroup", "CgroupPool", "find_cgroups"]

logger = logging.getLogger("cdpbridge.server")

Passed: TypeAlias = Literal["memory", "processes"]

_PREFIX: Final = "cdpb-"
_LEAF: Final = "cdpb-server"
_CONTROLLERS: Final = {"memory": "memory", "pids": "processes", "cpu": "processors"}
_COUNTS: Final = "cpuacct"  # in version 1; in version 2 it is a part of cpu
_PROC: Final = Path("/proc")
# The kernel counts threads; a process of Chromium has 10 to 40.
_THREADS_PER_PROCESS: Final = 64
# Of 1024 and 100, which the server has: its messages go first when pages compute without end. A browser that starts has as much as
# the server, until it has started: else it would have to share with each of those that run.
_STARTING: Final = {1: ("cpu.shares", "1024"), 2: ("cpu.weight", "100")}
_RUNNING: Final = {1: ("cpu.shares", "256"), 2: ("cpu.weight", "25")}
# Such a group gets what is left, and makes no other wait; where the kernel has none (before 5.15), it gets as little.
_IDLE: Final = "cpu.idle"
_BEHIND: Final = {1: ("cpu.shares", "3"), 2: ("cpu.weight", "1")}
# A group without a process may be about to get one.
_LEFT_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Cgroup:
    """The group of one browser.

    Attributes:
        version: Of cgroups.
        folders: By controller; one folder for all of them in version 2.
    """

    version: int
    folders: Mapping[str, Path]

    @property
    def joined_by(self) -> list[Path]:
        """Files by which a process joins: it writes 0."""
        return [each / "cgroup.procs" for each in dict.fromkeys(self.folders.values())]

    def settle(self) -> None:
        """Reduce its share of the processors to that of a browser that runs; it begins with more."""
        self._write(*_RUNNING[self.version])

    def go_behind(self, behind: bool) -> None:
        """Let it have only what others leave of the processors, or as much as browsers have that run. It has been settled."""
        if "cpu" not in self.folders:
            return
        idle = (self.folders["cpu"] / _IDLE).exists()
        if behind:
            self._write(*((_IDLE, "1") if idle else _BEHIND[self.version]))
            return
        if idle:
            self._write(_IDLE, "0")  # and it has the weight of a process
        self._write(*_RUNNING[self.version])

    def _write(self, file: str, value: str) -> None:
        with suppress(FileNotFoundError):  # it has ended
            if "cpu" in self.folders:
                (self.folders["cpu"] / file).write_text(value)

    def used(self) -> float | None:
        """Return the processor time of its processes until now, seconds; None where the kernel does not count it, or it has ended."""
        try:
            if self.version == 2:
                return _counter(self.folders["cpu"] / "cpu.stat", "usage_usec") / 1e6
            return int((self.folders[_COUNTS] / "cpuacct.usage").read_text()) / 1e9
        except (KeyError, OSError, ValueError):
            return None

    def passed(self) -> Passed | None:
        """Return which limit the kernel has enforced; None for none. Blocks for a moment."""
        events = {1: "memory.oom_control", 2: "memory.events"}[self.version]
        if "memory" in self.folders and _counter(self.folders["memory"] / events, "oom_kill"):
            return "memory"
        if "pids" in self.folders and _counter(self.folders["pids"] / "pids.events", "max"):
            return "processes"
        return None

    def remove(self) -> None:
        """Remove it, once its processes have ended."""
        for folder in dict.fromkeys(self.folders.values()):
            try:
                folder.rmdir()
            except FileNotFoundError:
                pass
            except OSError as error:
                logger.warning("control group %s cannot be removed: %s", folder, error)


@dataclass(frozen=True, slots=True)
class CgroupPool:
    """Where groups of browsers can be made.

    Attributes:
        parents: By controller.
    """

    version: int
    parents: Mapping[str, Path]

    def __str__(self) -> str:
        kept = ", ".join(words for name, words in _CONTROLLERS.items() if name in self.parents)
        return f"{kept} by cgroup v{self.version}"

    def make(self, name: str, *, memory: int | None, processes: int | None, first: bool = True) -> Cgroup:
        """Make the group of one browser.

        Args:
            memory: Bytes; None for no limit.
            processes: None for no limit.
            first: Its start goes before browsers that run.

        Raises:
            OSError: From the kernel; nothing is left.
        """
        folders = {controller: parent / f"{_PREFIX}{name}" for controller, parent in self.parents.items()}
        group = Cgroup(self.version, folders)
        try:
            for folder in dict.fromkeys(folders.values()):
                folder.mkdir()
            for controller, file, value in _settings(self.version, memory, processes, first=first):
                if controller in folders:
                    (folders[controller] / file).write_text(value)
            for controller, file, value in _more_settings(self.version, memory):
                with suppress(OSError):  # kernels without swap, or older ones, have none of these files
                    if controller in folders and (path := folders[controller] / file).exists():
                        path.write_text(value)
        except OSError:
            for folder in dict.fromkeys(folders.values()):
                with suppress(OSError):
                    folder.rmdir()
            raise
        return group

    def sweep(self) -> None:
        """Remove the groups of killed servers: those that have been without a process for a while."""
        for parent in dict.fromkeys(self.parents.values()):
            for folder in parent.glob(f"{_PREFIX}*"):
                with suppress(OSError):  # it has processes, or has been removed
                    if folder.name != _LEAF and time.time() - folder.stat().st_ctime > _LEFT_SECONDS:
                        folder.rmdir()


def _settings(
    version: int, memory: int | None, processes: int | None, *, first: bool
) -> Iterable[tuple[str, str, str]]:
    """Yield controller, file and value; the files exist wherever the controller does."""
    if memory is not None:
        yield "memory", "memory.limit_in_bytes" if version == 1 else "memory.max", str(memory)
    if processes is not None:
        yield "pids", "pids.max", str(processes * _THREADS_PER_PROCESS)
    yield ("cpu", *(_STARTING if first else _RUNNING)[version])


def _more_settings(version: int, memory: int | None) -> Iterable[tuple[str, str, str]]:
    if memory is None:
        return
    if version == 1:
        yield "memory", "memory.memsw.limit_in_bytes", str(memory)
    else:
        yield "memory", "memory.swap.max", "0"
        # Half a browser is none.
        yield "memory", "memory.oom.group", "1"


def find_cgroups(*, proc: Path = _PROC, family: Sequence[int] | None = None) -> CgroupPool | str:
    """Find out where groups can be made, by making one; in one line why nowhere. Blocks for a moment.

    Args:
        proc: The kernel's own files.
        family: Processes that may be moved into a leaf; default: this one and its descendants.
    """
    try:
        own = (proc / "self/cgroup").read_text().splitlines()
        mounts = (proc / "self/mountinfo").read_text().splitlines()
    except OSError:
        return "this system has no cgroups"
    paths = {
        name: path for _, names, path in (line.split(":", 2) for line in own) for name in names.split(",")
    }
    reasons: list[str] = []
    for version, parents in ((1, _of_version_1(paths, mounts)), (2, _of_version_2(paths, mounts))):
        if not parents:
            continue
        try:
            if version == 1:
                offered = parents
            else:
                offered = _delegated(parents[""], family if family is not None else _family(proc))
            usable = {name: parent for name, parent in offered.items() if _can_make(parent)}
        except OSError as error:
            reasons.append(f"v{version}: {error.strerror}")
            continue
        if usable:
            return CgroupPool(version, usable)
        reasons.append(
            f"v{version}: no folder can be made in {', '.join(map(str, dict.fromkeys(offered.values())))}"
        )
    return f"no cgroup can be made ({'; '.join(reasons) or 'none is mounted'})"


def _of_version_1(paths: Mapping[str, str], mounts: Iterable[str]) -> dict[str, Path]:
    found = {}
    for line in mounts:
        root, point, kind, options = _mount(line)
        for controller in (*_CONTROLLERS, _COUNTS):
            if kind == "cgroup" and controller in options and controller in paths:
                found[controller] = _below(point, root, paths[controller])
    return {name: path for name, path in found.items() if path is not None}


def _of_version_2(paths: Mapping[str, str], mounts: Iterable[str]) -> dict[str, Path]:
    for line in mounts:
        root, point, kind, _ = _mount(line)
        if kind == "cgroup2" and (path := _below(point, root, paths.get("", "/"))) is not None:
            return {"": path}
    return {}


def _mount(line: str) -> tuple[str, str, str, list[str]]:
    """Return root, mount point, kind and options of the file system of a line of mountinfo (proc_pid_mountinfo(5))."""
    first, _, second = line.partition(" - ")
    _, _, _, root, point, *_ = first.split()
    kind, _, options = second.split()
    return root, point, kind, options.split(",")


def _below(point: str, root: str, path: str) -> Path | None:
    """Return where a group is mounted; None when it lies outside of what is."""
    if ".." in Path(path).parts:
        return None
    try:
        return Path(point) / Path(path).relative_to(root)
    except ValueError:
        return None


def _can_make(parent: Path) -> bool:
    tried = parent / f"{_PREFIX}{os.getpid()}"
    try:
        tried.mkdir()
        tried.rmdir()
    except OSError:
        return False
    return True


def _delegated(own: Path, family: Sequence[int]) -> dict[str, Path]:
    """Return the folder of version 2 in which groups get limits, by controller.

    Raises:
        OSError: It has not been delegated to this process.
    """
    parent = own.parent if own.name == _LEAF else own
    offered = [name for name in (parent / "cgroup.controllers").read_text().split() if name in _CONTROLLERS]
    if not offered:
        raise OSError(0, f"{parent} has no controllers")
    given = (parent / "cgroup.subtree_control").read_text().split()
    if missing := [name for name in offered if name not in given]:
        inside = [int(pid) for pid in (parent / "cgroup.procs").read_text().split()]
        if not set(inside) <= set(family):
            raise OSError(0, f"{parent} has processes of other programs; give the server a group of its own")
        leaf = parent / _LEAF
        leaf.mkdir(exist_ok=True)
        for pid in inside:
            with suppress(ProcessLookupError):
                (leaf / "cgroup.procs").write_text(str(pid))
        (parent / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in missing))
    return dict.fromkeys(offered, parent)


def _family(proc: Path) -> list[int]:
    """Return this process and its descendants."""
    children: dict[int, list[int]] = {}
    for entry in proc.iterdir():
        if entry.name.isdecimal():
            with suppress(OSError, IndexError, ValueError):  # it has ended
                fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
                children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [os.getpid()]
    for pid in found:
        found += children.get(pid, ())
    return found


def _counter(file: Path, name: str) -> int:
    try:
        lines = file.read_text().splitlines()
    except OSError:  # the group has been removed
        return 0
    return next((int(line.split()[1]) for line in lines if line.split()[0] == name), 0)
