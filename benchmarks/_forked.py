"""Processes that begin at once: forked from one that has loaded the package, instead of loading it a thousand times."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "alembic.command",
        "anyio._backends._asyncio",
        "cdpbridge.browser",
        "cdpbridge.cdp",
        "cdpbridge.cli._app",
        "cdpbridge.protocol.page",
        "cdpbridge.server._app",
        "cdpbridge.server._listener",
        "cdpbridge.server._serve",
        "httpcore",
        "sqlalchemy.dialects.sqlite.aiosqlite",
        "uvicorn.protocols.http.httptools_impl",
        "uvloop",
    ]
)
_END_SECONDS = 60.0


def _run(function: Callable[..., None], log: Path, machine: str | None, arguments: tuple[Any, ...]) -> None:
    descriptor = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    if machine is not None:
        from tests.machines import enter

        enter(machine)
    function(*arguments)


class Forked:
    """A process that runs `function`, perhaps in the network namespace of a machine; what it prints is in `log`."""

    def __init__(
        self, function: Callable[..., None], *arguments: Any, log: Path, machine: str | None = None
    ) -> None:
        self._process = CONTEXT.Process(target=_run, args=(function, log, machine, arguments))
        self._process.start()

    @property
    def exitcode(self) -> int | None:
        return self._process.exitcode

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it still runs."""
        if self._process.exitcode is None:
            assert self._process.pid is not None  # it was started
            os.kill(self._process.pid, number)

    async def ended(self) -> int:
        """Its status."""
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        loop.add_reader(self._process.sentinel, lambda: done.done() or done.set_result(None))
        try:
            await done
        finally:
            loop.remove_reader(self._process.sentinel)
        self._process.join()
        assert self._process.exitcode is not None  # it has ended
        return self._process.exitcode

    async def end(self, number: signal.Signals = signal.SIGKILL) -> int:
        """End it; by force when it takes too long."""
        self.send(number)
        try:
            async with asyncio.timeout(_END_SECONDS):
                return await self.ended()
        except TimeoutError:
            self.send(signal.SIGKILL)
            return await self.ended()
