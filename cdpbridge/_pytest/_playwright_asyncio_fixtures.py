"""The fixture that pytest-playwright-asyncio's `browser` is made with, for rented browsers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest

from cdpbridge.tunnel._address import playwright_options

from ._connecting import check_engine, connect_options, with_state
from ._run import run_of

if TYPE_CHECKING:
    from playwright.async_api import Browser, BrowserType

__all__ = ["launch_browser"]


@pytest.fixture(scope="session")
def launch_browser(
    pytestconfig: pytest.Config, browser_type: BrowserType, browser_type_launch_args: dict[str, Any]
) -> Callable[..., Awaitable[Browser]]:
    """Connect to the rented browser instead of starting one."""

    async def launch(**options: Any) -> Browser:
        check_engine(browser_type.name)
        run = run_of(pytestconfig)
        kept, ignored = connect_options({**browser_type_launch_args, **options})
        run.ignore(ignored)
        place = await asyncio.to_thread(run.place)
        kept = playwright_options(browser_type.connect_over_cdp, place) | kept
        browser = await browser_type.connect_over_cdp(place.cdp_url, **kept)
        if run.options.get("profile") is not None:
            state: Any = await browser.contexts[0].storage_state()
            vars(browser)["new_context"] = with_state(browser.new_context, state)
            vars(browser)["new_page"] = with_state(browser.new_page, state)
        return browser

    return launch
