"""`CDPSession`: one attachment to one target, and everything a program does with it."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar, overload

from cdpbridge.cdp._domains import check_name
from cdpbridge.cdp._enabling import Enabling
from cdpbridge.cdp._payload import as_dict, as_type
from cdpbridge.cdp._routing import Subscription
from cdpbridge.cdp._stream import EventStream, Expectation, Worker
from cdpbridge.errors import CDPError, CommandError, ConnectionClosed, TargetClosed
from cdpbridge.protocol._base import Command, Event, decoder_for

if TYPE_CHECKING:
    from cdpbridge.cdp._connection import Connection
    from cdpbridge.cdp._targets import Node

__all__ = ["CDPSession", "Setup", "log_handler_error"]

logger = logging.getLogger("cdpbridge")

T = TypeVar("T")
E = TypeVar("E", bound=Event)

Setup = Callable[["CDPSession"], Awaitable[object]]

_DEFAULT_EXPECT: Final = timedelta(seconds=30)
_NO_SUCH_METHOD: Final = -32601
_SILENT_WHILE_WAITING: Final = frozenset({"page", "service_worker"})
"""Kinds of target that have no renderer yet while they wait for the debugger, and so answer few commands."""
_NO_PROGRESS: Final = (
    0.25  # seconds; a live renderer answers `enable` commands in 1 to 50 ms on a loaded machine
)


class CDPSession:
    """One attachment to one target, in flat mode. Made by `Connection`, never directly.

    Attributes:
        connection: The connection it lives on.
    """

    def __init__(self, connection: Connection, node: Node) -> None:
        self.connection = connection
        self._node = node
        self._setup: Setup | None = None
        self._auto_attach: dict[str, Any] | None = None
        self._preparing: set[asyncio.Task[None]] = set()
        self._enabling = Enabling(connection, node)

    def __repr__(self) -> str:
        state = f", {self.closed}" if self.closed else ""
        return f"CDPSession({self.describe()}{state})"

    @property
    def id(self) -> str:
        """Session id on the wire; `""` for the root. A reconnect gives the session another."""
        return self._node.session_id

    @property
    def target_id(self) -> str:
        """Id of the target; `""` when the browser has not told it."""
        return self._node.target_id

    @property
    def target_type(self) -> str:
        """Chrome's word for the target, e.g. `"page"`, `"iframe"`, `"worker"`; new ones come with new versions."""
        return self._node.target_type

    @property
    def parent(self) -> CDPSession | None:
        """The session this one was attached through."""
        parent = self._node.parent
        return parent.owner if parent is not None else None

    @property
    def children(self) -> list[CDPSession]:
        """Sessions attached through this one."""
        return [child.owner for child in self._node.children.values()]

    @property
    def closed(self) -> str | None:
        """Why it ended: `"closed"`, `"crashed"`, `"detached"`, `"parent"` or `"connection"`; None while it lives."""
        if self._node.gone is None and self.connection.closed:
            return "connection"
        return self._node.gone

    def describe(self) -> str:
        """The target in a few words, for messages."""
        return self._node.describe()

    def hint(self, event: str | None = None) -> str | None:
        """What is known to hold up the target, e.g. an open dialog; or an event of it, e.g. that its domain is not enabled."""
        silent = None if event is None else self._enabling.silence(event)
        return "; ".join(each for each in (silent, self._node.hint()) if each) or None

    # --- commands -------------------------------------------------------------------------------------------------

    @overload
    async def send(self, command: Command[T], /, *, timeout: float | timedelta | None = None) -> T: ...

    @overload
    async def send(
        self,
        command: str,
        params: Mapping[str, Any] | None = None,
        /,
        *,
        timeout: float | timedelta | None = None,
    ) -> dict[str, Any]: ...

    async def send(
        self,
        command: Command[Any] | str,
        params: Mapping[str, Any] | None = None,
        /,
        *,
        timeout: float | timedelta | None = None,
    ) -> Any:
        """What the browser answers to a command.

        Args:
            command: A `Command`, whose reply becomes its class, or a method name, whose reply is a dict.
            params: Parameters by their wire names, with a method name only.
            timeout: How long to wait; default: the connection's `command_timeout`.

        Raises:
            CommandError: The browser refused.
            CommandTimeout: No reply in time; the connection goes on.
            TargetClosed: The target is gone, or went before it replied.
            ConnectionClosed: The connection ended; `sent` tells whether the command may have run.
            DecodeError: The reply is not what the command promises.
            MessageTooBig: The command is larger than Chromium reads.
        """
        # Not in a coroutine of the connection's own: that alone takes 0.3 us a command.
        connection, node = self.connection, self._node
        if isinstance(command, str):
            method = command
        elif params is None:
            method, params = command.method, command.params or None
        else:
            raise TypeError("params go with a method name; a Command has its own")
        if connection.held:
            await connection.room(node, method, timeout)
            await self._enabling.before(method, timeout)
        command_id, waiter = connection.begin(node, method, params, timeout)
        try:
            result = await waiter
        except BaseException:
            connection.give_up(command_id)
            raise
        if isinstance(command, str):
            return as_dict(result)
        if command.result_type is None:
            return None
        kind: Any = command.result_type
        return as_type(result, decoder_for(kind))

    # --- events ---------------------------------------------------------------------------------------------------

    @overload
    def on(
        self,
        event: type[E],
        handler: Callable[[E], object] | Callable[[E], Awaitable[object]],
        /,
        *,
        raw: bool = False,
    ) -> Callable[[], None]: ...

    @overload
    def on(
        self,
        event: str,
        handler: Callable[[dict[str, Any]], object] | Callable[[dict[str, Any]], Awaitable[object]],
        /,
        *,
        raw: bool = False,
    ) -> Callable[[], None]: ...

    def on(
        self, event: type[Event] | str, handler: Callable[[Any], Any], /, *, raw: bool = False
    ) -> Callable[[], None]:
        """Call `handler` with each event; call the returned function to stop.

        The first listener of a session for a domain enables it, as `events` and `expect` do: `enable` is sent before any later
        command of the session, is answered before a navigation, and is not taken back. Not for `Fetch`, `Debugger`, `WebAuthn`, `FedCm`, `DeviceAccess` and
        `SmartCardEmulation`, which change what pages do: send their `enable` yourself.

        A plain function is called in place, in wire order, so it must be quick. A coroutine function has a bounded queue of
        its own, is called with one event after another, and may send commands and wait.

        Args:
            event: An event class, and the handler gets its instances, or a method name, and it gets dicts of the wire's
                names, shared with other handlers.
            raw: Take a name as it is, e.g. of a newer browser's event, and enable nothing.

        Raises:
            ConfigurationError: There is no event of that name.
        """
        if _is_coroutine_function(handler):
            method = _method(event)
            worker = Worker(
                handler,
                report=lambda error, event: self.connection.failed(error, self._node, method, event),
                spawn=self.connection.spawn,
            )
            remove = self._listen(event, worker.deliver, raw=raw)

            def stop() -> None:
                remove()
                worker.stop()

            return stop
        return self._listen(event, handler, raw=raw)

    @overload
    def events(self, event: type[E], /, *, limit: int = 1000, raw: bool = False) -> EventStream[E]: ...

    @overload
    def events(
        self, event: str, /, *, limit: int = 1000, raw: bool = False
    ) -> EventStream[dict[str, Any]]: ...

    @overload
    def events(
        self, *events: type[Event] | str, limit: int = 1000, raw: bool = False
    ) -> EventStream[Any]: ...

    def events(self, *events: type[Event] | str, limit: int = 1000, raw: bool = False) -> EventStream[Any]:
        """The events of one or more kinds as an async iterator, in wire order.

        Args:
            limit: Events kept for a slow reader; beyond it, it gets `EventsLost`.
            raw: As of `on`.

        Raises:
            ConfigurationError: As of `on`.
        """
        if not events:
            raise TypeError("which events? give at least one class or method name")
        for event in events:
            _check(event, raw=raw)

        def subscribe(queue: Any) -> Callable[[], None]:
            removes = [self._listen(event, queue.put, raw=raw, ended=queue.end) for event in events]

            def remove_all() -> None:
                for remove in removes:
                    remove()

            return remove_all

        return EventStream(subscribe, limit)

    @overload
    def expect(
        self,
        event: type[E],
        predicate: Callable[[E], bool] | None = None,
        *,
        timeout: float | timedelta = _DEFAULT_EXPECT,
        raw: bool = False,
    ) -> Expectation[E]: ...

    @overload
    def expect(
        self,
        event: str,
        predicate: Callable[[dict[str, Any]], bool] | None = None,
        *,
        timeout: float | timedelta = _DEFAULT_EXPECT,
        raw: bool = False,
    ) -> Expectation[dict[str, Any]]: ...

    def expect(
        self,
        event: type[Event] | str,
        predicate: Callable[[Any], bool] | None = None,
        *,
        timeout: float | timedelta = _DEFAULT_EXPECT,
        raw: bool = False,
    ) -> Expectation[Any]:
        """Listen, then act in the block; at its end, wait for the event, which is `event` of the block's object then.

        Args:
            predicate: Which event of the kind; all of them by default.
            timeout: Counted from the start of the block.
            raw: As of `on`.

        Raises:
            ConfigurationError: As of `on`.
            CommandTimeout: It did not come.
            TargetClosed: The target is gone or crashed meanwhile.
            ConnectionClosed: The connection ended meanwhile.
        """
        method = _check(event, raw=raw)

        def subscribe(expectation: Expectation[Any]) -> Callable[[], None]:
            return self._listen(
                event, expectation.offer, raw=raw, ended=expectation.fail, crashed=expectation.fail
            )

        return Expectation(self, method, subscribe, predicate, timeout)

    def _listen(
        self,
        event: type[Event] | str,
        deliver: Callable[[Any], object],
        *,
        raw: bool = False,
        ended: Callable[[CDPError], None] | None = None,
        crashed: Callable[[CDPError], None] | None = None,
    ) -> Callable[[], None]:
        method = _check(event, raw=raw)
        decoder = None if isinstance(event, str) else decoder_for(event)
        remove = self.connection.listen(self._node, Subscription(method, deliver, decoder, ended, crashed))
        if not raw:
            self._enabling.want(method)
        return remove

    # --- children -------------------------------------------------------------------------------------------------

    async def auto_attach(
        self,
        setup: Setup | None = None,
        *,
        wait_for_debugger: bool = True,
        filter: Sequence[Mapping[str, Any]] | None = None,  # noqa: A002  # the protocol's own name
    ) -> None:
        """Attach to every frame, worker and popup that this target opens, and to theirs, from their first instruction on.

        Each child waits until `setup(child)` has returned or raised, then runs: no event is missed, none stays frozen. What
        `setup` raises goes to `Connection.on_handler_error`. Returns when the children that exist already are set up.

        A page that `Target.createTarget` opens has no renderer while it waits and answers few commands; nor has a service
        worker. When their `setup` gets no answer for 0.25 s they are let run; what was sent by then takes effect first. So send
        what it needs together, with `asyncio.gather`.

        Args:
            setup: Prepares a child, e.g. enables its domains.
            wait_for_debugger: False lets children run at once; their first events may be missed then.
            filter: `Target.TargetFilter` entries in wire form; Chrome's default without.
        """
        params: dict[str, Any] = {
            "autoAttach": True,
            "waitForDebuggerOnStart": wait_for_debugger,
            "flatten": True,
        }
        if filter is not None:
            params["filter"] = [dict(entry) for entry in filter]
        self._setup, self._auto_attach = setup, params
        await self.send("Target.setAutoAttach", params)
        preparing = self._preparing - {asyncio.current_task()}
        if preparing:
            await asyncio.wait(preparing)

    def revived(self) -> None:
        """Tell a page that was loaded again after a crash what listeners need. Called by the connection."""
        self._enabling.go_on()

    def child_attached(self, child: CDPSession, *, waiting: bool) -> None:
        """Prepare a new child, if this session attaches automatically. Called by the connection."""
        if self._auto_attach is None:
            return
        child._setup, child._auto_attach = self._setup, self._auto_attach
        child._node.ready = False
        task = self.connection.spawn(self._prepare(child, waiting=waiting))
        self._preparing.add(task)
        task.add_done_callback(self._preparing.discard)

    async def _prepare(self, child: CDPSession, *, waiting: bool) -> None:
        try:
            await self._set_up_and_release(child, waiting=waiting)
        finally:
            child._node.ready = True

    async def _set_up_and_release(self, child: CDPSession, *, waiting: bool) -> None:
        if not waiting:
            await self._set_up(child, self._auto_attach, self._setup)
            return
        work = self.connection.spawn(self._set_up(child, self._auto_attach, self._setup))
        try:
            if child.target_type in _SILENT_WHILE_WAITING:
                await self._while_it_moves(child, work)
            else:
                await asyncio.wait([work])
        finally:
            await self._release(child)
        await asyncio.wait([work])

    async def _while_it_moves(self, child: CDPSession, work: asyncio.Task[None]) -> None:
        """Wait for a setup until it is done, or has only old questions open."""
        asked: set[int] = set()
        while not work.done():
            before, asked = asked, self.connection.pending_of(child)
            if asked and asked == before:
                return
            await asyncio.wait([work], timeout=_NO_PROGRESS)

    async def _set_up(self, child: CDPSession, params: dict[str, Any] | None, setup: Setup | None) -> None:
        try:
            try:
                await child.send("Target.setAutoAttach", params)
            except CommandError as error:
                if error.code != _NO_SUCH_METHOD:  # some kinds of target have no children
                    raise
            if setup is not None:
                await setup(child)
        except (TargetClosed, ConnectionClosed) as error:
            logger.debug("%s went away while it was prepared: %s", child.describe(), error)
        except Exception as error:  # noqa: BLE001  # the setup is the user's: so is its failure
            self.connection.report(error, child, "Target.attachedToTarget")

    async def _release(self, child: CDPSession) -> None:
        try:
            await asyncio.shield(self.connection.spawn(_run_if_waiting(child)))
        except CDPError as error:
            logger.debug("%s could not be released: %s", child.describe(), error)

    async def detach(self) -> None:
        """Leave the target; it lives on. Descendants of this session end with it."""
        node = self._node
        if node.parent is None:
            raise RuntimeError("the root cannot be detached; close the connection")
        if node.gone is not None:
            return
        await self.connection.passable(node, "Target.detachFromTarget")
        node.detaching = True
        try:
            await node.parent.owner.send("Target.detachFromTarget", {"sessionId": self.id})
        except BaseException:
            node.detaching = False
            raise
        self.connection.forget(self)


async def _run_if_waiting(child: CDPSession) -> None:
    await child.send("Runtime.runIfWaitingForDebugger")


def log_handler_error(error: BaseException, session: CDPSession | None, method: str) -> None:
    """Default of `Connection.on_handler_error`."""
    if session is None:
        logger.error("a message from the browser could not be read: %s", error)
        return
    logger.error("handling %s of %s failed", method or "a message", session.describe(), exc_info=error)


def _method(event: type[Event] | str) -> str:
    if isinstance(event, str):
        return event
    if not event.METHOD:
        raise TypeError(f"{event.__name__} is no event class: it has no METHOD")
    return event.METHOD


def _check(event: type[Event] | str, *, raw: bool) -> str:
    """The name of an event, which exists; a class of the program's own vouches for itself."""
    method = _method(event)
    if isinstance(event, str) and not raw:
        check_name(event)
    return method


def _is_coroutine_function(handler: Callable[..., Any]) -> bool:
    while isinstance(handler, functools.partial):
        handler = handler.func
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(
        getattr(handler, "__call__", None)  # noqa: B004  # the method itself is asked what it is
    )
