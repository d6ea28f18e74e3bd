"""Sign-ins to the console. In the database, so that they are good on every server of it, and after a restart."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cdpbridge.server.store import Store

__all__ = ["SIGN_IN_LASTS", "SignIn", "SignIns"]

SIGN_IN_LASTS: Final = timedelta(hours=12)
"""A working day; then the key is asked for again."""

_TOKEN_BYTES: Final = 32


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
        store: Where they are.
        wall: Where dates come from.
    """

    def __init__(self, store: Store, wall: Callable[[], datetime]) -> None:
        self._store = store
        self._wall = wall

    async def add(self, key_hash: str) -> SignIn:
        """Add a sign-in for a key that was accepted."""
        made = SignIn(secrets.token_urlsafe(_TOKEN_BYTES), secrets.token_urlsafe(_TOKEN_BYTES))
        now = self._wall()
        await self._store.add_sign_in(
            _digest(made.token), _digest(made.proof), key_hash, until=now + SIGN_IN_LASTS, now=now
        )
        return made

    async def key_hash(self, token: str, proof: str) -> str | None:
        """Return the hash of the key behind a cookie; None when it is unknown or too old, or without its proof."""
        if not token:
            return None
        found = await self._store.sign_in(_digest(token), now=self._wall())
        if found is None:
            return None
        return found.key_hash if hmac.compare_digest(found.proof_digest, _digest(proof)) else None

    async def remove(self, token: str, proof: str) -> bool:
        """Sign out; False when the proof is another sign-in's."""
        found = await self._store.sign_in(_digest(token), now=self._wall())
        if found is not None:
            if not hmac.compare_digest(found.proof_digest, _digest(proof)):
                return False
            await self._store.remove_sign_in(found.token_digest)
        return True


def _digest(token: str) -> str:
    """Tokens are looked up by this, so that time says nothing about them."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
