"""Playwright for Python: a CDP session over `connect_over_cdp`. Its driver, a Node process, is counted with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from playwright.async_api import CDPSession, async_playwright


class Client:
    playwright: Any = None  # one driver, as a program has it, however many browsers it connects to

    def __init__(self, variant: str) -> None:
        self.variant = variant

    async def start_driver(self) -> None:
        if Client.playwright is None:
            Client.playwright = await async_playwright().start()

    async def open(self, url: str) -> None:
        await self.start_driver()
        self.browser = await Client.playwright.chromium.connect_over_cdp(url)

    async def attach(self) -> CDPSession:
        return await self.browser.new_browser_cdp_session()

    async def new_tab(self) -> CDPSession:
        context = self.browser.contexts[0]
        return await context.new_cdp_session(await context.new_page())

    def on_request(self, session: CDPSession, handler: Callable[[str], None]) -> None:
        session.on("Network.requestWillBeSent", lambda event: handler(event["requestId"]))

    def on(self, session: CDPSession, method: str, handler: Callable[[Any], object]) -> None:
        session.on(method, lambda event: handler(event))  # noqa: PLW0108  # it refuses built-in functions

    def on_typed(self, session: CDPSession, method: str, handler: Callable[[Any], object]) -> None:
        self.on(session, method, handler)  # its types are dicts

    async def close(self) -> None:
        await self.browser.close()
