"""axe-core on every state of the live page, in both palettes and on a phone. Slow: it fetches axe-core from npm."""

import asyncio

import pytest

from tests.server import axe

pytestmark = [
    pytest.mark.one_build("the live page is tested, and one browser shows it"),
    pytest.mark.chromium,
    pytest.mark.slow,
]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return axe.load(tmp_path_factory.mktemp("axe"))


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", [(1280, 800), (390, 780)], ids=["desktop", "phone"])
async def test_axe_finds_nothing_serious(rented, viewers_browser, source, theme, size):
    watched = await rented.open("<title>orders</title><h1>Orders</h1>")
    page = await viewers_browser.new_page(
        viewport={"width": size[0], "height": size[1]}, reduced_motion="reduce"
    )
    faults = []

    async def check(state):
        faults.extend(await axe.serious(page, source, state))

    await page.goto(f"{rented.live_url}?theme={theme}")
    await page.wait_for_selector("body[data-state=live]")
    await check("watching")
    await page.click("#drive")
    await page.wait_for_selector("body[data-driving]")
    await check("driving")
    await watched.run(
        "Object.assign(document.createElement('a'), {download: 'a.csv', href: 'data:,1'}).click()"
    )
    await page.click("#downloads")
    await page.wait_for_selector("#download-list button")
    await check("downloads")
    await page.keyboard.press("Escape")
    asking = asyncio.ensure_future(watched.run("prompt('How many?', '3')"))
    await page.wait_for_selector("text=How many?")
    await check("dialog")
    await page.click("#question-yes")
    await asking
    crash = asyncio.ensure_future(watched.session.send("Page.crash"))
    await page.wait_for_selector("body[data-state=crashed]")
    await asyncio.wait({crash})
    assert crash.exception() is not None
    await check("crashed")
    await rented.stop()
    await page.wait_for_selector("body[data-state=ended]")
    await check("ended")
    assert not faults
