"""The fixture that pytest-playwright's `browser` is made with, for rented browsers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from cdpbridge.tunnel._address import playwright_options

from ._connecting import check_engine, connect_options, with_state
from ._run import run_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserType

__all__ = ["launch_browser"]


@pytest.fixture(scope="session")
def launch_browser(
    pytestconfig: pytest.Config, browser_type: BrowserType, browser_type_launch_args: dict[str, Any]
) -> Callable[..., Browser]:
    """Connect to the rented browser instead of starting one."""

    def launch(**options: Any) -> Browser:
        check_engine(browser_type.name)
        run = run_of(pytestconfig)
        kept, ignored = connect_options({**browser_type_launch_args, **options})
        run.ignore(ignored)
        place = run.place()
        kept = playwright_options(browser_type.connect_over_cdp, place) | kept
        browser = browser_type.connect_over_cdp(place.cdp_url, **kept)
        if run.options.get("profile") is not None:
            state: Any = browser.contexts[0].storage_state()
            vars(browser)["new_context"] = with_state(browser.new_context, state)
            vars(browser)["new_page"] = with_state(browser.new_page, state)
        return browser

    return launch
