"""A lease: a tab in a browser context of its own (or in the profile's), created and removed over CDP."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from cdpbridge._concurrency import mark_retrieved, to_the_end
from cdpbridge.browser import Browser
from cdpbridge.browser._tab import Tab
from cdpbridge.errors import CDPError, CommandError, ConnectionClosed, RentalError
from cdpbridge.protocol import Target

__all__ = ["Contexts", "Lease", "browser_lost"]

logger = logging.getLogger("cdpbridge")

_TIMEOUT: Final = timedelta(
    seconds=10
)  # for making and removing contexts: the browser process answers in milliseconds
_ALIVE_TIMEOUT: Final = timedelta(seconds=5)


class Contexts:
    """Makes browser contexts in one browser, on request with each one another for a later lease, which saves that a round trip.

    So it has as many left over, empty, as there were leases at once that requested it.
    """

    def __init__(self, browser: Browser) -> None:
        self._root = browser.connection.root
        self._left: deque[asyncio.Task[str]] = deque()

    async def take(self, *, and_ahead: bool) -> tuple[str, bool]:
        """Return Chrome's id of a context, and whether it was made before: a reconnect may have cost it meanwhile.

        Args:
            and_ahead: Make one ahead.

        Raises:
            CDPError: There is none.
        """
        made = self._left.popleft() if self._left else None
        if and_ahead:
            ahead = asyncio.get_running_loop().create_task(self.make())
            ahead.add_done_callback(mark_retrieved)
            self._left.append(ahead)
        if made is not None:
            try:
                return await made, True
            except CDPError as error:
                logger.debug("no context was made ahead: %s", error)
        return await self.make(), False

    async def make(self) -> str:
        """Return Chrome's id of a new context.

        Raises:
            CDPError: There is none.
        """
        made = await self._root.send(Target.create_browser_context(), timeout=_TIMEOUT)
        return made.browser_context_id


class Lease:
    """What `BrowserPool.lease` gives: a tab, and the browser it is in.

    Attributes:
        browser: Shared with other leases: do not stop it.
        context_id: Chrome's id of the lease's own browser context; None in the browser's default one.
        lost: The browser, or the connection to it, was lost while the lease ran.
    """

    def __init__(self, browser: Browser, contexts: Contexts | None) -> None:
        self.browser = browser
        self.context_id: str | None = None
        self.lost = False
        self._contexts = contexts
        self._tabs: list[Tab] = []

    def __repr__(self) -> str:
        return f"<Lease of {len(self._tabs)} tabs in {self.browser!r}>"

    @property
    def tab(self) -> Tab:
        """Its first tab."""
        return self._tabs[0]

    async def new_tab(self) -> Tab:
        """Open one more tab in the same context; it is closed with the lease.

        Raises:
            CDPError: It could not be opened.
        """
        session = await self.browser.connection.new_tab(browser_context_id=self.context_id)
        tab = Tab(session)
        self._tabs.append(tab)
        return tab

    async def open(self, *, and_ahead: bool) -> None:
        """Create the context and the first tab. When this fails or is cancelled, remove them again.

        Args:
            and_ahead: Make a context ahead for a later lease.
        """
        try:
            await to_the_end(self._open(and_ahead=and_ahead))
        except BaseException:
            await self.close()
            raise

    async def _open(self, *, and_ahead: bool) -> None:
        if self._contexts is None:
            await self.new_tab()
            return
        self.context_id, ahead = await self._contexts.take(and_ahead=and_ahead)
        try:
            await self.new_tab()
        except CommandError:
            if not ahead:
                raise
            self.context_id = await self._contexts.make()
            await self.new_tab()

    async def close(self) -> bool:
        """Remove what the lease has created, however often the caller is cancelled; return True if the browser did so."""
        return await to_the_end(self._close())

    async def _close(self) -> bool:
        if self.browser.connection.closed:
            return False
        try:
            if self.context_id is not None:  # with every page in it, and without their `beforeunload`
                command = Target.dispose_browser_context(self.context_id)
                await self.browser.connection.root.send(command, timeout=_TIMEOUT)
            else:
                await asyncio.gather(*(tab.close() for tab in self._tabs))
        except CDPError as error:
            logger.debug("%r could not be removed: %s", self, error)
            return False
        return True


async def browser_lost(browser: Browser, error: BaseException) -> bool:
    """Return True if `error` came because the browser, or the connection to it, was lost, and not from the user's code.

    When the error does not say, ask the browser process.
    """
    causes = list(_causes(error))
    if not any(isinstance(each, (CDPError, RentalError)) for each in causes):
        return False
    if browser.connection.closed or any(isinstance(each, ConnectionClosed) for each in causes):
        return True
    return not await browser.connection.is_alive(_ALIVE_TIMEOUT)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and everything that led to it: what it was raised from, and what is in its groups."""
    seen: set[int] = set()
    left: list[BaseException | None] = [error]
    while left:
        each = left.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        left += [each.__cause__, each.__context__]
        if isinstance(each, BaseExceptionGroup):
            left += each.exceptions
