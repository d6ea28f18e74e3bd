"""`Place`: what one browser is given on this machine, whatever runs in it: folders, a uid, folders of files."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from uuid import UUID

from cdpbridge._concurrency import in_thread, to_the_end
from cdpbridge.chromium import BrowserUid, Isolation, UidPool, give, lend, uses_browser_uids
from cdpbridge.errors import BrowserStartFailed

from ._cgroups import Cgroup
from ._folders import remove_folder, scratch_folder
from ._options import BrowserOptions
from ._readable import copy_certificates

__all__ = ["Place"]

logger = logging.getLogger("cdpbridge.server")


class Place:
    """A place for one browser, made by `make`.

    Args:
        place_id: All of it is named by this: the browser's own id, or another one when it is not known yet whose browser it will be.
        folder: Of the place, made by `make`.
        options: Of the host's browsers.

    Attributes:
        profile: Chromium's folder of the profile.
        scratch: For temporary files.
        uid: That the browser runs under, if not our own.
        kept: Where its downloads go; None without a store of files.
        cgroup: Its control group; None for none.
    """

    def __init__(self, place_id: UUID, folder: Path, options: BrowserOptions) -> None:
        self.id = place_id
        self.folder = folder
        self.profile = folder / "profile"
        self.scratch = scratch_folder(place_id)
        self.uid: BrowserUid | None = None
        self.kept: Path | None = None
        self.cgroup: Cgroup | None = None
        self._owner = place_id
        self._files_open = True
        self._removal: asyncio.Future[None] | None = None
        self._options = options

    async def make(self, undo: AsyncExitStack) -> None:
        """Make it.

        Args:
            undo: Removes it; `removed_by` is called with it first, so that it removes a half, too.
        """
        self.removed_by(undo)
        while True:
            try:
                return await in_thread(self._make)
            except BrowserStartFailed:  # no uid is free, but one that an ended browser has may be in a moment
                if not await self._options.removals.next():
                    raise

    def note_ended(self) -> None:
        """Note that nothing runs in it any more, and that it is going to be removed."""
        self._removal = self._options.removals.begin()

    def _note_removed(self) -> None:
        if self._removal is not None:
            self._options.removals.end(self._removal)

    def removed_by(self, stack: AsyncExitStack) -> None:
        """Let `stack` remove it, each step whatever becomes of the others; nothing may run in it by then."""
        stack.callback(self._note_removed)
        stack.push_async_callback(in_thread, self._release_uid)
        stack.push_async_callback(self._remove)
        stack.push_async_callback(in_thread, self._remove_cgroup)

    async def _remove(self) -> None:
        """Remove its folders, side by side, once what is kept was taken from them."""

        async def folder() -> None:
            try:
                await self.close_files()
            finally:
                await remove_folder(self.folder)

        both = asyncio.gather(folder(), remove_folder(self.scratch), return_exceptions=True)
        for failure in await to_the_end(both):
            if failure is not None:
                raise failure

    async def close_files(self) -> None:
        """Keep what its browser has left in the folders of files, once nothing runs in it. Again, it does nothing."""
        if self._files_open:
            self._files_open = False
            await in_thread(self._close_files)

    async def assign(self, browser_id: UUID) -> bool:
        """Let its files be those of a browser from now on; True if downloads go elsewhere than before."""
        if self._options.files is None:
            return False
        self._owner = browser_id
        before, self.kept = self.kept, await in_thread(self._options.files.assign, self.id, browser_id)
        return self.kept != before

    def isolation(self, given: Iterable[Path]) -> Isolation | None:
        """Return what an isolated browser in it may change and read. It exists.

        Args:
            given: What the order lets it read.
        """
        if self._options.isolation is None:
            return None
        writable, readable = [self.folder / "downloads"], [self.folder / "uploads", self.folder / "logins"]
        if self._options.files is not None:
            more, fewer = self._options.files.shown_to(self._owner)
            writable, readable = [*writable, *more], [*readable, *fewer]
        given = [path for path in given if path.exists()]  # it may have been removed since
        groups = () if self.cgroup is None else self.cgroup.joined_by
        return replace(self._options.isolation.place(writable, [*readable, *given]), groups=groups)

    def _make(self) -> None:
        self._take_uid()
        self._make_folder()
        self._open_files()
        self.scratch.mkdir(mode=0o700)
        self._make_cgroup()
        if self._options.certificates:
            copy_certificates(self.scratch)

    def _make_cgroup(self) -> None:
        options = self._options
        if options.cgroups is None or options.isolation is None:
            return
        try:
            self.cgroup = options.cgroups.make(
                str(self.id),
                memory=options.max_memory_bytes,
                processes=options.max_processes,
                first=options.starts_first,
            )
        except OSError as error:  # the health check keeps it to its limits
            logger.warning("a browser has no control group: %s", error)

    def note_started(self) -> None:
        """Give its browser the share of the processors of those that run."""
        if self.cgroup is not None:
            self.cgroup.settle()  # one line of a few bytes to the kernel

    def _remove_cgroup(self) -> None:
        if self.cgroup is not None:
            self.cgroup.remove()

    def _take_uid(self) -> None:
        """Take a uid for the browser of a root process, and note it before there are files of it."""
        if uses_browser_uids():
            self.uid = (self._options.uids or UidPool()).take()
            self.uid.hold("place", self.folder)
            self.uid.hold("temporary", self.scratch)

    def _release_uid(self) -> None:
        if self.uid is not None:
            self.uid.release()

    def _make_folder(self) -> None:
        self.folder.mkdir(mode=0o700, parents=True)
        # It may pass through, and change nothing but its own folders.
        if self._options.isolation is not None:  # what is not there at its start never is there
            for name in ("logins",) if self.uid is not None else ("downloads", "logins", "uploads"):
                (self.folder / name).mkdir(mode=0o700)
        if self.uid is not None:
            self.folder.chmod(0o711)
            for folder in (self.profile, self.folder / "downloads"):
                folder.mkdir(mode=0o700)
                give(folder, self.uid.number)
            lend(self.folder / "uploads", self.uid.number)

    def _open_files(self) -> None:
        if self._options.files is None:
            return
        uid = None if self.uid is None else self.uid.number
        if self._options.isolation is not None and uid is None:
            uid = os.geteuid()  # what is kept lies where it cannot go
        self.kept = self._options.files.open_browser(self._owner, uid)

    def _close_files(self) -> None:
        if self._options.files is not None:
            self._options.files.close_browser(self._owner)
