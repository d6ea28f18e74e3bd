"""Sign-ins to the console: good on every server of the database."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from sqlalchemy import delete, func, select

from ._database import Database
from ._models import SignIn

__all__ = ["SignIns"]

_MOST: Final = 10_000  # above, those that end first are removed


class SignIns(Database):
    """Queries and transactions of sign-ins."""

    async def add_sign_in(
        self, token_digest: str, proof_digest: str, key_hash: str, *, until: datetime, now: datetime
    ) -> None:
        """Add a sign-in, and forget those that have ended."""
        async with self._write() as session:
            await session.execute(delete(SignIn).where(SignIn.until <= now))
            count = await session.scalar(select(func.count()).select_from(SignIn)) or 0
            if count >= _MOST:
                first = select(SignIn.token_digest).order_by(SignIn.until).limit(count - _MOST + 1)
                await session.execute(delete(SignIn).where(SignIn.token_digest.in_(first)))
            session.add(
                SignIn(token_digest=token_digest, proof_digest=proof_digest, key_hash=key_hash, until=until)
            )

    async def sign_in(self, token_digest: str, *, now: datetime) -> SignIn | None:
        """Return a sign-in that has not ended."""
        where = (SignIn.token_digest == token_digest, SignIn.until > now)
        async with self._read() as session:
            return await session.scalar(select(SignIn).where(*where))

    async def remove_sign_in(self, token_digest: str) -> None:
        """End a sign-in; nothing happens when there is none."""
        async with self._write() as session:
            await session.execute(delete(SignIn).where(SignIn.token_digest == token_digest))
