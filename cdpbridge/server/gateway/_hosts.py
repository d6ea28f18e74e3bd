"""Checks of `Host` and `Origin` against DNS rebinding and cross-site WebSockets.

A page can make its visitor's browser talk to us under the page's own name (`Host`), or open a WebSocket to us (`Origin`).
Chromium refuses every name for the first reason and every Origin for the second; it sees neither, for we rewrite them.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from typing import Final
from urllib.parse import SplitResult, urlsplit

__all__ = ["HOST_TEXT", "host_allowed", "origin_allowed"]

HOST_TEXT: Final = "this Host is not served; name it in the setting `allowed_hosts`"


def host_allowed(host: str | None, allowed: Collection[str]) -> bool:
    """Return True if `Host` is an IP address, `localhost`, a name below it, or one of `allowed` (lower case)."""
    parts = _split(f"//{host or ''}")
    if parts is None:
        return False
    name = _name(parts)
    return name == "localhost" or name.endswith(".localhost") or name in allowed or _is_address(name)


def origin_allowed(origin: str | None, host: str | None, allowed: Collection[str]) -> bool:
    """Return True if the page is ours: none at all, the host it talks to, or one of `allowed` (a proxy may change `Host`)."""
    if origin is None:
        return True
    page, here = _split(origin), _split(f"//{host or ''}")
    if page is None or here is None:
        return False
    if _name(page) in allowed:
        return True
    default = 443 if page.scheme == "https" else 80
    return (_name(page), page.port or default) == (_name(here), here.port or default)


def _split(address: str) -> SplitResult | None:
    """Return the parts of an address that names a host and nothing behind it."""
    try:
        parts = urlsplit(address)
        parts.port  # noqa: B018  # raises what is wrong with it
    except ValueError:
        return None
    return parts if parts.hostname and parts.username is None and not parts.path.strip("/") else None


def _name(parts: SplitResult) -> str:
    return (parts.hostname or "").rstrip(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
