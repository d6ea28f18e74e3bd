"""Limits on wrong keys and tokens of a peer. Pure: the caller brings the time."""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Final, Self

from ._limits import Limits

__all__ = ["Guesses", "Guessing", "KeyGuesses"]

_REPEATS: Final = 8
_GOOD_KEYS: Final = 10_000


@dataclass(slots=True)
class _Failures:
    """A bucket: each failure fills it by one, time empties it."""

    level: float = 0
    at: float = 0
    wrong: deque[bytes] = field(default_factory=lambda: deque(maxlen=_REPEATS))


class Guesses:
    """Failures of each peer, for secrets that are too long to be guessed.

    A right secret always passes. A wrong one counts, and above the limit its answer is 429.

    Args:
        burst: Failures before a peer is over the limit.
        seconds: After this time, one more failure is allowed.
        peers: Peers that are remembered; the one that failed longest ago is forgotten first.
    """

    def __init__(self, burst: int, seconds: float, peers: int) -> None:
        self._burst = burst
        self._seconds = seconds
        self._most = peers
        self._peers: OrderedDict[str, _Failures] = OrderedDict()

    def __len__(self) -> int:
        return len(self._peers)

    def retry_after(self, peer: str, now: float) -> int | None:
        """Whole seconds until the peer may be wrong again; None when it may be now."""
        found = self._peers.get(peer)
        if found is None:
            return None
        self._drain(found, now)
        over = found.level + 1 - self._burst
        # A millionth of a failure is rounding.
        return math.ceil(over * self._seconds - 1e-6) if over > 1e-6 else None

    def failed(self, peer: str, secret: str, now: float) -> int | None:
        """Count a wrong secret, as `retry_after` afterwards. Repeating one is no guess, and is not counted."""
        wait = self.retry_after(peer, now)
        found = self._peers.setdefault(peer, _Failures(at=now))
        self._peers.move_to_end(peer)
        digest = _digest(secret)
        if wait is None and digest not in found.wrong:
            found.wrong.append(digest)
            found.level += 1
        while len(self._peers) > self._most:
            self._peers.popitem(last=False)
        return wait

    def _drain(self, found: _Failures, now: float) -> None:
        found.level = max(0.0, found.level - (now - found.at) / self._seconds)
        found.at = now


class KeyGuesses(Guesses):
    """The same for API keys, which people may choose: above the limit, a key is not even looked at.

    A key that was right from the same peer before still passes. So neither a guesser nor a program with a wrong key can
    keep the clients behind one address from stopping their browsers. The price: who shares an address with a client can
    test, without a limit, whether a guess is that client's key.
    """

    def __init__(self, burst: int, seconds: float, peers: int) -> None:
        super().__init__(burst, seconds, peers)
        self._good: OrderedDict[bytes, None] = OrderedDict()

    def refused(self, peer: str, key: str, now: float) -> int | None:
        """Whole seconds to wait before this key is looked at; None when it may be looked at now."""
        wait = self.retry_after(peer, now)
        if wait is None or _digest(f"{peer}\n{key}") in self._good:
            return None
        return wait

    def right(self, peer: str, key: str) -> None:
        """Note that the key was right."""
        digest = _digest(f"{peer}\n{key}")
        self._good[digest] = None
        self._good.move_to_end(digest)
        while len(self._good) > _GOOD_KEYS:
            self._good.popitem(last=False)


@dataclass(frozen=True, slots=True)
class Guessing:
    """One table for keys, one for tokens: reconnects to stopped browsers must not use up what keys have."""

    keys: KeyGuesses
    tokens: Guesses

    @classmethod
    def of(cls, limits: Limits) -> Self:
        """Empty tables."""
        return cls(
            KeyGuesses(limits.key_failures, limits.key_seconds, limits.peers),
            Guesses(limits.token_failures, limits.token_seconds, limits.peers),
        )


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
