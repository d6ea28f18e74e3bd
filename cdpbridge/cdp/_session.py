"""`CDPSession`: one attachment to one target, and everything a program does with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar, overload

from msgspec import Raw

from cdpbridge._concurrency import is_coroutine_function
from cdpbridge.cdp._auto_attach import AutoAttach, Setup
from cdpbridge.cdp._domains import check_name
from cdpbridge.cdp._enabling import Enabling
from cdpbridge.cdp._payload import UNREADABLE, as_dict, as_type, dict_decoder
from cdpbridge.cdp._routing import Subscription
from cdpbridge.cdp._stream import EventStream, Expectation, Worker
from cdpbridge.errors import CDPError
from cdpbridge.protocol._base import Command, Event, decoder_for, decoders

if TYPE_CHECKING:
    from cdpbridge.cdp._connection import Connection
    from cdpbridge.cdp._link import Link
    from cdpbridge.cdp._targets import Node

__all__ = ["CDPSession", "Setup", "Wiring", "open_dialog", "when_ended"]

T = TypeVar("T")
E = TypeVar("E", bound=Event)

_DEFAULT_EXPECT: Final = timedelta(seconds=30)


class Wiring:
    """What the link calls of one session, beside the `CDPSession` that users see. The node's `owner`."""

    __slots__ = ("auto_attach", "enabling", "link", "node", "session")

    def __init__(self, link: Link, node: Node, new_session: Callable[[Wiring], CDPSession]) -> None:
        self.link = link
        self.node = node
        self.enabling = Enabling(link, node)
        self.auto_attach = AutoAttach(link, node)
        self.session = new_session(self)


class CDPSession:
    """One attachment to one target, in flat mode. Made by `Connection`, never directly.

    Attributes:
        connection: The connection it lives on.
    """

    def __init__(self, connection: Connection, wiring: Wiring) -> None:
        self.connection = connection
        self._wiring = wiring
        self._link = wiring.link
        self._node = wiring.node

    def __repr__(self) -> str:
        state = f", {self.closed}" if self.closed else ""
        return f"<CDPSession {self.describe()}{state}>"

    @property
    def id(self) -> str:
        """Session id in messages; `""` for the root. A reconnect gives the session another."""
        return self._node.session_id

    @property
    def target_id(self) -> str:
        """Id of the target; `""` when the browser has not sent it."""
        return self._node.target_id

    @property
    def target_type(self) -> str:
        """Kind of the target as Chrome names it, e.g. `"page"`, `"iframe"`, `"worker"`; new ones come with new versions."""
        return self._node.target_type

    @property
    def parent(self) -> CDPSession | None:
        """The session this one was attached through."""
        parent = self._node.seen_parent
        return parent.owner.session if parent is not None else None

    @property
    def children(self) -> list[CDPSession]:
        """Sessions attached through this one."""
        return [child.owner.session for child in self._node.seen_children]

    @property
    def closed(self) -> str | None:
        """Reason of its end: `"closed"`, `"crashed"`, `"detached"`, `"parent"` or `"connection"`; None while it lives."""
        if self._node.closed is None and self.connection.closed:
            return "connection"
        return self._node.closed

    def describe(self) -> str:
        """Return the target in a few words, for messages."""
        return self._node.describe()

    def hint(self, event: str | None = None) -> str | None:
        """Return what is known to hold up the target, e.g. an open dialog; None when nothing is.

        Args:
            event: Or to hold back this event, e.g. that its domain is not enabled.
        """
        silent = None if event is None else self._wiring.enabling.silence(event)
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
        """Send a command and return the browser's reply.

        Args:
            command: A `Command`, whose reply becomes its class, or a method name, whose reply is a dict.
            params: Parameters by the protocol's names, with a method name only.
            timeout: How long to wait; default: the connection's `command_timeout`.

        Raises:
            CommandError: The browser refused.
            CommandTimeout: No reply in time; the connection goes on.
            TargetClosed: The target has closed, or closed before it replied.
            ConnectionClosed: The connection ended; `sent` tells whether the command may have run.
            DecodeError: The reply is not what the command promises.
            MessageTooBig: The command is larger than Chromium reads.
        """
        # Not in a coroutine of the link's own: that alone takes 0.3 us a command.
        link, node = self._link, self._node
        decoder: Any = dict_decoder
        # `isinstance` alone takes five times as long to say that something is no `str`.
        if type(command) is not Command and isinstance(command, str):
            method = command
        elif params is None:
            method, params, kind = command.method, command.params or None, command.result_type
            decoder = decoders.get(kind) or (decoder_for(kind) if kind is not None else None)
        else:
            raise TypeError("params go with a method name; a Command has its own")
        if link.send_blocked:
            await link.wait_sendable(node, method, timeout)
            await self._wiring.enabling.before(method, timeout)
        command_id, waiter = link.begin(node, method, params, timeout)
        try:
            result = await waiter
        except BaseException:
            link.forget(command_id)
            raise
        if decoder is None:
            return None
        if type(result) is Raw:
            try:
                return decoder.decode(result)
            except UNREADABLE:
                pass  # what follows reads more, and says what is wrong
        return as_dict(result) if decoder is dict_decoder else as_type(result, decoder)

    # --- events ---------------------------------------------------------------------------------------------------

    @overload
    def on(
        self,
        event: type[E],
        handler: Callable[[E], object],
        /,
        *,
        raw: bool = False,
    ) -> Callable[[], None]: ...

    @overload
    def on(
        self,
        event: str,
        handler: Callable[[dict[str, Any]], object],
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

        A plain function is called in place, in the order of arrival, so it must be quick. A coroutine function has a bounded queue of
        its own, is called with one event after another, and may send commands and wait.

        Args:
            event: An event class, and the handler gets its instances, or a method name, and it gets dicts of the
                protocol's names, shared with other handlers.
            raw: Take a name as it is, e.g. of a newer browser's event, and enable nothing.

        Raises:
            ConfigurationError: There is no event of that name.
        """
        if is_coroutine_function(handler):
            method = _method(event)
            worker = Worker(
                handler,
                report=lambda error, event: self._link.failed(error, self._node, method, event),
                run=self._link.run,
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
        """Return the events of one or more kinds as an async iterator, in the order of arrival.

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
            TargetClosed: The target closed or crashed meanwhile.
            ConnectionClosed: The connection ended meanwhile.
        """
        method = _check(event, raw=raw)

        def subscribe(offer: Callable[[Any], None], fail: Callable[[CDPError], None]) -> Callable[[], None]:
            return self._listen(event, offer, raw=raw, ended=fail, crashed=fail)

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
        remove = self._link.listen(self._node, Subscription(method, deliver, decoder, ended, crashed))
        if not raw:
            self._wiring.enabling.want(method)
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
        `setup` raises goes to `on_handler_error`, see `connect`. Returns when the children that exist already are set up.

        A page that `Target.createTarget` opens has no renderer while it waits and answers few commands; nor has a service
        worker. When their `setup` gets no answer for 0.25 s they are let run; what was sent by then takes effect first. So send
        what it needs together, with `asyncio.gather`. Another call adds its setup to those before, for children to come.

        Args:
            setup: Prepares a child, e.g. enables its domains.
            wait_for_debugger: False lets children run at once; their first events may be missed then.
            filter: `Target.TargetFilter` entries by the protocol's names; default: Chrome's own.
        """
        params: dict[str, Any] = {
            "autoAttach": True,
            "waitForDebuggerOnStart": wait_for_debugger,
            "flatten": True,
        }
        if filter is not None:
            params["filter"] = [dict(entry) for entry in filter]
        await self._wiring.auto_attach.begin(params, setup)

    async def detach(self) -> None:
        """Detach from the target, which lives on. Descendants of this session end with it."""
        node = self._node
        if node.parent is None:
            raise RuntimeError("the root cannot be detached; close the connection")
        if node.closed is not None:
            return
        await self._link.wait_ready(node, "Target.detachFromTarget")
        node.detaching = True
        try:
            await node.parent.owner.session.send("Target.detachFromTarget", {"sessionId": self.id})
        except BaseException:
            node.detaching = False
            raise
        self._link.detach(node)


def when_ended(
    session: CDPSession, handler: Callable[[CDPError], None], *, crashes: bool = False
) -> Callable[[], None]:
    """Call `handler` once, with the reason, when a session ends, or its connection; call the returned function to stop.

    Args:
        session: Which one.
        handler: A plain function.
        crashes: Call it each time its renderer crashes, too.

    Raises:
        TargetClosed: It has ended already.
        ConnectionClosed: So has its connection.
    """
    subscription = Subscription(
        "Inspector.detached", lambda _event: None, ended=handler, crashed=handler if crashes else None
    )
    return session._link.listen(session._node, subscription)  # noqa: SLF001  # of a class of this file


def announcer(session: CDPSession) -> CDPSession:
    """Return the session that hears of the end of a session; for the root, itself."""
    parent = session._node.parent  # noqa: SLF001  # of a class of this file
    announcing: CDPSession = session if parent is None else parent.owner.session
    return announcing


def open_dialog(session: CDPSession) -> dict[str, Any] | None:
    """Return the dialog of a page that is open, as `Page.javascriptDialogOpening` describes it, if one is known to be."""
    return session._node.dialog  # noqa: SLF001  # of a class of this file


def _method(event: type[Event] | str) -> str:
    if isinstance(event, str):
        return event
    if not event.METHOD:
        raise TypeError(f"{event.__name__} is no event class: it has no METHOD")
    return event.METHOD


def _check(event: type[Event] | str, *, raw: bool) -> str:
    """Return the name of an event, which must exist; a class of the program's own is not checked."""
    method = _method(event)
    if isinstance(event, str) and not raw:
        check_name(event)
    return method
