"""HTTP messages on their way through a proxy: targets, and headers that end here or go on (RFC 9110 section 7)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

import h11

from ._address import is_local_name
from ._answer import HeaderLine
from ._upstream import ProxyFailure

__all__ = [
    "BadHost",
    "Target",
    "check_head",
    "has_body_twice",
    "passed_headers",
    "passes",
    "wants_close",
    "wants_websocket",
]

HeaderList = list[tuple[bytes, bytes]]

# RFC 9110 section 7.6.1, and what browsers and proxies say to each other. `Transfer-Encoding` is written anew.
_HOP_BY_HOP: Final = frozenset({
    b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authentication-info", b"proxy-authorization",
    b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade",
})  # fmt: skip
# `Connection: content-length` must not take away what frames or routes the message.
_NEVER_NOMINATED: Final = frozenset({b"content-length", b"host"})
_FOLDED: Final = re.compile(rb"\n[ \t]")
# What Chromium resolves, too; 253 characters are the longest name, and a dot may follow.
_HOST: Final = re.compile(r"[A-Za-z0-9._-]{1,254}")
_ABSOLUTE: Final = re.compile(rb"http://([^/?#]*)([^#]*)", re.IGNORECASE)


class BadHost(ProxyFailure):
    """A name that no resolver knows: Chromium asks one all the same, where it has no proxy.

    Attributes:
        host: As it came.
        port: TCP port; 0 where that is not clear, either.
        tunnel: CONNECT was asked for.
    """

    def __init__(self, host: str, rest: str, default_port: int | None) -> None:
        super().__init__(
            400,
            "the host in the target is not valid",
            error="http_request_error",
            net_error="net::ERR_NAME_NOT_RESOLVED",
        )
        port = rest.removeprefix(":")
        self.host = host
        self.port = int(port) if re.fullmatch(r"[0-9]{1,5}", port) else default_port or 0
        self.tunnel = default_port is None


def _refuse(text: str, status: int = 400) -> ProxyFailure:
    return ProxyFailure(status, text, error="http_request_error")


@dataclass(frozen=True, slots=True)
class Target:
    """The target of a request.

    Attributes:
        host: Name or address, IPv6 without brackets.
        port: TCP port.
        authority: `host` or `host:port` as the client wrote it, for the Host header.
        path: Path and query; empty for CONNECT.
    """

    host: str
    port: int
    authority: bytes
    path: bytes = b""

    @property
    def name(self) -> str:
        """`host` in lower case, without a dot at its end."""
        return self.host.lower().rstrip(".")

    @property
    def encrypted(self) -> bool:
        """True for a tunnel, in which the browser speaks TLS or a WebSocket's protocol."""
        return not self.path

    @property
    def tunnel_authority(self) -> bytes:
        """`host:port`, as CONNECT wants it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}".encode()

    def for_upstream(self) -> Target:
        """Return the target as an upstream resolves it: names below `localhost` are `localhost` (RFC 6761), which few resolvers know."""
        if not is_local_name(self.host) or self.host.lower() == "localhost":
            return self
        local = replace(self, host="localhost")
        return replace(local, authority=local.tunnel_authority)

    @classmethod
    def of(cls, request: h11.Request) -> Target:
        """Return the target of a request to a proxy.

        Raises:
            ProxyFailure: 400 for anything but `CONNECT host:port` or an absolute `http://` address.
        """
        if request.method == b"CONNECT":
            return cls(*_host_and_port(request.target, None), request.target)
        match = _ABSOLUTE.fullmatch(request.target)
        if match is None:
            raise _refuse(
                "this is a proxy: it takes absolute http:// addresses, and CONNECT for anything else"
            )
        authority, path = match.groups()
        if not path.startswith(b"/"):
            path = b"*" if request.method == b"OPTIONS" and not path else b"/" + path
        return cls(*_host_and_port(authority, 80), authority, path)


def _host_and_port(authority: bytes, default_port: int | None) -> tuple[str, int]:
    text = authority.decode("ascii")  # h11 lets only visible ASCII through
    host, bracket, rest = text.partition("]")
    if bracket and host.startswith("["):
        try:
            host = str(ipaddress.IPv6Address(host[1:]))
        except ValueError:
            raise _refuse("the IPv6 address in the target is not valid") from None
        if "%" in host:
            raise _refuse("an IPv6 address with a zone cannot be reached through a proxy")
    else:
        host, colon, port = text.partition(":")
        rest = colon + port
        if not _HOST.fullmatch(host):
            raise BadHost(host, rest, default_port)
    if not rest and default_port is not None:
        return host, default_port
    if not re.fullmatch(r":[0-9]{1,5}", rest) or not 0 < int(rest[1:]) < 65536:
        raise _refuse("the port in the target is not valid")
    return host, int(rest[1:])


def check_head(head: bytes | bytearray) -> None:
    """Refuse what h11 would repair: header lines folded over several (RFC 9112 section 5.2).

    Raises:
        ProxyFailure: 400.
    """
    if _FOLDED.search(head):
        raise _refuse("folded header lines are not accepted")


def has_body_twice(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Return True if both Content-Length and Transfer-Encoding frame the body: the classic request smuggling."""
    names = {name for name, _ in headers}
    return b"content-length" in names and b"transfer-encoding" in names


def wants_websocket(request: h11.Request) -> bool:
    """Return True if the request asks to switch to the WebSocket protocol."""
    headers = list(request.headers)
    return b"upgrade" in _nominated(headers) and any(
        name == b"upgrade" and value.lower() == b"websocket" for name, value in headers
    )


def _nominated(headers: HeaderList) -> set[bytes]:
    return {
        option.strip().lower()
        for name, value in headers
        if name == b"connection"
        for option in value.split(b",")
    }


def wants_close(request: h11.Request) -> bool:
    """Return True if the connection ends with this request."""
    return b"close" in _nominated(list(request.headers))


def passed_headers(request: h11.Request, *, host: bytes) -> HeaderList:
    """Return the end-to-end headers in their order and spelling, with the body's framing kept.

    Args:
        request: As received.
        host: Replaces the value of Host, which the target overrules (RFC 9112 section 3.2.2).
    """
    plain = list(request.headers)
    dropped = _HOP_BY_HOP | (_nominated(plain) - _NEVER_NOMINATED) | {b"host"}
    passed: HeaderList = [(b"Host", host)]
    for (name, value), (spelling, _) in zip(plain, request.headers.raw_items(), strict=True):
        if name == b"transfer-encoding":
            passed.append((b"Transfer-Encoding", value))
        elif name not in dropped:
            passed.append((spelling, value))
    return passed


def passes(line: HeaderLine, *, unframed: bool = False, asks: bool = False) -> bool:
    """Return True if a header line of an answer goes on to the browser.

    What `Connection` nominates goes on: Chromium does not look at that, and a page must be the same as without a proxy. A site does
    not speak for this proxy, either.

    Args:
        line: A header line.
        unframed: The body loses its chunks.
        asks: It is a proxy's question for credentials, which the browser gets.
    """
    name, value, _ = line
    if name == b"transfer-encoding":
        return not unframed
    if name == b"proxy-authenticate":
        return asks
    return name not in _HOP_BY_HOP and not (name == b"proxy-status" and b"cdpbridge" in value.lower())
