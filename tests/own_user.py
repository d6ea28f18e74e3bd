"""A user for a Chromium that a test starts by itself: in a root process a uid of its own, as everywhere in this project."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from cdpbridge.chromium import UidPool, give, uses_browser_uids


class OwnUser:
    """The user, until `end`; `folders` are its."""

    def __init__(self, *folders: Path) -> None:
        self._folders = folders
        self._uid = UidPool().take() if uses_browser_uids() else None
        if self._uid is not None:
            for folder in folders:
                open_way(folder)
                self._uid.hold("temporary", folder)
                give(folder, self._uid.number)

    def command(self, arguments: Sequence[str]) -> list[str]:
        if self._uid is None:
            return list(arguments)
        return self._uid.command(arguments, no_new_privs=True)

    def environment(self) -> dict[str, str]:
        """With its home and temporary files in the first folder."""
        return os.environ | dict.fromkeys(("HOME", "TMPDIR"), str(self._folders[0]))

    def end(self) -> None:
        """Kill what is left of it, and take the folders back."""
        if self._uid is not None:
            assert self._uid.kill_processes()
            for folder in self._folders:
                if folder.exists():
                    give(folder, os.geteuid(), os.getegid())
            self._uid.release()


def open_way(folder: Path) -> None:
    """Let every user pass through the folders of the tests above `folder`."""
    for each in folder.parents:
        if each == Path("/tmp") or each == Path(tempfile.gettempdir()):
            return
        if each.stat().st_uid == os.geteuid():
            each.chmod(each.stat().st_mode | 0o011)
