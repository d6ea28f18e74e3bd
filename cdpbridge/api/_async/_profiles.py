"""`client.profiles`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from uuid import UUID

from cdpbridge.api import calls
from cdpbridge.api._models import Page, Profile
from cdpbridge.api.calls import MAX_PAGE_SIZE, Call, ServerDefault, server_default

from ._group import AsyncGroup
from ._pages import AsyncPages

__all__ = ["AsyncProfiles"]


class AsyncProfiles(AsyncGroup):
    """`/profiles`: saved browser state."""

    async def create(
        self,
        *,
        name: str | None = None,
        allowed_hosts: Sequence[str] | None = None,
        denied_hosts: Sequence[str] | None = None,
    ) -> Profile:
        """Create an empty profile. Names need not be unique.

        Args:
            name: Your own word for it.
            allowed_hosts: The only hosts that browsers with it may reach, as in `browsers.create` (a cdpbridge server only).
            denied_hosts: Hosts that they may not reach.
        """
        return await self._requests.send(
            calls.create_profile(name=name, allowed_hosts=allowed_hosts, denied_hosts=denied_hosts)
        )

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

    async def update(
        self,
        profile_id: UUID | str,
        *,
        name: str | ServerDefault | None = server_default,
        allowed_hosts: Sequence[str] | ServerDefault | None = server_default,
        denied_hosts: Sequence[str] | ServerDefault | None = server_default,
    ) -> Profile:
        """Change a profile; what is not given stays as it is, None takes it away.

        Lists of hosts hold for browsers that are created from then on.
        """
        return await self._requests.send(
            calls.update_profile(
                profile_id, name=name, allowed_hosts=allowed_hosts, denied_hosts=denied_hosts
            )
        )

    async def delete(self, profile_id: UUID | str) -> None:
        """Delete a profile and its content. Deleting an unknown one is no error."""
        return await self._requests.send(calls.delete_profile(profile_id))


def _page(query: str | None, number: int, size: int) -> Call[Page[Profile]]:
    return calls.list_profiles(query=query, page_number=number, page_size=size)
