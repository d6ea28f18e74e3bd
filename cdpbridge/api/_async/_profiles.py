"""`client.profiles`."""

from __future__ import annotations

from functools import partial
from uuid import UUID

from cdpbridge.api import calls
from cdpbridge.api._models import Page, Profile
from cdpbridge.api.calls import MAX_PAGE_SIZE, Call

from ._group import AsyncGroup
from ._pages import AsyncPages

__all__ = ["AsyncProfiles"]


class AsyncProfiles(AsyncGroup):
    """`/profiles`: saved browser state."""

    async def create(self, *, name: str | None = None) -> Profile:
        """Create an empty profile. Names need not be unique."""
        return await self._requests.send(calls.create_profile(name=name))

    def list(self, *, query: str | None = None, page_size: int = MAX_PAGE_SIZE) -> AsyncPages[Profile]:
        """List profiles, by `async for` or page by page.

        Args:
            query: Words of the name; a server older than this parameter ignores it.
            page_size: 1 to 100.
        """
        return AsyncPages(self._requests.send, partial(_page, query), page_size)

    async def get(self, profile_id: UUID | str) -> Profile:
        """Get a profile."""
        return await self._requests.send(calls.get_profile(profile_id))

    async def update(self, profile_id: UUID | str, *, name: str | None) -> Profile:
        """Rename a profile."""
        return await self._requests.send(calls.update_profile(profile_id, name=name))

    async def delete(self, profile_id: UUID | str) -> None:
        """Delete a profile and its content. Deleting an unknown one is no error."""
        return await self._requests.send(calls.delete_profile(profile_id))


def _page(query: str | None, number: int, size: int) -> Call[Page[Profile]]:
    return calls.list_profiles(query=query, page_number=number, page_size=size)
