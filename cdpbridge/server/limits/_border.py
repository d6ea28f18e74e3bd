"""The limits on peers of this server, and the tables that count."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Self

from ._connections import Connections, Descriptors
from ._guesses import Guessing
from ._limits import Limits
from ._peers import Peers, peer_name

__all__ = ["NO_PLACE_TEXT", "SAFE_HEADERS", "TOO_MANY_TEXT", "Border"]

NO_PLACE_TEXT: Final = (
    "the server has too many connections; try again later, or raise its limit of descriptors (`ulimit -n`)"
)

TOO_MANY_TEXT: Final = "Too many wrong keys or addresses from this network address; try again later"
SAFE_HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
"""Headers of every answer that sets no others: most answers hold addresses that are passwords."""


@dataclass(frozen=True, slots=True)
class Border:
    """One of each, for one server.

    Attributes:
        now: Seconds, monotonic.
    """

    limits: Limits
    descriptors: Descriptors
    connections: Connections
    peers: Peers
    guessing: Guessing
    now: Callable[[], float]

    @classmethod
    def of(cls, limits: Limits | None = None, *, trusted_proxies: Iterable[str] = ()) -> Self:
        """Start new tables.

        Args:
            limits: Default: those of a server.
            trusted_proxies: See `Peers`.
        """
        limits = limits or Limits()
        descriptors = Descriptors.of_process()
        return cls(
            limits,
            descriptors,
            Connections(descriptors, limits.held_bytes),
            Peers(trusted_proxies),
            Guessing.of(limits),
            time.monotonic,
        )

    def wrong_token(self, address: str | None, token: str) -> int | None:
        """Count a wrong token or signature of a client; the seconds it has to wait when there were too many, else None."""
        return self.guessing.tokens.failed(peer_name(address or ""), token, self.now())

    def check_token(self, address: str | None, token: str) -> None:
        """Do the same for routes.

        Raises:
            HTTPException: 429 when there were too many.
        """
        wait = self.wrong_token(address, token)
        if wait is not None:
            from starlette.exceptions import HTTPException  # noqa: PLC0415  # the border is made before it is imported

            raise HTTPException(429, TOO_MANY_TEXT, headers={"Retry-After": str(wait)})
