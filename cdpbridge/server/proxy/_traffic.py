"""How many bytes a browser has exchanged with each host. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["HostTraffic", "Traffic"]

# A page may name as many hosts as it likes.
_MOST_HOSTS: Final = 200
# When there are more, the ones with the least traffic are counted together.
_KEPT_HOSTS: Final = 100


@dataclass(frozen=True, slots=True)
class HostTraffic:
    """Payload that was exchanged with one host, as `ForwardingProxy.bytes_sent` counts it.

    Attributes:
        host: Lower case, without a port; None for all hosts that are not counted one by one.
        bytes_sent: Towards it.
        bytes_received: From it.
    """

    host: str | None
    bytes_sent: int
    bytes_received: int


class Traffic:
    """The counters of one browser, for a bounded number of hosts."""

    def __init__(self) -> None:
        self._hosts: dict[str, list[int]] = {}
        self._others = [0, 0]

    def add(self, host: str, sent: int, received: int) -> None:
        """Count what was exchanged with `host`, which is in lower case."""
        counters = self._hosts.get(host)
        if counters is None:
            if len(self._hosts) >= _MOST_HOSTS:
                self._fold()
            counters = self._hosts[host] = [0, 0]
        counters[0] += sent
        counters[1] += received

    def hosts(self) -> list[HostTraffic]:
        """Return what was exchanged with each host, the most first; at the end the others, if there are any."""
        found = [HostTraffic(host, *counters) for host, counters in self._hosts.items()]
        found.sort(key=lambda each: (-each.bytes_sent - each.bytes_received, each.host))
        return [*found, HostTraffic(None, *self._others)] if any(self._others) else found

    def _fold(self) -> None:
        by_bytes = sorted(self._hosts, key=lambda host: -sum(self._hosts[host]))
        for host in by_bytes[_KEPT_HOSTS:]:
            sent, received = self._hosts.pop(host)
            self._others[0] += sent
            self._others[1] += received
