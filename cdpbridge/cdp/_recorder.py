"""The flight recorder: the last messages of a connection as lines of text, without the secrets in them. Pure: no asyncio, no I/O.

It stands between a transport and its receiver, and only when it was asked for; without it nothing is called and nothing kept.
Messages are kept as they are and become text when they are read, so recording costs a copy. One line a message:

    2026-11-02 10:15:01.123456 => 7 9F3A1C22 Page.navigate {"url":"https://example.com/"}
    2026-11-02 10:15:01.130020 <= 7 9F3A1C22 {"frameId":"51B2...","loaderId":"77A0..."}
    2026-11-02 10:15:01.180345 <- 9F3A1C22 Page.loadEventFired {"timestamp":1042.1}
    2026-11-02 10:15:04.000101 -- closed 4001 session expired
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from cdpbridge.cdp._payload import ABSENT, Payload, as_dict, read_envelope
from cdpbridge.cdp._transport import Closed, Receiver, Transport
from cdpbridge.errors import CDPBridgeError

__all__ = ["RecordedTransport", "Recorder", "line"]

_MAX_BYTES: Final = 1024 * 1024
# of a larger message only the envelope is shown, and kept
_PARSED_BYTES: Final = 64 * 1024
# characters of a message's JSON
_SHOWN: Final = 1000
# characters of any string in it
_LONG: Final = 200
# characters of a session id
_SESSION: Final = 8

_SECRET_HEADERS: Final = frozenset(
    {"authorization", "cookie", "proxy-authorization", "set-cookie", "set-cookie2"}
)
_SECRET_KEYS: Final = _SECRET_HEADERS | {
    "cookieline",
    "headerstext",
    "rawcookieline",
    "requestheaderstext",
    "username",
}
_SECRET_ENDS: Final = ("password", "token", "secret", "api-key", "apikey", "api_key")
_COOKIE_KEYS: Final = frozenset(
    {"associatedcookies", "blockedcookies", "cookie", "cookies", "exemptedcookies"}
)
_CONTENT_KEYS: Final = frozenset({"body", "bytes", "data", "payloaddata", "postdata"})
"""Content of pages and forms: how long it is says enough. `data` of an error is no content but Chrome's explanation."""

_TYPED: Final = frozenset(
    {
        "code",
        "key",
        "keyidentifier",
        "nativevirtualkeycode",
        "text",
        "unmodifiedtext",
        "windowsvirtualkeycode",
    }
)
_SECRET_PARAMS: Final = {
    "Input.dispatchKeyEvent": _TYPED,
    "Input.imeSetComposition": _TYPED,
    "Input.insertText": _TYPED,
    "Network.setCookie": frozenset({"value"}),
}
"""What is secret in the parameters of one method only: what is typed may be a password."""

_CREDENTIALS: Final = re.compile(r"(?<=://)[^/?#\s\"']*(?=@)")
_CUT: Final = "…"


class Recorder:
    """The last messages of a connection.

    Args:
        limit: Messages kept.
        clock: Seconds since 1970.
        write: Called with each line as it is recorded, e.g. to keep a trace in a file.
        max_bytes: All messages kept together.
    """

    def __init__(
        self,
        limit: int,
        *,
        clock: Callable[[], float],
        write: Callable[[str], object] | None = None,
        max_bytes: int = _MAX_BYTES,
    ) -> None:
        if limit < 0:
            raise ValueError(f"the number of messages to record must be 0 or more, not {limit}")
        self._limit = limit
        self._clock = clock
        self._write = write
        self._max_bytes = max_bytes
        self._kept: deque[tuple[float, str, bytes]] = deque()
        self._bytes = 0

    def add(self, arrow: str, data: bytes, /) -> None:
        """Record a message, or with the arrow `--` a remark."""
        now = self._clock()
        if len(data) > _PARSED_BYTES:
            arrow, data = _summary(arrow, data)
        if self._write is not None:
            self._write(line(now, arrow, data))
        if not self._limit:
            return
        self._kept.append((now, arrow, data))
        self._bytes += len(data)
        while len(self._kept) > self._limit or self._bytes > self._max_bytes:
            self._bytes -= len(self._kept.popleft()[2])

    def lines(self) -> list[str]:
        """Return the messages that are kept as text, oldest first, without secrets."""
        return [line(*message) for message in self._kept]


class RecordedTransport:
    """A `Transport` whose messages pass a recorder, and the `Receiver` of the one inside it."""

    def __init__(
        self, inner: Transport, recorder: Recorder, *, done: Callable[[], object] | None = None
    ) -> None:
        self._inner = inner
        self._add = recorder.add
        self._done = done
        self._receiver: Receiver | None = None

    @property
    def inner(self) -> Transport:
        """The transport that carries the messages."""
        return self._inner

    def start(self, receiver: Receiver, /) -> None:
        self._receiver = receiver
        self._inner.start(self)

    def send(self, message: bytes, /) -> None:
        self._add("=>", message)
        try:
            self._inner.send(message)
        except CDPBridgeError:
            self._add("--", b"the last command was not sent")
            raise

    def close(self, code: int = 1000, reason: str = "") -> None:
        self._inner.close(code, reason)

    def abort(self) -> None:
        self._inner.abort()

    def received(self, buffer: bytes | bytearray, start: int, end: int, /) -> None:
        assert self._receiver is not None
        self._add("<-", bytes(buffer[start:end]))
        self._receiver.received(buffer, start, end)

    def pause(self) -> None:
        assert self._receiver is not None
        self._receiver.pause()

    def resume(self) -> None:
        assert self._receiver is not None
        self._receiver.resume()

    def lost(self, closed: Closed, /) -> None:
        assert self._receiver is not None
        self._add("--", f"closed {closed.code} {closed.reason}".rstrip().encode("utf-8", "backslashreplace"))
        try:
            self._receiver.lost(closed)
        finally:
            if self._done is not None:
                self._done()


def line(now: float, arrow: str, data: bytes) -> str:
    """Show one message as text in one line, secrets cut, about 1100 characters at most."""
    when = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
    if arrow == "--":
        text = _CREDENTIALS.sub(_CUT, data.decode("utf-8", "replace"))
    else:
        try:
            arrow, text = _message(arrow, data)
        except (CDPBridgeError, RecursionError, ValueError):
            # not shown: it is unknown what is secret in them
            text = f"{len(data)} bytes that are no CDP"
    text = f"{when} {arrow} {text}"
    # One line, and always encodable: also with line separators and halves of surrogate pairs in it.
    return text if text.isprintable() else "".join(char if char.isprintable() else _CUT for char in text)


def _message(arrow: str, data: bytes) -> tuple[str, str]:
    envelope = read_envelope(data)
    words = [] if envelope.id is None else [str(envelope.id)]
    words.append(envelope.sessionId[:_SESSION] or "-")
    if envelope.method is not None:
        words += [envelope.method, _shown(envelope.params, envelope.method)]
    elif envelope.error is not ABSENT:
        words += ["error", _shown(envelope.error, error=True)]
    else:
        words.append(_shown(envelope.result))
    if arrow == "<-" and envelope.method is None:
        arrow = "<="
    return arrow, " ".join(word for word in words if word)


def _shown(payload: Payload, method: str = "", *, error: bool = False) -> str:
    if payload is ABSENT:
        return ""
    hidden = _SECRET_PARAMS.get(method, frozenset())
    value = _cut(as_dict(payload), hidden=hidden, error=error)
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}{_CUT} ({len(text)} characters)"


def _cut(
    value: Any, *, hidden: frozenset[str] = frozenset(), cookie: bool = False, error: bool = False
) -> Any:
    """Cut what gives access to something out of a JSON value."""
    if isinstance(value, str):
        value = _CREDENTIALS.sub(_CUT, value)
        return value if len(value) <= _LONG else f"{value[:_LONG]}{_CUT} ({len(value)} characters)"
    if isinstance(value, list):
        return [_cut(item, cookie=cookie, error=error) for item in value]
    if not isinstance(value, dict):
        return value
    name = value.get("name")  # of a cookie, or of a header in the form {"name": ..., "value": ...}
    hidden_value = cookie or (isinstance(name, str) and _is_secret(name.lower()))
    shown: dict[str, Any] = {}
    for key, item in value.items():
        low = key.lower()
        if low in hidden or (low == "value" and hidden_value) or (_is_secret(low) and isinstance(item, str)):
            shown[key] = _CUT
        elif low in _CONTENT_KEYS and isinstance(item, str) and not error:
            shown[key] = f"{_CUT} ({len(item)} characters)"
        else:
            shown[key] = _cut(item, cookie=cookie or low in _COOKIE_KEYS, error=error)
    return shown


def _is_secret(name: str) -> bool:
    return name in _SECRET_KEYS or name.endswith(_SECRET_ENDS)


def _summary(arrow: str, data: bytes) -> tuple[str, bytes]:
    """Return the envelope of a large message, with the size in place of its content."""
    try:
        envelope = read_envelope(data)
    except (CDPBridgeError, RecursionError, ValueError):
        return "--", f"a message of {len(data)} bytes that is no CDP".encode()
    size = {_CUT: f"{len(data)} bytes"}
    message: dict[str, Any] = {"sessionId": envelope.sessionId}
    if envelope.id is not None:
        message["id"] = envelope.id
    if envelope.method is not None:
        message |= {"method": envelope.method, "params": size}
    else:
        message["result" if envelope.error is ABSENT else "error"] = size
    return arrow, json.dumps(message).encode()
