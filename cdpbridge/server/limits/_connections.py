"""Limits on the number of connections: descriptors are reserved for browsers, and silent peers are dropped first."""

from __future__ import annotations

import os
import resource
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

__all__ = ["Connections", "Descriptors", "Waiting", "raise_descriptor_limit"]

_WANTED: Final = 65_536
# A new browser takes about 12: pipes, the listening socket of its proxy, our own connection. Then its clients come.
_BROWSER: Final = 32
# What a connection holds besides what was received: protocol, transport, parser, tables (3 to 8 KiB were measured).
_CONNECTION: Final = 8 * 1024
_SHOWN_IN: Final = (Path("/proc/self/fd"), Path("/dev/fd"))


def raise_descriptor_limit() -> None:
    """Take as many descriptors as the hard limit allows; the soft one is often 1024, for programs that use select()."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _WANTED if hard == resource.RLIM_INFINITY else min(hard, _WANTED)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):  # macOS has a lower limit of its own
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@dataclass(frozen=True, slots=True)
class Descriptors:
    """The descriptors of this process.

    Attributes:
        limit: How many it may have.
        kept: How many of them connections of peers may not take.
    """

    limit: int
    kept: int

    @classmethod
    def of_process(cls) -> Descriptors:
        """Return the limits that RLIMIT_NOFILE sets now."""
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        limit = _WANTED if soft == resource.RLIM_INFINITY else soft
        return cls(limit, min(max(limit // 8, 64), limit // 2, 1024))

    def used(self) -> int:
        """Return how many are open now. Takes 0.2 us each."""
        for folder in _SHOWN_IN:
            with suppress(OSError):
                return len(os.listdir(folder))  # noqa: PTH208  # entries are counted, paths are not needed
        return 0


class Waiting(Protocol):
    """A connection whose peer has not yet said all that is needed to serve it."""

    def drop(self) -> None:
        """Close it at once."""


class Connections:
    """The connections that wait for their peers, the longest wait first.

    A connection waits while its request is incomplete, while it is idle, and while its answer is not read. Of the
    descriptors that are kept from these, the last eighth is for us, and the eighth before for requests: clients of
    browsers stay, and must not keep out what stops a browser.

    Args:
        descriptors: When only the kept ones are left, a new connection takes the place of one that waits.
        held_bytes: What those that wait may hold together.
    """

    def __init__(self, descriptors: Descriptors, held_bytes: int) -> None:
        self._descriptors = descriptors
        limit, eighth = descriptors.limit, descriptors.kept // 8
        self._waiting_most = limit - descriptors.kept
        self._staying_most = limit - 2 * eighth
        self._most = limit - eighth
        self._batch = max(self._waiting_most // 64, 2)
        # Descriptors in use at most: counted now and then, and one more for each that was opened since.
        self._used = 0
        self._held_most = held_bytes
        self._held = 0
        self._waiting: dict[Waiting, int] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def arrived(self, connection: Waiting) -> bool:
        """Note that a new connection waits; False when there is no place for it."""
        if not self._make_way(self._waiting_most) and self._used >= self._most:
            return False
        self.waits(connection)
        return True

    def may_stay(self) -> bool:
        """Return True if a connection may become a client of a browser, which takes another descriptor and never waits."""
        return self._make_way(self._staying_most)

    def problem(self) -> str | None:
        """Return why no browser should be started now; None when one may, and will find place for its clients."""
        self._used = self._descriptors.used()
        left = self._waiting_most - (self._used - len(self._waiting))
        if left >= _BROWSER:
            return None
        return (
            f"{max(left, 0)} of {self._descriptors.limit} file descriptors are left for browsers, and one takes up to "
            f"{_BROWSER}; raise the limit (`ulimit -n`)"
        )

    def _make_way(self, most: int) -> bool:
        """Count one more; True unless this is one too many, and none that waits could be dropped for it."""
        self._used += 1
        if self._used >= most:
            self._used = self._descriptors.used()
        if self._used < most:
            return True
        dropped = sum(self._drop_oldest() for _ in range(self._batch))
        self._used -= dropped
        return dropped > 0

    def waits(self, connection: Waiting) -> None:
        """Note that a connection waits, and was useful just now."""
        before = self._waiting.pop(connection, 0)
        self._waiting[connection] = before or _CONNECTION
        self._held += 0 if before else _CONNECTION
        self._bound()

    def holds(self, connection: Waiting, count: int) -> None:
        """Note that a connection holds `count` bytes, if it waits."""
        before = self._waiting.get(connection)
        if before is not None:
            self._waiting[connection] = count + _CONNECTION
            self._held += count + _CONNECTION - before
            self._bound()

    def served(self, connection: Waiting) -> None:
        """Note that a connection waits no more, or is closed."""
        self._held -= self._waiting.pop(connection, 0)

    def _bound(self) -> None:
        while self._held > self._held_most and self._drop_oldest():
            pass

    def _drop_oldest(self) -> bool:
        oldest = next(iter(self._waiting), None)
        if oldest is None:
            return False
        self.served(oldest)
        oldest.drop()
        return True
