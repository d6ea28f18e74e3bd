"""A browser's folders: where its temporary files are, what of its profile is kept, and how they are removed."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from cdpbridge.chromium import remove_tree, scratch_parent, uses_browser_uids
from cdpbridge.errors import CDPBridgeError
from cdpbridge.server.objects import ObjectMissing, ObjectStorageError
from cdpbridge.server.profiles import ProfileNotRestored, ProfileRefused, ProfileStore, ProfileVersion

from ._base import SavedState

__all__ = [
    "REMOVED",
    "Removals",
    "remove_folder",
    "save_profile",
    "saved_before",
    "scratch_folder",
    "set_aside",
]

logger = logging.getLogger("cdpbridge.server")

# At the end of the name of a folder that is being removed. Earlier versions wrote the same.
REMOVED: Final = ".gone"


def scratch_folder(browser_id: UUID | str) -> Path:
    """Return where a browser keeps its temporary files: the same after a restart, so that it can be removed then."""
    name = f"cdpb-{UUID(str(browser_id)).hex[:12]}"
    return scratch_parent(name, for_others=uses_browser_uids()) / name


async def save_profile(
    profiles: ProfileStore,
    profile_id: UUID,
    user_data_dir: Path,
    cookies: list[dict[str, Any]] | None,
    *,
    base: ProfileVersion,
    writer: UUID,
) -> SavedState | None:
    """Save a profile after its browser has ended; a failure is logged, the former version stays.

    Args:
        base: The version that the browser began with.
        writer: The browser's id.
    """
    try:
        save = partial(profiles.save, profile_id, user_data_dir, cookies, base=base, writer=writer)
        saved = await profiles.run(save, saving=True)
    except ProfileRefused as error:
        logger.warning("%s", error)
        return None
    except (OSError, CDPBridgeError):
        logger.exception("profile %s could not be saved; its former version stays", profile_id)
        return None
    return SavedState(saved.version, list(saved.cookie_domains), saved.archive)


async def saved_before(profiles: ProfileStore, profile_id: UUID, writer: UUID) -> SavedState | None:
    """Return what a browser of an earlier server has saved of its profile; None when that is nothing that can be read.

    Raises:
        ObjectStorageError: From the storage: it is not known.
        OSError: From the disk; as above.
    """
    try:
        found = await profiles.run(profiles.saved_by, profile_id, writer, saving=True)
    except ProfileNotRestored as error:
        cause = error.__cause__
        if isinstance(cause, ObjectStorageError) and not isinstance(cause, ObjectMissing):
            raise cause from None
        logger.warning(
            "what browser %s has saved of profile %s does not count: %s", writer, profile_id, error
        )
        return None
    return None if found is None else SavedState(found.version, list(found.cookie_domains), found.archive)


async def set_aside(folder: Path) -> Path:
    """Rename a browser's folder, and return where it is: under its own name it is whole, also when we are killed."""
    return await asyncio.to_thread(_rename, folder)


async def remove_folder(folder: Path) -> None:
    """Remove a browser's folder; its last processes may still be writing for a moment."""
    await remove_tree(folder, prepare=_rename)


def _rename(folder: Path) -> Path:
    renamed = folder.with_name(f"{folder.name}{REMOVED}")
    try:
        folder.rename(renamed)
    except FileNotFoundError:
        logger.debug("folder %s is absent, or was renamed before", folder)
    except OSError as error:
        logger.warning("folder %s cannot be renamed: %s", folder, error)
        return folder
    return renamed


class Removals:
    """Places of ended browsers that are not removed yet: until then each has a uid, of which there may be few."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Future[None]] = set()

    def begin(self) -> asyncio.Future[None]:
        """Return what is to be given to `end`."""
        removal: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(removal)
        return removal

    def end(self, removal: asyncio.Future[None]) -> None:
        """Note that one is removed, or that this has failed."""
        self._waiting.discard(removal)
        if not removal.done():
            removal.set_result(None)

    async def next(self) -> bool:
        """Wait until one more is removed; False when there is none to wait for."""
        if not self._waiting:
            return False
        await asyncio.wait(self._waiting, return_when=asyncio.FIRST_COMPLETED)
        return True
