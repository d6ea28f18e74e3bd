"""The console without a mouse, and on a phone."""

import pytest
from playwright.async_api import expect

from tests.server.console.pages import KEYS, ONE_PLAYWRIGHT, opened
from tests.server.console.states import DIALOGS, SECTIONS, filled, go, open_dialog, show
from tests.server.scripted_agents import agents_for_a_server

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.one_build("the console is tested, and one browser shows it"),
    *ONE_PLAYWRIGHT,
]

# Everything a mouse could use, by a number that stays when the page is brought up to date.
REACHABLE = """() => {
  window.numbers ??= new Map();
  const root = document.querySelector('dialog') ?? document;
  const found = [...root.querySelectorAll('a[href], button, input, select, textarea, iframe, [tabindex="0"]')];
  const able = found.filter(element => !element.disabled && element.checkVisibility() && element.getBoundingClientRect().width);
  return able.map(element => {
    if (!numbers.has(element)) numbers.set(element, numbers.size);
    return [numbers.get(element), element.outerHTML.slice(0, 120)];
  });
}"""
FOCUSED = """() => {
  const element = document.activeElement;
  const box = element.getBoundingClientRect();
  const style = getComputedStyle(element);
  const marked = element.localName === 'iframe' || style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2;
  const places = [[0.5, 0.5], [0.05, 0.5], [0.5, 0.05]].map(([x, y]) =>
    document.elementFromPoint(box.left + box.width * x, box.top + box.height * y));
  const seen = places.some(place => place && (element.contains(place) || place.contains(element)));
  return [numbers.get(element) ?? null, element.outerHTML.slice(0, 120), marked, seen];
}"""


async def walk(page, key="Tab"):
    """Press a key until every element that can be used has had the focus; none may be hidden or without a mark."""
    await page.evaluate("document.activeElement.blur()")
    wanted = dict(await page.evaluate(REACHABLE))
    reached = set()
    for _ in range(3 * len(wanted) + 30):
        await page.keyboard.press(key)
        number, html, marked, seen = await page.evaluate(FOCUSED)
        if number is not None and not html.startswith("<body"):
            assert marked, f"nothing shows the focus on {html}"
            assert seen, f"the focus is out of sight on {html}"
            reached.add(number)
        if reached >= wanted.keys():
            return
    assert not [html for number, html in wanted.items() if number not in reached]


async def test_every_action_can_be_reached_and_seen_with_tab(make_server):
    async with (
        make_server(**KEYS, agents=agents_for_a_server) as server,
        opened(server, viewport={"width": 1000, "height": 500}) as page,
        filled(server) as made,
    ):
        await expect(page.locator(".card")).to_have_count(3)
        await show(page, SECTIONS[0])
        await walk(page, "Shift+Tab")
        for section in SECTIONS:
            await show(page, section)
            await walk(page)
        for route in made.routes[:3]:
            await go(page, route)
            await walk(page)
        for section, button in DIALOGS:
            await open_dialog(page, section, button)
            await walk(page)
            await page.keyboard.press("Escape")
            await expect(page.get_by_role("dialog")).to_have_count(0)
            await expect(page.locator("main").get_by_role("button", name=button).first).to_be_focused()


async def test_a_browser_is_rented_and_stopped_with_the_keyboard_alone(make_server):
    async with make_server(**KEYS) as server, opened(server) as page:

        async def tab_to(target):
            for _ in range(60):
                await page.keyboard.press("Tab")
                if await target.evaluate("element => element === document.activeElement"):
                    return
            pytest.fail(f"{target} cannot be reached")

        await tab_to(page.get_by_role("button", name="New browser"))
        await page.keyboard.press("Enter")
        await expect(page.get_by_label("Minutes")).to_be_focused()
        await page.keyboard.press("Control+a")
        await page.keyboard.type("5")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", name="Attach")).to_be_visible()
        [browser] = (await server.http.get("/browsers?filterBy=active")).json()["items"]
        await tab_to(page.get_by_role("button", name="Stop and refund"))
        await page.keyboard.press("Enter")
        await expect(page.get_by_text("stopped by its client").first).to_be_visible()
        assert (await server.browser(browser))["status"] == "stopped"
        # What had the focus is gone: it goes on from the content and not from the top of the page.
        assert await page.evaluate("document.activeElement.id") == "main"


async def test_on_a_phone_nothing_is_wider_than_the_screen(make_server):
    async def check(page, state):
        wide = await page.evaluate(
            """() => [...document.querySelectorAll('body *')].filter(element => element.checkVisibility()
                && element.getBoundingClientRect().right > innerWidth + 1 && !element.closest('pre, iframe'))
                .map(element => element.outerHTML.slice(0, 100))"""
        )
        assert not wide, (state, wide)
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), state

    async with (
        make_server(**KEYS, agents=agents_for_a_server) as server,
        opened(server, viewport={"width": 390, "height": 780}, color_scheme="dark") as page,
    ):
        for section in SECTIONS:
            await show(page, section)
            await check(page, f"empty {section}")
        async with filled(server) as made:
            for section in SECTIONS:
                await show(page, section)
                await check(page, section)
            for route in made.routes:
                await go(page, route)
                await check(page, route)
            for section, button in DIALOGS:
                await open_dialog(page, section, button)
                await check(page, button)
                await page.keyboard.press("Escape")
        await page.get_by_role("button", name="Sign out").click()
        await expect(page.get_by_label("API key")).to_be_visible()
        await check(page, "signed out")
