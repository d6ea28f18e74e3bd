"""Which cookies to keep when a browser could not be asked at its end.

Two witnesses remain: the running export, and the browser's own database, which Chromium writes about every 30 s and
once more when it leaves in order. The newer one knows about the cookies that outlive a browser. Cookies of the session
are in the export only: Chromium drops them when it starts.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

__all__ = ["CookieExport", "cookies_to_keep"]

_NAME: Final = "cookies.json"
# Older builds and the headless shell keep it in the profile folder itself.
_DATABASES: Final = ("Default/Network/Cookies", "Default/Cookies")


@dataclass(frozen=True, slots=True)
class CookieExport:
    """All cookies of a browser at one time.

    Attributes:
        cookies: As `Storage.getCookies` gives them.
        at: Unix time, seconds; compared with the modification times of files.
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
        """The last one written to `folder`."""
        try:
            found = json.loads((folder / _NAME).read_text())
        except FileNotFoundError:
            return None
        return cls(found["cookies"], found["at"])


def cookies_to_keep(export: CookieExport | None, user_data_dir: Path) -> list[dict[str, Any]] | None:
    """The cookies to save beside `user_data_dir`; None when the directory says it all."""
    if export is None:
        return None
    if export.at >= _written(user_data_dir):
        return export.cookies
    return [cookie for cookie in export.cookies if cookie.get("session")]


def _written(user_data_dir: Path) -> float:
    """When the browser last wrote its cookies, Unix time; 0 if never."""
    times = [0.0]
    for name in _DATABASES:
        try:
            times.append((user_data_dir / name).stat().st_mtime)
        except FileNotFoundError:
            continue
    return max(times)
