"""`connect` and `Connection`: the thin shell that owns a transport, a multiplexer, one timer and the tasks of handlers."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl as tls
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from msgspec import Raw

from cdpbridge._clock import Clock, TimerHandle
from cdpbridge.cdp._endpoint import Progress, check_headers, dial, resolve
from cdpbridge.cdp._multiplexer import Multiplexer
from cdpbridge.cdp._payload import Payload, as_dict
from cdpbridge.cdp._pipe import open_pipe
from cdpbridge.cdp._routing import Stats, Subscription
from cdpbridge.cdp._session import CDPSession
from cdpbridge.cdp._targets import Node
from cdpbridge.cdp._transport import Closed, Transport
from cdpbridge.cdp._websocket import upgrade
from cdpbridge.errors import (
    CDPError,
    CommandTimeout,
    ConnectFailed,
    ConnectionClosed,
    DecodeError,
    redact_url,
)

if TYPE_CHECKING:
    from pyee.asyncio import AsyncIOEventEmitter

    from cdpbridge.protocol import Target

__all__ = ["Connecting", "Connection", "connect", "connect_pipe"]

logger = logging.getLogger("cdpbridge")

_running_loop = asyncio._get_running_loop  # exported by asyncio for event loops; None instead of an error
_CLOSE_TIMEOUT: Final = 5.0  # seconds, for the peer's half of the goodbye
_MAX_MESSAGE_BYTES: Final = 256 * 1024 * 1024  # Chromium's own send buffer: nothing larger ever leaves it
_COMMAND_TIMEOUT: Final = timedelta(seconds=30)
_CONNECT_TIMEOUT: Final = timedelta(seconds=15)

HandlerErrorHook = Callable[[BaseException, CDPSession | None, str], object]


def _log_handler_error(error: BaseException, session: CDPSession | None, method: str) -> None:
    if session is None:
        logger.error("a message from the browser could not be read: %s", error)
        return
    logger.error("handling %s of %s failed", method or "a message", session.describe(), exc_info=error)


class Connection:
    """A DevTools connection: the root session and those attached through it.

    It belongs to the event loop, thread and process that made it.

    Args:
        transport: Connected; the connection owns it from now on.
        command_timeout: Deadline of commands that bring none of their own.
        clock: Where deadlines come from; default: the event loop.

    Attributes:
        root: Session of the target the address leads to, normally the browser.
        close_code: WebSocket close code once it has ended; 1006 when there was no close frame.
        close_reason: The words that came with it.
        on_handler_error: Called with `(error, session, method)` when a handler raises, is too slow for its events, or an
            event cannot be decoded, and with `(error, None, "")` for a message that is no CDP. Default: logged.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        command_timeout: timedelta = _COMMAND_TIMEOUT,
        clock: Clock | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._pid = os.getpid()
        self._thread = threading.get_ident()
        self._clock: Clock = clock or self._loop
        self._now = self._clock.time
        self._timeout = command_timeout.total_seconds()
        self._timer: TimerHandle | None = None
        self._timer_at = float("inf")
        self._tasks: set[asyncio.Task[None]] = set()
        self._paused: asyncio.Future[None] | None = None
        self._lost: asyncio.Future[None] = self._loop.create_future()
        self._emitter: AsyncIOEventEmitter | None = None
        self._mux = Multiplexer(self)
        self.root = self._mux.targets.root.owner = CDPSession(self, self._mux.targets.root)
        self.close_code: int | None = None
        self.close_reason: str = ""
        self.on_handler_error: HandlerErrorHook = _log_handler_error
        self.received = self._mux.feed  # no call in between
        self._transport = transport
        transport.start(self)

    def __repr__(self) -> str:
        state = f"closed {self.close_code}" if self.closed else f"{len(self._mux.targets.nodes) - 1} sessions"
        return f"Connection({state})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def closed(self) -> bool:
        """Whether it has ended, by us or by the other side."""
        return self._mux.closed is not None

    @property
    def stats(self) -> Stats:
        """Counters since the beginning."""
        return self._mux.stats

    @property
    def sessions(self) -> list[CDPSession]:
        """All living sessions, the root first."""
        return [node.owner for node in self._mux.targets.nodes.values()]

    def on(self, name: str, handler: Callable[..., Any]) -> Callable[[], None]:
        """Call `handler()` when the connection has `"disconnected"`; call the returned function to stop."""
        if name != "disconnected":
            raise ValueError(f"a connection has no event {name!r}; it has 'disconnected'")
        if self._emitter is None:
            from pyee.asyncio import AsyncIOEventEmitter  # noqa: PLC0415  # most connections need none

            self._emitter = AsyncIOEventEmitter(loop=self._loop)
            self._emitter.on("error", lambda error: self.report(error, self.root, "disconnected"))
        emitter = self._emitter
        emitter.on(name, handler)
        return lambda: emitter.remove_listener(name, handler)

    # --- targets --------------------------------------------------------------------------------------------------

    async def targets(self) -> list[Target.TargetInfo]:
        """Every target of the browser that its default filter shows."""
        from cdpbridge.protocol import Target  # noqa: PLC0415  # domains load on first use

        return (await self.root.send(Target.get_targets())).target_infos

    async def attach(self, target_id: str) -> CDPSession:
        """A new session on a target. Two attachments to one target are two sessions, each with its own events."""
        params = {"targetId": target_id, "flatten": True}
        reply = await self.root.send("Target.attachToTarget", params)
        session_id = str(reply.get("sessionId", ""))
        node = self._mux.targets.nodes.get(session_id)
        if node is None:  # the event that announces it is the rule, but not everywhere
            node = self._mux.attach(self._mux.targets.root, session_id, {"targetId": target_id})
        session: CDPSession = node.owner
        return session

    async def new_tab(self, url: str = "about:blank", *, browser_context_id: str | None = None) -> CDPSession:
        """Open a tab and attach to it; when that fails, the tab is closed again."""
        params: dict[str, Any] = {"url": url}
        if browser_context_id is not None:
            params["browserContextId"] = browser_context_id
        reply = await self.root.send("Target.createTarget", params)
        target_id = str(reply.get("targetId", ""))
        try:
            return await self.attach(target_id)
        except BaseException:
            if not self.closed:
                self.spawn(self._try(self.root, "Target.closeTarget", {"targetId": target_id}))
            raise

    # --- for sessions ---------------------------------------------------------------------------------------------

    async def call(
        self, node: Node, method: str, params: Mapping[str, Any] | None, timeout: timedelta | None
    ) -> Payload:
        """Send one command and wait for its undecoded result. The raw form of `CDPSession.send`."""
        loop = self._loop
        if _running_loop() is not loop:
            self._check_owner()
        seconds = self._timeout if timeout is None else timeout.total_seconds()
        now = self._now()
        if self._paused is not None:
            await self._room(node, method, seconds)
        waiter: asyncio.Future[Payload] = loop.create_future()
        command_id, data = self._mux.register(node, method, params, waiter, now, seconds)
        try:
            self._transport.send(data)
            if now + seconds < self._timer_at:
                self._arm(now + seconds)
            return await waiter
        except BaseException:
            self._mux.forget(command_id)
            raise

    async def _room(self, node: Node, method: str, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                while self._paused is not None:
                    await asyncio.wait([self._paused])
        except TimeoutError:
            raise CommandTimeout(
                method,
                target=node.describe(),
                waited=timedelta(seconds=seconds),
                hint="it was not sent: the other side does not read",
            ) from None

    def listen(self, node: Node, subscription: Subscription) -> Callable[[], None]:
        """Subscribe, and return what takes it back."""
        self._check_owner(in_loop=False)
        if self._mux.closed is not None:
            raise ConnectionClosed(self._mux.closed.code, self._mux.closed.reason, doing=subscription.method)
        if node.gone is not None:
            raise node.error(subscription.method)
        self._mux.subscribe(node, subscription)
        return lambda: self._mux.unsubscribe(node, subscription)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A task that is held, and ended when the connection is closed."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def report(self, error: BaseException, session: CDPSession | None, method: str) -> None:
        """Hand a handler's failure to the hook; a hook that fails itself is logged with both."""
        try:
            self.on_handler_error(error, session, method)
        except Exception:
            logger.exception("on_handler_error failed while reporting %r", error)

    def pending_of(self, session: CDPSession) -> set[int]:
        """Ids of a session's commands without a reply."""
        return {number for number, pending in self._mux.pending.items() if pending.node is session._node}

    def forget(self, session: CDPSession) -> None:
        """End a session that was detached, should its event not have come."""
        self._mux.detach(session.id)

    # --- what the multiplexer tells -------------------------------------------------------------------------------

    def attached(self, node: Node, *, waiting: bool) -> None:
        node.owner = CDPSession(self, node)
        if node.parent is not None:
            node.parent.owner.child_attached(node.owner, waiting=waiting)

    def gone(self, node: Node) -> None:
        """Nothing to do: what hangs on the node has been told by its subscriptions."""

    def failed(self, error: BaseException, node: Node | None, method: str, params: Any) -> None:
        self.report(error, node.owner if node is not None else None, method)
        if node is not None and method == "Fetch.requestPaused" and node.paused:
            self._fail_request(node, params)

    def _fail_request(self, node: Node, event: Any) -> None:
        """A request whose handler raised would stay paused, and freeze its page, for ever."""
        request_id = getattr(event, "request_id", None)
        if isinstance(event, Raw | dict):
            try:
                request_id = as_dict(event).get("requestId")
            except DecodeError:
                return  # as was just reported
        if isinstance(request_id, str) and request_id in node.paused:
            del node.paused[request_id]  # once, however many handlers fail
            params = {"requestId": request_id, "errorReason": "Failed"}
            self.spawn(self._try(node.owner, "Fetch.failRequest", params))

    async def _try(self, session: CDPSession, method: str, params: Mapping[str, Any]) -> None:
        """Clean up after a failure that is already on its way to the user."""
        try:
            await session.send(method, params)
        except CDPError as error:
            logger.debug("%s after a failure: %s", method, error)

    # --- what the transport tells ---------------------------------------------------------------------------------

    def pause(self) -> None:
        if self._paused is None:
            self._paused = self._loop.create_future()

    def resume(self) -> None:
        paused, self._paused = self._paused, None
        if paused is not None and not paused.done():
            paused.set_result(None)

    def lost(self, closed: Closed, /) -> None:
        self._end(closed)
        if not self._lost.done():
            self._lost.set_result(None)

    def _end(self, closed: Closed) -> None:
        if self._mux.closed is not None:
            return
        self.close_code, self.close_reason = closed.code, closed.reason
        self._mux.lost(closed)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.resume()
        if self._emitter is not None:
            self._loop.call_soon(self._emit_disconnected)

    def _emit_disconnected(self) -> None:
        assert self._emitter is not None
        try:
            self._emitter.emit("disconnected")
        except Exception as error:  # noqa: BLE001  # a listener's failure belongs to its owner
            self.report(error, self.root, "disconnected")

    # --- deadlines ------------------------------------------------------------------------------------------------

    def _arm(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = when
        self._timer = self._clock.call_at(when, self._expire)

    def _expire(self) -> None:
        self._timer, self._timer_at = None, float("inf")
        self._mux.expire(self._now())
        when = self._mux.next_deadline()
        if when is not None:
            self._arm(when)

    # --- the end --------------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """End the connection, its sessions and its tasks; the browser lives on. May be called again, and in a handler.

        Takes at most 5 s when the other side does not answer the goodbye.
        """
        self._check_owner()
        try:
            if not self._lost.done():
                self._end(Closed(1000, "closed by this program"))
                self._transport.close(1000)
                await asyncio.wait([self._lost], timeout=_CLOSE_TIMEOUT)
        finally:
            self._transport.abort()
        if not self._lost.done():
            await asyncio.wait([self._lost], timeout=_CLOSE_TIMEOUT)
        await self._end_tasks()
        await asyncio.sleep(0)  # the loop closes the socket in its next turn

    async def _end_tasks(self) -> None:
        current = asyncio.current_task()
        tasks = {task for task in self._tasks if task is not current}
        for task in tasks:
            task.cancel()
        if tasks:
            _, stuck = await asyncio.wait(tasks, timeout=_CLOSE_TIMEOUT)
            if stuck:
                logger.warning("%d handlers did not end when their connection was closed", len(stuck))

    async def wait_closed(self) -> None:
        """Return when the connection has ended, whoever ended it."""
        self._check_owner()
        if not self._lost.done():
            await asyncio.wait([self._lost])

    def _check_owner(self, *, in_loop: bool = True) -> None:
        if os.getpid() != self._pid:
            raise RuntimeError(
                f"this connection belongs to process {self._pid}, not to its fork {os.getpid()}; connect again here"
            )
        if threading.get_ident() != self._thread or (in_loop and _running_loop() is not self._loop):
            raise RuntimeError(
                f"this connection belongs to the event loop {self._loop!r} of thread {self._thread}; "
                "use asyncio.run_coroutine_threadsafe, or connect again here"
            )


class Connecting:
    """What `connect` returns: await it for a `Connection`, or enter it as a block that closes the connection."""

    def __init__(self, opening: Callable[[], Awaitable[Connection]]) -> None:
        self._opening = opening
        self._connection: Connection | None = None

    def __await__(self) -> Generator[Any, None, Connection]:
        return self._opening().__await__()

    async def __aenter__(self) -> Connection:
        self._connection = await self._opening()
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
    timeout: timedelta = _CONNECT_TIMEOUT,
    command_timeout: timedelta = _COMMAND_TIMEOUT,
    max_message_bytes: int = _MAX_MESSAGE_BYTES,
    compression: bool = False,
    ssl_context: tls.SSLContext | None = None,
) -> Connecting:
    """Connect to a browser: `await connect(...)`, or `async with connect(...) as connection`.

    Args:
        address: `http(s)://host:port`, with a path or without, `ws(s)://...`, `host:port`, or a host.
        headers: Sent with the discovery request and the upgrade, e.g. `Authorization`.
        timeout: For all of it: discovery, sockets, TLS, upgrade.
        command_timeout: Deadline of commands that bring none of their own.
        max_message_bytes: A larger message ends the connection with `MessageTooBig`. Default: the most that Chromium sends.
        compression: Offer permessage-deflate. It costs CPU and pays on slow links only.
        ssl_context: For `https` and `wss`; default: the system's trust store.

    Raises:
        ConnectFailed: With the stage it failed at; no socket is left open.
        ConfigurationError: The address or a header cannot be used.
    """

    async def opening() -> Connection:
        progress = Progress()
        try:
            async with asyncio.timeout(timeout.total_seconds()):
                transport = await _open(
                    address,
                    check_headers(headers),
                    progress,
                    max_message_bytes=max_message_bytes,
                    compression=compression,
                    ssl_context=ssl_context,
                )
        except TimeoutError as error:
            raise ConnectFailed(
                f"no connection to {redact_url(address)} within {timeout.total_seconds():g} s (stage {progress.stage})",
                stage=progress.stage,
            ) from error
        return Connection(transport, command_timeout=command_timeout)

    return Connecting(opening)


async def _open(
    address: str,
    headers: Mapping[str, str],
    progress: Progress,
    *,
    max_message_bytes: int,
    compression: bool,
    ssl_context: tls.SSLContext | None,
) -> Transport:
    endpoint = await resolve(address, headers=headers, progress=progress, ssl_context=ssl_context)
    try:
        socket = await dial(endpoint.url, progress=progress, ssl_context=ssl_context)
        progress.stage = "upgrade"
        return await upgrade(
            socket,
            endpoint.url,
            headers=headers,
            max_message_bytes=max_message_bytes,
            compression=compression,
        )
    except ConnectFailed as error:
        if endpoint.refused is not None:
            raise endpoint.refused from error
        raise


def connect_pipe(
    read_fd: int,
    write_fd: int,
    *,
    command_timeout: timedelta = _COMMAND_TIMEOUT,
    max_message_bytes: int = _MAX_MESSAGE_BYTES,
) -> Connecting:
    """Connect over Chromium's debugging pipe (`--remote-debugging-pipe`).

    Args:
        read_fd: Where the browser's messages come out; closed with the connection.
        write_fd: Where commands go in; closed with the connection.
    """

    async def opening() -> Connection:
        transport = await open_pipe(read_fd, write_fd, max_message_bytes=max_message_bytes)
        return Connection(transport, command_timeout=command_timeout)

    return Connecting(opening)
