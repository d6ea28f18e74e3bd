"""`WorkerPort`: the one TCP port of a worker, for servers that know the secret."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final
from uuid import UUID

from cdpbridge._concurrency import TaskSet
from cdpbridge.server.hosts import BrowserHosts
from cdpbridge.server.proxy import Rules

from ._auth import (
    GREETING_BYTES,
    OPENING_HEAD_BYTES,
    Status,
    admission,
    greeting,
    hello_bytes,
    opens,
)
from ._browsers import WorkerBrowsers
from ._channel import Channel
from ._protocol import (
    Adopt,
    BadMessage,
    Contact,
    ContextProxy,
    Ended,
    Event,
    Figures,
    Hello,
    LimitHosts,
    Of,
    Refused,
    Start,
    Stop,
    Welcome,
    decoded,
    encoded,
    frame,
    loaded,
    read_frame,
    refusal_of,
)
from ._relay import Relay
from ._tls import WorkerTls, bound
from ._transfers import WorkerTransfers

__all__ = ["WorkerPort"]

logger = logging.getLogger("cdpbridge.worker")

_BACKLOG: Final = 1024
_HANDSHAKE_SECONDS: Final = 5.0
# Connections that have not shown that they know the secret; each has a socket and a task, and 5 s.
_MOST_STRANGERS: Final = 128
# A server calls every two seconds.
_SILENT_SECONDS: Final = 60.0
# Of a server that reads nothing; its connection is closed then.
_MOST_WAITING_BYTES: Final = 64 * 1024**2
_NO_DESCRIPTOR: Final = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_PAUSE_SECONDS: Final = 0.1


class WorkerPort:
    """Accepts connections, and does what servers ask on them.

    Args:
        worker_id: Of this run.
        secret: Of all servers and workers.
        hosts: Run the browsers.
        browsers: What runs.
        transfers: Files.
        obey: Called with the rules of a server before each start.
        tls: The certificate; None: what passes is not encrypted.
    """

    def __init__(
        self,
        worker_id: UUID,
        secret: bytes,
        hosts: BrowserHosts,
        browsers: WorkerBrowsers,
        transfers: WorkerTransfers,
        *,
        obey: Callable[[Rules], object],
        tls: WorkerTls | None = None,
    ) -> None:
        self._worker_id = worker_id
        self._secret = secret
        self._hosts = hosts
        self._browsers = browsers
        self._transfers = transfers
        self._obey = obey
        self._tls = tls
        self._relays: set[Relay] = set()
        self._work = TaskSet(logger)
        self._strangers = 0

    async def serve(self, listening: socket.socket) -> None:
        """Accept connections. It never returns.

        Args:
            listening: Bound, and not blocking.
        """
        loop = asyncio.get_running_loop()
        listening.listen(_BACKLOG)
        while True:
            try:
                accepted, _ = await loop.sock_accept(listening)
            except OSError as error:
                if error.errno in _NO_DESCRIPTOR:
                    logger.warning("no connection can be accepted: %s", error)
                    await asyncio.sleep(_PAUSE_SECONDS)
                # Else the connection has ended before it was accepted (accept(2)).
                continue
            if self._strangers >= _MOST_STRANGERS:
                accepted.close()
                continue
            self._strangers += 1
            self._work.start(self._accepted(accepted), "a connection of a server")

    async def close(self) -> None:
        """End all connections."""
        for relay in tuple(self._relays):
            relay.close()
        await self._work.cancel()

    # --- a connection ----------------------------------------------------------------------------------------------

    async def _accepted(self, accepted: socket.socket) -> None:
        admitted = False
        channel = Channel()
        try:
            try:
                accepted.setblocking(False)
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                async with asyncio.timeout(_HANDSHAKE_SECONDS):
                    key = await self._opened(channel, accepted)
                    found = await self._hello(channel, key)
            finally:
                self._strangers -= 1
            if found is not None:
                admitted = True
                await self._admit(channel, key, *found)
        except (OSError, EOFError, TimeoutError, BadMessage) as error:
            # A stranger learns nothing, and fills no log.
            level = logging.INFO if admitted else logging.DEBUG
            logger.log(level, "a connection is closed: %s", str(error) or type(error).__name__)
        finally:
            channel.abort()

    async def _opened(self, channel: Channel, accepted: socket.socket) -> bytes:
        """Make a channel of a socket, and return what both ends sign with on it."""
        more: dict[str, Any] = {}
        certificate = None
        try:
            if self._tls is not None:
                context, certificate = self._tls.get()
                more = {"ssl": context, "ssl_handshake_timeout": _HANDSHAKE_SECONDS}
            await asyncio.get_running_loop().connect_accepted_socket(lambda: channel, accepted, **more)
        except BaseException:
            accepted.close()
            raise
        return bound(self._secret, certificate)

    @staticmethod
    async def _hello(channel: Channel, secret: bytes) -> tuple[Hello, bytes] | None:
        """Return what a connection is for, and the key of the answer; None when its other end does not know the secret."""
        greeted = greeting()
        assert len(greeted) == GREETING_BYTES
        channel.write(greeted)
        head = await channel.read(OPENING_HEAD_BYTES)
        length = hello_bytes(head)
        if length is None:
            return None
        rest = await channel.read(length)
        hello = opens(secret, greeted, head, rest)
        if hello is None:
            return None
        key = greeted + head + rest
        try:
            return loaded(Hello, decoded(hello)), key
        except BadMessage:
            # It knows the secret, and is of another version.
            channel.write(admission(secret, key, Status.UNKNOWN))
            channel.close()
            raise

    async def _admit(self, channel: Channel, secret: bytes, hello: Hello, key: bytes) -> None:
        def answer(status: Status) -> None:
            channel.write(admission(secret, key, status))
            if status is not Status.ADMITTED:
                channel.close()

        if hello.worker != self._worker_id:
            answer(Status.OTHER_WORKER)
        elif hello.purpose == "relay":
            await self._relay(channel, hello, answer)
        else:
            answer(Status.ADMITTED)
            reader, writer = channel.streams()
            try:
                if hello.purpose == "control":
                    await self._control(reader, writer)
                else:
                    await self._transfers.serve(reader, writer, self._browsers)
            finally:
                writer.transport.abort()

    async def _relay(self, channel: Channel, hello: Hello, answer: Callable[[Status], object]) -> None:
        entry = None if hello.browser is None else self._browsers.entry(hello.browser)
        relay = Relay()
        try:
            if entry is None:
                raise ConnectionRefusedError("there is no such browser")
            await relay.reach(entry.upstream)
        except OSError:
            answer(Status.NO_BROWSER)
            return
        self._relays.add(relay)
        try:
            answer(Status.ADMITTED)
            relay.begin(channel)
            await relay.ended
        finally:
            self._relays.discard(relay)
            relay.close()
        if hello.own and entry.downloads_reset is not None:
            entry.downloads_reset()

    async def _control(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        control = _Control(writer, self._answered)
        self._browsers.touched()
        control.send(encoded(Welcome(self._worker_id, self._browsers.slots)))
        with self._browsers.telling(control.tell):
            try:
                while True:
                    async with asyncio.timeout(_SILENT_SECONDS):
                        request = await read_frame(reader)
                    self._browsers.touched()
                    control.take(request)
            finally:
                await control.close()

    # --- requests --------------------------------------------------------------------------------------------------

    async def _answered(self, control: _Control, do: str, given: object) -> Any:
        """Return the answer to a request as JSON values."""
        browsers, hosts = self._browsers, self._hosts
        match do:
            case "contact":
                return encoded(control.contact(browsers, hosts.ready))
            case "start":
                order = loaded(Start, given)
                self._obey(order.rules.rules)
                try:
                    return encoded(await browsers.start(order.spec, order.base))
                finally:
                    if (archive := order.spec.profile_version.archive) is not None:
                        await self._transfers.used(archive)
            case "stop":
                report = await browsers.stop(loaded(Stop, given))
                return None if report is None else encoded(Ended(report))
            case "adopt":
                started = browsers.adopt(loaded(Adopt, given))
                return None if started is None else encoded(started)
            case "attach":
                found = browsers.started(loaded(Of, given).browser)
                return None if found is None else encoded(found)
            case "taken":
                await browsers.taken(loaded(Of, given).browser)
                return True
            case "limit_hosts":
                return await browsers.limit_hosts(loaded(LimitHosts, given))
            case "context_proxy" | "proxy_failures" | "downloads_reset":
                return await self._of_network(do, given)
            case "release_ready":
                return await hosts.release_ready()
        return await self._transfers.answered(do, given, browsers)

    async def _of_network(self, do: str, given: object) -> Any:
        if do == "context_proxy":
            asked = loaded(ContextProxy, given)
            entry = self._browsers.entry(asked.browser)
            if entry is None or entry.context_proxy is None:
                raise OSError("the browser has ended")
            return await entry.context_proxy(asked.server, asked.bypass_list)
        entry = self._browsers.entry(loaded(Of, given).browser)
        if do == "proxy_failures":
            return [] if entry is None or entry.proxy_failures is None else await entry.proxy_failures()
        if entry is not None and entry.downloads_reset is not None:
            entry.downloads_reset()
        return True


class _Control:
    """A server's control connection.

    Args:
        writer: To the server.
        answered: Does what is asked.
    """

    def __init__(
        self,
        writer: asyncio.StreamWriter,
        answered: Callable[[_Control, str, object], Awaitable[Any]],
    ) -> None:
        self._writer = writer
        self._answered = answered
        self._figures: dict[UUID, Figures] = {}
        self._work = TaskSet(logger)

    def send(self, message: Mapping[str, Any]) -> None:
        """Send a frame; a server that reads nothing loses its connection."""
        transport = self._writer.transport
        if transport.is_closing():
            return
        if transport.get_write_buffer_size() > _MOST_WAITING_BYTES:
            logger.warning("a server reads nothing; its connection is closed")
            transport.abort()
            return
        self._writer.write(frame(message))

    def tell(self, event: Event) -> None:
        """Send an event."""
        self.send(encoded(event))

    def take(self, request: Mapping[str, Any]) -> None:
        """Begin to do what a frame asks.

        Raises:
            BadMessage: It is no request.
        """
        number, do = request.get("id"), request.get("do")
        if not isinstance(number, int) or not isinstance(do, str):
            raise BadMessage("a frame is no request")
        self._work.start(self._do(number, do, request.get("with")), f"the request {do!r} of a server")

    async def _do(self, number: int, do: str, given: object) -> None:
        try:
            answer: dict[str, Any] = {"ok": await self._answered(self, do, given)}
        except asyncio.CancelledError:  # another request has stopped what was starting
            self.send({"id": number, "refused": encoded(Refused("superseded", "it was stopped"))})
            raise
        except Exception as error:
            refused = refusal_of(error)
            if refused is None:
                logger.exception("the request %r of a server failed", do)
                refused = refusal_of(OSError(f"the worker failed: {type(error).__name__}"))
                assert refused is not None  # an OSError is foreseen
            answer = {"refused": encoded(refused)}
        self.send({"id": number, **answer})

    def contact(self, browsers: WorkerBrowsers, ready: int) -> Contact:
        """Return the answer to a contact, with the figures that have changed since the last one."""
        now = browsers.figures()
        changed = tuple(figures for each, figures in now.items() if self._figures.get(each) != figures)
        self._figures = now
        return Contact(browsers.running(), browsers.kept(), ready, changed)

    async def close(self) -> None:
        """Cancel what was asked and is not done: starts leave nothing behind, ends go on."""
        await self._work.cancel()
