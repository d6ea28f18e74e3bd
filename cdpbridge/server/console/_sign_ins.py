"""Who is signed in to the console. In memory: a restarted server asks for the key again."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from datetime import timedelta
from typing import Final

__all__ = ["SIGN_IN_LASTS", "SignIns"]

SIGN_IN_LASTS: Final = timedelta(hours=12)
"""A working day; then the key is asked for again."""

_TOKEN_BYTES: Final = 32
_MOST: Final = 10_000  # the oldest goes when somebody signs in without end


class SignIns:
    """Tokens of cookies, and the hash of the key each was given for.

    The key itself is not kept, and the hash is looked up at each use: a key that is taken away signs out.

    Args:
        now: Seconds, monotonic.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._keys: dict[str, tuple[str, float]] = {}

    def add(self, key_hash: str) -> str:
        """A new cookie's value for a key that was found good."""
        while len(self._keys) >= _MOST:
            del self._keys[next(iter(self._keys))]
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        self._keys[_digest(token)] = key_hash, self._now() + SIGN_IN_LASTS.total_seconds()
        return token

    def key_hash(self, token: str) -> str | None:
        """The hash of the key behind a cookie, None when it is unknown or too old."""
        found = self._keys.get(_digest(token))
        if found is None:
            return None
        key_hash, until = found
        if self._now() >= until:
            self.remove(token)
            return None
        return key_hash

    def remove(self, token: str) -> None:
        """Sign out."""
        self._keys.pop(_digest(token), None)


def _digest(token: str) -> str:
    """Tokens are looked up by this, so that time says nothing about them."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
