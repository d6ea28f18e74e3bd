"""`connect` and `connect_pipe`: from an address or two descriptors to a `Connection`."""

from __future__ import annotations

import asyncio
import ssl as tls
from collections.abc import Awaitable, Callable, Generator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Any, Final

from cdpbridge._durations import waiting_time
from cdpbridge.cdp._ahead import SocketAhead
from cdpbridge.cdp._connection import COMMAND_TIMEOUT, Connection, HandlerErrorHook
from cdpbridge.cdp._endpoint import Progress, check_headers, connecting, dial, resolve, websocket_address
from cdpbridge.cdp._pipe import open_pipe
from cdpbridge.cdp._reconnect import RECONNECT_LIMIT
from cdpbridge.cdp._routing import ExplainEnd
from cdpbridge.cdp._trace import Recording
from cdpbridge.cdp._transport import Transport
from cdpbridge.cdp._upgrade import upgrade
from cdpbridge.cdp._websocket import WebSocketTransport
from cdpbridge.errors import ConnectFailed

__all__ = ["Connecting", "connect", "connect_directly", "connect_over", "connect_pipe"]

# Chromium's own send buffer: nothing larger ever leaves it
_MAX_MESSAGE_BYTES: Final = 256 * 1024 * 1024
_CONNECT_TIMEOUT: Final = timedelta(seconds=15)
# as `websockets` has it; proxies cut idle connections after 60 s and more
_PING_INTERVAL: Final = timedelta(seconds=20)
_PING_TIMEOUT: Final = timedelta(seconds=20)


class Connecting:
    """What `connect` returns: await it for a `Connection`, or enter it once as a block that closes the connection."""

    def __init__(self, opening: Callable[[], Awaitable[Connection]]) -> None:
        self._opening = opening
        self._entered = False
        self._connection: Connection | None = None

    def __repr__(self) -> str:
        return f"<Connecting {'entered' if self._entered else 'not entered'}>"

    def __await__(self) -> Generator[Any, None, Connection]:
        return self._opening().__await__()

    async def __aenter__(self) -> Connection:
        if self._entered:
            raise RuntimeError("this connection was opened already; call connect() again for another one")
        self._entered = True
        try:
            self._connection = await self._opening()
        except BaseException:
            self._entered = False  # nothing is open: it may be tried again
            raise
        return self._connection

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._connection is not None:
            await self._connection.close()


def connect(
    address: str,
    *,
    headers: Mapping[str, str] | None = None,
    timeout: float | timedelta = _CONNECT_TIMEOUT,
    command_timeout: float | timedelta = COMMAND_TIMEOUT,
    max_message_bytes: int = _MAX_MESSAGE_BYTES,
    compression: bool = False,
    ssl_context: tls.SSLContext | None = None,
    reconnect: bool | float | timedelta = False,
    browser_ended: Callable[[], bool] | None = None,
    explain_end: ExplainEnd | None = None,
    on_handler_error: HandlerErrorHook | None = None,
    ping_interval: float | timedelta | None = _PING_INTERVAL,
    ping_timeout: float | timedelta | None = _PING_TIMEOUT,
    record: int = 0,
) -> Connecting:
    """Connect to a browser: await the result for a `Connection`, or enter it as a block that closes the connection.

    With `reconnect`, a lost connection is re-established, unless the other side has said that the browser has closed:

    * Calls in flight fail at once with `ConnectionClosed`, whose `sent` tells whether they may have run. Calls made
      meanwhile wait, up to their own deadline.
    * The same `Connection` and `CDPSession` objects go on. Targets are attached to again by their id, and the state of their
      sessions is replayed in the original order: enabled domains, auto-attach, scripts on new documents, `Fetch`, emulation,
      headers, bindings and the like. Children found by auto-attach come back by it; those that were still being set up come
      as new sessions, and are set up from the beginning. A target that has closed meanwhile ends with `TargetClosed`.
    * Handlers, event streams and `expect` stay. Events of the time between are lost, and domains send again what they send
      when they are enabled, e.g. `Runtime.executionContextCreated`.
    * Ids inside a renderer's domains are new: DOM nodes, remote objects, paused requests.
    * `"reconnected"` reports what was restored and what was not; `"disconnected"` comes when no try is left.

    Args:
        address: `http(s)://host:port`, with a path or without, `ws(s)://...`, `host:port`, or a host.
        headers: Sent with the discovery request and the upgrade, e.g. `Authorization`.
        timeout: For all of it: discovery, sockets, TLS, upgrade.
        command_timeout: Timeout of commands that bring none of their own.
        max_message_bytes: A larger message ends the connection with `MessageTooBig`. Default: the most that Chromium sends.
        compression: Offer permessage-deflate. It costs CPU and pays on slow links only.
        ssl_context: For `https` and `wss`; default: the system's trust store.
        reconnect: Resume a lost connection; for how long to try, 30 s if True.
        browser_ended: Asked before each try to resume; True ends the tries, e.g. when the browser's process has exited.
        explain_end: Called with each `ConnectionClosed` that calls get from the end; returns what is raised instead, or the
            same. For an owner that knows why the connection ended.
        on_handler_error: Called with `(error, session, method)` when a handler raises, is too slow for its events, or an
            event cannot be decoded, and with `(error, None, "")` for a message that is no CDP. Default: logged.
        ping_interval: Ping after so long without a byte from the other side. None: never.
        ping_timeout: When the silence lasts so much longer, the connection has ended with code 1006, reason "keepalive".
            None: it never ends by that.
        record: Keep the last so many messages for `Connection.flight_record`. The environment variable `CDPBRIDGE_TRACE`
            names a file that gets all of them, one line each; what gives access to something is cut in both.

    Raises:
        ConnectFailed: With the stage it failed at; no socket is left open.
        ConfigurationError: The address or a header cannot be used.
    """
    dialling = _Dialling(
        address,
        headers,
        waiting_time("timeout", timeout),
        max_message_bytes,
        compression,
        ssl_context,
        None if ping_interval is None else waiting_time("ping_interval", ping_interval),
        None if ping_timeout is None else waiting_time("ping_timeout", ping_timeout),
    )
    return _connecting(
        dialling,
        waiting_time("command_timeout", command_timeout),
        reconnect=reconnect,
        browser_ended=browser_ended,
        explain_end=explain_end,
        on_handler_error=on_handler_error,
        record=record,
    )


def connect_directly(
    address: str,
    *,
    timeout: float | timedelta,
    ahead: SocketAhead | None = None,
    browser_ended: Callable[[], bool] | None = None,
    explain_end: ExplainEnd | None = None,
    on_handler_error: HandlerErrorHook | None = None,
) -> Connecting:
    """Connect with `reconnect` to a browser whose WebSocket is at its `http` address itself, as it is on our servers.

    Only when that is refused, the discovery is asked, which says where it is, or why there is none.

    Args:
        address: As of `connect`, as are all others.
        ahead: A socket for the first try.
    """
    limit = waiting_time("timeout", timeout)
    dialling = _Dialling(
        address,
        None,
        limit,
        _MAX_MESSAGE_BYTES,
        False,  # no compression
        None,
        _PING_INTERVAL,
        _PING_TIMEOUT,
        direct=True,
        ahead=ahead,
    )
    return _connecting(
        dialling,
        COMMAND_TIMEOUT,
        reconnect=True,
        browser_ended=browser_ended,
        explain_end=explain_end,
        on_handler_error=on_handler_error,
        record=0,
    )


def _connecting(
    dialling: _Dialling,
    command_timeout: timedelta,
    *,
    reconnect: bool | float | timedelta,
    browser_ended: Callable[[], bool] | None,
    explain_end: ExplainEnd | None,
    on_handler_error: HandlerErrorHook | None,
    record: int,
) -> Connecting:
    limit = RECONNECT_LIMIT if isinstance(reconnect, bool) else waiting_time("reconnect", reconnect)

    async def opening() -> Connection:
        recording = Recording(record)

        async def open_recorded() -> Transport:
            return recording.wrap(await dialling.open())

        async def reopen() -> Transport:
            if browser_ended is not None and browser_ended():
                raise ConnectFailed("the browser has ended", stage="ended")
            return await open_recorded()

        transport = await open_recorded()
        return Connection(
            transport,
            command_timeout=command_timeout,
            reopen=None if reconnect is False else reopen,
            reconnect_limit=limit,
            recorder=recording.recorder,
            explain_end=explain_end,
            on_handler_error=on_handler_error,
            address=dialling.address,
        )

    return Connecting(opening)


@dataclass(frozen=True, slots=True, repr=False)
class _Dialling:
    """All that is needed to connect, once or again."""

    address: str
    headers: Mapping[str, str] | None
    timeout: timedelta
    max_message_bytes: int
    compression: bool
    ssl_context: tls.SSLContext | None
    ping_interval: timedelta | None
    ping_timeout: timedelta | None
    direct: bool = False
    ahead: SocketAhead | None = None

    async def open(self) -> WebSocketTransport:
        async with connecting(self.address, self.timeout) as progress:
            transport = await self._open(check_headers(self.headers), progress)
        if self.ping_interval is not None:
            timeout = self.ping_timeout.total_seconds() if self.ping_timeout is not None else None
            transport.keep_alive(self.ping_interval.total_seconds(), timeout)
        return transport

    async def _open(self, headers: Mapping[str, str], progress: Progress) -> WebSocketTransport:
        if self.direct:
            try:
                return await self._reach(websocket_address(self.address), headers, progress)
            except ConnectFailed as error:
                if error.stage not in {"upgrade", "handshake"}:
                    raise
        endpoint = await resolve(
            self.address, headers=headers, progress=progress, ssl_context=self.ssl_context
        )
        try:
            return await self._reach(endpoint.url, headers, progress)
        except ConnectFailed as error:
            if endpoint.refused is not None:
                raise endpoint.refused from error
            raise

    async def _reach(self, url: str, headers: Mapping[str, str], progress: Progress) -> WebSocketTransport:
        socket = None if self.ahead is None else await self.ahead.take(url)
        if socket is not None:
            progress.stage = "upgrade"
            try:
                return await self._upgrade(socket, url, headers)
            except ConnectFailed as error:
                if error.status is not None:
                    raise
                # it may have been closed while it waited
        socket = await dial(url, progress=progress, ssl_context=self.ssl_context)
        progress.stage = "upgrade"
        return await self._upgrade(socket, url, headers)

    async def _upgrade(
        self, socket: asyncio.Transport, url: str, headers: Mapping[str, str]
    ) -> WebSocketTransport:
        return await upgrade(
            socket,
            url,
            headers=headers,
            max_message_bytes=self.max_message_bytes,
            compression=self.compression,
        )


def connect_over(
    reach: Callable[[asyncio.Protocol], Awaitable[asyncio.Transport]],
    url: str,
    *,
    command_timeout: float | timedelta = COMMAND_TIMEOUT,
) -> Connecting:
    """Connect over a way of the caller's to a browser's debugging port. A lost connection stays lost.

    Args:
        reach: Connects a protocol with the port; raises OSError.
        url: The `ws` address that the browser has there.
        command_timeout: As for `connect`.
    """
    limit = waiting_time("command_timeout", command_timeout)

    async def opening() -> Connection:
        transport = await reach(asyncio.Protocol())
        async with asyncio.timeout(limit.total_seconds()):
            websocket = await upgrade(
                transport, url, headers={}, max_message_bytes=_MAX_MESSAGE_BYTES, compression=False
            )
        return Connection(websocket, command_timeout=limit)

    return Connecting(opening)


def connect_pipe(
    read_fd: int,
    write_fd: int,
    *,
    command_timeout: float | timedelta = COMMAND_TIMEOUT,
    max_message_bytes: int = _MAX_MESSAGE_BYTES,
    on_handler_error: HandlerErrorHook | None = None,
    record: int = 0,
) -> Connecting:
    """Connect over Chromium's debugging pipe (`--remote-debugging-pipe`).

    Args:
        read_fd: Where the browser's messages come out; closed with the connection.
        write_fd: Where commands go in; closed with the connection.
        on_handler_error: As for `connect`.
        record: As for `connect`.
    """
    command_timeout = waiting_time("command_timeout", command_timeout)

    async def opening() -> Connection:
        recording = Recording(record)
        transport = recording.wrap(await open_pipe(read_fd, write_fd, max_message_bytes=max_message_bytes))
        return Connection(
            transport,
            command_timeout=command_timeout,
            recorder=recording.recorder,
            on_handler_error=on_handler_error,
        )

    return Connecting(opening)
