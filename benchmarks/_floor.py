"""The bare floor: the least that a CDP client in Python can do per message, and nothing a user would want besides.

An `asyncio.BufferedProtocol` with its own frame parser, one msgspec pass into an envelope whose `params` and `result` stay raw,
a dict of handlers, and writes joined once per loop turn. No handler guards, no deadlines, no cancellation, no ids that are
freed, a mask of zeros, no UTF-8 check, no close handshake, no fragments, no limits. `peek` looks at the method first and skips
events that nobody listens to.
"""

from __future__ import annotations

import asyncio
import base64
import os
import struct
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Raw

_ABSENT = Raw(b"")
_FIRST_BUFFER = 16 * 1024
_LARGEST_BUFFER = 256 * 1024


class _In(msgspec.Struct, gc=False):
    id: int = 0
    method: str = ""
    params: Raw = _ABSENT
    result: Raw = _ABSENT
    sessionId: str = ""  # noqa: N815


class _Out(msgspec.Struct, gc=False, omit_defaults=True):
    id: int
    method: str
    params: Any = None
    sessionId: str = ""  # noqa: N815


_decode = msgspec.json.Decoder(_In).decode
_decode_any = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


class Floor(asyncio.BufferedProtocol):
    """One connection; `peek` decides whether unheard events are skipped before they are decoded."""

    def __init__(self, *, peek: bool) -> None:
        self.loop = asyncio.get_running_loop()
        self.opened = self.loop.create_future()
        self.buffer = bytearray(_FIRST_BUFFER)
        self.view = memoryview(self.buffer)
        self.filled = 0
        self.number = 0
        self.waiting: dict[int, asyncio.Future[Raw]] = {}
        self.handlers: dict[tuple[str, str], tuple[Callable[[Raw], Any], Callable[[Any], object]]] = {}
        self.wanted: set[bytes] = set()
        self.out: list[bytes] = []
        self.peek = peek

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.view[self.filled :]

    def buffer_updated(self, count: int) -> None:
        self.filled += count
        if self.opened.done():
            self.parse()
        else:
            end = self.buffer.find(b"\r\n\r\n", 0, self.filled) + 4
            if end >= 4:
                self.buffer[: self.filled - end] = self.buffer[end : self.filled]
                self.filled -= end
                self.opened.set_result(None)

    def parse(self) -> None:
        buffer, filled, at = self.buffer, self.filled, 0
        handlers, waiting, wanted, peek = self.handlers, self.waiting, self.wanted, self.peek
        needed = 0
        while filled - at >= 2:
            length, body = buffer[at + 1], at + 2
            if length == 126:
                length, body = buffer[at + 2] << 8 | buffer[at + 3], at + 4
            elif length == 127:
                length, body = int.from_bytes(buffer[at + 2 : at + 10], "big"), at + 10
            end = body + length
            if end > filled:
                needed = end - at
                break
            at = end
            if peek and buffer.startswith(b'{"method":"', body):
                quote = buffer.find(b'"', body + 11, end)
                if bytes(buffer[body + 11 : quote]) not in wanted:
                    continue
            if length > _LARGEST_BUFFER:  # the buffer was made for this message: it is not copied once more
                message = _decode(self.view[body:end])
                rest = self.buffer[end:filled]
                self.filled = 0
                self.resize(max(_FIRST_BUFFER, len(rest)))
                buffer, filled, at = self.buffer, len(rest), 0
                buffer[:filled] = rest
            else:
                message = _decode(buffer[body:end])
            if message.id:
                waiting.pop(message.id).set_result(message.result)
            else:
                found = handlers.get((message.sessionId, message.method))
                if found is not None:
                    decode, handler = found
                    handler(decode(message.params))
        rest = filled - at
        if at and rest:
            buffer[:rest] = buffer[at:filled]
        self.filled = rest
        if needed > len(buffer) or (rest == len(buffer)):
            self.resize(max(needed, 2 * len(buffer)))
        elif filled == len(buffer) and filled < _LARGEST_BUFFER:
            self.resize(2 * filled)

    def resize(self, size: int) -> None:
        old = self.view[: self.filled]
        self.buffer = bytearray(max(size, self.filled))
        self.buffer[: self.filled] = old
        self.view = memoryview(self.buffer)

    async def send(self, method: str, params: Any = None, session_id: str = "") -> Any:
        self.number = number = self.number + 1
        future = self.waiting[number] = self.loop.create_future()
        data = _encode(_Out(number, method, params, session_id))
        length = len(data)
        if length < 126:
            head = bytes((0x81, 0x80 | length, 0, 0, 0, 0))
        else:
            head = struct.pack("!BBHI", 0x81, 0xFE, length, 0)
        out = self.out
        if not out:
            self.loop.call_soon(self.flush)
        out += (head, data)
        return _decode_any(await future)

    def flush(self) -> None:
        data = b"".join(self.out)
        self.out.clear()
        self.transport.write(data)

    def on(
        self, session_id: str, method: str, kind: type[Any] | None, handler: Callable[[Any], object]
    ) -> None:
        decode = _decode_any if kind is None else msgspec.json.Decoder(kind).decode
        self.handlers[session_id, method] = decode, handler
        self.wanted.add(method.encode())


async def connect(url: str, *, peek: bool = False) -> Floor:
    parts = urlsplit(url)
    floor = Floor(peek=peek)
    transport, _ = await floor.loop.create_connection(lambda: floor, parts.hostname, parts.port)
    floor.transport = transport
    key = base64.b64encode(os.urandom(16)).decode()
    transport.write(
        f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    await floor.opened
    return floor
