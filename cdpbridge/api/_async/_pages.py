"""Lists that come in pages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Generic, Protocol, TypeVar
from uuid import UUID

from cdpbridge.api._models import BrowserDownload, BrowserDownloads, Page
from cdpbridge.api.calls._base import MAX_PAGE_SIZE, Call

__all__ = ["AsyncDownloads", "AsyncPages"]


class _Listed(Protocol):
    @property
    def id(self) -> UUID: ...


T = TypeVar("T", bound=_Listed)


class AsyncPages(Generic[T]):
    """Everything on a list, page by page: `async for item in client.profiles.list()`.

    Each entry comes once, also when entries come and go meanwhile, e.g. because the loop stops the browsers it is given.

    Attributes:
        total_items: Entries on all pages, as the last page that was read said; None before the first.
    """

    def __init__(
        self,
        send: Callable[[Call[Page[T]]], Awaitable[Page[T]]],
        build: Callable[[int, int], Call[Page[T]]],
        page_size: int = MAX_PAGE_SIZE,
    ) -> None:
        self.total_items: int | None = None
        self._send = send
        self._build = build
        self._page_size = page_size

    async def page(self, number: int = 1) -> Page[T]:
        """Get one page; the first has number 1."""
        page = await self._send(self._build(number, self._page_size))
        self.total_items = page.total_items
        return page

    async def __aiter__(self) -> AsyncIterator[T]:
        number, read = 1, 0
        seen: set[UUID] = set()
        fewest: int | None = None
        while True:
            page = await self.page(number)
            # With fewer entries than ever, later ones have moved to pages that were read. It falls, so this ends.
            moved = fewest is not None and page.total_items < fewest
            fewest = page.total_items if fewest is None or moved else fewest
            for item in page.items:
                if item.id not in seen:
                    seen.add(item.id)
                    yield item
            number, read = number + 1, read + len(page.items)
            if moved:
                number, read = 1, 0
            elif not page.items or read >= page.total_items:
                return


class AsyncDownloads:
    """Everything a browser has downloaded: `async for file in client.browsers.downloads(browser_id)`."""

    def __init__(
        self,
        send: Callable[[Call[BrowserDownloads]], Awaitable[BrowserDownloads]],
        build: Callable[[str | None], Call[BrowserDownloads]],
    ) -> None:
        self._send = send
        self._build = build

    async def page(self, cursor: str | None = None) -> BrowserDownloads:
        """Get one page, from the `next_cursor` of the page before."""
        return await self._send(self._build(cursor))

    async def __aiter__(self) -> AsyncIterator[BrowserDownload]:
        cursor: str | None = None
        while True:
            page = await self.page(cursor)
            for file in page.files:
                yield file
            if page.next_cursor is None or page.next_cursor == cursor:
                return
            cursor = page.next_cursor
