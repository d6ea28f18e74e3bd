"""A server that is far away: TCP relays that delay what they pass, or hold answers back and count round trips."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

_CHUNK = 65536
_TICK_SECONDS = 0.01
_QUIET_SECONDS = 0.06


class _Pair:
    """A client's connection, and the one to the server behind the relay.

    Attributes:
        opened: When the client may take its connection for open: a round trip after it began.
    """

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.client = client
        self.server = server
        self.opened = asyncio.Event()

    def cut(self) -> None:
        self.client.transport.abort()
        self.server.transport.abort()


class _Relay:
    """Passes bytes both ways, as its subclass says when.

    Attributes:
        target: Host and port of the server behind it.
        connections: How many were opened.
    """

    def __init__(self, host: str, port: int) -> None:
        self.target = (host, port)
        self.connections = 0
        self._pairs: set[_Pair] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[int]:
        """The port it listens on."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            self.cut()
            for task in self._tasks:
                task.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks)
            await server.wait_closed()

    @property
    def open(self) -> int:
        """How many connections are open."""
        return len(self._pairs)

    def cut(self) -> None:
        """End all connections, without a close frame."""
        for pair in list(self._pairs):
            pair.cut()

    def _start(self, work) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            upstream_reader, upstream = await asyncio.open_connection(*self.target)
        except OSError:
            writer.transport.abort()
            return
        pair = _Pair(writer, upstream)
        self._pairs.add(pair)
        self.connections += 1
        self._began(pair)
        both = [
            self._start(self._pump(reader, lambda data: self._asked(pair, data))),
            self._start(self._pump(upstream_reader, lambda data: self._answered(pair, data))),
        ]
        await asyncio.wait(both)
        self._pairs.discard(pair)

    async def _pump(self, reader: asyncio.StreamReader, passed: Callable[[bytes], None]) -> None:
        try:
            while data := await reader.read(_CHUNK):
                passed(data)
        except OSError:
            pass
        passed(b"")  # the end

    def _began(self, pair: _Pair) -> None:
        raise NotImplementedError

    def _asked(self, pair: _Pair, data: bytes) -> None:
        raise NotImplementedError

    def _answered(self, pair: _Pair, data: bytes) -> None:
        raise NotImplementedError


def _write(writer: asyncio.StreamWriter, data: bytes) -> None:
    if writer.is_closing():
        return
    if data:
        writer.write(data)
    else:
        writer.close()


class DelayingRelay(_Relay):
    """Adds half a round trip to each direction, and a whole one to each new connection.

    Args:
        round_trip: Seconds.
    """

    def __init__(self, host: str, port: int, round_trip: float) -> None:
        super().__init__(host, port)
        self._way = round_trip / 2
        self._ready: dict[_Pair, float] = {}

    def _began(self, pair: _Pair) -> None:
        self._ready[pair] = asyncio.get_running_loop().time() + 2 * self._way

    def _asked(self, pair: _Pair, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        loop.call_at(max(loop.time(), self._ready[pair]) + self._way, _write, pair.server, data)

    def _answered(self, pair: _Pair, data: bytes) -> None:
        asyncio.get_running_loop().call_later(self._way, _write, pair.client, data)


@dataclass
class Counted:
    """What `CountingRelay.counting` yields.

    Attributes:
        flights: Round trips: how often the client had nothing more to send, and waited for answers to what it had sent.
        connections: How many were opened.
    """

    flights: int = 0
    connections: int = 0


class CountingRelay(_Relay):
    """Holds answers back until the client, which runs in the same event loop, has nothing more to send; counts how often.

    A new connection is one thing more that is asked, and what is sent over it waits for its answer. So the count is that of a
    network where each round trip takes very long, whatever the machine's speed. Off until `counting`.

    Args:
        quiet_seconds: How long the client has sent nothing when it has nothing more to send; so long lasts a round trip, too.

    Attributes:
        flights: Round trips that were counted.
    """

    def __init__(self, host: str, port: int, quiet_seconds: float = _QUIET_SECONDS) -> None:
        super().__init__(host, port)
        self._quiet_ticks = quiet_seconds / _TICK_SECONDS
        self.flights = 0
        self._holding = False
        self._pending = False  # something was sent since answers were last delivered
        self._quiet = 0
        self._held: list[Callable[[], None]] = []

    @asynccontextmanager
    async def counting(self) -> AsyncIterator[Counted]:
        """Count what a block does. Begin when nothing is under way."""
        found = Counted()
        self._holding, self._pending = True, False
        flights, connections = self.flights, self.connections
        ticking = self._start(self._tick())
        try:
            yield found
        finally:
            found.flights = self.flights - flights
            found.connections = self.connections - connections
            self._holding = False
            ticking.cancel()
            self._deliver()

    def _began(self, pair: _Pair) -> None:
        self._sends()
        self._hold(pair.opened.set)

    def _asked(self, pair: _Pair, data: bytes) -> None:
        if data:
            self._sends()
        if pair.opened.is_set():
            _write(pair.server, data)
        else:
            self._start(self._when_open(pair, data))

    async def _when_open(self, pair: _Pair, data: bytes) -> None:
        await pair.opened.wait()
        if data:
            self._sends()
        _write(pair.server, data)

    def _answered(self, pair: _Pair, data: bytes) -> None:
        self._hold(lambda: _write(pair.client, data))

    def _sends(self) -> None:
        self._pending, self._quiet = True, 0

    def _hold(self, deliver: Callable[[], None]) -> None:
        if self._holding:
            self._held.append(deliver)
        else:
            deliver()

    async def _tick(self) -> None:
        while True:
            # Ticks of the client's own loop: while that is busy, none passes.
            await asyncio.sleep(_TICK_SECONDS)
            self._quiet += 1
            if self._held and self._quiet >= self._quiet_ticks:
                self._deliver()

    def _deliver(self) -> None:
        self.flights += self._pending
        self._pending, self._quiet = False, 0
        held, self._held = self._held, []
        for deliver in held:
            deliver()
