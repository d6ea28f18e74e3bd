"""A connection to the first address of a name that accepts one (Happy Eyeballs, RFC 8305), which loses no socket.

CPython's own race (`happy_eyeballs_delay`) loses one when it is cancelled at the moment of its success.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from itertools import chain, zip_longest
from typing import Final

__all__ = ["connect_by_name"]

# RFC 8305 section 8, "Connection Attempt Delay".
_NEXT_SECONDS: Final = 0.25


class _Silent(asyncio.Protocol):
    """Leaves what arrives in the socket until the transport has its own protocol: some servers speak first."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Stop reading."""
        assert isinstance(transport, asyncio.ReadTransport)
        transport.pause_reading()


_Attempt = asyncio.Task[tuple[asyncio.Transport, _Silent]]


async def connect_by_name(host: str, port: int, *, next_seconds: float = _NEXT_SECONDS) -> asyncio.Transport:
    """Resolve `host`, and connect to one of its addresses.

    Args:
        host: A name, or an address.
        port: TCP port.
        next_seconds: After so long without an answer, the next address is tried too.

    Returns:
        The transport; set its protocol before the next await, or what arrives is lost.

    Raises:
        OSError: The name is unknown, or no address accepts a connection.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = _alternating([(family, str(place[0])) for family, *_, place in found])
    attempts: set[_Attempt] = set()
    waiting: set[_Attempt] = set()
    failures: list[OSError] = []
    try:
        while True:
            following = next(addresses, None)
            if following is not None:
                family, address = following
                attempt = loop.create_task(loop.create_connection(_Silent, address, port, family=family))
                attempts.add(attempt)
                waiting.add(attempt)
            if not waiting:
                raise _failure(failures)
            done, waiting = await asyncio.wait(
                waiting,
                timeout=None if following is None else next_seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for attempt in done:
                error = attempt.exception()
                if error is None:
                    attempts.discard(attempt)
                    transport = attempt.result()[0]
                    # Nothing is read before the loop's next turn, and the caller sets its protocol before that.
                    transport.resume_reading()
                    return transport
                if not isinstance(error, OSError):
                    raise error
                failures.append(error)
    finally:
        # Not waited for: a cancellation would strike here, too, and lose the transport that is about to be returned.
        for attempt in attempts:
            attempt.cancel()
            attempt.add_done_callback(_discard)


def _alternating(addresses: list[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """Each address once; the families in turn, the resolver's first one first (RFC 8305 section 4)."""
    families: dict[int, list[tuple[int, str]]] = {}
    for each in dict.fromkeys(addresses):
        families.setdefault(each[0], []).append(each)
    return (each for each in chain.from_iterable(zip_longest(*families.values())) if each is not None)


def _discard(attempt: _Attempt) -> None:
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result()[0].abort()


def _failure(failures: list[OSError]) -> OSError:
    """One error for all addresses: their common one, or one that names each."""
    if not failures:
        return OSError("the name has no address")
    if len({type(each) for each in failures}) == 1:
        return failures[0]
    return OSError("; ".join(str(each) for each in failures))
