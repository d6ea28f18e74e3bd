"""One connection of the browser to its proxy: a loop of requests, or a tunnel.

CONNECT and a WebSocket upgrade end the loop and become a tunnel: bytes both ways, each direction waiting for its
slower end. Any other request goes through two h11 machines, one per side, which frame it anew; so no request passes that
the two ends could read differently. Answers pass as they came, see `_answer`.
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import struct
from asyncio import StreamReader, StreamWriter
from contextlib import suppress
from typing import Final

import h11

from cdpbridge._streams import write_to

from ._answer import Answer, AnswerReader, Body
from ._dial import (
    CHUNK_BYTES,
    MAX_HEAD_BYTES,
    AsksForCredentials,
    Link,
    ServerFailed,
    dial,
    refused,
    refused_credentials,
    refuses_credentials,
)
from ._messages import (
    BadHost,
    Target,
    check_head,
    has_body_twice,
    passed_headers,
    passes,
    wants_close,
    wants_websocket,
)
from ._route import Route
from ._tunnel import HALF_CLOSED_SECONDS, carry
from ._upstream import ProxyFailure, Upstream

__all__ = ["ClientConnection"]

logger = logging.getLogger("cdpbridge.proxy")

_Event = type[h11.NEED_DATA | h11.PAUSED] | h11.Event

_END_OF_HEAD: Final = re.compile(rb"\n\r?\n")
# After an early answer: so long the rest of the request is read, or a reset would overtake the answer.
_LINGER_SECONDS: Final = 1.0
# Safe to send twice (RFC 9110 section 9.2.2), so safe on a connection that may just have been closed.
_REPEATABLE: Final = frozenset({b"GET", b"HEAD", b"OPTIONS"})


class _ClientGone(Exception):
    """The browser closed its connection, or what it was getting broke off."""


class ClientConnection:
    """One connection of the browser."""

    def __init__(self, route: Route, reader: StreamReader, writer: StreamWriter) -> None:
        self.route = route
        self.reader = reader
        self.writer = writer
        self._served = 0
        self._begin_request()
        # Kept between requests: a connection towards the internet, and the target it may be used for.
        self.spare: tuple[bytes, Link] | None = None
        # What it serves at the moment: the target of its request or tunnel, and the connection to it once there is one.
        self.target: Target | None = None
        self.link: Link | None = None

    def _begin_request(self) -> None:
        self.conn = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)
        self.head_only = False
        self._answer_begun = False
        # Whether the browser may send a request behind this one, and the server gets one; whether the browser may repeat this one.
        self._client_keeps = False
        self._server_keeps = False
        # Whether chunks are taken apart for a client that does not know them.
        self._unframes = False
        self._repeatable = False

    def _count(self, *, sent: int = 0, received: int = 0) -> None:
        assert self.target is not None  # of the request that is served
        if sent:
            self.route.sent(self.target, sent)
        if received:
            self.route.received(self.target, received)

    @property
    def forbidden(self) -> bool:
        """True if what it serves at the moment is refused by the route's rules as they are now."""
        if self.target is None:
            return False
        address = None if self.link is None else self.link.address
        return self.route.refuse(self.target, address) is not None

    async def run(self) -> None:
        try:
            try:
                await self._serve()
            except ProxyFailure as failure:
                await self._answer(failure)
            if self.conn.their_state in {h11.IDLE, h11.SEND_BODY, h11.ERROR}:
                await self._linger()
            self.writer.close()
            await self.writer.wait_closed()
        except (_ClientGone, OSError):
            _reset(self.writer)
        finally:
            self.writer.transport.abort()
            if self.spare is not None:
                await self.spare[1].close()

    async def _serve(self) -> None:
        while True:
            pending = self.conn.trailing_data[0]
            self._begin_request()
            head = await self._read_head(pending)
            if head is None:
                return
            self.conn.receive_data(head)
            request = self._next_event()
            if not isinstance(request, h11.Request):
                raise ProxyFailure(400, "this is not an HTTP request", error="http_request_error")
            self.head_only = request.method == b"HEAD"
            self._client_keeps = request.http_version != b"1.0" and not wants_close(request)
            self._repeatable = request.method in _REPEATABLE
            if has_body_twice(request.headers):
                raise ProxyFailure(
                    400,
                    "both Content-Length and Transfer-Encoding frame the body",
                    error="http_request_error",
                )
            self.target, self.link = Target.of(request), None
            target = self.target
            if request.method == b"CONNECT":
                await self._connect(request, target)
                return
            if not await self._forward(request, target):
                return
            self._served += 1
            self.target = self.link = None

    async def _read_head(self, pending: bytes) -> bytes | None:
        """Return the bytes up to at least the end of the next request's head, or None when there is no more."""
        data = bytearray(pending)
        searched = 0
        while True:
            # RFC 9112 section 2.2: empty lines before a request.
            while data.startswith((b"\r", b"\n")):
                del data[:1]
            end = _END_OF_HEAD.search(data, searched)
            if (end.end() if end else len(data)) > MAX_HEAD_BYTES:
                raise ProxyFailure(431, "the request's headers are too large", error="http_request_error")
            if end:
                check_head(data[: end.end()])
                return bytes(data)
            more = await self.reader.read(CHUNK_BYTES)
            if not more:
                if data:
                    raise ProxyFailure(400, "the request is not complete", error="http_request_error")
                return None
            searched = max(0, len(data) - 2)
            data += more

    def _next_event(self) -> _Event:
        try:
            return self.conn.next_event()
        except h11.RemoteProtocolError as error:
            raise ProxyFailure(
                error.error_status_hint, f"the request is not valid ({error})", error="http_request_error"
            ) from error

    async def _dial(self, request: h11.Request, target: Target, *, tunnel: bool) -> Link:
        self.link = await dial(self.route, target, tunnel=tunnel, credentials=_credentials(request))
        return self.link

    # --- tunnels ---

    async def _connect(self, request: h11.Request, target: Target) -> None:
        if not isinstance(self._next_event(), h11.EndOfMessage):
            raise ProxyFailure(400, "a CONNECT request has no body", error="http_request_error")
        link = await self._dial(request, target, tunnel=True)
        try:
            answer = h11.Response(status_code=200, reason=b"Connection established", headers=[])
            self._answer_begun = True
            write_to(self.writer, self.conn.send(answer) or b"")
            await self._tunnel(link, target, self.conn.trailing_data[0], link.received)
        finally:
            await link.close()

    async def _tunnel(self, link: Link, target: Target, sent: bytes, received: bytes) -> None:
        """Carry bytes both ways until both directions ended, or one broke.

        Args:
            link: The other end.
            target: Where it leads.
            sent: What the browser sent behind its request already.
            received: What came behind the answer already.
        """
        try:
            await carry(
                (self.reader, self.writer),
                (link.reader, link.writer),
                sent=sent,
                received=received,
                on_sent=lambda count: self.route.sent(target, count),
                on_received=lambda count: self.route.received(target, count),
            )
        except OSError as error:
            _reset(link.writer)
            raise _ClientGone from error
        except asyncio.CancelledError:
            _reset(link.writer)
            raise

    # --- HTTP requests ---

    async def _forward(self, request: h11.Request, target: Target) -> bool:
        """Forward one request and its answer.

        Returns:
            Whether the browser may send another request on its connection.
        """
        first = self._next_event()
        has_body = not isinstance(first, h11.EndOfMessage)
        websocket = not has_body and wants_websocket(request)
        repeatable = not has_body and not websocket and request.method in _REPEATABLE
        link = await self._take_spare(target.tunnel_authority) if repeatable else None
        if link is not None:
            if (refusal := self.route.refuse(target, link.address)) is not None:
                await link.close()
                raise refused(refusal)
            self.link = link
            try:
                return await self._exchange(link, request, target, None, websocket=False)
            except ProxyFailure:
                if link.answered or self._answer_begun:
                    raise
            # The server closed the kept connection in the meantime: once more on a new one.
        link = await self._dial(request, target, tunnel=False)
        return await self._exchange(link, request, target, first if has_body else None, websocket=websocket)

    async def _take_spare(self, authority: bytes) -> Link | None:
        spare, self.spare = self.spare, None
        if spare is None:
            return None
        if spare[0] == authority and await spare[1].is_quiet():
            return spare[1]
        await spare[1].close()
        return None

    async def _exchange(
        self,
        link: Link,
        request: h11.Request,
        target: Target,
        body: _Event | None,
        *,
        websocket: bool,
    ) -> bool:
        """Send the request over `link` and the answer back; `body` is the first event of its body, None without."""
        conn = h11.Connection(h11.CLIENT)
        answers = AnswerReader(request.method)
        link.answered = False
        reusable = False
        tasks: set[asyncio.Task[bool]] = set()
        try:
            head = conn.send(self._request_for(request, target, websocket=websocket)) or b""
            if body is None:
                await link.write(head + (conn.send(h11.EndOfMessage()) or b""))
                switched = await self._download(link, answers, websocket=websocket)
            else:
                await link.write(head)
                upload = asyncio.create_task(self._upload(link, conn, body))
                download = asyncio.create_task(self._download(link, answers, websocket=websocket))
                tasks = {upload, download}
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                if upload.done():
                    upload.result()
                switched = await download
            if switched:
                await self._tunnel(link, target, self.conn.trailing_data[0], answers.left)
                return False
            whole = answers.complete and answers.regular
            reusable = whole and self._server_keeps and conn.our_state is h11.DONE and not answers.left
            return whole and self._client_keeps and self.conn.their_state is h11.DONE
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if reusable:
                await self._take_spare(b"")
                self.spare = target.tunnel_authority, link
            else:
                await link.close()

    def _request_for(self, request: h11.Request, target: Target, *, websocket: bool) -> h11.Request:
        # No Via header: it would tell every site that the browser sits behind a proxy.
        headers = passed_headers(request, host=target.authority)
        if websocket:
            headers += [(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket")]
        else:
            headers.append((b"Connection", b"keep-alive"))
        upstream = self._http_upstream(target)
        path = target.path
        if upstream is not None:
            path = b"http://" + target.for_upstream().authority + (b"" if path == b"*" else path)
            authorization = _credentials(request) if self.route.asks else upstream.authorization()
            if authorization is not None:
                headers.append((b"Proxy-Authorization", authorization))
        return h11.Request(method=request.method, target=path, headers=headers)

    def _http_upstream(self, target: Target) -> Upstream | None:
        """Return the upstream that takes plain requests to `target` in absolute form, if there is one."""
        upstream = self.route.upstream_of(target)
        return upstream if upstream is not None and upstream.scheme == "http" else None

    async def _upload(self, link: Link, conn: h11.Connection, event: _Event) -> bool:
        while not isinstance(event, h11.EndOfMessage):
            if event is h11.NEED_DATA:
                self.conn.receive_data(await self.reader.read(CHUNK_BYTES))
            elif isinstance(event, h11.Data):
                self._count(sent=len(event.data))
                if not await self._send_up(link, conn, event):
                    return False
            event = self._next_event()
        # Trailers end here, as RFC 9110 section 6.5.1 allows.
        return await self._send_up(link, conn, h11.EndOfMessage())

    @staticmethod
    async def _send_up(link: Link, conn: h11.Connection, event: h11.Event) -> bool:
        try:
            await link.write(conn.send(event) or b"")
        except (ProxyFailure, h11.LocalProtocolError):
            # The server takes no more; it may have said why, which `_download` finds.
            return False
        return True

    async def _download(self, link: Link, reader: AnswerReader, *, websocket: bool) -> bool:
        """Bring the answer to the browser.

        Returns:
            Whether both ends now speak another protocol.
        """
        while not reader.complete:
            data = await self._read_answer(link)
            for piece in reader.feed(data):
                if isinstance(piece, Body):
                    self._count(received=len(piece.payload))
                    await self._send_down(piece.payload if self._unframes else piece.raw)
                    continue
                self._check_answer(link, piece)
                if piece.informational and self.conn.their_http_version == b"1.0":  # RFC 9110 section 15.2
                    continue
                if not piece.informational:
                    self._server_keeps = piece.keep_alive
                    self._client_keeps = self._client_keeps and piece.regular and piece.framing != "close"
                    self._unframes = self.conn.their_http_version == b"1.0" and piece.framing == "chunked"
                await self._send_down(self._head_of(piece, switches=websocket))
                if piece.status == 101:
                    if websocket:
                        return True
                    for rest in reader.pass_rest():
                        await self._send_down(rest.raw)
            if not data:
                break
        if not self._answer_begun:
            raise link.failure("it closed the connection without an answer")
        return False

    async def _read_answer(self, link: Link) -> bytes:
        while True:
            try:
                async with asyncio.timeout(HALF_CLOSED_SECONDS):
                    return await link.read()
            except TimeoutError:
                if self.reader.at_eof():
                    raise _ClientGone from None

    def _check_answer(self, link: Link, answer: Answer) -> None:
        assert self.target is not None  # of the request that is served
        upstream = self._http_upstream(self.target)
        if upstream is not None and self.route.asks and answer.status == 407:
            return  # its question, and its page
        if upstream is not None and refuses_credentials(answer, connect=False):
            raise refused_credentials(upstream)
        if answer.status == 407:
            raise ProxyFailure(
                502,
                f"{link.peer} answered 407 as if it were a proxy",
                error="http_protocol_error",
                net_error="net::ERR_UNEXPECTED_PROXY_AUTH",
            )

    def _head_of(self, answer: Answer, *, switches: bool) -> bytes:
        """Return the head for the browser: as it came, without what ends here."""
        lines = answer.lines
        if not (switches and answer.status == 101):
            asks = self.route.asks and answer.status == 407
            lines = [line for line in lines if passes(line, unframed=self._unframes, asks=asks)]
        closing = [] if answer.informational or self._client_keeps else [b"Connection: close"]
        return b"\r\n".join([answer.status_line, *(text for _, _, text in lines), *closing, b"", b""])

    # --- towards the browser ---

    @property
    def _passes_failure(self) -> bool:
        """Whether the browser gets what a failed server did to us, and so the error that it has without a proxy.

        Not where it would send the request again (Chromium does so on a connection that was in use before) and that could do harm, and
        not where it may be an upstream that has failed.
        """
        direct = self.target is not None and self.route.upstream_of(self.target) is None
        return direct and (self._repeatable or not self._served)

    def _hides(self, failure: ProxyFailure) -> bool:
        """Return True if a page must not see that a proxy stands in between.

        It is then an error for its scripts, too, and no answer with a status. (Of an encrypted server the browser shows no answer.)
        """
        if not self.route.unseen or failure.net_error is None:
            return False
        if isinstance(failure, BadHost):
            return not failure.tunnel
        return self.target is not None and not self.target.encrypted

    async def _write(self, data: bytes) -> None:
        write_to(self.writer, data)
        await self.writer.drain()

    async def _send_down(self, data: bytes) -> None:
        self._answer_begun = True
        await self._write(data)

    async def _answer(self, failure: ProxyFailure) -> None:
        """Say what failed, if no other answer has begun; otherwise break off, so that it does not look complete."""
        if not isinstance(failure, AsksForCredentials):
            self.route.note(self.target, failure)
        logger.info("%d %s", failure.status, failure)
        if self._answer_begun:
            raise _ClientGone
        if self._hides(failure):
            return
        if isinstance(failure, ServerFailed) and self._passes_failure:
            if failure.reset:
                raise _ClientGone
            return
        body = f"{failure}\n".encode()
        headers = [
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            ("Proxy-Status", f"cdpbridge; error={failure.error}"),
            ("Connection", "close"),
        ]
        if isinstance(failure, AsksForCredentials):
            headers += [("Proxy-Authenticate", value.decode("latin-1")) for value in failure.challenges]
        head = self.conn.send(h11.Response(status_code=failure.status, headers=headers)) or b""
        await self._send_down(head if self.head_only else head + body)

    async def _linger(self) -> None:
        """End our direction and drain the rest of the request for a moment."""
        _end(self.writer)
        with suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_SECONDS):
                while await self.reader.read(CHUNK_BYTES):
                    pass


def _credentials(request: h11.Request) -> bytes | None:
    """Return the browser's answer to a question for credentials."""
    return next((value for name, value in request.headers if name == b"proxy-authorization"), None)


def _end(writer: StreamWriter) -> None:
    if not writer.is_closing():
        writer.write_eof()


def _reset(writer: StreamWriter) -> None:
    """End with a reset: what broke off must not look complete."""
    sock = writer.get_extra_info("socket")
    if sock is not None:  # None in uvloop when it is closed
        with suppress(OSError):  # already closed by the other side
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
