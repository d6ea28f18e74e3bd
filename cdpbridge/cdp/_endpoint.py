"""From an address as users write it to a connected socket and the WebSocket address behind it.

At an `http` address, `/json/version` below its path is requested; the path in the answer is used, but scheme and host stay those
the user gave: behind a tunnel or a proxy the browser only knows its inner ones. A remote host goes through the environment's
proxy, a loopback host never does.
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import os
import re
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

import msgspec

from cdpbridge._loopback import is_loopback
from cdpbridge.cdp._race import connect_by_name
from cdpbridge.errors import ConfigurationError, ConnectFailed, ConnectTimeout, redact_url
from cdpbridge.errors._base import seconds_text

if TYPE_CHECKING:
    from cdpbridge.cdp._http import Response

__all__ = [
    "Endpoint",
    "Progress",
    "check_headers",
    "connecting",
    "dial",
    "fetch",
    "resolve",
    "websocket_address",
]

_DISCOVERY: Final = "/json/version"
# of `--remote-debugging-port` in Chrome's documentation
_DEFAULT_PORT: Final = 9222
_HOST_ONLY: Final = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[^/:?#@\s]+)(:\d+)?(/.*)?")


@dataclass(slots=True)
class Progress:
    """Stage of an attempt to connect, for the error when its deadline has passed."""

    stage: str = "address"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Address of a WebSocket.

    Attributes:
        url: `ws` or `wss` address.
        refused: The discovery's answer, when `url` is only a guess after a 404.
        version: The discovery's answer, when it gave `url`.
    """

    url: str = field(repr=False)
    refused: ConnectFailed | None = None
    version: Response | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        return f"<Endpoint {redact_url(self.url)}>"


# --- sockets ----------------------------------------------------------------------------------------------------------


def _proxy_for(url: SplitResult) -> SplitResult | None:
    host = url.hostname or ""
    if is_loopback(host) or _bypassed(host, _port(url)):
        return None
    keys = ("wss", "https", "all") if url.scheme in {"wss", "https"} else ("ws", "http", "all")
    address = next((found for key in keys if (found := _environment(f"{key}_proxy"))), None)
    if address is None:
        return None
    proxy = urlsplit(address if "://" in address else f"http://{address}")
    if proxy.scheme != "http" or not proxy.hostname:
        raise ConnectFailed(
            f"the environment names the proxy {_proxy_name(proxy)}, but only http proxies are supported here; "
            f"put {host} into no_proxy to go without",
            stage="proxy",
        )
    return proxy


def _environment(name: str) -> str | None:
    """Return a variable, lower case first, as curl and urllib do; `HTTP_PROXY` may come from a request's header under CGI."""
    if name == "http_proxy" and "REQUEST_METHOD" in os.environ:
        return os.environ.get(name)
    return os.environ.get(name) or os.environ.get(name.upper())


def _bypassed(host: str, port: int) -> bool:
    names = [name.strip().lower().lstrip(".") for name in (_environment("no_proxy") or "").split(",")]
    host = host.lower().rstrip(".")
    return any(
        name in {"*", candidate} or candidate.endswith(f".{name}")
        for name in names
        if name
        for candidate in (host, f"{host}:{port}")
    )


def _proxy_name(proxy: SplitResult) -> str:
    return f"{proxy.scheme}://{proxy.netloc.rpartition('@')[2]}"


def _authority(url: SplitResult, *, always_port: bool = False) -> str:
    host = url.hostname or ""
    host = f"[{host}]" if ":" in host else host
    return f"{host}:{_port(url)}" if always_port or url.port is not None else host


def _port(url: SplitResult) -> int:
    return url.port or (443 if url.scheme in {"https", "wss"} else 80)


def _basic(url: SplitResult) -> str:
    pair = f"{unquote(url.username or '')}:{unquote(url.password or '')}"
    return "Basic " + base64.b64encode(pair.encode()).decode()


@asynccontextmanager
async def connecting(address: str, timeout: timedelta) -> AsyncIterator[Progress]:
    """Limit a block that connects to `address`, and passes what it yields to `resolve` and `dial`.

    Raises:
        ConnectTimeout: With the stage that was reached.
    """
    progress = Progress()
    seconds = timeout.total_seconds()
    try:
        async with asyncio.timeout(seconds) as deadline:
            yield progress
    except TimeoutError as error:
        if not deadline.expired():
            raise
        raise ConnectTimeout(
            f"no connection to {redact_url(address)} within {seconds_text(seconds)} (stage {progress.stage})",
            stage=progress.stage,
        ) from error


async def dial(
    address: str, *, progress: Progress, ssl_context: ssl.SSLContext | None = None
) -> asyncio.Transport:
    """Return a connected transport, TLS done, to the host of `address`, through the environment's proxy if there is one.

    Raises:
        ConnectFailed: With the stage it failed at; nothing stays open.
    """
    url = urlsplit(address)
    progress.stage = "proxy"
    proxy = _proxy_for(url)
    via = f" through the proxy {_proxy_name(proxy)}" if proxy is not None else ""
    where = f"{redact_url(address)}{via}"
    transport: asyncio.Transport | None = None
    try:
        if proxy is None:
            progress.stage = "tcp"
            transport = await _open(url.hostname or "", _port(url))
        else:
            transport = await _tunnel(proxy, url)
        if url.scheme in {"https", "wss"}:
            progress.stage = "tls"
            transport = await _start_tls(transport, ssl_context, url.hostname)
    except BaseException as error:
        if transport is not None:
            transport.abort()
        if isinstance(error, ConnectFailed) or not isinstance(error, (OSError, ValueError)):
            raise
        stage, what = _diagnose(error, progress.stage)
        raise ConnectFailed(f"cannot connect to {where}: {what}", stage=stage) from error
    return transport


async def _open(host: str, port: int) -> asyncio.Transport:
    loop = asyncio.get_running_loop()
    # An address needs no resolver, whose thread a fork of this process would wait for at its end.
    if isinstance(loop, asyncio.BaseEventLoop) and not _is_ip_address(host):
        return await connect_by_name(host, port)
    transport, _ = await loop.create_connection(asyncio.Protocol, host, port)  # uvloop has its own race
    return transport


def _is_ip_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


async def _start_tls(
    transport: asyncio.Transport, context: ssl.SSLContext | None, host: str | None
) -> asyncio.Transport:
    context = context or ssl.create_default_context()
    loop = asyncio.get_running_loop()
    try:
        secured = await loop.start_tls(transport, asyncio.Protocol(), context, server_hostname=host)
    except BaseException:
        transport.abort()
        raise
    if secured is None:
        raise ConnectionResetError("the server closed the connection during the TLS handshake")
    return secured


async def _tunnel(proxy: SplitResult, url: SplitResult) -> asyncio.Transport:
    from cdpbridge.cdp._http import Exchange  # noqa: PLC0415  # h11, for those who need it

    try:
        transport = await _open(proxy.hostname or "", _port(proxy))
    except OSError as error:
        raise ConnectFailed(
            f"cannot reach the proxy {_proxy_name(proxy)}: {_diagnose(error, 'tcp')[1]}", stage="proxy"
        ) from error
    try:
        authority = _authority(url, always_port=True)
        headers = {"Host": authority}
        if proxy.username is not None:
            headers["Proxy-Authorization"] = _basic(proxy)
        exchange = Exchange(tunnel=True)
        transport.set_protocol(exchange)
        transport.write(_request("CONNECT", authority, headers))
        try:
            response = await exchange.answer
        except (OSError, ValueError) as error:
            raise ConnectFailed(f"the proxy {_proxy_name(proxy)} failed: {error}", stage="proxy") from error
        if response.status != 200:
            raise ConnectFailed(
                f"the proxy {_proxy_name(proxy)} refused the tunnel to {url.hostname} with HTTP {response.status}",
                stage="proxy",
                status=response.status,
            )
    except BaseException:
        transport.abort()
        raise
    return transport


def _diagnose(error: Exception, stage: str) -> tuple[str, str]:
    """Return the stage and the cause in words."""
    import socket  # noqa: PLC0415  # for one exception class, when something has failed

    if isinstance(error, socket.gaierror):
        return "dns", f"the name is unknown ({error.strerror})"
    if isinstance(error, ssl.SSLError):
        return "tls", f"TLS failed ({getattr(error, 'verify_message', '') or error.reason or error})"
    if isinstance(error, ConnectionRefusedError):
        return stage, "connection refused"
    return stage, str(error) or type(error).__name__


# --- addresses --------------------------------------------------------------------------------------------------------


def _normalise(address: str) -> SplitResult:
    text = address.strip()
    if "://" not in text:
        match = _HOST_ONLY.fullmatch(text)
        if match is None:
            raise ConfigurationError(
                "not an address: expected http(s)://, ws(s)://, host:port or a host name"
            )
        text = f"http://{match[1]}{match[2] or f':{_DEFAULT_PORT}'}{match[3] or ''}"
    try:
        url = urlsplit(text)
        _ = url.port
    except ValueError as error:
        raise ConfigurationError(f"not an address: {error}") from error
    if url.scheme not in {"http", "https", "ws", "wss"} or not url.hostname:
        raise ConfigurationError(
            f"{redact_url(text)} is no browser's address: expected http(s)://, ws(s)://, host:port or a host name"
        )
    return url


def _with(url: SplitResult, scheme: str, path: str, query: str) -> str:
    return urlunsplit((scheme, url.netloc, path or "/", query, ""))


def websocket_address(address: str) -> str:
    """Return the `ws(s)` address with the host, path and query of `address`.

    Raises:
        ConfigurationError: This is no address.
    """
    url = _normalise(address)
    return _with(url, "wss" if url.scheme in {"https", "wss"} else "ws", url.path, url.query)


async def resolve(
    address: str,
    *,
    headers: Mapping[str, str] | None = None,
    progress: Progress | None = None,
    ssl_context: ssl.SSLContext | None = None,
) -> Endpoint:
    """Return the WebSocket address behind the address that the user gave.

    Args:
        address: `http(s)` or `ws(s)` address, with or without a path; `host:port`; a host (port 9222).
        headers: Sent with the discovery request.

    Raises:
        ConnectFailed: The discovery failed.
        ConfigurationError: This is no address.
    """
    progress = progress or Progress()
    url = _normalise(address)
    secure = "s" if url.scheme in {"https", "wss"} else ""
    path = url.path.rstrip("/")
    if "/devtools/" in url.path or (url.scheme in {"ws", "wss"} and (path or url.query)):
        return Endpoint(_with(url, f"ws{secure}", url.path, url.query))
    prefix = path.removesuffix(_DISCOVERY)
    target = _with(url, f"http{secure}", prefix + _DISCOVERY, url.query)
    response = await fetch(target, headers or {}, progress=progress, ssl_context=ssl_context)
    text = response.body.decode("utf-8", "replace")[:500]
    where = redact_url(target)
    if response.status != 200:
        failure = ConnectFailed(
            f"{where} answered HTTP {response.status} to {_DISCOVERY}: {text.strip()!r}; "
            "if this server has no discovery, try its ws:// address",
            stage="http",
            status=response.status,
            body=text,
        )
        if response.status == 404:
            return Endpoint(_with(url, f"ws{secure}", url.path, url.query), refused=failure)
        raise failure
    try:
        found = msgspec.json.decode(response.body, type=dict[str, Any])["webSocketDebuggerUrl"]
        inner = urlsplit(found)
    except (msgspec.MsgspecError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise ConnectFailed(
            f"{where} answered {_DISCOVERY} without a webSocketDebuggerUrl: {text.strip()[:200]!r}; "
            "if you know the browser's ws:// address, use that",
            stage="http",
            status=response.status,
            body=text,
        ) from error
    inner_path = inner.path
    if prefix and not inner_path.startswith(f"{prefix}/") and _authority(inner) != _authority(url):
        inner_path = prefix + inner_path  # the browser does not know under which path it is shown
    return Endpoint(_with(url, f"ws{secure}", inner_path, inner.query or url.query), version=response)


async def fetch(
    target: str,
    headers: Mapping[str, str],
    *,
    progress: Progress,
    ssl_context: ssl.SSLContext | None,
) -> Response:
    from cdpbridge.cdp._http import Exchange  # noqa: PLC0415  # h11, for those who need it

    url = urlsplit(target)
    transport = await dial(target, progress=progress, ssl_context=ssl_context)
    try:
        progress.stage = "http"
        exchange = Exchange()
        transport.set_protocol(exchange)
        sent = {"Host": _authority(url), "Accept": "application/json", "Connection": "close"}
        if url.username is not None:
            sent["Authorization"] = _basic(url)
        path = urlunsplit(("", "", url.path, url.query, ""))
        transport.write(_request("GET", path, _merge(sent, headers)))
        return await exchange.answer
    except (OSError, ValueError) as error:
        raise ConnectFailed(f"{redact_url(target)} gave no HTTP answer: {error}", stage="http") from error
    finally:
        transport.abort()


def _request(method: str, target: str, headers: Mapping[str, str]) -> bytes:
    return "".join(
        [f"{method} {target} HTTP/1.1\r\n", *(f"{k}: {v}\r\n" for k, v in headers.items()), "\r\n"]
    ).encode("latin-1")


def _merge(defaults: Mapping[str, str], headers: Mapping[str, str]) -> dict[str, str]:
    """Return both; the user's headers win, in upper or lower case."""
    names = {name.lower() for name in headers}
    return {name: value for name, value in defaults.items() if name.lower() not in names} | dict(headers)


def check_headers(headers: Mapping[str, str] | None) -> dict[str, str]:
    """Return the user's headers, free of line breaks that would smuggle in more.

    Raises:
        ConfigurationError: A name or value cannot be sent.
    """
    checked = dict(headers or {})
    for name, value in checked.items():
        if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name) or re.search(r"[\r\n\0]", value):
            raise ConfigurationError(
                f"the header {name!r} cannot be sent: it has characters HTTP does not allow"
            )
    return checked
