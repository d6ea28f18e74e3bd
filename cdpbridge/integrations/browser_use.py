"""browser-use on rented browsers: a `BrowserSession` that is stopped, and paid for, no longer than its agent runs.

async with session(profile="work", timeout=timedelta(minutes=15)) as browser_session:
    await Agent(task="...", llm=llm, browser_session=browser_session).run()
"""

from __future__ import annotations

import logging
import uuid
from datetime import timedelta
from types import TracebackType
from typing import Any

from browser_use import BrowserSession
from browser_use.browser.events import BrowserStoppedEvent

from cdpbridge.api import AsyncClient, Profile, ServerDefault, server_default
from cdpbridge.browser import Browser, Opening, open_browser
from cdpbridge.errors import StopFailed

__all__ = ["RentedSession", "session"]

logger = logging.getLogger("cdpbridge")


def session(
    provider: AsyncClient | str | None = None,
    *,
    profile: str | uuid.UUID | Profile | None = None,
    proxy_country: str | ServerDefault | None = server_default,
    timeout: timedelta | None = None,
    **options: Any,
) -> RentedSession:
    """Return a block with a `BrowserSession` on a rented browser.

    The rental is stopped when an agent ends the session, which it does after its run unless `keep_alive=True` is given, and
    at the latest at the end of the block, in every way out.

    Args:
        provider: As of `open_browser`, like `profile`, `proxy_country` and `timeout`.
        options: For `BrowserSession`, e.g. `allowed_domains`, `keep_alive`.

    Raises:
        CDPBridgeError: As of `open_browser`.
    """
    opening = open_browser(provider, profile=profile, proxy_country=proxy_country, timeout=timeout)
    return RentedSession(opening, options)


class RentedSession:
    """What `session` returns: entered, it gives browser-use's `BrowserSession`.

    Attributes:
        rental: The rented browser, once the block is entered; its receipt, once it is stopped.
    """

    rental: Browser

    def __init__(self, opening: Opening, options: dict[str, Any]) -> None:
        self._opening = opening
        self._options = options
        self._session: BrowserSession

    async def __aenter__(self) -> BrowserSession:
        self.rental = await self._opening.__aenter__()
        try:
            self._session = BrowserSession(cdp_url=self.rental.cdp_url, **self._options)
            self._session.event_bus.on(BrowserStoppedEvent, self._on_stopped)
        except BaseException as error:
            await self._opening.__aexit__(type(error), error, error.__traceback__)
            raise
        return self._session

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._session.kill()
        finally:
            await self._opening.__aexit__(kind, error, trace)

    async def _on_stopped(self, _event: BrowserStoppedEvent) -> None:
        if self._session.browser_profile.keep_alive:
            return
        try:
            await self.rental.stop()
        except StopFailed as failed:
            logger.error("%s", failed)  # noqa: TRY400  # the end of the block tries again, and raises
