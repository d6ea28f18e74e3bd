"""What a browser sees of this machine, as data. Pure: it asks about paths through a function, and changes nothing.

A place begins as an empty folder. What is not named here does not exist in it: no home, no other browser, no server, no
program but Chromium. Paths inside are those outside, so that a path in an answer of the API is true on both sides.

Mounts that hold libraries may be mapped as code; all that a browser can write may not, so nothing that it has downloaded
runs, not even by way of the dynamic loader.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import PurePosixPath
from typing import Any, Final, Literal, TypeAlias

from ._system import DATA, DEVICES, LIBRARIES, LOADERS, PROGRAM_FOLDERS

__all__ = ["PROXY_PORT", "Folders", "Found", "Look", "Means", "Mount", "Plan", "make_plan"]

PROXY_PORT: Final = 3128
"""Where the forwarder listens inside; nothing else does there, so every browser has the same."""

Found: TypeAlias = Literal["folder", "file"] | tuple[str]
"""What a path is: a folder, anything else that can be bound, or the target of a link in a tuple."""

Look: TypeAlias = Callable[[str], Found | None]
"""Tells what a path is, without following a link; None when it is absent or not allowed."""

_MAX_LINKS: Final = 40  # as the kernel has it


@dataclass(frozen=True, slots=True)
class Mount:
    """One thing that appears in a place.

    Attributes:
        kind: `"bind"` shows `source`, `"link"` is a symbolic link to `source`, `"tmpfs"` a folder in memory, `"proc"` the
            processes of the place.
        target: Where; absolute.
        source: A real path of the machine, or a link's target.
        folder: Whether a bound source is a folder.
        writable: Not read-only.
        code: May be mapped as code: a mount without it is `noexec`.
        devices: Device nodes in it work.
        options: Of a `tmpfs`.
    """

    kind: Literal["bind", "link", "tmpfs", "proc"]
    target: str
    source: str = ""
    folder: bool = True
    writable: bool = False
    code: bool = False
    devices: bool = False
    options: str = ""


# `asdict` copies each value of each mount, which takes 2 ms a start.
_FIELDS: Final = tuple(each.name for each in fields(Mount))


@dataclass(frozen=True, slots=True)
class Means:
    """What the kernel offers for isolation, as the self-test has found it.

    Attributes:
        processes: A process namespace with a `/proc` of its own. Containers whose `/proc` is masked get none.
        landlock: Rules for files and executables on top of the mounts.
    """

    processes: bool = True
    landlock: bool = True


@dataclass(frozen=True, slots=True)
class Folders:
    """What a browser is given.

    Attributes:
        binary: Chromium's, or another program's.
        writable: Folders that it may change; they exist.
        readable: Folders and files that it may read.
        hidden: Folders that are empty to it where they lie in a readable one, but for what else is named here.
        home: Files and folders shown at another path, read-only: `source` -> `target`, which is in one of `writable` or in no
            other folder that is shown.
        code: Folders and files that it may read, with libraries in them; what is absent is left out.
    """

    binary: str
    writable: Sequence[str]
    readable: Sequence[str] = ()
    hidden: Sequence[str] = ()
    home: Mapping[str, str] | None = None
    code: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """A place.

    Attributes:
        mounts: In the order in which they are made, parents first.
        executables: The only files that may be executed; real paths.
        means: What is made use of.
    """

    mounts: tuple[Mount, ...]
    executables: tuple[str, ...]
    means: Means

    @property
    def writable(self) -> list[str]:
        """Folders in which files may be made and changed."""
        return [each.target for each in self.mounts if each.writable]

    def encode(self) -> dict[str, Any]:
        """Return it as JSON's own types."""
        mounts = [[getattr(mount, name) for name in _FIELDS] for mount in self.mounts]
        return {"mounts": mounts, "executables": self.executables, "means": asdict(self.means)}

    @classmethod
    def decode(cls, value: Mapping[str, Any]) -> Plan:
        """Read what `encode` has returned."""
        mounts = tuple(Mount(*each) for each in value["mounts"])
        return cls(mounts, tuple(value["executables"]), Means(**value["means"]))


def make_plan(folders: Folders, means: Means, look: Look, machine: str) -> Plan:
    """Return the place of a browser.

    Args:
        look: Tells what paths of this machine are.
        machine: The processor, as `platform.machine()` names it.

    Raises:
        FileNotFoundError: The binary, or a folder it is given, is not there.
    """
    shown = _Shown(look)
    for path in LIBRARIES(machine, lambda each: look(each) is not None):
        shown.show(path, code=True)
    loaders = [real for path in LOADERS if (real := shown.show(path, code=True)) is not None]
    for path in DATA:
        shown.show(path)
    binary = shown.show_needed(folders.binary, code=True)
    home = str(PurePosixPath(binary).parent)
    if home not in PROGRAM_FOLDERS:
        shown.show_needed(home, code=True)
    code = [real for path in folders.code if (real := shown.show(path, code=True)) is not None]
    given = [PurePosixPath(real) for real in (*code, *map(shown.show_needed, folders.readable))]
    for path in folders.hidden:
        shown.hide(path, given)
    for path in folders.writable:
        shown.show_needed(path, writable=True)
    for source, target in (folders.home or {}).items():
        shown.show_at(source, target)
    handler = str(PurePosixPath(home) / "chrome_crashpad_handler")
    executables = [binary, *([handler] if look(handler) == "file" else []), *loaders]
    return Plan(tuple(_ordered([*_own(means), *shown.mounts])), tuple(dict.fromkeys(executables)), means)


def _own(means: Means) -> list[Mount]:
    """Return what belongs to the place itself."""
    devices = [Mount("bind", f"/dev/{name}", f"/dev/{name}", folder=False, devices=True) for name in DEVICES]
    links = [Mount("link", "/dev/fd", "/proc/self/fd")]
    # Without an own process namespace the kernel allows no other `/proc`, and Chromium's sandbox needs one.
    proc = Mount("proc", "/proc") if means.processes else Mount("bind", "/proc", "/proc", writable=True)
    # The browser's own temporary files are on the disk, where they are counted; this is memory.
    temporary = Mount("tmpfs", "/tmp", writable=True, options="mode=1777,size=64m")  # noqa: S108  # of the place
    # Pages share pictures there: as much as a page may need, whatever the container's own is.
    shared = Mount("tmpfs", "/dev/shm", writable=True, options="mode=1777,size=1g")  # noqa: S108  # as above
    return [proc, temporary, Mount("tmpfs", "/dev", options="mode=755,size=64k"), *devices, *links, shared]


class _Shown:
    """What is shown of the machine: paths with the links that lead to them."""

    def __init__(self, look: Look) -> None:
        self._look = look
        self._mounts: dict[str, Mount] = {}

    @property
    def mounts(self) -> Iterable[Mount]:
        return self._mounts.values()

    def show_needed(self, path: str, *, writable: bool = False, code: bool = False) -> str:
        real = self.show(path, writable=writable, code=code)
        if real is None:
            raise FileNotFoundError(f"{path} cannot be shown to the browser: it is not there, or not allowed")
        return real

    def show(self, path: str, *, writable: bool = False, code: bool = False) -> str | None:
        """Show `path`, and return its real path; None when it is absent."""
        links: list[Mount] = []
        real = self._follow(path, links)
        if real is None:
            return None
        folder = self._look(real) == "folder"
        for link in links:
            self._mounts.setdefault(link.target, link)
        before = self._mounts.get(real)
        if before is not None and before.kind == "bind":  # what is given wins over what is shown anyway
            writable, code = writable or before.writable, (code or before.code) and not writable
        self._mounts[real] = Mount("bind", real, real, folder=folder, writable=writable, code=code)
        return real

    def hide(self, path: str, given: Sequence[PurePosixPath]) -> None:
        """Show an empty folder instead of the one at `path`, if it lies in one of `given`."""
        real = self._follow(path, [])
        if real is None or self._look(real) != "folder":
            return
        if real not in self._mounts and any(each in PurePosixPath(real).parents for each in given):
            self._mounts[real] = Mount("tmpfs", real, options="mode=755,size=64k")

    def show_at(self, source: str, target: str) -> None:
        """Show what is at `source` as `target`; nothing when it is absent."""
        real = self._follow(source, [])
        if real is not None:
            self._mounts[target] = Mount("bind", target, real, folder=self._look(real) == "folder")

    def _follow(self, path: str, links: list[Mount]) -> str | None:
        """Resolve `path` and note each link on the way. A hundred paths a start, so they are texts and no `PurePosixPath`."""
        waiting = _names(path)
        here = ""
        while waiting:
            name = waiting.pop()
            if name == "..":
                here = _parent(here)
                continue
            step = f"{here}/{name}"
            match self._look(step):
                case None:
                    return None
                case (target,):
                    links.append(Mount("link", step, target))
                    if len(links) > _MAX_LINKS:
                        return None
                    if target.startswith("/"):
                        here = ""
                    waiting += _names(target)
                case _:
                    here = step
        return here or "/"


def _names(path: str) -> list[str]:
    """Return the names in a path, the last one first."""
    return [name for name in reversed(path.split("/")) if name not in {"", "."}]


def _parent(path: str) -> str:
    """Return the path above one; that of the root is empty, and so is the one above it."""
    return path.rpartition("/")[0]


def _ordered(mounts: Sequence[Mount]) -> Iterable[Mount]:
    """Return them parents first, without those that a parent shows in the same manner."""
    kept: dict[str, Mount] = {}
    for mount in sorted(mounts, key=lambda each: each.target.count("/")):
        above = _parent(mount.target)
        while above and above not in kept:
            above = _parent(above)
        if above and kept[above].kind == "bind" and _is_seen_through(mount, kept[above]):
            continue
        kept[mount.target] = mount
        yield mount


def _is_seen_through(mount: Mount, above: Mount) -> bool:
    if mount.kind == "link":  # it is in the bound folder itself
        return True
    same = above.source == above.target and mount.source == mount.target
    return mount.kind == "bind" and same and (mount.writable, mount.code) == (above.writable, above.code)
