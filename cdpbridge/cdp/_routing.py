"""What the multiplexer routes between: callers that wait, listeners, and the shell above. Pure: no asyncio, no I/O."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from cdpbridge.cdp._payload import Payload
from cdpbridge.cdp._targets import Node
from cdpbridge.errors import CDPError

__all__ = ["Pending", "Shell", "Stats", "Subscription", "Waiter"]


class Waiter(Protocol):
    """Who waits for a reply; an asyncio Future is one."""

    def done(self) -> bool: ...

    def set_result(self, result: Any, /) -> None: ...

    def set_exception(self, exception: Any, /) -> None: ...


class Shell(Protocol):
    """What the multiplexer tells its owner."""

    def attached(self, node: Node, *, waiting: bool) -> None:
        """A new attachment; `waiting` for `Runtime.runIfWaitingForDebugger` if True."""

    def gone(self, node: Node) -> None:
        """An attachment ended; its reason is in `node.gone`."""

    def failed(self, error: BaseException, node: Node | None, method: str, params: Payload) -> None:
        """A handler raised, or a message could not be read (`node` None, `method` empty: of nobody in particular)."""


@dataclass(slots=True)
class Stats:
    """Counters of a connection.

    Attributes:
        commands: Commands sent.
        replies: Replies that found their caller.
        events: Events handed to somebody.
        events_dropped: Events nobody listened to.
        late_replies: Replies to commands given up before: timed out, cancelled, target gone.
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
        decoder: Of the event's class, or None for a dict with the wire's names.
        deliver: Called in place with each event.
        ended: Called once when the node or the connection ends.
        crashed: Called when the node's renderer crashes.
    """

    __slots__ = ("active", "crashed", "decoder", "deliver", "ended", "method")

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
        self.ended = ended
        self.crashed = crashed
        self.active = True


class Pending:
    """A command without a reply yet."""

    __slots__ = ("deadline", "method", "node", "number", "since", "waiter")

    def __init__(  # noqa: PLR0917  # the hot path; keywords cost
        self, node: Node, method: str, waiter: Waiter, since: float, deadline: float, number: int
    ) -> None:
        self.node = node
        self.method = method
        self.waiter = waiter
        self.since = since
        self.deadline = deadline
        self.number = number
