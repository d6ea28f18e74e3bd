"""Sign-ins to the console. In memory: a restarted server asks for the key again."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

__all__ = ["SIGN_IN_LASTS", "SignIn", "SignIns"]

SIGN_IN_LASTS: Final = timedelta(hours=12)
"""A working day; then the key is asked for again."""

_TOKEN_BYTES: Final = 32
_MOST: Final = 10_000  # above, the oldest is removed


@dataclass(frozen=True, slots=True)
class SignIn:
    """The secrets that a page gets: `token` as a cookie, `proof` to keep in its own storage.

    Cookies are sent to every port of a host, and so to other servers there. A page's storage belongs to its origin, port
    included. Only both together count.
    """

    token: str
    proof: str


class SignIns:
    """Digests of tokens and proofs, and the hash of the key each was given for.

    The key itself is not kept, and the hash is looked up at each use: a key that is taken away signs out.

    Args:
        now: Seconds, monotonic.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._keys: dict[str, tuple[str, str, float]] = {}

    def add(self, key_hash: str) -> SignIn:
        """Add a sign-in for a key that was accepted."""
        while len(self._keys) >= _MOST:
            del self._keys[next(iter(self._keys))]
        made = SignIn(secrets.token_urlsafe(_TOKEN_BYTES), secrets.token_urlsafe(_TOKEN_BYTES))
        until = self._now() + SIGN_IN_LASTS.total_seconds()
        self._keys[_digest(made.token)] = key_hash, _digest(made.proof), until
        return made

    def key_hash(self, token: str, proof: str) -> str | None:
        """Return the hash of the key behind a cookie; None when it is unknown or too old, or without its proof."""
        found = self._keys.get(_digest(token))
        if found is None:
            return None
        key_hash, proof_digest, until = found
        if self._now() >= until:
            del self._keys[_digest(token)]
            return None
        return key_hash if hmac.compare_digest(proof_digest, _digest(proof)) else None

    def remove(self, token: str, proof: str) -> bool:
        """Sign out; False when the proof is another sign-in's."""
        if _digest(token) in self._keys and self.key_hash(token, proof) is None:
            return False
        self._keys.pop(_digest(token), None)
        return True


def _digest(token: str) -> str:
    """Tokens are looked up by this, so that time says nothing about them."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
