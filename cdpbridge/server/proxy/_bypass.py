"""Which hosts a context does without its proxy: Chromium's bypass rules (net/proxy_resolution/proxy_bypass_rules.cc). Pure.

They are applied by the forwarder, so a host that is bypassed is reached directly, and under the browser's rules.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from fnmatch import translate
from typing import Final

from cdpbridge.errors import ConfigurationError

from ._address import address_of, is_local_name, is_loopback

__all__ = ["Bypass"]

_RULE: Final = re.compile(
    r"(?:(?P<scheme>[a-z][a-z0-9+.-]*)://)?(?P<host>\[[^\]]+\]|[^:]*)(?::(?P<port>[0-9]{1,5}))?",
    re.IGNORECASE,
)
_LINK_LOCAL: Final = (ipaddress.ip_network("169.254.0.0/16"), ipaddress.ip_network("fe80::/10"))
# As TLS hides which one it is.
_ENCRYPTED: Final = frozenset({"https", "wss", "ws"})
_LONGEST: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class _Rule:
    """One rule.

    Attributes:
        through_proxy: It is `<-loopback>`: hosts of this machine go through the proxy.
        simple_names: It is `<local>`: names without a dot.
    """

    scheme: str = ""
    host: re.Pattern[str] | None = None
    port: int | None = None
    network: ipaddress.IPv4Network | ipaddress.IPv6Network | None = None
    through_proxy: bool = False
    simple_names: bool = False

    def matches(self, host: str, port: int, *, encrypted: bool) -> bool:
        if self.through_proxy:
            return _implicit(host)
        if self.simple_names:
            return "." not in host and ":" not in host
        if self.scheme and (self.scheme in _ENCRYPTED) is not encrypted:
            return False
        if self.port is not None and self.port != port:
            return False
        if self.network is not None:
            address = address_of(host)
            return address is not None and address in self.network
        return self.host is not None and self.host.fullmatch(host) is not None


@dataclass(frozen=True, slots=True)
class Bypass:
    """Rules in their order; the last one that matches decides, and without one, hosts of this machine are bypassed."""

    rules: tuple[_Rule, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Bypass:
        """Read a list as Chromium's `--proxy-bypass-list` and `Target.createBrowserContext` take it.

        Raises:
            ConfigurationError: It is too long. What is no rule is left out, as Chromium does.
        """
        if len(text) > _LONGEST:
            raise ConfigurationError(f"a proxy bypass list may have {_LONGEST} characters, not {len(text)}")
        found = (_parsed(part.strip()) for part in re.split(r"[,;]", text))
        return cls(tuple(rule for rule in found if rule is not None))

    def covers(self, host: str, port: int, *, encrypted: bool) -> bool:
        """Return True if a request goes directly to `host`."""
        name = host.lower().rstrip(".")
        for rule in reversed(self.rules):
            if rule.matches(name, port, encrypted=encrypted):
                return not rule.through_proxy
        return _implicit(name)


def _parsed(text: str) -> _Rule | None:
    if text.lower() == "<local>":
        return _Rule(simple_names=True)
    if text.lower() == "<-loopback>":
        return _Rule(through_proxy=True)
    match = _RULE.fullmatch(text)
    scheme, slashes, rest = text.rpartition("://")
    if "/" in rest:
        address, _, bits = rest.partition("/")
        try:
            network = ipaddress.ip_network(f"{address.strip('[]')}/{bits}", strict=False)
        except ValueError:
            return None
        return _Rule(scheme=scheme.lower() if slashes else "", network=network)
    if match is None or not match["host"]:
        return None
    host = match["host"].lower().strip("[]")
    glob = f"*{host}" if host.startswith(".") else host
    return _Rule(
        scheme=(match["scheme"] or "").lower(),
        # Its letters are literal but for `*` and `?`.
        host=re.compile(translate(glob.replace("[", "[[]")), re.IGNORECASE),
        port=int(match["port"]) if match["port"] else None,
    )


def _implicit(host: str) -> bool:
    """Return True for this machine and link-local addresses, which Chromium bypasses by itself."""
    if is_local_name(host) or is_loopback(host):
        return True
    address = address_of(host)
    return address is not None and any(address in network for network in _LINK_LOCAL)
