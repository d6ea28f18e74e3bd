"""`IsolatedProgram`: a program that is no browser, in a place of its own, with pipes as its standard streams."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from contextlib import suppress
from functools import partial
from typing import Final, Self

from cdpbridge._concurrency import to_the_end
from cdpbridge.isolation import Launch

from ._exit import watch_exit
from ._launcher import Launched, Launcher

__all__ = ["STANDARD_STREAMS", "IsolatedProgram"]

STANDARD_STREAMS: Final = (2, 0, 1)
"""`Launch.numbers` of such a program."""


class IsolatedProgram:
    """A running program, made by `start`. It has what `asyncio.subprocess.Process` has of the same name.

    Attributes:
        pid: Of the attendant of its place, and the process group of both.
        returncode: Its exit status once it has ended; negative for a signal.
        listeners: Sockets of its place, as the order named them; they are the caller's.
    """

    def __init__(self, launched: Launched) -> None:
        loop = asyncio.get_running_loop()
        self.pid = launched.pid
        self.returncode: int | None = None
        self.listeners: list[socket.socket] = launched.listeners
        self.stdin: asyncio.StreamWriter | None = None
        self.stdout: asyncio.StreamReader | None = None
        self.stderr: asyncio.StreamReader | None = None
        self._launched = launched
        self._transports: list[asyncio.BaseTransport] = []
        self._exited: asyncio.Future[int] = loop.create_future()
        watch_exit(self.pid, loop, self._on_exit)

    def __repr__(self) -> str:
        return f"<IsolatedProgram {self.pid}>"

    @classmethod
    async def start(cls, launcher: Launcher, order: Launch, *, lock: int, limit: int) -> Self:
        """Execute it.

        Args:
            order: Its `numbers` are `STANDARD_STREAMS`.
            lock: A descriptor that the place keeps open until its last process has ended.
            limit: Bytes of a line that the readers take.

        Raises:
            BrowserStartFailed: The kernel refuses; says what. Nothing is left behind.
        """
        running: list[Self] = []

        async def launch() -> None:
            running.append(cls(await launcher.launch(order, lock=lock)))

        try:
            await to_the_end(launch())
            [program] = running
            await program.open_streams(limit)
        except BaseException:
            for program in running:
                program.kill()
                await to_the_end(program.close())
            raise
        return program

    async def open_streams(self, limit: int) -> None:
        """Begin to read and write its streams; `start` does it."""
        loop = asyncio.get_running_loop()
        stdout, stderr = asyncio.StreamReader(limit), asyncio.StreamReader(limit)
        for reader, number in ((stdout, self._launched.from_child), (stderr, self._launched.stderr)):
            protocol = partial(asyncio.StreamReaderProtocol, reader)
            transport, _ = await loop.connect_read_pipe(protocol, os.fdopen(number, "rb", 0))
            self._transports.append(transport)
        ended = asyncio.StreamReaderProtocol(asyncio.StreamReader())
        writing, _ = await loop.connect_write_pipe(lambda: ended, os.fdopen(self._launched.to_child, "wb", 0))
        self._transports.append(writing)
        self.stdin = asyncio.StreamWriter(writing, ended, None, loop)
        self.stdout, self.stderr = stdout, stderr

    def _on_exit(self, status: int) -> None:
        attendant = self._launched.attendant
        self.returncode = attendant.exit_status(status)
        with suppress(ChildProcessError):
            os.waitpid(self.pid, 0)
        attendant.close()
        self._exited.set_result(self.returncode)

    async def wait(self) -> int:
        """Wait until its place has ended, and return its exit status."""
        return await asyncio.shield(self._exited)

    def kill(self) -> None:
        """Kill it, with all that runs in its place. Ended, it does nothing."""
        if self.returncode is None:  # unreaped: the number is still its own
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)

    async def close(self) -> None:
        """Free what it held, once it has ended or been killed."""
        await self.wait()
        for transport in self._transports:
            transport.close()
        for listener in self.listeners:
            listener.close()
