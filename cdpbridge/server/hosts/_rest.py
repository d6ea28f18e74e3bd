"""`LocalRest`: what is left to do of a browser of this machine that has ended: its profile is saved, and its place removed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import UUID

from cdpbridge.server.profiles import ProfileStore, ProfileVersion

from ._base import SavedState
from ._cookies import CookieExport, cookies_to_keep
from ._folders import save_profile, set_aside
from ._place import Place

__all__ = ["LocalRest", "Unsaved"]


@dataclass(frozen=True, slots=True)
class Unsaved:
    """A profile that is to be saved.

    Attributes:
        base: The version that the browser began with.
        complete: Every cookie, asked for at the end; None when the browser did not answer.
        last: The last export before that, if there was one.
        orderly: The browser has ended in order, and has written its own cookies.
    """

    base: ProfileVersion
    complete: CookieExport | None = field(repr=False)
    last: CookieExport | None = field(repr=False)
    orderly: bool


class LocalRest:
    """See `Rest`. A folder that still has its own name is saved by the next start when this process is killed.

    Args:
        browser_id: Whose.
        place: Where it ran; nothing runs in it any more.
        profiles: Where its profile goes to.
        leased: The profile that it may save, if any; released here.
        unsaved: None when that is not to be saved.
    """

    def __init__(
        self,
        browser_id: UUID,
        place: Place,
        profiles: ProfileStore,
        *,
        leased: UUID | None,
        unsaved: Unsaved | None,
    ) -> None:
        self._id = browser_id
        self._place = place
        self._profiles = profiles
        self._leased = leased
        self._unsaved = unsaved
        place.note_ended()

    async def save(self, note: Callable[[SavedState], Awaitable[object]]) -> None:
        """Save the profile, if it is to be saved; see `Rest.save`."""
        if self._leased is None:
            return
        try:
            saved = None
            try:
                if self._unsaved is not None and (saved := await self._saved(self._leased, self._unsaved)):
                    await note(saved)
            finally:
                # Before others may save it, and before it loses a file: the next start saves no folder that was renamed.
                aside = await set_aside(self._place.folder)
            if saved is not None and aside != self._place.folder:
                version = ProfileVersion(saved.version, saved.archive)
                keep = partial(
                    self._profiles.keep_ready, self._leased, aside / self._place.profile.name, version
                )
                await self._profiles.run(keep, saving=True)
        finally:
            self._release()

    async def _saved(self, profile_id: UUID, unsaved: Unsaved) -> SavedState | None:
        return await save_profile(
            self._profiles,
            profile_id,
            self._place.profile,
            await self._cookies(unsaved),
            base=unsaved.base,
            writer=self._id,
        )

    async def _cookies(self, unsaved: Unsaved) -> list[dict[str, Any]] | None:
        if unsaved.complete is not None:
            return unsaved.complete.cookies
        work = partial(cookies_to_keep, unsaved.last, self._place.profile, orderly=unsaved.orderly)
        return await self._profiles.run(work, saving=True)

    async def remove(self) -> None:
        """Remove the place; see `Rest.remove`."""
        async with AsyncExitStack() as ends:
            self._place.removed_by(ends)
            ends.callback(self._release)

    def _release(self) -> None:
        if self._leased is not None:
            self._profiles.release(self._leased, str(self._id))
