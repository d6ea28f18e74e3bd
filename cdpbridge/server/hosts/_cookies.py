"""Which cookies to keep when a browser could not be asked at its end.

Two witnesses remain: the running export, and the browser's own database. Chromium writes the database about every 30 s,
all changes up to then at once, and once more when it leaves in order. So if it was written after the export it knows
everything that the export knows about the cookies that outlive a browser, deletions included; if not, the export does.
That the file is younger proves nothing by itself: Chromium also touches it when it first opens it. Proof is an orderly
exit, or a row that is younger than the export. Cookies of the session are in the export only: Chromium drops them when
it starts.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from cdpbridge.server.profiles import COOKIE_DATABASES

__all__ = ["CookieExport", "cookies_to_keep"]

_NAME: Final = "cookies.json"
# Chromium counts microseconds from 1601-01-01 (base/time/time.h).
_CHROMIUM_EPOCH_SECONDS: Final = 11_644_473_600


@dataclass(frozen=True, slots=True)
class CookieExport:
    """All cookies of a browser at one time.

    Attributes:
        cookies: As `Storage.getCookies` gives them.
        at: Unix time, seconds, taken before the browser was asked.
    """

    cookies: list[dict[str, Any]]
    at: float

    def write(self, folder: Path) -> None:
        """Put it into `folder`, whole or not at all."""
        temporary = folder / f"{_NAME}.new"
        temporary.write_text(json.dumps({"at": self.at, "cookies": self.cookies}))
        temporary.replace(folder / _NAME)

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """The last one written to `folder`.

        Raises:
            ValueError: It is damaged.
        """
        try:
            found = json.loads((folder / _NAME).read_text())
        except FileNotFoundError:
            return None
        if not (isinstance(found, dict) and isinstance(found.get("at"), float | int)):
            raise ValueError("no cookie export")  # noqa: TRY004  # of what was read, not of an argument
        return cls(list(found.get("cookies", ())), float(found["at"]))


def cookies_to_keep(
    export: CookieExport | None, user_data_dir: Path, *, orderly: bool
) -> list[dict[str, Any]] | None:
    """The cookies to save beside `user_data_dir`; None when there was no export.

    Args:
        orderly: The browser left by itself, so it wrote its database on the way.
    """
    if export is None:
        return None
    for name in COOKIE_DATABASES:
        database = user_data_dir / name
        if database.is_file() and _knows_more(database, export.at, orderly=orderly):
            return [cookie for cookie in export.cookies if cookie.get("session")]
    return export.cookies


def _knows_more(database: Path, at: float, *, orderly: bool) -> bool:
    if orderly and database.stat().st_mtime > at:
        return True
    try:
        with closing(sqlite3.connect(database)) as connection:
            row = connection.execute("SELECT max(max(creation_utc, last_update_utc)) FROM cookies").fetchone()
    except sqlite3.Error:  # damaged, or of a version without these columns
        return False
    return row[0] is not None and row[0] / 1_000_000 - _CHROMIUM_EPOCH_SECONDS > at
