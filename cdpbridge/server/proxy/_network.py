"""The network of one browser: the forwarder of its command line, and one for each proxy that a context asks for.

All of them go by the same rules, whatever a context names as its proxy: `direct://` and hosts that its bypass list leaves out
are connected to by the forwarder, directly, and under the rules.
"""

from __future__ import annotations

import asyncio
import re
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Final, Self, TypeAlias

from cdpbridge.errors import ConfigurationError

from ._block_list import BlockList
from ._bypass import Bypass
from ._forwarder import ForwardingProxy
from ._patterns import HostLists
from ._route import Failure, Route
from ._rules import Rules
from ._traffic import HostTraffic
from ._upstream import Upstream

__all__ = ["BrowserNetwork", "Listen", "context_upstream"]

Listen: TypeAlias = Callable[[], Awaitable[socket.socket]]
"""Makes a bound socket to listen on."""

# Each has a listening socket. A crawler may give each of its contexts another proxy, for days.
_MOST_PROXIES: Final = 256
_CONNECT_SECONDS: Final = 30
_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)


class BrowserNetwork:
    """Forwarders of one browser. Made by `start`, ended by `close`.

    Args:
        upstream: Of the forwarder of its command line, as in `ForwardingProxy.start`.
        rules: What may be reached, through each forwarder.
        hosts: Lists on top of them, of the order.
        trusted_upstream: False for an upstream that a client has named.
        own_ports: Ports of this server and of its browsers; those of the forwarders are added while they listen.
        block_list: Hosts that are refused and counted.
        unseen: No proxy was ordered; see `ForwardingProxy.start`.
    """

    def __init__(
        self,
        upstream: str | None,
        *,
        rules: Rules,
        hosts: Sequence[HostLists] = (),
        trusted_upstream: bool = True,
        own_ports: set[int],
        block_list: BlockList | None = None,
        unseen: bool = False,
    ) -> None:
        self._route = Route(
            None if upstream is None else Upstream.parse(upstream),
            rules.narrowed(*hosts),
            trusted_upstream,
            own_ports,
            _CONNECT_SECONDS,
            block_list or BlockList(),
            upstream_rules=rules,
            unseen=unseen,
        )
        self._ordered_rules = self._route.rules
        self._own_ports = own_ports
        self._main: ForwardingProxy
        self._inside: Listen | None = None
        # The least lately asked for first.
        self._contexts: dict[tuple[Upstream | None, Bypass], ForwardingProxy] = {}
        self._making = asyncio.Lock()
        self._blocked_before = 0  # of forwarders that were ended
        self._closed = False

    async def start(self, inside: Listen | None = None) -> Self:
        """Listen.

        Args:
            inside: Makes sockets to listen on in the network of an isolated browser; the first is for the forwarder of its
                command line. Default: ports of this machine.

        Raises:
            OSError: No port is free, or the browser has ended.
        """
        self._inside = inside
        self._main = await self._listen(self._route)
        return self

    def serve(self, order: BrowserNetwork) -> None:
        """Go on as `order`, which was not started: with its upstream, rules and lists.

        What was open is closed, and nothing that happened before is counted or known any more.
        """
        self._route = order._route
        self._ordered_rules = self._route.rules
        self._main.serve_route(self._route)

    async def close(self) -> None:
        """Stop listening and end every connection. Harmless when repeated."""
        self._closed = True
        async with self._making, AsyncExitStack() as ends:
            for proxy in (self._main, *self._contexts.values()):
                ends.push_async_callback(self._end, proxy)
            self._contexts.clear()

    @property
    def address(self) -> str:
        """`host:port` for Chromium's `--proxy-server`."""
        return self._main.address

    @property
    def blocked(self) -> int:
        """The number of requests that the block list has refused."""
        return self._blocked_before + sum(proxy.blocked for proxy in self._proxies)

    @property
    def ordered_bytes(self) -> int:
        """Payload, both ways, through the forwarder of the command line."""
        return self._main.bytes_sent + self._main.bytes_received

    @property
    def traffic(self) -> list[HostTraffic]:
        """Payload by host, through every forwarder; the most first, for a bounded number of hosts."""
        return self._main.traffic

    @property
    def failures(self) -> list[dict[str, object]]:
        """The last failures, the latest at the end, for clients that want to know why a page did not load."""
        now = time.monotonic()
        return [_shown(each, now) for each in self._main.failures]

    def limit(self, lists: HostLists) -> int:
        """Replace the lists of hosts that come on top of the rules, for requests and for what is open.

        Returns:
            How many connections were closed because the new lists refuse what they served.
        """
        self._route.rules = rules = self._ordered_rules.narrowed(lists)
        return sum(proxy.apply(rules) for proxy in self._proxies)

    async def context_proxy(self, server: str, bypass_list: str) -> str:
        """Return the `host:port` of a forwarder for a context whose proxy a client has named.

        The same proxy gets the same forwarder. Above a number, the one that was not asked for in the longest time, and has no
        connection open, is ended.

        Args:
            server: As `Target.createBrowserContext` takes it.
            bypass_list: The same.

        Raises:
            ConfigurationError: It is no proxy that can be used.
            OSError: No port is free.
        """
        key = self._checked(context_upstream(server)), Bypass.parse(bypass_list)
        async with self._making:
            if self._closed:
                raise ConfigurationError("the browser is being stopped")
            proxy = self._contexts.pop(key, None)
            if proxy is None:
                await self._make_place()
                proxy = await self._listen(self._route.of_context(*key))
            self._contexts[key] = proxy
        return proxy.address

    def _checked(self, upstream: Upstream | None) -> Upstream | None:
        """Refuse a proxy of a client that is written as an address which it may not be; the others when they are dialled."""
        if upstream is not None and self._route.upstream_rules is not None:
            refusal = self._route.upstream_rules.refuse_host(upstream.host, upstream.port, resolved_here=True)
            if refusal is not None:
                raise ConfigurationError(refusal.text)
        return upstream

    @property
    def _proxies(self) -> tuple[ForwardingProxy, ...]:
        return (self._main, *self._contexts.values())

    async def _make_place(self) -> None:
        if len(self._contexts) < _MOST_PROXIES:
            return
        idle = next((key for key, proxy in self._contexts.items() if proxy.idle), None)
        if idle is None:
            raise ConfigurationError(
                f"the contexts of a browser may use {_MOST_PROXIES} different proxies at once"
            )
        proxy = self._contexts.pop(idle)
        self._blocked_before += proxy.blocked
        await self._end(proxy)

    async def _listen(self, route: Route) -> ForwardingProxy:
        if self._inside is not None:
            return await ForwardingProxy.serve(route, sock=await self._inside())
        proxy = await ForwardingProxy.serve(route)
        self._own_ports.add(_port(proxy))
        return proxy

    async def _end(self, proxy: ForwardingProxy) -> None:
        if self._inside is None:
            self._own_ports.discard(_port(proxy))
        await proxy.close()


def context_upstream(server: str) -> Upstream | None:
    """Return the proxy that a client names for a context; None for `direct://`.

    Args:
        server: `host:port`, `http://...`, `socks5://...`, `socks://...` or `direct://`, as Chromium takes it; with credentials, too.

    Raises:
        ConfigurationError: It is none of these.
    """
    text = server.strip()
    if "=" in text.partition("@")[0] and "://" not in text.partition("=")[0]:
        raise ConfigurationError(
            "a proxy for each scheme (`http=...;https=...`) cannot be used here; name one proxy for all"
        )
    if "," in text or ";" in text:
        raise ConfigurationError("several proxies for one context cannot be used here; name one")
    if text.lower() == "direct://":
        return None
    if _SCHEME.match(text) is None:
        text = f"http://{text}"
    elif text.lower().startswith("socks://"):  # ProxyUriToProxyServer of net/base/proxy_string_util.cc
        text = f"socks5://{text.partition('://')[2]}"
    return Upstream.parse(text)


def _port(proxy: ForwardingProxy) -> int:
    return int(proxy.address.rpartition(":")[2])


def _shown(failure: Failure, now: float) -> dict[str, object]:
    shown: dict[str, object] = {
        "host": failure.host,
        "port": failure.port,
        "text": failure.text,
        "error": failure.error,
        "age": now - failure.at,
    }
    if failure.net_error is not None:
        shown["netError"] = failure.net_error
    return shown
