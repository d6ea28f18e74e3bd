"""The attendant: process 1 of a place. It executes the browser, hands out sockets, reaps, and says how the browser ended.

It has the browser's uid, no capabilities, and cannot be traced. It holds none of the browser's pipes: only the server does,
so a server that is killed lets the browser leave by itself and write its cookies. What is still there 5 s later, or 2 s
after the browser has ended, is killed by the kernel when the attendant ends: it is process 1 of their namespace.

Nothing is imported after the user has changed, not even a codec: Python's own files may be closed to that user.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, NoReturn

from ._enter import become, connect_pages, listen, make_root, start_loopback, switch_user
from ._kernel import drop_capabilities, set_dumpable, set_name, set_no_new_privs, set_subreaper
from ._landlock import restrict
from ._protocol import ASK_SOCKET, MAX_BYTES, Descriptors, Launch, Report

__all__ = ["attend"]

# After an orderly exit the network process still writes what it has received; measured: under 0.2 s.
_LAST_WRITES_SECONDS: Final = 2.0
_OWNER_ENDED_SECONDS: Final = 5.0
# Above those that the browser gets, so that putting one in place never overwrites another.
_LOWEST_FD: Final = 10


def attend(launch: Launch, user: tuple[int, int], given: Descriptors, *, groups: Sequence[int]) -> NoReturn:
    """Run a browser from its first to its last process, as uid and gid of `user`; never returns.

    Args:
        groups: Files of control groups, to be joined.
    """
    server = socket.socket(fileno=given.attendant)
    status = 1
    step = ["session"]
    try:
        server.send(Report("entered").encode())
        missing = _join(groups)
        main = _start(launch, user, given, server, step, missing=missing)
        for each in given[:3]:
            os.close(each)
        status = _Tending(main, server).run()
    except Exception as error:  # noqa: BLE001  # whatever it is, the server has to know
        number = (error.errno or 0) if isinstance(error, OSError) else 0
        with suppress(OSError):
            report = Report("failed", error=number, step=step[0], detail=str(error) or repr(error))
            server.send(report.encode())
    finally:
        if not launch.plan.means.processes:
            with suppress(OSError):  # /proc is not there yet, and so is no browser
                _kill_left()
        # With its threads, atexit functions and buffers of the zygote left alone.
        os._exit(status if 0 <= status < 128 else 128 + abs(status) % 128)


def _join(groups: Sequence[int]) -> list[str]:
    """Join control groups; return why not, for each that does not let us: kernels before 5.16 ask for the rights of who joins."""
    missing = []
    for each in groups:
        try:
            os.write(each, b"0")
        except OSError as error:
            missing.append(f"a control group cannot be joined: {error}")
        os.close(each)
    return missing


def _start(
    launch: Launch,
    user: tuple[int, int],
    given: Descriptors,
    server: socket.socket,
    step: list[str],
    *,
    missing: list[str],
) -> int:
    """Enter the place and execute the browser; `step` says what is being done, and `missing` what it has to do without."""
    plan = launch.plan

    def tell(what: str, work: Callable[[], None]) -> None:
        step[0] = what
        work()

    os.setsid()
    if not launch.enter_as_root:
        tell("user", lambda: become(*user))
    set_name("cdpb-attendant")
    tell("mounts", lambda: make_root(plan))
    tell("network", start_loopback)
    step[0] = "network"
    listeners = [listen(address, port) for address, port in launch.listeners]
    try:
        if launch.pages:
            connect_pages()
    except OSError as error:
        missing.append(f"pages have no WebRTC: {error}")
    if launch.enter_as_root:
        tell("user", lambda: switch_user(*user))
    if not plan.means.processes:
        set_subreaper()
    tell("capabilities", drop_capabilities)
    set_no_new_privs()
    set_dumpable(allowed=False)
    step[0] = "execute"
    main = _execute(launch, given)
    socket.send_fds(
        server, [Report("started", detail="; ".join(missing)).encode()], [each.fileno() for each in listeners]
    )
    for each in listeners:
        each.close()
    return main


def _execute(launch: Launch, given: Descriptors) -> int:
    """Fork the browser and wait until it has been executed.

    Raises:
        OSError: It cannot be; with the kernel's reason.
    """
    failures, low = os.pipe()
    tell = _moved_up(low)
    os.close(low)
    pid = os.fork()
    if pid == 0:
        try:
            _exec(launch, given)
        except OSError as error:
            os.write(tell, f"{error.errno or 0} {error}".encode())
        finally:
            os._exit(127)
    os.close(tell)
    with open(failures, "rb") as failure:  # noqa: PTH123  # a descriptor
        text = failure.read().decode()
    if text:
        os.waitpid(pid, 0)
        number, _, words = text.partition(" ")
        raise OSError(int(number), words)
    return pid


def _exec(launch: Launch, given: Descriptors) -> NoReturn:
    high = [_moved_up(fd) for fd in given[:3]]
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    os.dup2(null, 0)
    os.dup2(null, 1)
    for number, fd in zip(launch.numbers, high, strict=True):
        os.dup2(fd, number)
    if launch.plan.means.landlock:
        restrict(launch.plan)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores these two
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.execve(launch.arguments[0], list(launch.arguments), dict(launch.environment))  # noqa: S606  # what this is for


def _moved_up(descriptor: int) -> int:
    return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _LOWEST_FD)


class _Tending:
    """The life of a place after its browser has been executed."""

    def __init__(self, main: int, server: socket.socket) -> None:
        self._main = main
        self._server = server
        self._status: int | None = None
        self._deadline: float | None = None
        self._ended, wake = os.pipe()
        for fd in (self._ended, wake):
            os.set_blocking(fd, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        self._poll = select.poll()
        self._poll.register(self._ended, select.POLLIN)
        self._poll.register(server, select.POLLIN)

    def run(self) -> int:
        """Attend until no process is left, or time is up; return the browser's status, -9 if it had to be killed."""
        while self._reap():
            left = None if self._deadline is None else self._deadline - time.monotonic()
            if left is not None and left <= 0:
                break
            events = dict(self._poll.poll(None if left is None else left * 1000 + 1))
            if self._ended in events:
                os.read(self._ended, 4096)
            if self._server.fileno() in events:
                self._answer()
        return -signal.SIGKILL if self._status is None else self._status

    def _reap(self) -> bool:
        """Reap what has ended; False when no process is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self._main:
                self._status = os.waitstatus_to_exitcode(status)
                self._wait_at_most(_LAST_WRITES_SECONDS)
                with suppress(OSError):  # the server has ended
                    self._server.send(Report("exited", status=self._status).encode())

    def _wait_at_most(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        self._deadline = end if self._deadline is None else min(end, self._deadline)

    def _answer(self) -> None:
        try:
            message = self._server.recv(MAX_BYTES)
        except OSError:
            message = b""
        if message == ASK_SOCKET:
            with suppress(OSError), socket.socket() as made:  # it has ended meanwhile
                socket.send_fds(self._server, [Report("socket").encode()], [made.fileno()])
        elif not message:
            self._poll.unregister(self._server)
            self._wait_at_most(_OWNER_ENDED_SECONDS)


def _kill_left() -> None:
    """Kill what is left where no process namespace does it: orphans are children of this process."""
    while True:
        with open(f"/proc/self/task/{os.getpid()}/children", "rb") as file:  # noqa: PTH123  # pathlib is not loaded here
            children = [int(pid) for pid in file.read().split()]
        if not children:
            return
        for pid in children:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in children:
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)
