"""The server's side of isolated browsers: the zygote they are forked from, and the attendant of each."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import struct
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from cdpbridge._concurrency import in_thread
from cdpbridge.errors import BrowserStartFailed
from cdpbridge.isolation import (
    ASK_SOCKET,
    CHANNEL,
    MAX_BYTES,
    Descriptors,
    Launch,
    Report,
    explain,
    zygote_command,
)

from ._spawn import inheritable, open_pipes

__all__ = ["Attendant", "Launched", "Launcher"]

logger = logging.getLogger("cdpbridge.chromium")

# Entering a place takes 10 ms; this is for a machine that does nothing else for a while.
_ENTER_SECONDS: Final = 20.0
_LOWEST_FD: Final = 10
_CREDENTIALS: Final = struct.Struct("=3i")  # pid, uid, gid


class Launched(NamedTuple):
    """An isolated program that has been executed. What is in here belongs to the caller.

    Attributes:
        pid: Of its attendant, a child of this process; also the process group of both.
        attendant: Hands out sockets, and tells how the program ended.
        listeners: The sockets, listening inside, that were asked for: of a browser the one on which its proxy accepts.
        stderr: As in `Spawned`.
        from_child: As in `Spawned`.
        to_child: As in `Spawned`.
    """

    pid: int
    attendant: Attendant
    listeners: list[socket.socket]
    stderr: int
    from_child: int
    to_child: int


class _ZygoteKilled(BrowserStartFailed):
    """It has taken an order, and was killed before its child for that said a word; or that child was."""


class Launcher:
    """Starts isolated browsers: forks of a zygote, which is started with the first one, or by `prepare`, and ends with `close`.

    Each browser is a child of this process and lives on when the zygote is killed; the next one gets a new zygote.
    """

    def __init__(self) -> None:
        self._channel: socket.socket | None = None
        self._pid = 0
        self._starting = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<Launcher zygote {self._pid or None}>"

    async def prepare(self) -> None:
        """Start the zygote, which takes as long as a small Python does, while other things are done. Not waited for.

        Raises:
            OSError: It cannot be started.
        """
        await self._zygote()

    async def launch(self, order: Launch, *, lock: int, groups: Sequence[Path] = ()) -> Launched:
        """Execute a program in a place of its own. Failed, it leaves nothing behind. Not to be cancelled: see `to_the_end`.

        Args:
            lock: A descriptor that the place keeps open until its last process has ended.
            groups: Files by which it joins control groups, at most `MAX_GROUPS`.

        Raises:
            BrowserStartFailed: The kernel refuses; says what.
        """
        message = order.encode()
        joined: list[int] = []
        try:
            for path in groups:
                # With our rights: those of the program to come are none there.
                joined.append(os.open(path, os.O_WRONLY | os.O_CLOEXEC))  # noqa: PERF401  # each is closed if the next one fails
            try:
                return await self._launch(message, lock, joined)
            except _ZygoteKilled:
                logger.warning(
                    "the zygote of isolated browsers was killed before it started one, which is tried again"
                )
                await self.close()
                return await self._launch(message, lock, joined)
        except OSError as error:
            raise BrowserStartFailed(f"an isolated browser cannot be started: {error}") from error
        finally:
            for each in joined:
                os.close(each)

    async def _launch(self, message: bytes, lock: int, groups: Sequence[int]) -> Launched:
        pipes = open_pipes()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        ours.setblocking(False)
        attendant = Attendant(ours)
        try:
            for attempt in (1, 2):
                descriptors = Descriptors(pipes.words, pipes.commands, pipes.answers, theirs.fileno(), lock)
                try:
                    socket.send_fds(await self._zygote(), [message], [*descriptors, *groups])
                    break
                except OSError as error:  # it was killed
                    logger.warning("the zygote of isolated browsers is started again: %s", error)
                    await self.close()
                    if attempt == 2:
                        raise BrowserStartFailed(f"isolated browsers cannot be started: {error}") from error
            theirs.close()
            pipes.close_theirs()
            pid, listeners = await attendant.started(_ENTER_SECONDS)
        except BaseException:
            theirs.close()
            pipes.close()
            await attendant.abandon()
            raise
        os.set_blocking(pipes.stderr, False)
        return Launched(pid, attendant, listeners, pipes.stderr, pipes.from_child, pipes.to_child)

    async def _zygote(self) -> socket.socket:
        async with self._starting:
            if self._channel is not None:
                return self._channel
            started, self._pid = await in_thread(_start_zygote)
            self._channel = started
            return started

    async def close(self) -> None:
        """End the zygote; browsers live on. Again, it does nothing."""
        channel, self._channel = self._channel, None
        pid, self._pid = self._pid, 0
        if channel is not None:
            channel.close()
            await in_thread(_kill_and_reap, pid)


def _start_zygote() -> tuple[socket.socket, int]:
    from fcntl import F_DUPFD_CLOEXEC, fcntl  # noqa: PLC0415  # Windows has none, and isolates no browser

    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    high = fcntl(theirs.fileno(), F_DUPFD_CLOEXEC, _LOWEST_FD)
    command = zygote_command()
    # A Python outside the usual folders may need this to find its own library.
    environment = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    try:
        pid = os.posix_spawn(
            command[0],
            command,
            environment,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
                (os.POSIX_SPAWN_DUP2, high, CHANNEL),
                *((os.POSIX_SPAWN_CLOSE, fd) for fd in inheritable() if fd != CHANNEL),
            ],
            setsid=True,
            setsigmask=(),
            setsigdef=(signal.SIGINT, signal.SIGTERM),
        )
    except BaseException:
        ours.close()
        raise
    finally:
        os.close(high)
        theirs.close()
    return ours, pid


def _kill_and_reap(pid: int) -> None:
    with suppress(ProcessLookupError, ChildProcessError):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


class Attendant:
    """Our end of the socket to process 1 of a place."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._loop = asyncio.get_running_loop()
        self._pid = 0
        self._entered = False
        self._status: int | None = None
        self._first: asyncio.Future[tuple[Report, list[socket.socket]]] = self._loop.create_future()
        self._waiting: deque[asyncio.Future[socket.socket]] = deque()
        self._loop.add_reader(channel, self._read)

    async def started(self, seconds: float) -> tuple[int, list[socket.socket]]:
        """Return its process id and the listening sockets of its place.

        Raises:
            BrowserStartFailed: The place cannot be entered, or the browser not be executed.
        """
        try:
            async with asyncio.timeout(seconds):
                report, sockets = await self._first
        except TimeoutError:
            raise BrowserStartFailed(f"the browser's isolation was not ready within {seconds:g} s") from None
        if report.kind == "started":
            if report.detail:
                logger.info("an isolated browser: %s", report.detail)
            return self._pid, sockets
        if report.step == "zygote" and not self._entered:
            raise _ZygoteKilled(explain(report))
        raise BrowserStartFailed(explain(report))

    async def new_socket(self) -> socket.socket:
        """Return a new TCP socket of the place's network, not connected and not blocking.

        Raises:
            ConnectionError: The place has ended.
        """
        made: asyncio.Future[socket.socket] = self._loop.create_future()
        try:
            self._channel.send(ASK_SOCKET)
        except OSError as error:
            raise ConnectionError("the browser has ended") from error
        self._waiting.append(made)
        return await made

    def exit_status(self, status: int) -> int:
        """Return how the browser ended, given how the attendant did."""
        self._read()  # its last words may not have been read yet
        return status if self._status is None else self._status

    def close(self) -> None:
        """Close the socket: the place ends within seconds. Again, it does nothing."""
        if self._channel.fileno() >= 0:
            self._loop.remove_reader(self._channel)
            self._channel.close()
            self._fail(ConnectionError("the browser has ended"))

    async def abandon(self) -> None:
        """End a place that may or may not have begun, at once, and leave no child of this process."""
        pid = self._pid
        self.close()
        if self._first.done() and not self._first.cancelled() and self._first.exception() is None:
            for each in self._first.result()[1]:
                each.close()
        if pid:
            await in_thread(_kill_and_reap, pid)

    def _read(self) -> None:
        while self._channel.fileno() >= 0:
            try:
                data, ancillary, _, _ = self._channel.recvmsg(MAX_BYTES, 256, socket.MSG_CMSG_CLOEXEC)
            except BlockingIOError:
                return
            except OSError:
                data, ancillary = b"", []
            if not data:
                self._loop.remove_reader(self._channel)
                self._fail(ConnectionError("the browser has ended"))
                return
            self._take(Report.decode(data), *_received(ancillary))

    def _take(self, report: Report, pid: int, sockets: list[socket.socket]) -> None:
        if report.kind == "exited":
            self._status = report.status
        elif report.kind == "socket":
            made = self._waiting.popleft()
            if not made.cancelled():
                sockets[0].setblocking(False)
                made.set_result(sockets.pop())
        elif report.kind == "forked":
            self._pid = report.status
        elif report.kind == "entered":
            self._pid, self._entered = pid, True
        elif not self._first.done():
            self._first.set_result((report, sockets))
            return
        for each in sockets:
            each.close()

    def _fail(self, error: ConnectionError) -> None:
        if not self._first.done():
            self._first.set_result((Report("failed", step="zygote", detail="it was killed"), []))
        while self._waiting:
            made = self._waiting.popleft()
            if not made.done():
                made.set_exception(error)


def _received(ancillary: Sequence[tuple[int, int, bytes]]) -> tuple[int, list[socket.socket]]:
    """Return the sender's process id, as the kernel gives it, and the sockets that came."""
    pid, sockets = 0, []
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
            pid = _CREDENTIALS.unpack_from(data)[0]
        elif level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            count = len(data) // 4
            sockets += [socket.socket(fileno=fd) for fd in struct.unpack(f"={count}i", data[: 4 * count])]
    return pid, sockets
