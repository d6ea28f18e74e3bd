"""Files that one client gives to pages, and their way to the browser's disk."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import stat
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final

from cdpbridge.errors import CDPBridgeError

from ._disk import Disk

__all__ = ["Uploads"]

logger = logging.getLogger("cdpbridge")

# of one folder
_MOST_FILES: Final = 20_000

_State = tuple[str, str, int, int, int, int]


class Uploads:
    """The uploads of one client. What is given to a session twice, unchanged, is sent once."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._sent: dict[_State, str] = {}
        self._folders: dict[str, list[str]] = {}
        self._given: dict[str, str] = {}  # folders there, and here

    @property
    def any(self) -> bool:
        """True if pages of the client have files of this machine."""
        return bool(self._given)

    def concerns(self, path: object) -> bool:
        """Return True if a path names a file or folder of this machine that has to be copied to the browser's."""
        if not isinstance(path, str) or not Path(path).is_absolute():
            return False
        uploads = self._disk.folders.uploads
        if path == uploads or path.startswith((f"{uploads}/", f"{uploads}\\")):
            return False
        # What is missing, cannot be read or is no file passes as it is: the answer is Chromium's own then.
        try:
            kind = Path(path).stat().st_mode
        except (OSError, ValueError):  # ValueError: a letter that no file name has
            return False
        return (stat.S_ISREG(kind) or stat.S_ISDIR(kind)) and os.access(path, os.R_OK)

    async def put(self, session: str, paths: Sequence[object]) -> list[object]:
        """Copy files and return the paths by which the browser has them; other paths stay as they are.

        Args:
            session: Whose page they are given to.

        Raises:
            CDPBridgeError: One could not be put there.
            OSError: One could not be read, or the connection failed.
        """
        return [await self._put(session, Path(str(path))) if self.concerns(path) else path for path in paths]

    async def _put(self, session: str, source: Path) -> str:
        status = await asyncio.to_thread(source.stat)
        state = (session, str(source), status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        folder = stat.S_ISDIR(status.st_mode)
        if state in self._sent and not folder:
            return self._sent[state]
        place = f"{self._disk.folders.uploads}/{secrets.token_hex(8)}"
        self._folders.setdefault(session, []).append(place)
        self._given[place] = str(source.parent)
        if folder:
            return await self._put_folder(source, place)
        path = await self._disk.write(place, source)
        self._sent[state] = path
        return path

    async def _put_folder(self, source: Path, place: str) -> str:
        files = await asyncio.to_thread(_files_below, source)
        name = source.name or "folder"
        for file in files:
            inner = file.relative_to(source).parent.as_posix()
            await self._disk.write(f"{place}/{name}" if inner == "." else f"{place}/{name}/{inner}", file)
        return f"{place}/{name}"

    def as_given(self, reply: dict[str, Any]) -> dict[str, Any]:
        """Return the outcome in a reply of `DOM.getFileInfo`, with the path that the client has given."""
        result = reply.get("result")
        if not isinstance(result, dict):
            return {"error": reply.get("error")}
        path = str(result.get("path"))
        for there in map(str, PurePosixPath(path).parents):
            if here := self._given.get(there):
                return {"result": result | {"path": f"{here.rstrip('/')}{path.removeprefix(there)}"}}
        return {"result": result}

    def has(self, session: str) -> bool:
        """Return True if a session's page was given files."""
        return session in self._folders

    async def forget(self, session: str) -> None:
        """Remove the files of a session, whose page has closed, from the browser's disk."""
        self._sent = {state: path for state, path in self._sent.items() if state[0] != session}
        for folder in self._folders.pop(session, []):
            self._given.pop(folder, None)
            await self._disk.remove(folder)

    def left(self) -> list[str]:
        """Return what is still on the browser's disk; pages may need it after the client has left."""
        return [folder for folders in self._folders.values() for folder in folders]


def _files_below(folder: Path) -> list[Path]:
    """Return every readable regular file in a folder and those below it; links are left out, as Chromium does it.

    Raises:
        CDPBridgeError: There are too many.
    """
    found: list[Path] = []
    for parent, _folders, names in os.walk(folder):
        found += [file for name in sorted(names) if _is_readable(file := Path(parent, name))]
        if len(found) > _MOST_FILES:
            raise CDPBridgeError(f"{folder} has more than {_MOST_FILES} files: give its files one by one")
    return found


def _is_readable(file: Path) -> bool:
    return stat.S_ISREG(file.lstat().st_mode) and os.access(file, os.R_OK)
