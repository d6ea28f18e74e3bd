"""`DriverLink`: the driver process, as the server sees it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, Self

from cdpbridge.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["DriverLink", "EngineAway", "check_ray", "open_driver"]

_PROGRAM: Final = "cdpbridge.server.engine._driver"
# Ray imports in 1 to 3 s, and looks for its head for 30.
_CONNECT_SECONDS: Final = 60.0
_ANSWER_SECONDS: Final = 15.0
_CLOSE_SECONDS: Final = 5.0
_LINE_BYTES: Final = 16 << 20
_KEPT_LINES: Final = 10
# What the driver needs no more than any other program: keys and secrets of the server.
_NOT_PASSED_ON: Final = ("CDPBRIDGE_", "BROWSER_USE_")


class EngineAway(Exception):
    """Ray does not answer, or has refused."""


def check_ray() -> None:
    """Raise unless Ray is installed.

    Raises:
        ConfigurationError: It is not.
    """
    if find_spec("ray") is None:
        raise ConfigurationError("the engine `ray` is not installed; pip install 'cdpbridge[ray]'")


class DriverLink:
    """One driver process, which has connected."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._said: deque[str] = deque(maxlen=_KEPT_LINES)
        self._listening = asyncio.get_running_loop().create_task(self._listen())

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    @classmethod
    async def open(cls, address: str, *, namespace: str, slots: int, servers: Sequence[str]) -> Self:
        """Start a driver, and wait until it is connected.

        Args:
            address: Of Ray: `host:port` of its head, `auto`, or `ray://host:port` of its client server.
            namespace: Whose actors are meant.
            slots: Of each worker.
            servers: Addresses where workers register.

        Raises:
            EngineAway: It cannot be connected.
        """
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-P", "-m", _PROGRAM),
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            limit=_LINE_BYTES,
            env=_environment(os.environ),
            start_new_session=True,
        )
        link = cls(process)
        given = {"address": address, "namespace": namespace, "slots": slots, "servers": [*servers]}
        try:
            await link._say(given, _CONNECT_SECONDS)
        except BaseException:
            await link.close()
            raise
        return link

    async def ask(
        self, what: str, names: Iterable[str] = (), *, timeout: float = _ANSWER_SECONDS
    ) -> dict[str, Any]:
        """Return the answer to a request; one at a time.

        Raises:
            EngineAway: There is none in time, or Ray has refused. The driver may be used no more.
        """
        return await self._say({"do": what, "names": [*names]}, timeout)

    async def close(self) -> None:
        """End the process; the actors stay."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._process.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        self._listening.cancel()
        await asyncio.wait({self._listening})

    async def _say(self, request: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(seconds):
                self._process.stdin.write(json.dumps(request).encode() + b"\n")
                await self._process.stdin.drain()
                line = await self._process.stdout.readline()
        except TimeoutError:
            raise EngineAway(f"no answer within {seconds:g} s") from None
        except OSError as error:
            raise EngineAway(self._last_words()) from error
        if not line:
            raise EngineAway(self._last_words())
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise EngineAway(str(answer["error"]))
        return answer

    def _last_words(self) -> str:
        return f"the driver has ended: {' '.join(self._said) or 'it said nothing'}"

    async def _listen(self) -> None:
        """Keep the last of what Ray says, for the error."""
        assert self._process.stderr is not None
        with suppress(ValueError):  # a line longer than any limit
            async for line in self._process.stderr:
                self._said.append(line.decode(errors="replace").strip())


@asynccontextmanager
async def open_driver(address: str, *, namespace: str) -> AsyncIterator[DriverLink]:
    """Open a driver that starts no workers; leaving the block ends it.

    Raises:
        EngineAway: It cannot be connected.
    """
    link = await DriverLink.open(address, namespace=namespace, slots=1, servers=[])
    try:
        yield link
    finally:
        await link.close()


def _environment(given: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the driver. Who reaches Ray's ports runs programs there, so a token is asked for unless that was refused in words."""
    kept = {name: value for name, value in given.items() if not name.startswith(_NOT_PASSED_ON)}
    return {"RAY_AUTH_MODE": "token", **kept}
