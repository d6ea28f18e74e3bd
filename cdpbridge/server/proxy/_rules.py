"""Rules for the connections of a browser: private addresses, and lists of hosts. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace

from cdpbridge.errors import ConfigurationError

from ._address import is_forbidden, is_local_name, is_loopback, literal_address
from ._patterns import HostLists, canonical, parsed

__all__ = ["Refusal", "Rules"]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a connection is refused.

    Attributes:
        error: Its type for the `Proxy-Status` header (RFC 9209 section 2.3).
    """

    text: str
    error: str


@dataclass(frozen=True)
class Rules:
    """The rules of what a browser may reach. Replace the whole object to change it: `dataclasses.replace(rules, ...)`.

    Attributes:
        private: Whether loopback, private, link-local and other addresses that are not public may be reached, and
            any address of this machine.
        private_allowed: `host:port` of those that may be reached although `private` is False. An entry that is a name opens
            what it resolves to; one that is an address opens that address under every name.
        allowed_hosts: Patterns of the only hosts that may be reached, as in `HostLists`; None for all.
        denied_hosts: Patterns of hosts that may not be reached, whatever `allowed_hosts` says.
        narrower: Further lists; each of them must let a host pass, too.

    Raises:
        ConfigurationError: A pattern is not valid.
    """

    private: bool = True
    private_allowed: Collection[str] = ()
    allowed_hosts: Sequence[str] | None = None
    denied_hosts: Sequence[str] = ()
    narrower: tuple[HostLists, ...] = ()
    _opened: frozenset[tuple[str, int]] = field(init=False, repr=False, compare=False, default=frozenset())
    _lists: tuple[HostLists, ...] = field(init=False, repr=False, compare=False, default=())

    def __post_init__(self) -> None:
        if isinstance(self.private_allowed, str):
            raise ConfigurationError("private_allowed is a list of hosts, not one text")
        own = HostLists(self.allowed_hosts, self.denied_hosts)
        for name, value in (
            ("private_allowed", tuple(self.private_allowed)),
            ("allowed_hosts", own.allowed_hosts),
            ("denied_hosts", own.denied_hosts),
            ("_opened", frozenset(_opened(self.private_allowed))),
            ("_lists", tuple(lists for lists in (own, *self.narrower) if lists)),
        ):
            object.__setattr__(self, name, value)

    @property
    def limits_hosts(self) -> bool:
        """True if there are lists of hosts."""
        return bool(self._lists)

    def narrowed(self, *lists: HostLists) -> Rules:
        """Return these rules with further lists."""
        return replace(self, narrower=(*self.narrower, *lists))

    def refuse_host(self, host: str, port: int, *, resolved_here: bool = False) -> Refusal | None:
        """Return why a request may not go to `host`, as it is written in the request; None when it may, as far as that tells.

        Args:
            host: Name or address, IPv6 without brackets.
            port: TCP port.
            resolved_here: `refuse_address` will judge each address that the name resolves to.
        """
        spelled, literal = canonical(host), literal_address(host)
        waits = resolved_here and (literal is None or is_local_name(host))
        for lists in self._lists:
            if lists.denies(spelled, port):
                return _not_allowed(host)
            if not lists.admits(spelled, port) and not (waits and lists.admits_by_address):
                return _not_allowed(host)
        return None if waits or literal is None else self.refuse_address(host, port, literal)

    def refuse_address(self, host: str, port: int, address: str, *, own: bool = False) -> Refusal | None:
        """Return why a connection for `host` may not be opened to `address`, which `host` is or resolves to.

        Args:
            host: As in the request.
            port: TCP port.
            address: In its usual form.
            own: `address` belongs to this machine.
        """
        if self._lists:
            spelled, where = canonical(host), canonical(address)
            for lists in self._lists:
                if lists.denies(where, port) or not (
                    lists.admits(spelled, port) or lists.admits(where, port)
                ):
                    return _not_allowed(host)
        if self.private or not (own or is_forbidden(address)) or self.opens(host, port, address):
            return None
        return Refusal(
            f"{host} is a private address, which this browser may not reach; "
            "the server's setting `private_allowed` opens single services",
            "destination_ip_prohibited",
        )

    def opens(self, host: str, port: int, address: str) -> bool:
        """Return True if `private_allowed` names this host or address at this port."""
        return bool(self._opened) and not self._opened.isdisjoint(
            ((canonical(host), port), (canonical(address), port))
        )


def _not_allowed(host: str) -> Refusal:
    return Refusal(f"{host} is not among the hosts that this browser may reach", "http_request_denied")


def _opened(entries: Iterable[str]) -> Iterable[tuple[str, int]]:
    for entry in entries:
        pattern = parsed("private_allowed", entry)
        if pattern.port is None or pattern.below or pattern.network is not None:
            raise ConfigurationError(
                f"private_allowed: {entry!r} is not host:port; write localhost:3000 or 10.0.0.5:443"
            )
        yield pattern.host, pattern.port
        if pattern.host == "localhost" or is_loopback(pattern.host):
            # The two loopback addresses and their name are one service for a user.
            yield from ((host, pattern.port) for host in ("localhost", "127.0.0.1", "::1"))
