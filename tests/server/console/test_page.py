"""The page in a real browser, over a real server with real browsers."""

import re

import pytest
from playwright.async_api import expect

from cdpbridge.cdp import connect
from cdpbridge.server.store import key_hash_of
from tests.server.console.pages import KEYS, ONE_PLAYWRIGHT, opened

pytestmark = ONE_PLAYWRIGHT

ONE_BUILD = pytest.mark.one_build("the console is tested, and one browser shows it")


@ONE_BUILD
@pytest.mark.chromium
async def test_rent_watch_and_stop_in_the_console(make_server):
    async with make_server(**KEYS) as server, opened(server) as page:
        await page.get_by_role("button", name="New browser").click()
        await page.get_by_label("Minutes").fill("5")
        await page.get_by_role("button", name="Start").click()
        await expect(page.get_by_role("heading", name="Attach")).to_be_visible()
        [browser] = (await server.http.get("/browsers?filterBy=active")).json()["items"]
        assert browser["id"] in page.url
        token = browser["cdpUrl"].rsplit("/", 1)[1]
        assert token not in await page.content()  # it is copied, never shown
        await page.get_by_role("button", name="Stop and refund").click()
        await expect(page.get_by_text("stopped by its client").first).to_be_visible()
        await expect(page.get_by_text("$0.049167")).to_be_visible()


@ONE_BUILD
@pytest.mark.chromium
async def test_what_happens_in_the_live_view_does_not_scroll_the_console(make_server):
    async with (
        make_server(**KEYS) as server,
        opened(server, viewport={"width": 1000, "height": 500}) as page,
    ):
        browser = await server.rent(timeout=3)
        await page.evaluate(f"location.hash = '#/browsers/{browser['id']}'")
        tab = page.frame_locator("iframe").locator(".current .tab")
        await expect(tab).to_have_count(1)
        await page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
        place = await page.evaluate("scrollY")
        assert place > 300
        async with connect(browser["cdpUrl"]) as automation:
            for number in range(12):
                await automation.new_tab(f"data:text/html,<title>Tab number {number} of many</title>")
            await expect(tab).to_have_text("Tab number 11 of many")
            assert await page.evaluate("scrollY") == place
            # The list of the tabs does scroll: the one in use is in sight.
            hidden = (
                "tab => { const [at, all] = [tab, tab.closest('ul')].map(one => one.getBoundingClientRect());"
            )
            hidden += " return Math.max(all.left - at.left, at.right - all.right) }"
            assert await tab.evaluate(hidden) < 1
        await server.stop(browser)


@ONE_BUILD
@pytest.mark.chromium
async def test_a_form_keeps_what_was_filled_in_while_the_page_is_brought_up_to_date(make_server):
    async with make_server(**KEYS) as server, opened(server) as page:
        await page.get_by_role("button", name="New browser").click()
        minutes = page.get_by_label("Minutes")
        await minutes.fill("7")
        await page.get_by_label("Profile").focus()
        await server.profile("made meanwhile")
        await expect(page.get_by_role("option", name="made meanwhile")).to_be_attached()
        await expect(minutes).to_have_value("7")


@ONE_BUILD
@pytest.mark.chromium
async def test_changes_from_elsewhere_appear_by_themselves_and_keep_the_focus(make_server):
    async with make_server(**KEYS) as server, opened(server) as page:
        new = page.get_by_role("button", name="New browser")
        await new.focus()
        browser = await server.rent(timeout=3)
        await expect(page.locator(".card")).to_have_count(1)
        await expect(page.locator(".card")).to_contain_text(re.compile(r"2:\d\d"))
        await server.stop(browser)
        await expect(page.locator(".card")).to_have_count(0)
        await expect(new).to_be_focused()


@ONE_BUILD
@pytest.mark.chromium
async def test_two_projects_never_see_each_other(make_server):
    async with make_server(**KEYS) as server, opened(server, key="key-of-others") as page:
        browser = await server.rent(timeout=3)
        mine = (await server.http.get("/browsers", headers={"X-Browser-Use-API-Key": "key-of-others"})).json()
        assert mine["items"] == []
        await page.get_by_role("link", name="Account").click()
        await expect(page.get_by_text("others")).to_be_visible()
        await page.get_by_role("link", name="Browsers").click()
        await expect(page.get_by_text("No browser is running")).to_be_visible()
        assert browser["id"][:8] not in await page.content()
        await server.stop(browser)


@ONE_BUILD
@pytest.mark.chromium
async def test_the_console_of_a_key_that_is_taken_away_is_signed_out(make_server):
    async with make_server(**KEYS) as server, opened(server) as page:
        accounts = server.app.state.services.accounts
        identity = await accounts.identify(key_hash_of("key-of-tests"))
        await accounts.revoke_key(identity.key_id)
        await expect(page.get_by_label("API key")).to_be_visible()
        await expect(page.get_by_text("no longer valid").first).to_be_visible()
