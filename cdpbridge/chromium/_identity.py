"""Who a browser runs as: this process's user, or, in a root process, a uid of its own."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from cdpbridge.errors import BrowserStartFailed, ConfigurationError

from ._find import Build
from ._folders import lock_profile, remove_stale_locks, temporary_path
from ._ownership import check_executable_by, closed_to, give
from ._uid_ranges import uses_browser_uids
from ._uids import BrowserUid, UidPool, is_in_use

__all__ = ["Identity"]

_SETUID_HELPER = "chrome-sandbox"


class Identity:
    """The user of one browser, from `take` to `give_back`. Most methods block.

    Args:
        uid: Of the caller, in a root process; it stays the caller's.

    Attributes:
        lock: Descriptor of the profile's lock, from `prepare` on.
    """

    def __init__(self, uid: BrowserUid | None) -> None:
        self._uid = uid if uses_browser_uids() else None
        self._ours = False
        self._no_new_privs = True
        self._borrowed: tuple[Path, os.stat_result] | None = None
        self._temporary: set[Path] = set()
        self.lock = -1

    @property
    def number(self) -> int | None:
        """The uid; None for this process's own user."""
        return self._uid.number if self._uid is not None else None

    def take(self) -> None:
        """Take a uid for this browser alone, in a root process without a uid of the caller."""
        if self._uid is None and uses_browser_uids():
            self._uid = UidPool().take()
            self._ours = True

    def temporary_folder(self, purpose: str) -> Path:
        """Make a temporary folder for this browser, of this process's user, in `scratch_parent`.

        Raises:
            OSError: From the disk.
        """
        folder = temporary_path(f"cdpb-{purpose}-", for_others=self._uid is not None)
        if self._uid is not None:
            # Before it is there: an owner that is killed right after would leave a folder that no sweep knows.
            self._uid.hold("temporary", folder)
            self._temporary.add(folder)
        folder.mkdir(mode=0o700)
        return folder

    def prepare(self, build: Build, profile: Path, scratch: Path) -> None:
        """Make the folders, and have the browser's user own them.

        Raises:
            BrowserStartFailed: Another browser has the profile.
            ConfigurationError: That user cannot reach the binary or a folder.
            OSError: From the disk.
        """
        profile.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.lock = lock_profile(profile)
        remove_stale_locks(profile)
        if self._uid is None:
            return
        check_executable_by(build.path, self._uid.number)
        self._no_new_privs = not _has_setuid_helper(build)
        for folder in (profile, scratch):
            if (closed := closed_to(folder, self._uid.number)) is not None:
                raise ConfigurationError(
                    f"{folder} cannot be used by Chromium, which runs as uid {self._uid.number} and not as root: {closed} is "
                    f"closed to other users (mode {stat.S_IMODE(closed.stat().st_mode):04o}); choose another folder, or open "
                    f"that one with chmod o+x"
                )
        # A temporary one is removed; noted as owned, it would hold the uid of a killed owner for ever.
        if self._ours and profile not in self._temporary:
            before = profile.stat()
            if is_in_use(before.st_uid):
                raise BrowserStartFailed(
                    f"{profile} is in use by another browser; stop that one, or choose another folder"
                )
            self._uid.hold("owned", profile)
            self._borrowed = profile, before
        for folder in (profile, scratch):
            give(folder, self._uid.number)

    def command(self, arguments: Sequence[str]) -> list[str]:
        """Return `arguments`, with what runs them as this user in front."""
        if self._uid is None:
            return list(arguments)
        return self._uid.command(arguments, no_new_privs=self._no_new_privs)

    def take_launched(self) -> int | None:
        """Return the uid for a browser that is launched as it, by other means than `command`."""
        if self._uid is not None:
            self._uid.note_launch()
        return self.number

    def kill_processes(self) -> None:
        """End what has left the browser's process group. Of this process's own user, nothing."""
        if self._uid is not None:
            self._uid.kill_processes()

    def note_ended(self) -> None:
        """Note that all of its processes have ended, as the kernel has seen to. It does not block."""
        if self._uid is not None:
            self._uid.note_ended()

    def give_back(self) -> None:
        """Unlock the profile, give one that stays back to its owner, then the uid, if they were taken for this browser."""
        lock, self.lock = self.lock, -1
        if lock >= 0:
            os.close(lock)
        if self._uid is None or not self._ours:
            return
        try:
            if self._borrowed is not None and self._borrowed[0].is_dir():
                profile, before = self._borrowed
                give(profile, before.st_uid, before.st_gid)
        finally:
            self._uid.release()


def _has_setuid_helper(build: Build) -> bool:
    """Return True if Chromium has the helper that makes its sandbox where ordinary users may make no user namespaces."""
    named = os.environ.get("CHROME_DEVEL_SANDBOX")
    try:
        status = Path(named or build.path.resolve().parent / _SETUID_HELPER).stat()
    except OSError:
        return False
    return bool(status.st_mode & stat.S_ISUID) and status.st_uid == 0
