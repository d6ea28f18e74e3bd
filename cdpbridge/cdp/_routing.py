"""What the multiplexer routes between: waiting callers, listeners, and the shell above. Pure: no asyncio, no I/O."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from cdpbridge.cdp._payload import Payload, as_dict, as_type
from cdpbridge.cdp._targets import Node
from cdpbridge.cdp._transport import Closed
from cdpbridge.errors import CDPError, CommandError, ConnectionClosed, DecodeError, MessageTooBig

__all__ = [
    "ExplainEnd",
    "Pending",
    "Remembering",
    "Shell",
    "Stats",
    "Subscription",
    "Waiter",
    "command_error",
    "deliver",
    "end_error",
    "fail",
]


_decode_any = msgspec.json.Decoder().decode

ExplainEnd = Callable[[ConnectionClosed], CDPError]
"""Called with the error that a call gets from the end of the connection; returns what is raised instead, or the same."""


class Waiter(Protocol):
    """A caller that waits for a reply; an asyncio Future is one."""

    def done(self) -> bool: ...

    def set_result(self, result: Any, /) -> None: ...

    def set_exception(self, exception: Any, /) -> None: ...


class Shell(Protocol):
    """What the multiplexer reports to its owner."""

    def attached(self, node: Node, *, waiting: bool) -> None:
        """Take a new attachment; `waiting` for `Runtime.runIfWaitingForDebugger` if True."""

    def returned(self, node: Node, *, waiting: bool) -> None:
        """Take back a suspended attachment, which has a new id; `waiting` as above."""

    def revived(self, node: Node) -> None:
        """Note that a crashed target has a renderer again."""

    def ended(self, node: Node) -> None:
        """Note that an attachment has ended; the reason is in `node.closed`."""

    def failed(self, error: BaseException, node: Node | None, method: str, params: Payload) -> None:
        """Report that a handler raised, or a message could not be read (`node` None and `method` empty: of no session)."""


@dataclass(slots=True)
class Stats:
    """Counters of a connection.

    Attributes:
        commands: Commands sent.
        replies: Replies that found their caller.
        events: Events delivered to a listener.
        events_dropped: Events without a listener.
        late_replies: Replies to commands abandoned before: timed out, cancelled, target closed.
        duplicate_replies: Second replies to one id.
        unknown_ids: Replies to ids never sent.
        unaddressed_errors: Errors without an id.
        protocol_violations: Messages that are no CDP.
    """

    commands: int = 0
    replies: int = 0
    events: int = 0
    events_dropped: int = 0
    late_replies: int = 0
    duplicate_replies: int = 0
    unknown_ids: int = 0
    unaddressed_errors: int = 0
    protocol_violations: int = 0


class Subscription:
    """One listener to one method on one node.

    Attributes:
        decoder: Of the event's class, or None for a dict with the protocol's names.
        decode: What makes an event of well-formed parameters; raises for all others.
        deliver: Called in place with each event.
        ended: Called once when the node or the connection ends.
        crashed: Called when the node's renderer crashes.
    """

    __slots__ = ("active", "crashed", "decode", "decoder", "deliver", "ended", "method")

    def __init__(
        self,
        method: str,
        deliver: Callable[[Any], object],
        decoder: msgspec.json.Decoder[Any] | None = None,
        ended: Callable[[CDPError], None] | None = None,
        crashed: Callable[[CDPError], None] | None = None,
    ) -> None:
        self.method = method
        self.deliver = deliver
        self.decoder = decoder
        self.decode: Callable[[Any], Any] = _decode_any if decoder is None else decoder.decode
        self.ended = ended
        self.crashed = crashed
        self.active = True


class Pending(msgspec.Struct):
    """A command without a reply yet. A Struct is made in a quarter of a class's time; the collector must see it."""

    node: Node
    method: str
    waiter: Any
    since: float
    deadline: float
    number: int


class Remembering:
    """A waiter in front of another: notes what its command does to the session, whether the other still waits or not.

    Args:
        note: Called with the node, method, a copy of the parameters, and the result; returns the caller's result.
    """

    __slots__ = ("_method", "_node", "_note", "_params", "_waiter")

    def __init__(
        self,
        node: Node,
        method: str,
        params: Mapping[str, Any] | None,
        waiter: Waiter,
        note: Callable[[Node, str, dict[str, Any], Payload], Payload],
    ) -> None:
        self._node = node
        self._method = method
        self._params: dict[str, Any] = copy.deepcopy(dict(params or {}))
        self._waiter = waiter
        self._note = note

    def done(self) -> bool:
        return False

    def set_result(self, result: Payload, /) -> None:
        result = self._note(self._node, self._method, self._params, result)
        if not self._waiter.done():
            self._waiter.set_result(result)

    def set_exception(self, exception: Any, /) -> None:
        if not self._waiter.done():
            self._waiter.set_exception(exception)


def end_error(closed: Closed, doing: str = "", *, sent: bool | None = None) -> CDPError:
    """Return the error of a call when the transport has ended."""
    cause = closed.cause
    if isinstance(cause, MessageTooBig):
        what = f"{doing}: {cause}" if doing else str(cause)
        return MessageTooBig(what, limit_bytes=cause.limit_bytes, size_bytes=cause.size_bytes)
    return ConnectionClosed(closed.code, closed.reason, sent=sent, doing=doing)


def fail(pending: Pending, error: CDPError) -> None:
    """Raise `error` in the caller, if it still waits."""
    if not pending.waiter.done():
        pending.waiter.set_exception(error)


def command_error(method: str, payload: Payload) -> CDPError:
    """Return the error in a reply."""
    try:
        error = as_dict(payload)
    except DecodeError as problem:
        return DecodeError(f"{method}: the error in the reply is no JSON object", raw=problem.raw)
    code = error.get("code")
    return CommandError(
        method, code if isinstance(code, int) else 0, str(error.get("message", "")), error.get("data")
    )


def deliver(
    shell: Shell,
    node: Node,
    method: str,
    params: Payload,
    subscriptions: tuple[Subscription, ...],
    *,
    known: dict[Any, Any] | None = None,
) -> None:
    """Hand an event to its subscriptions; what fails is reported to `shell`, and the others get it.

    Args:
        known: Forms of the event that are made already, by decoder.
    """
    # each form of the event is made once
    decoded: dict[Any, Any] = known or {}
    for subscription in subscriptions:
        if not subscription.active:
            continue
        decoder = subscription.decoder
        try:
            if decoder in decoded:
                event = decoded[decoder]
            else:
                event = as_dict(params) if decoder is None else as_type(params, decoder)
                decoded[decoder] = event
            result = subscription.deliver(event)
            if result is not None:
                refuse_coroutine(subscription.deliver, result)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001  # a handler's failure, cancellation included, is not the reader's
            shell.failed(error, node, method, params)


def refuse_coroutine(handler: object, result: object) -> None:
    """Report a plain handler that returned a coroutine: it has done nothing yet."""
    if inspect.iscoroutine(result):
        result.close()
        raise TypeError(
            f"the handler {handler!r} returned a coroutine, which is never awaited: make it an async function"
        )
