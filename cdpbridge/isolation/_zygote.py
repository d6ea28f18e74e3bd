"""The zygote: a small process with one thread, from which the attendant of every place is forked.

It starts with nothing of the server's memory, environment or descriptors, and each fork becomes a child of the *server*
(`CLONE_PARENT`), so that the server waits for it as for its own even when the zygote is killed. It ends with the server's
end of its socket.
"""

from __future__ import annotations

import gc
import os
import socket
from contextlib import suppress

from ._enter import map_users
from ._kernel import fork_into_namespaces, set_name
from ._protocol import CHANNEL, MAX_BYTES, MAX_GROUPS, Descriptors, Launch, Report
from ._tend import attend

__all__ = ["main"]

_OWN = len(Descriptors._fields)


def main() -> None:
    """Fork a place for each message, until the server closes its end."""
    os.chdir("/")
    os.umask(0o022)
    if os.geteuid() == 0:
        os.setgroups([])
    set_name("cdpb-zygote")
    channel = socket.socket(fileno=CHANNEL)
    channel.set_inheritable(False)
    gc.collect()
    gc.freeze()  # the forks share these pages
    while True:
        message, descriptors, _, _ = socket.recv_fds(
            channel, MAX_BYTES, _OWN + MAX_GROUPS, socket.MSG_CMSG_CLOEXEC
        )
        if not message:
            return
        try:
            launch, given = Launch.decode(message), Descriptors(*descriptors[:_OWN])
            # Before the fork: afterwards they are not known in the new user namespace.
            user = (
                (os.geteuid(), os.getegid()) if launch.uid is None else (launch.uid, launch.gid or launch.uid)
            )
            pid = _fork(launch, user, given.attendant)
            if pid == 0:
                channel.close()
                attend(launch, user, given, groups=descriptors[_OWN:])
            if pid > 0:
                _tell_forked(given.attendant, pid)
        finally:
            for each in descriptors:
                os.close(each)


def _tell_forked(attendant: int, pid: int) -> None:
    # The server waits no more, and its end is closed.
    with suppress(OSError):
        os.write(attendant, Report("forked", status=pid).encode())


def _fork(launch: Launch, user: tuple[int, int], attendant: int) -> int:
    """Fork into the namespaces of a place; return as `os.fork` does, -1 for a failure, which has been reported."""
    processes = launch.plan.means.processes
    try:
        if launch.uid is None:
            return fork_into_namespaces(processes=processes)
        if launch.enter_as_root:
            return _fork_as_root(*user, attendant, processes=processes)
        return _fork_as(*user, processes=processes)
    except OSError as error:
        report = Report("failed", error=error.errno or 0, step="namespaces", detail=str(error))
        os.write(attendant, report.encode())
        return -1


def _fork_as(uid: int, gid: int, *, processes: bool) -> int:
    """Fork as the browser's user, so that the new user namespace belongs to that and not to root.

    The real and saved ids stay root's: that user cannot signal or trace this process, and it comes back.
    """
    os.setegid(gid)
    os.seteuid(uid)
    try:
        pid = fork_into_namespaces(processes=processes)
    except OSError:
        _come_back()
        raise
    if pid != 0:
        _come_back()
    return pid


def _fork_as_root(uid: int, gid: int, attendant: int, *, processes: bool) -> int:
    """Fork as root, into a user namespace in which root and that user exist; the child waits until they do."""
    waiting, ready = os.pipe()
    try:
        pid = fork_into_namespaces(processes=processes)
        if pid == 0:
            os.close(ready)
            ready = -1
            if not os.read(waiting, 1):  # it has failed, and says so
                os._exit(1)
            return 0
        try:
            map_users(pid, uid, gid)
        except OSError:
            _tell_forked(attendant, pid)  # the server reaps it
            raise
        os.write(ready, b"1")
        return pid
    finally:
        for each in (waiting, ready):
            if each >= 0:
                os.close(each)


def _come_back() -> None:
    os.seteuid(0)
    os.setegid(0)
