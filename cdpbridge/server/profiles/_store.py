"""Profiles on the disk: one folder each, with its versions.

    <root>/<profile id>/v00000007/user-data/   the browser's folder, without caches
                                  cookies.json what was exported beside it, if anything
                        cached-<name>/         the same, of a version that is kept in object storage under this name
                        new-XXXXXXXX/          a version being written, or left by a kill
                        old-XXXXXXXX/          a version being removed, or left by a kill
    <root>/ready/                              copies that wait for their next browsers; see `_ready`

A version gets its name by one rename, when all of it is on the disk, so what bears the name is whole. Without object storage the
newest counts; with it, the one that the profile's row names, and what is here of it can be fetched again.
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO, Any, Final, TypeVar
from uuid import UUID

from cdpbridge.errors import CDPBridgeError
from cdpbridge.server.objects import ObjectMissing

from ._archives import COOKIES, USER_DATA, Archives, unpack_version
from ._cache import Cache
from ._contents import check_cookie_files, cookies_in, domains_of
from ._copy import Budget, TooBig, copy_own, copy_plain_files, sync, sync_tree
from ._folders import OLD, Folders, version_name
from ._ready import ReadyCopies
from ._untrusted import Hostile
from ._versions import (
    NO_VERSION,
    ProfileNotRestored,
    ProfileRefused,
    ProfileTooBig,
    ProfileVersion,
    SavedProfile,
)

__all__ = ["ProfileStore"]

T = TypeVar("T")

logger = logging.getLogger("cdpbridge.server")

_MAX_BYTES: Final = 2 * 1024**3
_MAX_FILES: Final = 200_000
_MAX_DEPTH: Final = 64  # Chromium's own have some 12, its extensions a few more
_MAX_SECONDS: Final = 60.0
# Exported cookies: 3300 of 4 KiB, each byte written as six at most.
_BESIDE_BYTES: Final = 128 * 1024**2
_MAX_CACHE_BYTES: Final = 10 * 1024**3
_MAX_READY_BYTES: Final = 1024**3
# Threads for saving, and as many for everything else: a profile that takes its full time delays no start of another.
_THREADS: Final = 4
_READY: Final = "ready"
_DISK_IS_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


class ProfileStore:
    """Profiles below a folder that one server uses. Every method blocks, and may be called from any thread; `run` does not.

    Args:
        root: Made when missing.
        max_bytes: More than this is not saved.
        max_files: As above; folders count.
        max_seconds: What takes longer to copy, or to send, is not saved.
        archives: Object storage, if that is where versions are kept; `root` has what was used last then.
        max_cache_bytes: Of that.
        max_ready_bytes: Of copies that wait for the next browsers of their profiles.
        alone: No other server saves these profiles: without object storage, whatever is in the folder counts.
    """

    def __init__(
        self,
        root: Path,
        *,
        max_bytes: int = _MAX_BYTES,
        max_files: int = _MAX_FILES,
        max_seconds: float = _MAX_SECONDS,
        archives: Archives | None = None,
        max_cache_bytes: int = _MAX_CACHE_BYTES,
        max_ready_bytes: int = _MAX_READY_BYTES,
        alone: bool = True,
    ) -> None:
        self._root = root
        self._folders = Folders(root)
        self._archives = archives
        self._alone = alone
        self._cache = Cache(root, max_cache_bytes, self._folders.try_lock)
        self._max_bytes = max_bytes
        self._max_files = max_files
        self._max_seconds = max_seconds
        self._savers = ThreadPoolExecutor(_THREADS, thread_name_prefix="profiles-save")
        self._others = ThreadPoolExecutor(_THREADS, thread_name_prefix="profiles")
        # They end with the server, and so do the browsers that hold them.
        self._leases: dict[UUID, str] = {}
        self._guard = threading.Lock()
        for removed in root.glob(f"{OLD}*"):  # a kill during `delete`
            shutil.rmtree(removed, ignore_errors=True)
        self._ready = ReadyCopies(root / _READY, max_ready_bytes, self._stamp)
        if self._ready.stale:
            self._savers.submit(self._ready.sweep)

    async def run(self, work: Callable[..., T], *arguments: Any, saving: bool = False) -> T:
        """Run blocking work on profiles in the store's own few threads, so that it never holds up other work on files.

        Args:
            work: A method of the store, or what belongs to it.
            arguments: For `work`.
            saving: It reads what a browser has left, and may take long.
        """
        threads = self._savers if saving else self._others
        return await asyncio.get_running_loop().run_in_executor(threads, work, *arguments)

    def close(self) -> None:
        """End the threads of `run`, each after the work it is at."""
        for threads in (self._savers, self._others):
            threads.shutdown(wait=False)

    # --- who may save -----------------------------------------------------------------------------------------------

    def try_lease(self, profile_id: UUID, owner: str) -> bool:
        """Return True if `owner` is the one who may save this profile, until `release`."""
        with self._guard:
            return self._leases.setdefault(profile_id, owner) == owner

    def release(self, profile_id: UUID, owner: str) -> None:
        """Let others save it. Nothing happens when `owner` does not hold it."""
        with self._guard:
            if self._leases.get(profile_id) == owner:
                del self._leases[profile_id]

    # --- load -------------------------------------------------------------------------------------------------------

    def restore(self, profile_id: UUID, user_data_dir: Path, version: ProfileVersion = NO_VERSION) -> None:
        """Put a version into the folder `user_data_dir`, which is made; nothing when there is none.

        Args:
            profile_id: Whose.
            user_data_dir: Of a browser that is about to start.
            version: The one that counts. Without object storage, the newest in the folder.

        Raises:
            ProfileNotRestored: It is in object storage and cannot be fetched, or is not what was saved.
            OSError: From the disk.
        """
        user_data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._folders.lock(profile_id):
            found = self._found(profile_id, version)
            if found is not None and not self._ready.take(
                profile_id, self._stamp(profile_id, found.name), user_data_dir
            ):
                copy_own(found / USER_DATA, user_data_dir)
        if version.archive is not None:
            self._cache.trim()

    def load_cookies(
        self, profile_id: UUID, version: ProfileVersion = NO_VERSION
    ) -> list[dict[str, Any]] | None:
        """Return the cookies saved with a version; None when there were none, or when they cannot be read.

        Raises:
            ProfileNotRestored: See `restore`.
        """
        with self._folders.lock(profile_id):
            found = self._found(profile_id, version)
            return None if found is None else cookies_in(found, profile_id)

    def _found(self, profile_id: UUID, version: ProfileVersion) -> Path | None:
        """Return the folder of a version, fetched if need be; None when there is none. The caller holds the lock."""
        if version.archive is None:
            newest = self._folders.newest_number(profile_id)
            if newest < version.number and (self._archives is not None or not self._alone):
                raise ProfileNotRestored(
                    f"profile {profile_id} was last saved in the data folder of another server; use it there once with "
                    "`storage_url`, which all servers share, or delete the profile"
                )
            return self._folders.newest(profile_id)
        place = self._cache.find(profile_id, version.archive)
        if place is not None:
            return place
        if self._archives is None:
            raise ProfileNotRestored(
                f"profile {profile_id} is kept in object storage, and this server has none; set `storage_url`"
            )
        draft, budget = self._folders.draft(profile_id), self._wider_budget()
        allowed = budget.bytes_left
        try:
            self._archives.fetch(version.archive, draft, budget)
            sync_tree(draft, budget)
            place = self._cache.add(profile_id, version.archive, draft, allowed - budget.bytes_left)
        except (TooBig, CDPBridgeError) as error:
            raise self._not_restored(profile_id, version.archive, error) from error
        finally:
            self._folders.dismiss(draft)
        self._folders.tidy(profile_id, {place.name})
        return place

    def _not_restored(self, profile_id: UUID, archive: str, error: Exception) -> ProfileNotRestored:
        # Not the storage's own words, which have its address: a client gets this.
        logger.warning("archive %s cannot be restored: %s", archive, error)
        why = {
            TooBig: f"its archive has {error} ({self._limits})",
            Hostile: str(error),
            ObjectMissing: "its archive is not in the object storage any more",
        }.get(type(error), "the object storage does not answer as it should; the server's log says more")
        return ProfileNotRestored(f"profile {profile_id} cannot be restored: {why}")

    # --- for other machines, see `_exchange` -----------------------------------------------------------------------

    @property
    def in_object_storage(self) -> bool:
        """True if that is where versions are kept."""
        return self._archives is not None

    def has(self, profile_id: UUID, archive: str) -> bool:
        """Return True if an archive was unpacked here and still is."""
        return self._cache.find(profile_id, archive) is not None

    def read_archive(self, profile_id: UUID, version: ProfileVersion, sink: IO[bytes]) -> None:
        """Copy an archive from object storage as it is. Errors as of `restore`."""
        if self._archives is None or version.archive is None:
            raise ProfileNotRestored(
                f"profile {profile_id} is kept in object storage, and this server has none; set `storage_url`"
            )
        try:
            self._archives.read(version.archive, sink)
        except CDPBridgeError as error:
            raise self._not_restored(profile_id, version.archive, error) from error

    def put_archive(self, profile_id: UUID, archive: str, source: Path) -> None:
        """Upload an archive that another machine has packed; see `receive_version`."""
        assert self._archives is not None  # see `in_object_storage`
        if source.stat().st_size > self._max_bytes + _BESIDE_BYTES:
            raise ProfileTooBig(
                f"profile {profile_id} is not saved: its archive is larger than {self._limits}"
            )
        with source.open("rb") as file:
            self._archives.put(archive, file)

    def pack_newest(self, profile_id: UUID, version: ProfileVersion, sink: IO[bytes]) -> bool:
        """Write the archive of the version in the folder; False when there is none. Errors as of `restore`."""
        from ._archive import pack  # noqa: PLC0415  # most servers have no archives, and no zstandard

        with self._folders.lock(profile_id):
            found = self._found(profile_id, version)
            if found is not None:
                pack(found, sink, self._budget())
        return found is not None

    def unpack_newest(self, profile_id: UUID, source: Path, base: ProfileVersion) -> SavedProfile:
        """Save what is in an archive as the newest version in the folder; see `receive_version`."""
        home = self._folders.home(profile_id)
        with self._folders.lock(profile_id):
            draft = self._folders.draft(profile_id)
        try:
            budget = self._wider_budget()
            with source.open("rb") as file:
                unpack_version(file, draft, budget)
            check_cookie_files(draft / USER_DATA)
            domains = domains_of(draft, cookies_in(draft, profile_id))
            sync_tree(draft, budget)
            with self._folders.lock(profile_id):
                number = max(base.number, self._folders.newest_number(profile_id)) + 1
                draft.rename(place := home / version_name(number))
                sync(home)
                sync(self._root)
                self._ready.drop(profile_id)  # of a former version
                self._folders.tidy(profile_id, {place.name})
        except TooBig as error:
            raise ProfileTooBig(
                f"profile {profile_id} has {error} ({self._limits}) and is not saved"
            ) from error
        except Hostile as error:
            raise ProfileRefused(f"profile {profile_id} is not saved: {error}") from error
        finally:
            self._folders.dismiss(draft)
        return SavedProfile(number, domains)

    # --- copies that wait -------------------------------------------------------------------------------------------

    def keep_ready(self, profile_id: UUID, user_data_dir: Path, version: ProfileVersion) -> None:
        """Keep the files of a browser, of which a version was saved, for the next browser of the profile. It raises nothing.

        Args:
            profile_id: Whose.
            user_data_dir: As for `save`, and nothing has run in it since. What is left in it is to be removed.
            version: What was saved.
        """
        made = self._ready.make(user_data_dir, self._budget())
        if made is None:
            return
        draft, size = made
        with self._folders.lock(profile_id):
            name = version_name(version.number)
            if version.archive is not None:
                name = self._cache.place(profile_id, version.archive).name
            stamp = self._stamp(profile_id, name)
            if stamp is None:  # the profile was deleted meanwhile, or another version counts
                self._ready.dismiss(draft)
            else:
                self._ready.add(profile_id, stamp, draft, size)

    def release_ready(self) -> bool:
        """Remove the copies that wait, so that the disk has their bytes; True if there were some."""
        return self._ready.clear()

    def _stamp(self, profile_id: UUID, name: str) -> str | None:
        """Return what no other version has, given the name of a version's folder; None when there is none.

        With its time: a backup that was restored may have another version of the same name.
        """
        try:
            status = (self._folders.home(profile_id) / name / USER_DATA).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return f"{name}.{status.st_mtime_ns:x}"

    # --- save -------------------------------------------------------------------------------------------------------

    def save(
        self,
        profile_id: UUID,
        user_data_dir: Path,
        cookies: list[dict[str, Any]] | None,
        *,
        base: ProfileVersion = NO_VERSION,
        writer: UUID | None = None,
    ) -> SavedProfile:
        """Save a new version, all of it or nothing. The browser must have ended.

        A version in object storage counts only when the profile's row says so.

        Args:
            profile_id: Whose.
            user_data_dir: Of the browser.
            cookies: As `export_cookies` gives them; None when the folder's own database is all there is.
            base: The version that the browser began with.
            writer: The browser's id.

        Raises:
            ProfileTooBig: It is over a limit. The former version stays.
            ProfileRefused: Its cookies are not what a browser writes. The former version stays.
            ObjectStorageError: It cannot be uploaded. The former version stays.
            OSError: From the disk. The former version stays.
        """
        save = partial(self._save, profile_id, user_data_dir, cookies, base, writer)
        try:
            return save()
        except OSError as error:
            if error.errno not in _DISK_IS_FULL or not self._ready.clear():
                raise
            logger.warning("the disk was full; no copies of profiles are kept ready any more")
            return save()

    def _save(
        self,
        profile_id: UUID,
        user_data_dir: Path,
        cookies: list[dict[str, Any]] | None,
        base: ProfileVersion,
        writer: UUID | None,
    ) -> SavedProfile:
        home = self._folders.home(profile_id)
        budget = self._budget()
        with self._folders.lock(profile_id):
            draft = self._folders.draft(profile_id)
        try:
            check_cookie_files(user_data_dir)
            self._write(draft, user_data_dir, cookies, budget)
            domains = domains_of(draft, cookies)
            number, archive = base.number + 1, None
            size = self._max_bytes - budget.bytes_left
            if self._archives is not None:
                archive = self._archives.keep(profile_id, number, writer or profile_id, draft, budget)
            with self._folders.lock(profile_id):
                if archive is None:
                    number = max(number, self._folders.newest_number(profile_id) + 1)
                    draft.rename(place := home / version_name(number))
                    kept = {place.name}
                else:
                    kept = {
                        self._cache.add(profile_id, archive, draft, size).name,
                        *self._base_names(profile_id, base),
                    }
                sync(home)
                sync(self._root)
                self._ready.drop(profile_id)  # of a former version
                self._folders.tidy(profile_id, kept)
        except TooBig as error:
            raise ProfileTooBig(
                f"profile {profile_id} has {error} ({self._limits}) and is not saved; clear site data in it, or use a new profile"
            ) from error
        except Hostile as error:
            raise ProfileRefused(f"profile {profile_id} is not saved: {error}") from error
        finally:
            self._folders.dismiss(draft)
        if archive is not None:
            self._cache.trim()
        return SavedProfile(number, domains, archive)

    def saved_by(self, profile_id: UUID, writer: UUID) -> SavedProfile | None:
        """Return the version that a browser of an earlier server has uploaded, None when there is none.

        That server may have been killed before the profile's row named it.

        Raises:
            ObjectStorageError: From the storage.
            ProfileNotRestored: See `restore`.
        """
        found = None if self._archives is None else self._archives.of_writer(profile_id, writer)
        if found is None:
            return None
        number, archive = found
        with self._folders.lock(profile_id):
            place = self._found(profile_id, ProfileVersion(number, archive))
            assert place is not None  # it has an archive
            return SavedProfile(number, domains_of(place, cookies_in(place, profile_id)), archive)

    def discard(self, profile_id: UUID, archive: str | None) -> None:
        """Remove a version in object storage that does not count: another was saved before it.

        Raises:
            ObjectStorageError: From the storage; a sweep removes it later.
        """
        if archive is None or self._archives is None:
            return
        with self._folders.lock(profile_id):
            self._ready.drop(profile_id)
            shutil.rmtree(self._cache.place(profile_id, archive), ignore_errors=True)
        self._archives.discard([archive])

    @staticmethod
    def _write(
        draft: Path, user_data_dir: Path, cookies: Iterable[Mapping[str, Any]] | None, budget: Budget
    ) -> None:
        copy_plain_files(user_data_dir, draft / USER_DATA, budget)
        if cookies is not None:
            file = draft / COOKIES
            file.touch(mode=0o600)
            file.write_text(json.dumps(cookies))
        sync_tree(draft, budget)

    def delete(self, profile_id: UUID) -> None:
        """Remove all of it. A save that runs meanwhile fails, or comes later, and its caller must delete the profile again.

        Raises:
            ObjectStorageError: From the storage; a sweep removes what is left there.
        """
        home = self._folders.home(profile_id)
        with self._folders.lock(profile_id):
            self._ready.drop(profile_id)
            removed = self._root / f"{OLD}{profile_id}"
            shutil.rmtree(removed, ignore_errors=True)
            with suppress(FileNotFoundError):
                # First, so that a kill half-way through leaves no half profile.
                home.rename(removed)
            shutil.rmtree(removed, ignore_errors=True)
        if self._archives is not None:
            self._archives.remove(profile_id)

    def _base_names(self, profile_id: UUID, base: ProfileVersion) -> set[str]:
        """Return the name of the version that counts until the row names another."""
        if base.archive is not None:
            return {self._cache.place(profile_id, base.archive).name}
        newest = self._folders.newest(profile_id)
        return set() if newest is None else {newest.name}

    def _budget(self) -> Budget:
        return Budget(self._max_bytes, self._max_files, _MAX_DEPTH, time.monotonic() + self._max_seconds)

    def _wider_budget(self) -> Budget:
        """Return the budget of an archive: what was within the limits has cookies beside it, and is one folder deeper."""
        budget = self._budget()
        budget.bytes_left += _BESIDE_BYTES
        budget.files_left += 2
        budget.depth += 2
        return budget

    @property
    def _limits(self) -> str:
        return f"at most {self._max_bytes} bytes, {self._max_files} files, {self._max_seconds:g} s"
