"""What an agent in a place of its own reaches: its browser's gateway, its model, and 1Password, by their own names. Pure.

In its network each of them is an address of the loopback, at which the server accepts and carries bytes on: so names,
ports and certificates are the same inside as outside, and there is nothing else to connect to.
"""

from __future__ import annotations

import base64
import ipaddress
import json
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple
from urllib.parse import urlsplit
from urllib.request import proxy_bypass

__all__ = ["Destination", "destinations", "hosts_file", "proxy_of", "vault_hosts"]

_PORTS: Final = {"http": 80, "ws": 80, "https": 443, "wss": 443}
_NAMES_FROM: Final = "127.0.1."
_MOST_NAMES: Final = 254
# Where accounts of 1Password are; which of them, the token says.
_VAULTS: Final = ("my.1password.com", "my.1password.eu", "my.1password.ca")
_TOKEN_PREFIX: Final = "ops_"  # noqa: S105  # of every token of a service account


class Destination(NamedTuple):
    """One host and port.

    Attributes:
        scheme: `"http"` or `"https"`: which proxy of the server's environment leads there.
        host: As it is written in the address.
        port: Of TCP.
        address: Of the host inside.
    """

    scheme: str
    host: str
    port: int
    address: str


def destinations(urls: Iterable[str], hosts: Iterable[str] = ()) -> list[Destination]:
    """Return what these addresses and hosts of https name, each once, the first first.

    Raises:
        ValueError: An address without a host, or with a scheme that is not known.
    """
    found: dict[tuple[str, int], Destination] = {}
    names: dict[str, str] = {"localhost": "127.0.0.1"}
    for url in (*urls, *(f"https://{host}" for host in hosts)):
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or _PORTS.get(parts.scheme)
        if host is None or port is None:
            raise ValueError("an address that an agent needs is not http, https, ws or wss, or has no host")
        scheme = "https" if parts.scheme in {"https", "wss"} else "http"
        found.setdefault((host, port), Destination(scheme, host, port, _address(host, names)))
    return list(found.values())


def _address(host: str, names: dict[str, str]) -> str:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        number = len(names)
        if host not in names and number > _MOST_NAMES:
            raise ValueError("an agent needs too many hosts") from None
        return names.setdefault(host, f"{_NAMES_FROM}{number}")


def hosts_file(found: Iterable[Destination]) -> str:
    """Return the file `/etc/hosts` of a place in which these are reached."""
    names = {each.host: each.address for each in found if each.host != each.address}
    lines = [f"{address} {name}" for name, address in ({"localhost": "127.0.0.1"} | names).items()]
    return "".join(f"{line}\n" for line in lines)


def proxy_of(destination: Destination, environment: Mapping[str, str]) -> str | None:
    """Return the proxy that an environment names for a destination; None for the direct way."""
    proxies = {
        name.lower().removesuffix("_proxy"): value
        for name, value in sorted(environment.items())  # small letters last: they win
        if name.lower().endswith("_proxy") and value
    }
    if proxy_bypass(f"{destination.host}:{destination.port}", proxies):
        return None
    return proxies.get(destination.scheme) or proxies.get("all")


def vault_hosts(token: str) -> tuple[str, ...]:
    """Return the hosts that a token of a service account of 1Password is for; all, if it does not say."""
    try:
        text = token.removeprefix(_TOKEN_PREFIX)
        said = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        host = urlsplit(f"//{said['signInAddress']}").hostname
    except (ValueError, KeyError, TypeError):
        return _VAULTS
    return (host,) if host else _VAULTS
