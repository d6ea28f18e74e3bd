"""The first look at each message: what nearly all messages need, and nothing else. Pure: no asyncio, no I/O.

Chromium writes `{"method":"...","params":{...},"sessionId":"..."}` and `{"id":N,"result":{...}}`, in this order and without a
blank. Of a message that begins so, little has to be read:

* an event without a listener is dropped after one comparison of its first bytes, before it is copied or decoded;
* a heard event's `params` are cut out by position and decoded once for each form that its listeners want;
* a reply with a result goes to the caller that waits for its id.

A message that looks different in any way is handed on to the `Multiplexer`, which reads it in full and says what is wrong with it. A
function call less for each message is why these few lines are one function, in a class that does not know the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from msgspec import Raw

from cdpbridge.cdp._payload import (
    ABSENT,
    SESSION_START,
    SESSION_TAIL,
    UNREADABLE,
    LargeResult,
    Reply,
    check_utf8,
    decode_reply,
)
from cdpbridge.cdp._routing import Pending, Shell, Stats, deliver, refuse_coroutine
from cdpbridge.cdp._targets import Targets

__all__ = ["Intake"]

_EVENT_START: Final = b'{"method":"'
_PARAMS: Final = b',"params":{'
_REPLY_START: Final = b'{"id":'
_RESULT: Final = b',"result":{'
# bytes; of a shorter reply, to look for the end of its result by position takes as long as to read it
_LARGE: Final = 64 * 1024
# bytes; of a shorter event nothing is remembered
_LOOK: Final = 64
_LOOK_AT_ALL: Final = 8
_EVENT_MARK: Final = ord("m")  # of `{"method"`
_REPLY_MARK: Final = ord("i")  # of `{"id"`
_HEADS: Final = 256
# the longest method of the protocol has 61 characters
_METHOD_LIMIT: Final = 160


class Intake:
    """Takes messages in; `feed` is what a transport calls.

    Args:
        targets: Where events go.
        observed: Methods whose events the multiplexer itself must see.
        other: Takes `(message, reply, pending)` when there is more to it: `reply` is None, or what was read of it, and
            `pending` the command that it answers.

    Attributes:
        pending: Commands without a reply, by id. It stays the same dict.
        ended: The connection is over; nothing is found wrong with what comes now.
    """

    def __init__(
        self,
        targets: Targets,
        stats: Stats,
        shell: Shell,
        observed: Iterable[str],
        other: Callable[[bytes | bytearray, Reply | None, Pending | None], None],
    ) -> None:
        self.pending: dict[int, Pending] = {}
        self.ended = False
        self._targets = targets
        self._nodes = targets.nodes
        self._stats = stats
        self._shell = shell
        self._observed = frozenset(observed)
        self._other = other
        self._wanted = {method.encode(): 1 for method in self._observed}  # to the number of its listeners
        # start of a message, method (None: unheard), where `params` begin
        self._heads: dict[int, tuple[bytes, str | None, int]] = {}
        self._tail, self._tail_id = b"\0", ""  # end of the last event's message, and the session id in it

    def want(self, method: str) -> None:
        """Count one more listener to a method, on any session."""
        key = method.encode()
        self._wanted[key] = self._wanted.get(key, 0) + 1
        self._heads.clear()

    def unwant(self, method: str) -> None:
        """Count one listener less."""
        key = method.encode()
        self._wanted[key] -= 1
        if not self._wanted[key]:
            del self._wanted[key]
            self._heads.clear()

    def feed(self, buffer: bytes | bytearray, start: int, end: int) -> None:
        """Take one message, `buffer[start:end]`.

        Raises:
            UnicodeDecodeError: It has a listener or a caller, and is no UTF-8.
        """
        size = end - start
        mark = buffer[start + 2] if size > _LOOK_AT_ALL else 0
        if mark == _EVENT_MARK:
            known = self._heads.get(buffer[start + 21] << 8 | buffer[start + 36]) if size > _LOOK else None
            if known is not None and buffer.startswith(known[0], start, end):
                if known[1] is None:
                    self._stats.events_dropped += 1
                    return
                if self._known_event(known[1], buffer, start + known[2], end):
                    return
            elif self._learn(buffer, start, end):
                self._stats.events_dropped += 1
                return
        data = buffer[start:end] if start or end != len(buffer) else buffer
        if not data.isascii() and not self.ended:
            check_utf8(data)
        if size > _LARGE and mark == _REPLY_MARK and self._large_reply(data):
            return
        if mark != _REPLY_MARK:
            self._other(data, None, None)
            return
        try:
            reply = decode_reply(data)
        except UNREADABLE:
            self._other(data, None, None)
            return
        pending = self.pending.pop(reply.id, None)
        if pending is None or reply.result is ABSENT or pending.node.crash is not None:
            self._other(data, reply, pending)
            return
        self._stats.replies += 1
        waiter = pending.waiter
        if not waiter.done():
            waiter.set_result(reply.result)

    def _large_reply(self, data: bytes | bytearray) -> bool:
        """Give a large reply to its caller unread; False: nothing was done, read it."""
        at = data.find(_RESULT, 0, _LOOK)
        digits = data[len(_REPLY_START) : at] if at > 0 and data.startswith(_REPLY_START) else b""
        command_id = int(digits) if digits.isdigit() else 0
        pending = self.pending.get(command_id)
        if pending is None or pending.node.crash is not None:
            return False
        del self.pending[command_id]
        self._stats.replies += 1
        if not pending.waiter.done():
            pending.waiter.set_result(LargeResult(data, at + len(_RESULT) - 1))
        return True

    def _learn(self, buffer: bytes | bytearray, start: int, end: int) -> bool:
        """Remember how events of this method begin; return True if it has no listener.

        Two bytes of the method choose the entry, and the last method has it. An entry is trusted only when the message
        begins with all of its bytes.
        """
        if not buffer.startswith(_EVENT_START, start, end):
            return False
        quote = buffer.find(b'"', start + 11, min(end, start + _METHOD_LIMIT))
        if quote < 0:
            return False
        method = bytes(buffer[start + 11 : quote])
        unheard = method not in self._wanted
        if unheard:
            if b"\\" in method:
                return False
            known: tuple[bytes, str | None, int] = (bytes(buffer[start : quote + 1]), None, 0)
        elif buffer.startswith(_PARAMS, quote + 1, end) and (name := method.decode()) not in self._observed:
            known = (bytes(buffer[start : quote + 12]), name, quote + 11 - start)
        else:
            return False
        if end - start > _LOOK:
            if len(self._heads) >= _HEADS:
                self._heads.clear()
            self._heads[buffer[start + 21] << 8 | buffer[start + 36]] = known
        return unheard

    def _known_event(self, method: str, buffer: bytes | bytearray, at: int, end: int) -> bool:
        """Deliver an event whose `params` start at `at`, without an envelope; False: nothing was done, decode it in full.

        The end of the message is that of `params`, or `,"sessionId":"` with 32 characters. Whatever else stands there makes
        `params` unreadable, and the full decoder is asked.
        """
        if buffer.endswith(self._tail, at, end):
            node = self._nodes.get(self._tail_id)
            last = end - SESSION_TAIL
        elif buffer.startswith(SESSION_START, end - SESSION_TAIL, end):
            last = end - SESSION_TAIL
            session_id = buffer[end - 34 : end - 2].decode("latin-1")
            node = self._nodes.get(session_id)
            if node is not None:
                self._tail, self._tail_id = bytes(buffer[last:end]), session_id
        else:
            node = self._targets.root if buffer.endswith(b"}}", at, end) else None
            last = end - 1
        if node is None:
            return False
        subscriptions = node.listeners.get(method)
        if subscriptions is None:
            self._stats.events_dropped += 1
            return True
        data = buffer[at:last]
        if not data.isascii() and not self.ended:
            check_utf8(data)
        subscription = subscriptions[0]
        try:
            event = subscription.decode(data)
        except Exception:  # noqa: BLE001  # the full decoder reads more, and says what is wrong
            return False
        self._stats.events += 1
        if len(subscriptions) > 1:
            params = Raw(bytes(data))
            deliver(self._shell, node, method, params, subscriptions, known={subscription.decoder: event})
            return True
        try:
            result = subscription.deliver(event)
            if result is not None:
                refuse_coroutine(subscription.deliver, result)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001  # a handler's failure, cancellation included, is not the reader's
            self._shell.failed(error, node, method, Raw(bytes(data)))
        return True
