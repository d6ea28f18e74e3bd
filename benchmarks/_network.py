"""A network that fails: a TCP relay whose connections are cut, fall silent, or lose the answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

FAULTS = ("cut", "silent", "answers lost")
_CHUNK = 65536
# A server that does not take a connection in that time is passed over, as by any load balancer.
_CONNECT_SECONDS = 1.0


class Relay:
    """Bytes go both ways until a fault.

    Attributes:
        target: Port of the server behind it.
        messages: Pieces of data that came through, in both directions: how far a program has got, however fast the machine is.
    """

    def __init__(self) -> None:
        self.target = 0
        self.messages = 0
        self._fault: str | None = None
        self._whole = asyncio.Event()
        self._whole.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._waiting: list[tuple[int, asyncio.Event]] = []

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[int]:
        """The port it listens on."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            self._whole.set()
            self._cut()
            await server.wait_closed()

    async def passed(self, messages: int) -> None:
        """Wait until so many have come through."""
        if self.messages < messages:
            reached = asyncio.Event()
            self._waiting.append((messages, reached))
            await reached.wait()

    async def fail(self, fault: str, seconds: float) -> None:
        """Be broken for so long. Afterwards no connection of before is left."""
        self._fault = fault
        self._whole.clear()
        if fault == "cut":
            self._cut()
        await asyncio.sleep(seconds)
        self._cut()
        self._fault = None
        self._whole.set()

    def _cut(self) -> None:
        """Every connection is gone, without a goodbye."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        upstream: asyncio.StreamWriter | None = None
        try:
            if self._fault == "cut":
                return
            if self._fault == "silent":
                await self._whole.wait()
                return
            upstream_reader, upstream = await self._connected()
            self._writers.add(upstream)
            await asyncio.gather(
                self._pump(reader, upstream, answers=False), self._pump(upstream_reader, writer, answers=True)
            )
        except OSError:
            pass  # the server is down: so is what hangs on it
        finally:
            for each in (writer, upstream):
                if each is not None:
                    each.transport.abort()
                    self._writers.discard(each)

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.target)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool
    ) -> None:
        try:
            while data := await reader.read(_CHUNK):
                if self._fault == "silent" or (self._fault == "answers lost" and answers):
                    continue
                self._count()
                writer.write(data)
                await writer.drain()
            if self._fault == "silent":  # nor does the other side learn that this one has left
                await self._whole.wait()
        except OSError:
            pass
        finally:
            writer.transport.abort()

    def _count(self) -> None:
        self.messages += 1
        for messages, reached in self._waiting:
            if self.messages >= messages:
                reached.set()
        self._waiting = [each for each in self._waiting if not each[1].is_set()]


class Balancer(Relay):
    """A relay before several servers: to each in turn, or to the next that takes a connection.

    Attributes:
        targets: Their addresses and ports.
    """

    def __init__(self) -> None:
        super().__init__()
        self.targets: dict[str, tuple[str, int]] = {}
        self._turn = 0

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        self._turn += 1
        places = list(self.targets.values())
        first = self._turn % max(1, len(places))
        for place in (*places[first:], *places[:first]):
            with suppress(OSError):
                async with asyncio.timeout(_CONNECT_SECONDS):
                    return await asyncio.open_connection(*place)
        raise ConnectionRefusedError("no server takes a connection")
