"""Find out what of isolation the kernel offers, step by step, without a browser: for `cdpbridge doctor`.

Run as a program of its own, since it forks: one thread, nothing to lose. `_steps` says what it prints.
"""

from __future__ import annotations

import os
import sys

from ._enter import become, connect_pages, listen, make_root, start_loopback
from ._kernel import fork_into_namespaces, landlock_version
from ._plan import Means, Mount, Plan
from ._steps import Step, read_steps

__all__ = ["main"]


def main() -> None:
    """Try, and print."""
    uid = int(sys.argv[2]) if sys.argv[2] else None
    steps = _try_in_namespaces(uid, processes=True)
    if any(each.name == "mounts" and each.error and "mount proc" in each.detail for each in steps):
        refused = next(each for each in steps if each.name == "mounts")
        steps = [*_try_in_namespaces(uid, processes=False), refused._replace(name="processes")]
    elif any(each.name == "mounts" and not each.error for each in steps):
        steps.append(Step("processes", 0, ""))
    for each in (*steps, Step("landlock", 0, str(landlock_version()))):
        print(*each)  # noqa: T201  # that is its output


def _try_in_namespaces(uid: int | None, *, processes: bool) -> list[Step]:
    """Fork a child whose own child, in the namespaces, becomes one of this process, and read what that says."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        try:
            os.close(reading)
            if uid is not None:
                os.setgroups([])
                os.setegid(uid)
                os.seteuid(uid)
            user = (os.geteuid(), os.getegid())
            try:
                inside = fork_into_namespaces(processes=processes) == 0
            except OSError as error:
                _tell(writing, Step("namespaces", error.errno or 1, str(error)))
            else:
                if inside:
                    _tell(writing, Step("namespaces", 0, ""))
                    _enter(writing, user, processes=processes)
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading) as answers:  # noqa: PTH123  # a descriptor
        steps = read_steps(answers.read())
    while True:
        try:
            os.wait()
        except ChildProcessError:
            return steps


def _enter(writing: int, user: tuple[int, int], *, processes: bool) -> None:
    def enter() -> None:
        become(*user)
        make_root(_smallest(processes=processes))

    def bring_up() -> None:
        start_loopback()
        listen().close()

    work = (("mounts", enter), ("network", bring_up), ("pages", connect_pages))
    for name, do in work:
        try:
            do()
        except OSError as error:
            _tell(writing, Step(name, error.errno or 1, str(error)))
            if name != "network":
                return
        else:
            _tell(writing, Step(name, 0, ""))


def _smallest(*, processes: bool) -> Plan:
    """Return a place with one mount of each kind that a browser's has."""
    proc = Mount("proc", "/proc") if processes else Mount("bind", "/proc", "/proc", writable=True)
    temporary = Mount("tmpfs", "/tmp", writable=True, options="mode=1777,size=1m")  # noqa: S108  # of the place
    null = Mount("bind", "/dev/null", "/dev/null", folder=False, devices=True)
    device = Mount("tmpfs", "/dev", options="mode=755,size=64k")
    return Plan((proc, temporary, device, null), (), Means(processes=processes))


def _tell(writing: int, step: Step) -> None:
    os.write(writing, f"{step.name} {step.error} {step.detail}\n".encode())
