"""What is in a version of a profile: its cookies, and the hosts that they belong to."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from ._archives import COOKIES, USER_DATA
from ._untrusted import open_plain, read_table

__all__ = ["COOKIE_DATABASES", "check_cookie_files", "cookies_in", "domains_of"]

logger = logging.getLogger("cdpbridge.server")

# Newer and older builds (chrome/browser/net/profile_network_context_service.cc), and the headless shell.
COOKIE_DATABASES: Final = ("Default/Network/Cookies", "Default/Cookies")


def cookies_in(folder: Path, profile_id: UUID) -> list[dict[str, Any]] | None:
    """Return the cookies that were exported with a version; None when there were none, or when they cannot be read."""
    try:
        return list(json.loads((folder / COOKIES).read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, TypeError, ValueError) as error:
        # Not the error's text: a JSON error quotes nothing today, but this file is all secrets.
        logger.warning("the cookies of profile %s cannot be read: %s", profile_id, type(error).__name__)
        return None


def domains_of(folder: Path, cookies: Iterable[Mapping[str, Any]] | None) -> list[str]:
    """Return the hosts that the cookies of a version belong to, sorted, without leading dots."""
    domains = {str(cookie.get("domain", "")) for cookie in cookies or ()}
    domains |= _domains_in(folder / USER_DATA)
    return sorted({domain.lstrip(".") for domain in domains} - {""})


def check_cookie_files(user_data: Path) -> None:
    """Raise `Hostile` for a cookie database that is a link, a device, or below a link: a copy would do without it."""
    for name in COOKIE_DATABASES:
        with suppress(FileNotFoundError):
            os.close(open_plain(user_data / name, user_data))


def _domains_in(user_data: Path) -> set[str]:
    """Hosts in the browser's own cookie database; raises `Hostile`."""
    for name in COOKIE_DATABASES:
        try:
            rows = read_table(user_data / name, user_data, "cookies", "SELECT DISTINCT host_key FROM cookies")
        except sqlite3.Error as error:
            logger.warning("the domains of %s cannot be read: %s", Path(name).name, error)
        else:
            if rows is not None:
                return {str(row[0]) for row in rows}
    return set()
