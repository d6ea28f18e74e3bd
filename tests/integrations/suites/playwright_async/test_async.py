"""A suite for pytest-playwright-asyncio."""

import pytest
from playwright.async_api import Page, expect

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_route_and_click(page: Page):
    async def answer(route):
        await route.fulfill(
            body="<title>routed</title><button onclick=\"document.title = 'clicked'\">Go</button>"
        )

    await page.route("http://example.test/", answer)
    await page.goto("http://example.test/")
    await page.get_by_role("button").click()
    await expect(page).to_have_title("clicked")


async def test_two_contexts(new_context):
    first, second = await new_context(), await new_context()
    await first.add_cookies([{"name": "a", "value": "1", "url": "http://example.test"}])
    assert len(await first.cookies()) == 1
    assert await second.cookies() == []


async def test_dialog(page: Page):
    page.once("dialog", lambda dialog: dialog.accept("Ada"))
    assert await page.evaluate("prompt('Name?')") == "Ada"


async def test_popup(page: Page):
    async with page.expect_popup() as popup:
        await page.evaluate("void window.open('').document.write('<title>up</title>')")
    assert await (await popup.value).title() == "up"


async def test_launch_again(launch_browser):
    browser = await launch_browser()
    page = await browser.new_page()
    assert await page.evaluate("1 + 1") == 2
    await browser.close()
