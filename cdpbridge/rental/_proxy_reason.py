"""Why a page did not load through a proxy: Chromium does not tell what the proxy has answered, the browser's server does.

Where no proxy was ordered, the server's forwarder stands between all the same, and the error is the one that Chromium has without it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urlsplit, urlunsplit

import idna

from cdpbridge.cdp import Connection
from cdpbridge.cdp._connection import address_of
from cdpbridge.cdp._endpoint import Progress, fetch
from cdpbridge.errors import ConfigurationError, ConnectFailed

__all__ = ["TUNNEL_FAILED", "with_proxy_reason"]

TUNNEL_FAILED: Final = "net::ERR_TUNNEL_CONNECTION_FAILED"
"""What Chromium says when its proxy did not reach the server of an encrypted page."""

# What Chromium says of an http page when no proxy was ordered, and the forwarder did not reach its server.
_NO_ANSWER: Final = "net::ERR_EMPTY_RESPONSE"
_IN_HOSTS: Final = "%:!$&'()*+,;=~"
# The server answers from memory; an error must not wait long for its explanation.
_ANSWER_SECONDS: Final = 5.0
# A redirect may have led to another host than the one that was asked for; its failure is then the one of this moment.
_RECENT_SECONDS: Final = 3.0


@dataclass(frozen=True, slots=True)
class _Failure:
    """One of the proxy's failures; `age` in seconds, `net_error` where no proxy was ordered."""

    host: str
    port: int
    text: str
    error: str
    age: float
    net_error: str | None


async def with_proxy_reason(connection: Connection, url: str, error_text: str) -> str:
    """Return Chrome's `error_text` of a navigation to `url`, with the reason of the proxy where Chrome has kept that to itself.

    Where no proxy was ordered, return what Chrome says without one.

    It never fails: where nothing is known, `error_text` stays as it is. So it does with other servers than cdpbridge's.
    """
    if error_text not in {TUNNEL_FAILED, _NO_ANSWER} or (address := address_of(connection)) is None:
        return error_text
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            failures = await _failures(address)
            same, recent = _failures_of(url, failures)
    except (TimeoutError, ConnectFailed, ConfigurationError, ValueError, KeyError, TypeError):
        return error_text
    if same is not None and same.net_error is not None:
        return same.net_error
    failure = same or recent
    if failure is None or error_text != TUNNEL_FAILED:
        return error_text
    return f"{error_text}: {failure.text} ({failure.error})"


async def _failures(cdp_url: str) -> list[_Failure]:
    url = urlsplit(cdp_url)
    scheme = {"ws": "http", "wss": "https"}.get(url.scheme, url.scheme)
    if scheme not in {"http", "https"}:  # `host:port`: no address of a cdpbridge server
        return []
    target = urlunsplit((scheme, url.netloc, f"{url.path.rstrip('/')}/proxy/failures", url.query, ""))
    headers: Mapping[str, str] = {}
    response = await fetch(target, headers, progress=Progress(), ssl_context=None)
    if response.status != 200:
        return []
    return [
        _Failure(
            str(each["host"]),
            int(each["port"]),
            str(each["text"]),
            str(each["error"]),
            float(each["age"]),
            str(each["netError"]) if "netError" in each else None,
        )
        for each in json.loads(response.body)
    ]


def _failures_of(url: str, failures: list[_Failure]) -> tuple[_Failure | None, _Failure | None]:
    """Return the latest failure of the server of `url`, and the latest one of this moment."""
    try:
        parts = urlsplit(url)
        port = parts.port or (80 if parts.scheme == "http" else 443)
        where = (_ascii(parts.hostname or ""), port)
    except ValueError:  # Chrome takes more spellings
        where = ("", 0)
    latest = failures[::-1]
    same = next((each for each in latest if (each.host.lower(), each.port) == where), None)
    recent = next((each for each in latest if each.age <= _RECENT_SECONDS), None)
    return same, recent


def _ascii(host: str) -> str:
    """Return a name as Chromium asks its proxy for it."""
    return quote(host, safe=_IN_HOSTS) if host.isascii() else idna.encode(host, uts46=True).decode()
