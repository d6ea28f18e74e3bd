"""`Isolation`: what one isolated browser is given, and the plan of its place on this machine."""

from __future__ import annotations

import os
import platform
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cdpbridge.isolation import Folders, Found, Means, Plan, make_plan

from ._find import Build
from ._launcher import Launcher

__all__ = ["Isolation"]


@dataclass(frozen=True, slots=True)
class Isolation:
    """A place of its own for one browser: it sees its profile, its temporary files, fonts, libraries, and what is named here.

    Attributes:
        launcher: Starts it; shared by browsers.
        means: What the kernel offers.
        writable: Folders that it may change; they exist.
        readable: Folders and files that it may read.
        hidden: Folders that are empty to it where they lie in what it may read, but for what it is given in them.
        home: What it finds in its home folder: file or folder of this machine -> path below the home.
        groups: Files by which it joins control groups.
    """

    launcher: Launcher
    means: Means = field(default_factory=Means)
    writable: Sequence[Path] = ()
    readable: Sequence[Path] = ()
    hidden: Sequence[Path] = ()
    home: Mapping[Path, str] = field(default_factory=dict)
    groups: Sequence[Path] = ()

    def plan(self, build: Build, profile: Path, scratch: Path) -> Plan:
        """Return the place of a browser with these folders; `scratch` is its home.

        Raises:
            FileNotFoundError: A folder is not there.
        """
        folders = Folders(
            os.fspath(build.path),
            writable=[os.fspath(each.absolute()) for each in (profile, scratch, *self.writable)],
            readable=[os.fspath(each.absolute()) for each in self.readable],
            hidden=[os.fspath(each.absolute()) for each in self.hidden],
            home={os.fspath(source): os.fspath(scratch / name) for source, name in self.home.items()},
        )
        return make_plan(folders, self.means, look, platform.machine())


def look(path: str) -> Found | None:
    """Tell what is at `path`, without following a link."""
    try:
        mode = os.lstat(path).st_mode  # a hundred times a start
        if stat.S_ISLNK(mode):
            return (os.readlink(path),)  # noqa: PTH115  # as above
    except OSError:
        return None
    return "folder" if stat.S_ISDIR(mode) else "file"
