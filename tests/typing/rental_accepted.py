"""What type checkers let through: typed options at every front door of renting."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, assert_type

import cdpbridge
from cdpbridge import Browser, BrowserPool, Budget, RentalOptions, Tab, sync
from cdpbridge.browser._download import Download
from cdpbridge.integrations.crawlee import RentedBrowserPlugin
from cdpbridge.protocol import Page, Runtime


async def renewed(browser: Browser) -> None: ...


OURS: RentalOptions = {
    "timeout": timedelta(minutes=5),
    "stop_timeout": 5,
    "renew": renewed,
    "budget": Budget(browsers=1),
}
POOL = BrowserPool("local", size=2, profile="work", proxy_country=None, connect_timeout=2.5)
PLUGIN = RentedBrowserPlugin(timeout=timedelta(minutes=5), use_incognito_pages=True)
LOCAL = cdpbridge.local(browser_build="shell", proxies={"de": "direct"}, credits_usd="5", max_browsers=2)
CLOUD = cdpbridge.cloud(timeout=10, max_retries=0)
AT = cdpbridge.at("https://rest.test/api/v2", timeout=timedelta(seconds=5))


async def with_a_loop(tab: Tab) -> None:
    assert_type(await cdpbridge.open_browser(**OURS), Browser)
    async with cdpbridge.open_browser(cdpbridge.local(), recording=True, slot_timeout=0) as browser:
        assert_type(browser, Browser)
    await tab.set_input_files("input", "a.txt")
    await tab.set_input_files("input", ["a.txt"])
    async with tab.expect_download(timeout=5) as waiter:
        await tab.screenshot(format="webp")
    assert_type(waiter.download, Download)


def without_a_loop() -> None:
    with sync.open_browser(sync.local(browser_build="full"), profile="work") as browser:
        assert_type(browser, sync.Browser)
        tab = browser.new_tab()
        assert_type(tab.send(Page.navigate("u")), Page.NavigateResult)
        assert_type(tab.send(Runtime.evaluate("1")).result.value, Any)
        assert_type(tab.send("Page.enable"), dict[str, Any])
