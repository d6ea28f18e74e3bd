"""axe-core on every view and dialog of the console, in both palettes and on a phone. Slow: it fetches axe-core from npm."""

import pytest
from playwright.async_api import expect

from tests.server import axe
from tests.server.console.pages import KEYS, opened
from tests.server.console.states import DIALOGS, SECTIONS, filled, go, open_dialog, show
from tests.server.scripted_agents import agents_for_a_server

pytestmark = [
    pytest.mark.one_build("the console is tested, and one browser shows it"),
    pytest.mark.chromium,
    pytest.mark.slow,
]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return axe.load(tmp_path_factory.mktemp("axe"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [(1280, 800), (390, 780)], ids=["desktop", "phone"])
async def test_axe_finds_nothing_serious(make_server, source, scheme, size):
    look = {
        "viewport": {"width": size[0], "height": size[1]},
        "color_scheme": scheme,
        "reduced_motion": "reduce",
        "bypass_csp": True,  # for axe, which is evaluated in the page
    }
    faults = []
    async with (
        make_server(**KEYS, agents=agents_for_a_server) as server,
        opened(server, **look) as page,
    ):

        async def check(state):
            faults.extend(await axe.serious(page, source, state))

        for section in SECTIONS:
            await show(page, section)
            await check(f"empty {section}")
        async with filled(server) as made:
            for section in SECTIONS:
                await show(page, section)
                await check(section)
            for route in made.routes:
                await go(page, route)
                await check(route)
            for section, button in DIALOGS:
                await open_dialog(page, section, button)
                await check(f"dialog {button}")
                await page.keyboard.press("Escape")
                await expect(page.get_by_role("dialog")).to_have_count(0)
        await page.get_by_role("button", name="Sign out").click()
        await page.get_by_label("API key").fill("a wrong key")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("alert")).to_be_visible()
        await check("signed out")
    assert not faults
