"""Types of columns that give the same Python values on SQLite and PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import BigInteger, DateTime, Dialect, Integer, String, Text, TypeDecorator

__all__ = ["Instant", "LongUnicode", "RowNumber", "Unicode", "unicode_text"]


class Instant(TypeDecorator[datetime]):
    """An aware date-time in UTC; SQLite forgets the zone, so it is put back."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Unicode(TypeDecorator[str]):
    """Text from outside. What PostgreSQL cannot keep, the character NUL and halves of surrogate pairs, is replaced on both databases."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else unicode_text(value)


class LongUnicode(Unicode):
    """The same without a limit of its length."""

    impl = Text
    cache_ok = True  # not inherited


def unicode_text(value: str) -> str:
    """Return a text that every database can keep."""
    return value.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()


RowNumber = BigInteger().with_variant(Integer(), "sqlite")
"""SQLite numbers rows by itself only in a column of its own INTEGER type."""
