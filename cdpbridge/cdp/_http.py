"""One HTTP/1.1 answer, read by h11. Loaded with the first request: a `ws://` address needs none."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

import h11

__all__ = ["Exchange", "Response", "ResponseReader"]

_HEAD_BYTES = 64 * 1024
_ANSWER_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Response:
    """An HTTP answer.

    Attributes:
        headers: By lower-case name; of a repeated one, the last.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


class ResponseReader:
    """Take the bytes of one answer as they come.

    Args:
        tunnel: The request was `CONNECT`: what follows the head is no body.
        max_bytes: A longer body is refused.
    """

    def __init__(self, *, tunnel: bool = False, max_bytes: int = _ANSWER_BYTES) -> None:
        self._tunnel = tunnel
        self._max_bytes = max_bytes
        self._seen = False
        self._head: h11.Response | None = None
        self._body = bytearray()
        # how an answer ends depends on the request, whose bytes the caller has sent already
        self._connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEAD_BYTES)
        method, target = ("CONNECT", "host:1") if tunnel else ("GET", "/")
        self._connection.send(h11.Request(method=method, target=target, headers=[("Host", "host")]))
        self._connection.send(h11.EndOfMessage())

    def feed(self, data: bytes) -> Response | None:
        """Return the answer once it is complete; `b""` is the end of the stream.

        Raises:
            ValueError: It is no HTTP answer, is cut off, or is too long.
        """
        self._seen = self._seen or bool(data)
        try:
            self._connection.receive_data(data)
            response = self._next()
        except h11.RemoteProtocolError as error:
            if self._head is not None and not data:
                raise ValueError("the answer was cut off") from error
            # Not h11's text: it quotes the line, which may hold a cookie.
            raise ValueError("no HTTP answer" if self._seen else _NO_ANSWER) from None
        if response is None and not data:
            raise ValueError("the answer was cut off")
        return response

    def _next(self) -> Response | None:
        while True:
            event = self._connection.next_event()
            if isinstance(event, h11.Response):
                self._head = event
                if self._tunnel:
                    return self._response()
            elif isinstance(event, h11.Data):
                self._body += event.data
                if len(self._body) > self._max_bytes:
                    raise ValueError("the answer is too long")
            elif isinstance(event, h11.EndOfMessage):
                return self._response()
            elif event is h11.NEED_DATA or event is h11.PAUSED:
                return None

    def _response(self) -> Response:
        assert self._head is not None
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in self._head.headers}
        return Response(self._head.status_code, headers, bytes(self._body))


_NO_ANSWER = "the connection was closed without an answer"


class Exchange(asyncio.Protocol):
    """Read one answer from a connected transport.

    Args:
        tunnel: As of `ResponseReader`.
    """

    def __init__(self, *, tunnel: bool = False) -> None:
        self.answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self._reader = ResponseReader(tunnel=tunnel)

    def data_received(self, data: bytes) -> None:
        self._feed(data)

    def eof_received(self) -> None:
        self._feed(b"")

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None and not self.answer.done():
            self.answer.set_exception(exc)
        self._feed(b"")

    def _feed(self, data: bytes) -> None:
        if self.answer.done():
            return
        try:
            response = self._reader.feed(data)
        except ValueError as error:
            self.answer.set_exception(error)
        else:
            if response is not None:
                self.answer.set_result(response)
