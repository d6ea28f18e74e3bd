"""Uids for browsers: a process of uid 0 starts each browser under a uid of its own, which no other browser has.

A uid is taken by a locked file in one folder of the machine, so servers may share a range. The file says where files of
that uid are, one line each, percent-encoded:

    temporary PATH    removed with the browser; by a later taker of a uid when the owner was killed
    owned PATH        holds the uid while PATH belongs to it
    place PATH        holds the uid while PATH, or PATH.gone, exists; a killed server's next start removes it

The kernel unlocks the file when its owner dies. A uid is free again when its file is unlocked, no process of it lives and
nothing holds it; then the file is removed.
"""

from __future__ import annotations

import logging
import os
import random
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias
from urllib.parse import quote, unquote_to_bytes
from weakref import WeakSet

from cdpbridge.errors import BrowserStartFailed, ConfigurationError

from ._processes import kill_processes, launch_prefix, living_uids
from ._uid_ranges import check_capabilities, check_mapped, default_uids, delegated_uids, range_text

__all__ = ["STATE_FOLDER", "BrowserUid", "UidPool", "is_in_use"]

logger = logging.getLogger("cdpbridge.chromium")

Kind: TypeAlias = Literal["temporary", "owned", "place"]

STATE_FOLDER: Final = Path("/var/lib/cdpbridge")
"""What the servers of a machine share. Not in /run, which a restart empties while the folders of browsers stay."""

_LOCKS: Final = STATE_FOLDER / "uids"
_LOOK_SECONDS: Final = 10.0


class _State(NamedTuple):
    """Of a uid's file: other notes, or another owner's file, are another state."""

    inode: int
    size: int


class BrowserUid:
    """A uid that one browser has, from `UidPool.take` to `release`. Its gid has the same number."""

    def __init__(self, number: int, file: Path, descriptor: int) -> None:
        self.number = number
        self._file = file
        self._descriptor = descriptor
        self._may_live = False
        _held.add(self)

    def __repr__(self) -> str:
        return f"<BrowserUid {self.number}>"

    def hold(self, kind: Kind, path: Path) -> None:
        """Note where files of this uid are, before they are there."""
        os.write(self._descriptor, f"{kind} {quote(os.fsencode(path.absolute()))}\n".encode())

    def command(self, arguments: Sequence[str], *, no_new_privs: bool) -> list[str]:
        """Return the command that runs a program, by its path, and nothing else as this uid."""
        self.note_launch()
        return [*launch_prefix(self.number, no_new_privs=no_new_privs), *arguments]

    def note_launch(self) -> None:
        """Note that processes of this uid may run from now on."""
        self._may_live = True

    def note_ended(self) -> None:
        """Note that no process of this uid is left."""
        self._may_live = False

    def kill_processes(self) -> bool:
        """See `kill_processes`."""
        self._may_live = not kill_processes(self.number)
        return not self._may_live

    def release(self) -> None:
        """Give it back; it stays taken while its processes or folders are there. Again, it does nothing."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor < 0:
            return
        _held.discard(self)
        try:
            lives = self._may_live and self.number in living_uids()
            if not lives and not _is_held(self.number, _notes(descriptor)):
                self._file.unlink(missing_ok=True)
        finally:
            os.close(descriptor)

    def forget(self) -> None:
        """Close its file without giving the uid back: it is the parent's of this fork."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def _forked() -> None:
    for uid in list(_held):
        uid.forget()


_held: WeakSet[BrowserUid] = WeakSet()
if hasattr(os, "register_at_fork"):  # not on Windows, where this package is imported only
    os.register_at_fork(after_in_child=_forked)


class UidPool:
    """Uids that browsers of this machine take in turns. Every method blocks, and may be called from any thread.

    Args:
        uids: Default: a range that exists in this process's user namespace.
        folder: Of the locks; the same for all who share uids.

    Raises:
        ConfigurationError: The range does not exist here, or this process may not change its uid.
    """

    def __init__(self, uids: range | None = None, *, folder: Path = _LOCKS) -> None:
        check_capabilities()
        self._uids = default_uids() if uids is None else uids
        self._looked: tuple[float, set[int], list[range]] | None = None
        self._swept: float | None = None
        self._folder = folder
        check_mapped(self._uids)
        try:
            for each in (folder.parent, folder):
                each.mkdir(mode=0o711 if each != folder else 0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(
                f"{folder}, where the servers of a machine note which uids their browsers have, cannot be made: "
                f"{error.strerror}; make {folder.parent} writable for root, or run as an ordinary user"
            ) from error

    def __str__(self) -> str:
        return range_text(self._uids)

    def take(self) -> BrowserUid:
        """Take a uid that no process and no other browser of the machine has.

        Raises:
            BrowserStartFailed: All are taken.
        """
        now = time.monotonic()
        # It locks the file of each browser of the machine.
        swept = self._swept is None or now - self._swept > _LOOK_SECONDS
        if swept:
            self._swept = now
            self.sweep()
        uid = self._take_free()
        if uid is None and not swept:
            self._swept = now
            self.sweep()
            uid = self._take_free()
        if uid is not None:
            return uid
        used = len(self._known() & set(self._uids))
        raise BrowserStartFailed(
            f"no uid is free for another browser: of {range_text(self._uids)}, {used} are in use; "
            "widen browser_uids"
        )

    def _take_free(self) -> BrowserUid | None:
        known = self._known()
        # One look is enough, also of a moment ago: a uid that is given back meanwhile has no processes, and one whose owner is
        # killed has notes. The look is for programs that are no browsers.
        living, reserved = self._foreign()
        size = len(self._uids)
        first = random.randrange(size)  # noqa: S311  # no secret
        for index in range(size):
            number = self._uids[(first + index) % size]
            if number in known or number in living or any(number in each for each in reserved):
                continue
            file = self._folder / str(number)
            if (descriptor := _lock(file, os.O_CREAT)) is None:
                continue
            if os.fstat(descriptor).st_size:
                os.close(descriptor)
                continue
            return BrowserUid(number, file, descriptor)
        return None

    def _foreign(self) -> tuple[set[int], list[range]]:
        """Return `living_uids` and `delegated_uids`, at most a moment old: a look reads a file of each process of the machine."""
        now = time.monotonic()
        if self._looked is None or now - self._looked[0] > _LOOK_SECONDS:
            self._looked = now, living_uids(), delegated_uids()
        return self._looked[1:]

    def sweep(self) -> None:
        """Free the uids of killed owners, with their temporary folders; those that something holds stay."""
        dead = {number: found for number in self._known() if (found := self._left(number)) is not None}
        if not dead:
            return
        # One look for all. An owner that is dead before it starts nothing more.
        living = living_uids()
        for number, before in dead.items():
            if (descriptor := _lock(self._folder / str(number))) is None:
                continue
            try:
                # A file without notes may have had another owner meanwhile.
                same = before.size > 0 and before == _state(descriptor)
                if number not in (living if same else living_uids()):
                    self._free(number, descriptor)
            finally:
                os.close(descriptor)

    def _left(self, number: int) -> _State | None:
        """Return the state of a uid's file whose owner is dead; None for others. It stays locked for no longer than that takes."""
        if (descriptor := _lock(self._folder / str(number))) is None:
            return None
        try:
            return _state(descriptor)
        finally:
            os.close(descriptor)

    def _free(self, number: int, descriptor: int) -> None:
        """Remove what a killed owner has left of a uid, whose processes have ended, unless something holds it."""
        try:
            notes = _notes(descriptor)
            if _is_held(number, notes, temporary=False):
                return
            for kind, path in notes:
                # Ours, when the owner was killed before it gave the folder away.
                if kind == "temporary" and _owner(path) in {number, os.geteuid()}:
                    shutil.rmtree(path)
            (self._folder / str(number)).unlink()
        except OSError as error:
            logger.warning("uid %d stays taken: %s", number, error)

    def end_user_of(self, place: Path) -> None:
        """Kill what still runs under the uid of a killed owner that noted `place`."""
        for number in self._known():
            if (descriptor := _lock(self._folder / str(number))) is not None:
                try:
                    if ("place", place) in _notes(descriptor):
                        kill_processes(number)
                finally:
                    os.close(descriptor)

    def _known(self) -> set[int]:
        return {int(each.name) for each in self._folder.iterdir() if each.name.isdecimal()}


def is_in_use(uid: int, *, folder: Path = _LOCKS) -> bool:
    """Return True if a browser has this uid, or has left processes of it behind."""
    file = folder / str(uid)
    if not file.exists():
        return False
    descriptor = _lock(file)
    if descriptor is None:
        return file.exists()  # else it has just been given back
    os.close(descriptor)
    return uid in living_uids()


def _lock(file: Path, flags: int = 0) -> int | None:
    """Lock `file` and return its descriptor; None when another has it, or when it was removed meanwhile."""
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC | flags, 0o600)
    except FileNotFoundError:
        return None
    import fcntl  # noqa: PLC0415  # Windows has none, and no such uids

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), file.stat()):
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(descriptor)
    return None


def _state(descriptor: int) -> _State:
    status = os.fstat(descriptor)
    return _State(status.st_ino, status.st_size)


def _notes(descriptor: int) -> list[tuple[str, Path]]:
    lines = os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode(errors="replace").splitlines()
    split = (line.partition(" ") for line in lines)
    return [(kind, Path(os.fsdecode(unquote_to_bytes(path)))) for kind, _, path in split if path]


def _is_held(number: int, notes: Sequence[tuple[str, Path]], *, temporary: bool = True) -> bool:
    for kind, path in notes:
        if kind == "place":
            if _owner(path) is not None or _owner(path.with_name(f"{path.name}.gone")) is not None:
                return True
        elif (temporary or kind != "temporary") and _owner(path) == number:
            return True
    return False


def _owner(path: Path) -> int | None:
    try:
        return path.lstat().st_uid
    except FileNotFoundError:
        return None
