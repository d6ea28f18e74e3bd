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
import logging
import os
import secrets
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from cdpbridge.server.profiles import COOKIE_DATABASES, Hostile, open_plain, read_plain, read_table

__all__ = ["CookieExport", "cookies_to_keep"]

logger = logging.getLogger("cdpbridge.server")

_NAME: Final = "cookies.json"
# Chromium keeps at most 3300 cookies of 4 KiB (net/cookies/cookie_monster.h), here as JSON.
_MAX_EXPORT_BYTES: Final = 64 * 1024**2
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
        """Put it into `folder`, whole or not at all, for this user alone. A link that a browser put there is not followed."""
        temporary = folder / f"{_NAME}.{secrets.token_hex(4)}"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with open(descriptor, "w") as file:  # noqa: PTH123  # a descriptor
                json.dump({"at": self.at, "cookies": self.cookies}, file)
            temporary.replace(folder / _NAME)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """Return the last one written to `folder`.

        Raises:
            ValueError: It is damaged.
            Hostile: It is not a plain file, or too big.
            OSError: From the disk.
        """
        try:
            found = json.loads(read_plain(folder / _NAME, folder, max_bytes=_MAX_EXPORT_BYTES))
        except FileNotFoundError:
            return None
        except RecursionError as error:
            raise ValueError("it is nested too deeply") from error
        if not (isinstance(found, dict) and isinstance(found.get("at"), float | int)):
            raise ValueError("no cookie export")  # noqa: TRY004  # of what was read, not of an argument
        return cls(list(found.get("cookies", ())), float(found["at"]))


def cookies_to_keep(
    export: CookieExport | None, user_data_dir: Path, *, orderly: bool
) -> list[dict[str, Any]] | None:
    """Return the cookies to save beside `user_data_dir`; None when there was no export.

    Args:
        orderly: The browser left by itself, so it wrote its database on the way.
    """
    if export is None:
        return None
    for name in COOKIE_DATABASES:
        try:
            knows_more = _knows_more(user_data_dir / name, user_data_dir, export.at, orderly=orderly)
        except Hostile as error:  # the profile store refuses it, too
            logger.warning("the cookies that a browser has left are not read: %s", error)
            return export.cookies
        if knows_more:
            return [cookie for cookie in export.cookies if cookie.get("session")]
    return export.cookies


def _knows_more(database: Path, root: Path, at: float, *, orderly: bool) -> bool:
    try:
        descriptor = open_plain(database, root)
    except FileNotFoundError:
        return False
    try:
        modified = os.fstat(descriptor).st_mtime
    finally:
        os.close(descriptor)
    if orderly and modified > at:
        return True
    query = "SELECT max(max(creation_utc, last_update_utc)) FROM cookies"
    try:
        rows = read_table(database, root, "cookies", query)
    except sqlite3.Error:  # damaged, or of a version without these columns
        return False
    latest = rows[0][0] if rows else None
    return isinstance(latest, int | float) and latest / 1_000_000 - _CHROMIUM_EPOCH_SECONDS > at
