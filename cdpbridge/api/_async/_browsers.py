"""`client.browsers`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from cdpbridge.api import calls
from cdpbridge.api._models import BrowserDownloads, BrowserRecording, BrowserSession, Page
from cdpbridge.api._server_default import ServerDefault, server_default
from cdpbridge.api.calls._base import MAX_PAGE_SIZE, Call
from cdpbridge.api.calls._browsers import recording_address

from ._group import AsyncGroup
from ._pages import AsyncDownloads, AsyncPages

if TYPE_CHECKING:
    from cdpbridge.api._task_models import CustomProxy

__all__ = ["AsyncBrowsers"]


class AsyncBrowsers(AsyncGroup):
    """`/browsers`: rented browsers."""

    async def create(
        self,
        *,
        profile_id: UUID | str | None = None,
        proxy_country: str | ServerDefault | None = server_default,
        timeout: timedelta | None = None,
        browser_screen_width: int | None = None,
        browser_screen_height: int | None = None,
        custom_proxy: CustomProxy | None = None,
        metadata: Mapping[str, str] | None = None,
        enable_recording: bool | None = None,
        allowed_hosts: Sequence[str] | None = None,
        denied_hosts: Sequence[str] | None = None,
        extra_body: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> BrowserSession:
        """Rent a browser; it costs money from now on. `cdpbridge.open_browser` also stops it.

        Args:
            profile_id: State to start from.
            proxy_country: Two letters; None for no proxy; default: the server's choice.
            timeout: Whole minutes, 1 to 240. Default: the server's.
            browser_screen_width: CSS pixels. This and what follows is newer than the reference: older servers ignore it.
            browser_screen_height: CSS pixels.
            custom_proxy: Your own instead of a country's.
            metadata: Labels, 16 KiB at most.
            enable_recording: True to record a video; `download_recording` saves it.
            allowed_hosts: The only hosts that it may reach: `example.com`, `*.example.com` for it and every name below, an address,
                a network such as `192.0.2.0/24`, perhaps with `:port`. This and the next are for a cdpbridge server: the answer of one
                that keeps to them names them again.
            denied_hosts: Hosts that it may not reach, even so.
            extra_body: Further fields of the request, by their names in the API.
            idempotency_key: Two requests with one key rent one browser, on servers that know the header.
        """
        return await self._requests.send(
            calls.create_browser(
                profile_id=profile_id,
                proxy_country=proxy_country,
                timeout=timeout,
                browser_screen_width=browser_screen_width,
                browser_screen_height=browser_screen_height,
                custom_proxy=custom_proxy,
                metadata=metadata,
                enable_recording=enable_recording,
                allowed_hosts=allowed_hosts,
                denied_hosts=denied_hosts,
                extra_body=extra_body,
                idempotency_key=idempotency_key,
            )
        )

    def list(
        self,
        *,
        status: str | None = None,
        agent_session_id: UUID | str | None = None,
        page_size: int = MAX_PAGE_SIZE,
    ) -> AsyncPages[BrowserSession]:
        """List browsers, the newest first, by `async for` or page by page.

        Args:
            status: `"active"` or `"stopped"`; None for both.
            agent_session_id: Only the browser of this agent session; a server older than this parameter ignores it.
            page_size: 1 to 100.
        """
        return AsyncPages(self._requests.send, partial(_page, status, agent_session_id), page_size)

    async def get(self, browser_id: UUID | str) -> BrowserSession:
        """Get a browser."""
        return await self._requests.send(calls.get_browser(browser_id))

    async def stop(self, browser_id: UUID | str) -> BrowserSession:
        """Stop a browser; the server refunds the unused minutes. May be repeated."""
        return await self._requests.send(calls.stop_browser(browser_id))

    def downloads(
        self, browser_id: UUID | str, *, include_urls: bool = False, page_size: int = MAX_PAGE_SIZE
    ) -> AsyncDownloads:
        """List the downloads of a browser, by `async for` (newer than the reference).

        Args:
            browser_id: The browser, also one that has stopped.
            include_urls: True if each file comes with a signed address to get it from.
            page_size: Files per request.
        """
        return AsyncDownloads(self._requests.send, partial(_downloads, browser_id, include_urls, page_size))

    async def recording(self, browser_id: UUID | str) -> BrowserRecording:
        """Get the recording of a browser: its stills, and the video when it has stopped (a cdpbridge server only).

        Raises:
            NotFoundError: It was not created with `enable_recording`, or the server knows no such thing.
        """
        return await self._requests.send(calls.get_recording(browser_id))

    async def download_recording(self, browser_id: UUID | str, path: Path | str) -> Path:
        """Save the video of a browser that has stopped, a WebM file.

        The file appears under its name when it is complete; after a lost connection the rest is fetched.

        Args:
            browser_id: The browser, created with `enable_recording`.
            path: The file, replaced if it is there; or a folder, then the file is called after the browser. What is
                missing is made; a name that ends with a slash is a folder's.

        Returns:
            Where it is.

        Raises:
            RecordingUnavailable: There is none: not yet, or there never will be.
        """
        from ._transfers import download  # noqa: PLC0415  # most browsers have no recording

        async def address() -> tuple[str, str]:
            return recording_address(await self.get(browser_id))

        return await download(self._requests, address, path)


def _page(
    status: str | None, agent_session_id: UUID | str | None, number: int, size: int
) -> Call[Page[BrowserSession]]:
    return calls.list_browsers(
        status=status, agent_session_id=agent_session_id, page_number=number, page_size=size
    )


def _downloads(
    browser_id: UUID | str, include_urls: bool, limit: int, cursor: str | None
) -> Call[BrowserDownloads]:
    return calls.list_downloads(browser_id, include_urls=include_urls, limit=limit, cursor=cursor)
