"""What a person sees: nothing is cut, nothing covers what it is about, and long lists fit a phone."""

import pytest
from playwright.async_api import expect

from tests.server.console.pages import KEYS, ONE_PLAYWRIGHT, opened
from tests.server.console.states import open_dialog, show

pytestmark = ONE_PLAYWRIGHT

ONE_BUILD = pytest.mark.one_build("the console is tested, and one browser shows it")

PHONE = {"width": 390, "height": 844}
# How far the content of elements is wider than they are, CSS pixels.
CUT = "all => Math.max(...all.map(one => one.scrollWidth - one.clientWidth))"
# The same for the chosen text of a select, whose arrow takes 1.5 times the height of its text.
CUT_CHOICE = """all => Math.max(...all.map(one => {
  const style = getComputedStyle(one), pen = document.createElement('canvas').getContext('2d');
  pen.font = style.font;
  const text = pen.measureText(one.selectedOptions[0].textContent).width;
  return text + parseFloat(style.paddingLeft) + parseFloat(style.paddingRight) - one.clientWidth;
}))"""


async def fits(page):
    assert await page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


@ONE_BUILD
@pytest.mark.chromium
async def test_a_phone_shows_long_lists_and_whole_texts(make_server):
    async with make_server(**KEYS) as server:
        for number in range(12):
            await server.stop(await server.rent(timeout=3, metadata={"label": f"crawl {number}"}))
        async with opened(server, viewport=PHONE) as page:
            rows = page.locator(".dense tbody tr")
            await expect(rows).to_have_count(10)
            await expect(rows.first).to_contain_text("crawl 11")
            await expect(rows.first).to_contain_text("stopped by its client")
            assert await rows.first.evaluate("row => row.offsetHeight") < 80
            await expect(page.locator(".link.live")).to_be_attached()
            assert await page.locator("header.top").evaluate("bar => bar.offsetHeight") < 110  # two lines
            await fits(page)
            await page.get_by_role("button", name="Show 2 more").click()
            await expect(rows).to_have_count(12)
            await open_dialog(page, "Agents", "New task")
            assert await page.locator("dialog select").evaluate_all(CUT_CHOICE) < 0
            await fits(page)


@ONE_BUILD
@pytest.mark.chromium
@pytest.mark.parametrize("viewport", [PHONE, {"width": 1280, "height": 800}], ids=["phone", "desktop"])
async def test_code_to_copy_is_whole_and_stays_in_sight(make_server, viewport):
    async with (
        make_server(**KEYS) as server,
        opened(server, viewport=viewport, permissions=["clipboard-read", "clipboard-write"]) as page,
    ):
        browser = await server.rent(timeout=3, metadata={"label": "nightly"})
        await page.evaluate(f"location.hash = '#/browsers/{browser['id']}'")
        await expect(page.get_by_role("heading", name="nightly")).to_be_visible()
        await expect(page.locator(".snippet pre")).to_have_count(2)
        assert await page.locator(".snippet pre").evaluate_all(CUT) <= 0
        await page.get_by_role("button", name="Copy cdpbridge").click()
        await expect(page.get_by_role("button", name="Copied")).to_be_visible()
        await expect(page.locator("#announcements")).to_have_text("Copied.")
        assert await page.locator(".notice").count() == 0  # nothing in front of it
        copied = await page.evaluate("navigator.clipboard.readText()")
        assert browser["cdpUrl"] in copied
        # It does what it says: the title is that of a page that has loaded.
        program = copied.replace("https://example.com", "data:text/html,<title>loaded</title>")
        lines = [
            "import asyncio, cdpbridge",
            "async def main():",
            *(f"    {each}" for each in program.splitlines()),
        ]
        told = []
        scope = {"print": told.append}
        exec("\n".join(lines), scope)  # as a person would paste it
        await scope["main"]()
        assert told == ["loaded"]
        await server.stop(browser)


@ONE_BUILD
@pytest.mark.chromium
async def test_profiles_of_one_name_can_be_told_apart(make_server):
    async with make_server(**KEYS) as server:
        first = await server.profile("work")
        async with opened(server) as page:
            await open_dialog(page, "Profiles", "New profile")
            await page.get_by_role("textbox", name="Name").fill("work")
            await page.get_by_role("button", name="Make").click()
            await expect(page.get_by_text("another one has that name, too").first).to_be_visible()
            await expect(page.get_by_role("row")).to_have_count(3)
            await expect(page.get_by_text(f"work ({first[:8]})")).to_be_visible()
            # Neither was ever saved, and no column says otherwise.
            assert await page.locator("tbody tr td:nth-child(4)").all_inner_texts() == ["never", "never"]
            await open_dialog(page, "Browsers", "New browser")
            options = await page.get_by_label("Profile").locator("option").all_inner_texts()
            assert len(set(options)) == 3


@ONE_BUILD
@pytest.mark.chromium
@pytest.mark.parametrize("charges", [False, True])
async def test_fault_e08_the_console_says_that_money_is_simulated(make_server, charges):
    settings = {"credits_usd": 5} if charges else {}
    async with make_server(**KEYS, **settings) as server, opened(server) as page:
        shown = "$5.00" if charges else "$100.00 simulated"
        await expect(page.locator(".standing .figure").nth(1)).to_have_text(shown)
        await show(page, "Account")
        assert ("(simulated)" in await page.locator(".facts.panel").inner_text()) is not charges
