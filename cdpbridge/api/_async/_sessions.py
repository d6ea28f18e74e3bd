"""`client.sessions`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any
from uuid import UUID

from cdpbridge.api import calls
from cdpbridge.api._models import Page
from cdpbridge.api._task_models import AgentSession, AgentSessionItem, CustomProxy, Share
from cdpbridge.api.calls import MAX_PAGE_SIZE, Call, ServerDefault, server_default

from ._group import AsyncGroup
from ._pages import AsyncPages

__all__ = ["AsyncSessions"]


class AsyncSessions(AsyncGroup):
    """`/sessions`: agent sessions, each with a browser of its own that tasks share."""

    async def create(
        self,
        *,
        profile_id: UUID | str | None = None,
        proxy_country: str | ServerDefault | None = server_default,
        start_url: str | None = None,
        browser_screen_width: int | None = None,
        browser_screen_height: int | None = None,
        persist_memory: bool | None = None,
        keep_alive: bool | None = None,
        custom_proxy: CustomProxy | None = None,
        enable_recording: bool | None = None,
        allowed_hosts: Sequence[str] | None = None,
        denied_hosts: Sequence[str] | None = None,
        extra_body: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> AgentSessionItem:
        """Start a session; its browser costs money until it is stopped.

        Args:
            profile_id: State to start from.
            proxy_country: Two letters; None for no proxy; default: the server's choice.
            start_url: Where its browser goes first.
            browser_screen_width: CSS pixels. This and what follows is newer than the reference: older servers ignore it.
            browser_screen_height: CSS pixels.
            persist_memory: True if a task knows of the ones before it.
            keep_alive: True if it stays open after a task.
            custom_proxy: Your own instead of a country's.
            enable_recording: True to record a video.
            allowed_hosts: The only hosts that its browser may reach, as in `client.browsers.create`. This and the next are extensions of
                our server; another one that ignores unknown fields ignores them.
            denied_hosts: Hosts that its browser may not reach, even so.
            extra_body: Further fields of the request, by their names in the API.
            idempotency_key: Two requests with one key start one session, on servers that know the header.
        """
        return await self._requests.send(
            calls.create_session(
                profile_id=profile_id,
                proxy_country=proxy_country,
                start_url=start_url,
                browser_screen_width=browser_screen_width,
                browser_screen_height=browser_screen_height,
                persist_memory=persist_memory,
                keep_alive=keep_alive,
                custom_proxy=custom_proxy,
                enable_recording=enable_recording,
                allowed_hosts=allowed_hosts,
                denied_hosts=denied_hosts,
                extra_body=extra_body,
                idempotency_key=idempotency_key,
            )
        )

    def list(
        self, *, status: str | None = None, page_size: int = MAX_PAGE_SIZE
    ) -> AsyncPages[AgentSessionItem]:
        """List sessions, by `async for` or page by page.

        Args:
            status: `"active"` or `"stopped"`; None for both.
            page_size: 1 to 100.
        """
        return AsyncPages(self._requests.send, partial(_page, status), page_size)

    async def get(self, session_id: UUID | str) -> AgentSession:
        """Get a session with its tasks."""
        return await self._requests.send(calls.get_session(session_id))

    async def stop(self, session_id: UUID | str) -> AgentSession:
        """Stop a session, its browser and its running task. May be repeated."""
        return await self._requests.send(calls.stop_session(session_id))

    async def delete(self, session_id: UUID | str) -> None:
        """Delete a session with all its tasks (newer than the reference)."""
        return await self._requests.send(calls.delete_session(session_id))

    async def purge(self, session_id: UUID | str) -> None:
        """Delete all that a session has stored: files, screenshots, logs (newer than the reference)."""
        return await self._requests.send(calls.purge_session(session_id))

    async def get_share(self, session_id: UUID | str) -> Share:
        """Get its public share, and how often it was watched."""
        return await self._requests.send(calls.get_share(session_id))

    async def create_share(self, session_id: UUID | str) -> Share:
        """Create a public share: all who have its address can watch. If there is one already, return it."""
        return await self._requests.send(calls.create_share(session_id))

    async def delete_share(self, session_id: UUID | str) -> None:
        """End the public share."""
        return await self._requests.send(calls.delete_share(session_id))


def _page(status: str | None, number: int, size: int) -> Call[Page[AgentSessionItem]]:
    return calls.list_sessions(status=status, page_number=number, page_size=size)
