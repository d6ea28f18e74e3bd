"""Opening a connection towards the internet: directly, or through an HTTP or SOCKS5 upstream."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import h11

from cdpbridge._concurrency import at_once
from cdpbridge._streams import write_to

from ._answer import Answer, AnswerReader
from ._messages import Target
from ._resolver import Resolver
from ._route import Route
from ._rules import Refusal
from ._upstream import SOCKS5_REPLIES, ProxyFailure, Upstream

__all__ = [
    "CHUNK_BYTES",
    "MAX_HEAD_BYTES",
    "AsksForCredentials",
    "Link",
    "ServerFailed",
    "dial",
    "refused",
    "refused_credentials",
    "refuses_credentials",
]

CHUNK_BYTES: Final = 65536
# Chrome's own limit for response headers is 256 KiB (net/http/http_stream_parser.h); requests stay far below.
MAX_HEAD_BYTES: Final = 262_144
# The types of RFC 9209, and Chromium's names (net/base/net_errors_posix.cc, MapSystemError; net/dns/host_resolver.cc).
_KINDS: Final = {
    socket.gaierror: ("dns_error", "net::ERR_NAME_NOT_RESOLVED"),
    ConnectionRefusedError: ("connection_refused", "net::ERR_CONNECTION_REFUSED"),
    TimeoutError: ("connection_timeout", "net::ERR_CONNECTION_TIMED_OUT"),
}
_BY_NUMBER: Final = {
    **dict.fromkeys(
        (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EADDRNOTAVAIL),
        ("destination_unavailable", "net::ERR_ADDRESS_UNREACHABLE"),
    ),
    errno.EACCES: ("destination_unavailable", "net::ERR_NETWORK_ACCESS_DENIED"),
    errno.EPERM: ("destination_unavailable", "net::ERR_NETWORK_ACCESS_DENIED"),
    errno.ETIMEDOUT: ("connection_timeout", "net::ERR_CONNECTION_TIMED_OUT"),
}
_PROXY_FAILED: Final = "net::ERR_PROXY_CONNECTION_FAILED"
_OTHER: Final = ("destination_unavailable", "net::ERR_CONNECTION_FAILED")
# An address that does not answer must not use up the time of the next one; RFC 8305 would not even wait this long.
_FIRST_ADDRESSES_SECONDS: Final = 3.0


class ServerFailed(ProxyFailure):
    """An open connection towards the internet has failed.

    Attributes:
        reset: False if the other end has just ended it.
    """

    def __init__(self, text: str, *, reset: bool) -> None:
        super().__init__(502, text, error="connection_terminated")
        self.reset = reset


class AsksForCredentials(ProxyFailure):
    """The upstream asks for credentials that the browser, or its client, may know.

    Attributes:
        challenges: Values of `Proxy-Authenticate`.
    """

    def __init__(self, upstream: str, challenges: list[bytes]) -> None:
        super().__init__(407, f"the proxy {upstream} asks for credentials", error="http_request_denied")
        self.challenges = challenges


class Link:
    """A connection towards the internet: its own errors become `ProxyFailure`, which the client's never do.

    Attributes:
        address: What was dialled for the target; None when an upstream resolves its name.
        received: Bytes that came behind the handshake and belong to the tunnel.
        answered: Whether anything came back since the last request.
    """

    def __init__(
        self, reader: StreamReader, writer: StreamWriter, peer: str, address: str | None = None
    ) -> None:
        self.reader = reader
        self.writer = writer
        self.peer = peer
        self.address = address
        self.received = b""
        self.answered = False
        sock = writer.get_extra_info("socket")
        if (
            sock is not None
        ):  # None in uvloop when the other side has closed it already, as the first read reports
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    async def read(self) -> bytes:
        """Return the next bytes, empty at the end."""
        try:
            data = await self.reader.read(CHUNK_BYTES)
        except OSError as error:
            raise self.failure(_reason(error), reset=True) from error
        self.answered = self.answered or bool(data)
        return data

    async def is_quiet(self) -> bool:
        """Return True if the server has neither closed nor spoken: an unasked 408 would pass for the next answer."""
        return await at_once(self.read()) is None

    async def read_exactly(self, count: int) -> bytes:
        try:
            return await self.reader.readexactly(count)
        except asyncio.IncompleteReadError as error:
            raise self.failure("it closed the connection") from error
        except OSError as error:
            raise self.failure(_reason(error), reset=True) from error

    async def write(self, data: bytes) -> None:
        """Write and wait until the send buffer is below its limit."""
        try:
            write_to(self.writer, data)
            await self.writer.drain()
        except OSError as error:
            raise self.failure(_reason(error), reset=True) from error

    def failure(self, why: str, *, reset: bool = False) -> ServerFailed:
        return ServerFailed(f"{self.peer} failed: {why}", reset=reset)

    async def close(self) -> None:
        """Close at once; what is still buffered is lost."""
        self.writer.transport.abort()
        with suppress(OSError):
            await self.writer.wait_closed()


def refuses_credentials(answer: Answer, *, connect: bool) -> bool:
    """Return True if an HTTP upstream says with `answer` that it does not accept our credentials.

    407, and tinyproxy's 401 (its src/reqs.c, "e401"), which a server behind the proxy may send too, but not to CONNECT.
    """
    if answer.status == 401:
        return connect or any(value.startswith(b"tinyproxy/") for value in answer.values(b"server"))
    return answer.status == 407


def refused_credentials(upstream: Upstream) -> ProxyFailure:
    """Return what the browser gets in place of a 407, which would make it ask its user."""
    missing = "" if upstream.username is not None else " (none are configured)"
    return ProxyFailure(
        502,
        f"the upstream proxy refused its credentials{missing}: {upstream}",
        error="proxy_configuration_error",
    )


async def dial(route: Route, target: Target, *, tunnel: bool, credentials: bytes | None = None) -> Link:
    """Open a connection to `target`.

    Names that an upstream resolves are the upstream's to refuse, except by a list of hosts.

    Args:
        route: Through which upstream, and by which rules.
        target: Where the request goes.
        tunnel: False for a request that an HTTP upstream takes in absolute form.
        credentials: The browser's own `Proxy-Authorization`, for an upstream whose questions it gets.

    Raises:
        ProxyFailure: 502, 504, or 403 for what the rules refuse.
    """
    upstream, rules = route.upstream_of(target), route.rules
    if (refusal := route.refuse(target, None)) is not None:
        raise refused(refusal)
    if route.block_list.blocks(target.host):
        route.blocked += 1
        raise ProxyFailure(
            403, f"{target.host} is on a block list of this server", error="http_request_denied"
        )
    peer = f"the upstream proxy {upstream}" if upstream else f"the server {target.tunnel_authority.decode()}"
    link = None
    try:
        async with asyncio.timeout(route.connect_seconds):
            if upstream is None:
                link = await _dial_checked(
                    route.resolver, target.host, target.port, peer, route.refuse_address
                )
            else:
                link = await _dial_upstream(route, upstream, peer)
                if upstream.scheme == "socks5":
                    await _socks5_handshake(link, upstream, target.for_upstream())
                elif tunnel:
                    await _connect_handshake(link, route, upstream, target.for_upstream(), credentials)
    except BaseException as error:
        if link is not None:
            await link.close()
        if isinstance(error, TimeoutError):
            raise ProxyFailure(
                504,
                f"{peer} did not answer within {route.connect_seconds:g} s",
                error="connection_timeout",
                net_error="net::ERR_CONNECTION_TIMED_OUT" if upstream is None else _PROXY_FAILED,
            ) from error
        if isinstance(error, OSError):
            raise _unreachable(peer, error, through_proxy=upstream is not None) from error
        if isinstance(error, ServerFailed):  # only an upstream speaks first
            raise ProxyFailure(error.status, str(error), error=error.error) from error
        raise
    if rules is not route.rules and (refusal := route.refuse(target, link.address)) is not None:
        await link.close()
        raise refused(refusal)
    return link


async def _dial_upstream(route: Route, upstream: Upstream, peer: str) -> Link:
    link = await _dial_checked(route.resolver, upstream.host, upstream.port, peer, route.refuse_upstream)
    link.address = None  # the upstream's, not the target's
    return link


async def _dial_checked(
    resolver: Resolver, host: str, port: int, peer: str, refuse: Callable[[str, int, str], Refusal | None]
) -> Link:
    """Resolve once, and dial exactly what was resolved and checked: a name that changes its mind gains nothing."""
    addresses = await resolver.addresses(host, port)
    refusals = {address: refuse(host, port, address) for address in addresses}
    allowed = [address for address in addresses if refusals[address] is None]
    if not allowed:
        raise refused(next(refusal for refusal in refusals.values() if refusal is not None))
    *first, last = allowed
    for address in first:
        try:
            async with asyncio.timeout(_FIRST_ADDRESSES_SECONDS):
                return Link(*await asyncio.open_connection(address, port), peer, address)
        except OSError:
            continue  # the last address decides what is reported
    return Link(*await asyncio.open_connection(last, port), peer, last)


def refused(refusal: Refusal) -> ProxyFailure:
    """Return what the browser gets in place of an answer."""
    return ProxyFailure(403, refusal.text, error=refusal.error)


async def _connect_handshake(
    link: Link, route: Route, upstream: Upstream, target: Target, credentials: bytes | None
) -> None:
    headers = [(b"Host", target.tunnel_authority)]
    authorization = credentials if route.asks else upstream.authorization()
    if authorization is not None:
        headers.append((b"Proxy-Authorization", authorization))
    conn = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)
    await link.write(
        conn.send(h11.Request(method=b"CONNECT", target=target.tunnel_authority, headers=headers)) or b""
    )
    reader = AnswerReader(b"CONNECT")
    while True:
        data = await link.read()
        answer = next(
            (each for each in reader.feed(data) if isinstance(each, Answer) and not each.informational), None
        )
        if answer is not None:
            break
        if not link.answered:
            raise link.failure("it closed the connection without an answer")
        if reader.passing or not data:
            raise ProxyFailure(502, f"{link.peer} does not answer in HTTP", error="http_protocol_error")
    if refuses_credentials(answer, connect=True):
        challenges = answer.values(b"proxy-authenticate")
        if route.asks and answer.status == 407 and challenges:
            raise AsksForCredentials(str(upstream), challenges)
        raise refused_credentials(upstream)
    if not 200 <= answer.status < 300:
        raise ProxyFailure(
            502,
            f"{link.peer} answered {answer.status} to CONNECT {target.tunnel_authority.decode()}",
            error="http_protocol_error" if answer.status < 500 else "destination_unavailable",
        )
    # A CONNECT's answer has no body whatever it says (RFC 9110 section 9.3.6): the tunnel begins behind its head.
    link.received = reader.left


async def _socks5_handshake(link: Link, upstream: Upstream, target: Target) -> None:
    request = upstream.socks5_connect(target.host, target.port)
    await link.write(upstream.socks5_greeting())
    version, method = await link.read_exactly(2)
    if version != 5:
        raise ProxyFailure(502, f"{link.peer} does not speak SOCKS5", error="http_protocol_error")
    if method == 2 and upstream.username is not None:
        await link.write(upstream.socks5_login())
        try:
            status = (await link.read_exactly(2))[1]
        except ProxyFailure as error:  # RFC 1929 lets the server just close; many do
            raise refused_credentials(upstream) from error
        if status != 0:
            raise refused_credentials(upstream)
    elif method != 0:
        raise refused_credentials(upstream)
    await link.write(request)
    _, reply, _, kind = await link.read_exactly(4)
    if reply != 0:
        why = SOCKS5_REPLIES.get(reply, f"reply {reply}")
        raise ProxyFailure(
            502,
            f"{link.peer} could not reach {target.tunnel_authority.decode()}: {why}",
            error="destination_unavailable",
        )
    # The address it is bound to follows, and is not needed.
    length = {1: 4, 4: 16}.get(kind) or (await link.read_exactly(1))[0]
    await link.read_exactly(length + 2)


def _unreachable(peer: str, error: OSError, *, through_proxy: bool) -> ProxyFailure:
    kind, net_error = _KINDS.get(type(error)) or _BY_NUMBER.get(error.errno or 0, _OTHER)
    return ProxyFailure(
        502,
        f"{peer} could not be reached: {_reason(error)}",
        error=kind,
        net_error=_PROXY_FAILED if through_proxy else net_error,
    )


def _reason(error: OSError) -> str:
    """Return the system's words for the error, without asyncio's list of addresses."""
    if isinstance(error, socket.gaierror):
        return "its name could not be resolved"
    if error.errno:
        return os.strerror(error.errno)
    return "connection lost" if isinstance(error, ConnectionError) else "no address accepted a connection"
