"""From bytes to values: the envelope of a message, and the payload inside it. Pure: no asyncio, no I/O.

msgspec reads nearly everything. The general reader behind it takes what msgspec refuses and Chromium still sends: half of a
surrogate pair (the high half alone), numbers beyond Python's limits, and the loose shapes of other servers.
"""

from __future__ import annotations

import codecs
import json
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Raw

from cdpbridge.errors import DecodeError

__all__ = [
    "ABSENT",
    "SESSION_START",
    "SESSION_TAIL",
    "UNREADABLE",
    "Envelope",
    "FullCommand",
    "LargeResult",
    "Payload",
    "Reply",
    "as_dict",
    "as_type",
    "check_utf8",
    "decode_reply",
    "dict_decoder",
    "encode",
    "encode_full",
    "read_envelope",
]

T = TypeVar("T")

Payload = Raw | Any
"""`Raw` in nearly all cases; a `LargeResult`; a value when the general reader had to do it."""

ABSENT: Final = Raw(b"")

# bytes that are checked at a time; they stay in the processor's cache
_PIECE: Final = 64 * 1024

SESSION_START: Final = b',"sessionId":"'
SESSION_TAIL: Final = 48
"""Bytes of `SESSION_START`, 32 hexadecimal digits, and `"}`: the end of a message in a session."""

UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError)


class Envelope(msgspec.Struct):
    """A message whose content is not decoded yet."""

    id: int | None = None
    method: str | None = None
    params: Payload = ABSENT
    result: Payload = ABSENT
    error: Payload = ABSENT
    sessionId: str = ""  # noqa: N815  # the protocol's name; a rename costs nothing but says less


class _Command(msgspec.Struct, omit_defaults=True, gc=False):
    id: int
    method: str
    params: Any = None
    sessionId: str = ""  # noqa: N815  # as above


class FullCommand(msgspec.Struct, gc=False):
    """The usual command: to look for defaults takes msgspec 0.2 us."""

    id: int
    method: str
    params: Any
    sessionId: str  # noqa: N815  # as above


class LargeResult:
    """The result of a large reply, not read yet.

    Where it ends is known by position when it is written as Chromium writes it. So it is read once, by the caller that knows into
    what, and not before to find its end, which holds up the event loop for 5 ms in 32 MB.

    Args:
        message: The whole reply.
        start: Where the result begins.
    """

    __slots__ = ("_message", "_start")

    def __init__(self, message: bytes | bytearray, start: int) -> None:
        self._message = message
        self._start = start

    def decode(self, decoder: msgspec.json.Decoder[T]) -> T:
        """Decode it where it stands by position; raises one of `UNREADABLE` when something else stands there."""
        message = self._message
        tail = SESSION_TAIL if message.startswith(SESSION_START, -SESSION_TAIL) else 1
        return decoder.decode(memoryview(message)[self._start : -tail])

    def read(self) -> Payload:
        """Read the whole message.

        Raises:
            DecodeError: It is no JSON object, or has no result.
        """
        result = read_envelope(self._message).result
        if result is ABSENT:
            raise DecodeError("a reply without a result", raw=bytes(self._message[:1000]))
        return result


class Reply(msgspec.Struct, gc=False):
    """A reply, which is found by its id alone: half the time of an `Envelope`."""

    id: int
    result: Raw = ABSENT
    error: Raw = ABSENT


class _StrictEnvelope(msgspec.Struct):
    id: int | None = None
    method: str | None = None
    params: Raw = ABSENT
    result: Raw = ABSENT
    error: Raw = ABSENT
    sessionId: str = ""  # noqa: N815  # as above


_decode_envelope: Final = msgspec.json.Decoder(_StrictEnvelope).decode
decode_reply: Final = msgspec.json.Decoder(Reply).decode
"""A message as a `Reply`; raises `msgspec.DecodeError` or another of `UNREADABLE` when it is none."""
dict_decoder: Final[msgspec.json.Decoder[Any]] = msgspec.json.Decoder(dict[str, Any])
"""Of a reply or event without a class."""
_decode_dict: Final[Callable[[Payload], dict[str, Any]]] = dict_decoder.decode
_decode_any: Final = msgspec.json.Decoder().decode
_encode: Final = msgspec.json.Encoder().encode
encode_full: Final[Callable[[FullCommand], bytes]] = _encode
"""A `FullCommand` as bytes; raises `UnicodeEncodeError` for half of a surrogate pair, which `encode` can write."""


def check_utf8(data: bytes | bytearray) -> None:
    """Check a message, in pieces: of a large one no copy is made.

    Raises:
        UnicodeDecodeError: It is no UTF-8.
    """
    size = len(data)
    if size <= _PIECE:
        str(data, "utf-8")
        return
    view, at = memoryview(data), 0
    while at < size:
        at += codecs.utf_8_decode(view[at : at + _PIECE], "strict", at + _PIECE >= size)[1]


def encode(command_id: int, method: str, params: Mapping[str, Any] | None, session_id: str) -> bytes:
    """Encode a command: these four keys and never another, which Chromium would refuse.

    Raises:
        TypeError: A parameter has no JSON form.
    """
    try:
        if session_id and params is not None:
            return encode_full(FullCommand(command_id, method, params, session_id))
        return _encode(_Command(command_id, method, params, session_id))
    except UnicodeEncodeError:  # a lone surrogate, which JSON can carry as an escape
        plain: dict[str, Any] = {"id": command_id, "method": method, "params": msgspec.to_builtins(params)}
        if session_id:
            plain["sessionId"] = session_id
        return json.dumps(plain).encode()


def read_envelope(data: bytes | bytearray) -> Envelope | _StrictEnvelope:
    """Read the envelope of a message.

    Raises:
        DecodeError: It is no JSON object.
    """
    try:
        return _decode_envelope(data)
    except UNREADABLE:
        pass
    try:
        message = _loads(data)
    except UNREADABLE as error:
        raise DecodeError(f"a message of {len(data)} bytes is not JSON", raw=bytes(data[:1000])) from error
    if not isinstance(message, dict):
        raise DecodeError(f"a message of {len(data)} bytes is no JSON object", raw=bytes(data[:1000]))
    number, method, session_id = message.get("id"), message.get("method"), message.get("sessionId")
    if isinstance(number, float) and number.is_integer():
        number = int(number)
    return Envelope(
        id=number if isinstance(number, int) and not isinstance(number, bool) else None,
        method=method if isinstance(method, str) else None,
        params=message.get("params", ABSENT),
        result=message.get("result", ABSENT),
        error=message.get("error", ABSENT),
        sessionId=session_id if isinstance(session_id, str) else "",
    )


def as_dict(payload: Payload) -> dict[str, Any]:
    """Decode the payload as a dict of the protocol's names; an absent one is empty.

    Raises:
        DecodeError: It is no JSON object.
    """
    if type(payload) is Raw:
        try:
            return _decode_dict(payload)
        except UNREADABLE:
            if payload is ABSENT:
                return {}
    elif type(payload) is LargeResult:
        try:
            return payload.decode(dict_decoder)
        except UNREADABLE:
            payload = payload.read()
    value = _value(payload) if isinstance(payload, Raw) else payload
    if not isinstance(value, dict):
        raise DecodeError("expected a JSON object", raw=_first_bytes(payload))
    return value


def as_type(payload: Payload, decoder: msgspec.json.Decoder[T]) -> T:
    """Decode the payload as the decoder's class.

    Raises:
        DecodeError: It does not fit.
    """
    if type(payload) is LargeResult:
        try:
            return payload.decode(decoder)
        except UNREADABLE:
            payload = payload.read()
    try:
        if isinstance(payload, Raw):
            try:
                return decoder.decode(payload if payload is not ABSENT else b"{}")
            except msgspec.ValidationError:
                raise
            except UNREADABLE:
                payload = _value(payload)
        return msgspec.convert(payload, decoder.type, strict=False)
    except UNREADABLE as error:
        kind = getattr(decoder.type, "__name__", str(decoder.type))
        raise DecodeError(f"does not fit {kind}: {error}", raw=_first_bytes(payload)) from error


def _value(payload: Raw) -> Any:
    try:
        return _decode_any(payload)
    except UNREADABLE:
        pass
    try:
        return _loads(bytes(payload))
    except UNREADABLE as error:
        raise DecodeError("a payload is not JSON", raw=_first_bytes(payload)) from error


def _loads(data: bytes | bytearray) -> Any:
    return json.loads(data, parse_int=_integer, parse_constant=_refuse)


def _integer(digits: str) -> int | float:
    """Read an integer as JavaScript does when it is longer than Python's guard against slow conversions allows."""
    limit = sys.get_int_max_str_digits()
    return int(digits) if not limit or len(digits.lstrip("-")) <= limit else float(digits)


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


def _first_bytes(payload: Payload) -> bytes:
    if isinstance(payload, Raw):
        return bytes(memoryview(payload)[:1000])
    return json.dumps(payload, default=str).encode()[:1000]
