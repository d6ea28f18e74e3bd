"""The route of one forwarder's connections to the internet: upstream, rules, counters."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Container
from dataclasses import dataclass, field, replace
from typing import Final

from ._address import is_local_name, is_own, literal_address
from ._block_list import BlockList
from ._bypass import Bypass
from ._messages import BadHost, Target
from ._resolver import Resolver
from ._rules import Refusal, Rules
from ._traffic import Traffic
from ._upstream import ProxyFailure, Upstream

__all__ = ["Failure", "Open", "Route"]

# A page with broken parts must not push out the reason why another one did not load.
_FAILURES: Final = 64
_OWN_PORT: Final = "{}:{} is a port of the server that runs this browser, which it may not reach"


@dataclass(frozen=True, slots=True)
class Failure:
    """A failure that the browser was sent by us rather than by a server, without credentials.

    Attributes:
        host: Of the request's target; empty when it had none.
        port: Its TCP port.
        text: The reason, as a clause.
        error: Its type (RFC 9209 section 2.3).
        at: When, by the system's monotonic clock.
        net_error: Chromium's name for it where no proxy of the server's was ordered: what it would say without a forwarder. Else None.
    """

    host: str
    port: int
    text: str
    error: str
    at: float
    net_error: str | None = None


@dataclass(slots=True)
class Open:
    """The number of connections that a browser has open to its forwarders."""

    count: int = 0


@dataclass(slots=True)
class Route:
    """The route of one forwarder's connections to the internet, and the bytes that they carried.

    Attributes:
        upstream: The proxy to go through, or None to connect directly.
        rules: What may be reached. Replaced as a whole.
        trusted_upstream: False for an upstream that a client has named: it is dialled under `upstream_rules`.
        own_ports: Ports of this server and of its browsers, which no browser may reach at any address of this machine.
        connect_seconds: Limit for name resolution, connecting and the handshake together.
        block_list: Hosts of advertisements and the like, which are refused and counted.
        bypass: Hosts that are connected to directly in spite of `upstream`.
        asks: The upstream's questions for credentials go to the browser, and its answers to the upstream.
        upstream_rules: Of the server, without lists that are about the sites of one order; None for `rules`.
        unseen: No proxy of the server's was ordered: what cannot be reached looks as without a forwarder.
        blocked: How many requests `block_list` has refused.
        bytes_sent: Payload towards the internet.
        bytes_received: Payload from there.
        open: Of all routes of the browser.
        traffic: The same by host, of all routes of the browser.
        resolver: Of all routes of the browser.
        failures: The last ones, the latest at the end; of all routes of the browser.
    """

    upstream: Upstream | None
    rules: Rules = field(default_factory=Rules)
    trusted_upstream: bool = True
    own_ports: Container[int] = ()
    connect_seconds: float = 30
    block_list: BlockList = field(default_factory=BlockList)
    bypass: Bypass | None = None
    asks: bool = False
    upstream_rules: Rules | None = None
    unseen: bool = False
    blocked: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    open: Open = field(default_factory=Open)
    traffic: Traffic = field(default_factory=Traffic)
    resolver: Resolver = field(default_factory=Resolver)
    failures: deque[Failure] = field(default_factory=lambda: deque(maxlen=_FAILURES))

    def of_context(self, upstream: Upstream | None, bypass: Bypass) -> Route:
        """Return the route of a context with a proxy of its own: under the same rules, with the same counters of hosts."""
        return replace(
            self,
            upstream=upstream,
            bypass=bypass,
            trusted_upstream=False,
            asks=upstream is not None and upstream.username is None,
            unseen=True,
            blocked=0,
            bytes_sent=0,
            bytes_received=0,
        )

    def upstream_of(self, target: Target) -> Upstream | None:
        """Return the proxy on the way to `target`; None when it is connected to directly."""
        if self.upstream is None or self.bypass is None:
            return self.upstream
        direct = self.bypass.covers(target.host, target.port, encrypted=target.encrypted)
        return None if direct else self.upstream

    def sent(self, target: Target, count: int) -> None:
        """Count payload towards `target`."""
        self.bytes_sent += count
        self.traffic.add(target.name, count, 0)

    def received(self, target: Target, count: int) -> None:
        """Count payload from `target`."""
        self.bytes_received += count
        self.traffic.add(target.name, 0, count)

    def note(self, target: Target | None, failure: ProxyFailure) -> None:
        """Keep `failure`, which the browser got instead of an answer for `target`."""
        if isinstance(failure, BadHost):
            host, port = failure.host, failure.port
        else:
            host, port = ("", 0) if target is None else (target.host, target.port)
        known = failure.net_error if self.unseen else None
        self.failures.append(Failure(host, port, str(failure), failure.error, time.monotonic(), known))

    def refuse(self, target: Target, address: str | None) -> Refusal | None:
        """Return why `target` may not be reached: at `address` if it is connected to directly, else at what its host spells."""
        host, port = target.host, target.port
        resolved_here = address is not None or self.upstream_of(target) is None
        refusal = self.rules.refuse_host(host, port, resolved_here=resolved_here)
        where = address or literal_address(host)
        if refusal is not None or where is None:
            return refusal
        if (
            address is None and resolved_here and is_local_name(host)
        ):  # both of its addresses are judged when it is dialled
            return None
        return self.refuse_address(host, port, where)

    def refuse_address(self, host: str, port: int, address: str) -> Refusal | None:
        """Return why no connection for `host` may be opened to `address`."""
        return self._judge(self.rules, host, port, address)

    def refuse_upstream(self, host: str, port: int, address: str) -> Refusal | None:
        """Return why the upstream, `host`, may not be connected to at `address`."""
        return (
            None
            if self.trusted_upstream
            else self._judge(self.upstream_rules or self.rules, host, port, address)
        )

    def _judge(self, rules: Rules, host: str, port: int, address: str) -> Refusal | None:
        if rules.private and port not in self.own_ports:
            return rules.refuse_address(host, port, address)
        own = is_own(address)
        if own and port in self.own_ports and not rules.opens(host, port, address):
            return Refusal(_OWN_PORT.format(host, port), "destination_ip_prohibited")
        return rules.refuse_address(host, port, address, own=own)
