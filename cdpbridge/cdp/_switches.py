"""Facts for a browser's clients in a switch on its command line, which Chromium itself ignores. Pure."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Final
from urllib.parse import quote, unquote

__all__ = ["downloads_folder", "downloads_switch"]

_DOWNLOADS: Final = "--cdpbridge-downloads="


def downloads_switch(folder: PurePath) -> str:
    """Return the switch that names the folder of downloads, which is removed with the browser."""
    return f"{_DOWNLOADS}{quote(str(folder))}"  # clients get all switches as one text, joined by spaces


def downloads_folder(command_line: str) -> str | None:
    """Return the folder of `downloads_switch`; None when another program started the browser."""
    found = re.search(rf"(?:^|\s){_DOWNLOADS}(\S+)", command_line)
    return unquote(found[1]) if found else None
