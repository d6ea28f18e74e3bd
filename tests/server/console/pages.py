"""A signed-in console in a real browser."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from playwright.async_api import expect

from cdpbridge import playwright
from tests.server.shared_chrome import shared_chrome

expect.set_options(timeout=30_000)  # a busy machine is not a fault

KEYS = {"api_keys": {"tests": "key-of-tests", "others": "key-of-others"}}


# For a file whose tests all are in the console: one event loop, and one Playwright, which takes 0.3 s of CPU.
ONE_PLAYWRIGHT = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("playwright_of_the_file")]
of_loops = {}


def connected():
    """Playwright on the Chromium in which people look at pages."""
    # In a root process the browser has a uid of its own, and does not see Playwright's folder.
    return playwright.connect(shared_chrome(), tunnel=True)


@asynccontextmanager
async def some_chromium():
    """The file's, or one for this block."""
    if (found := of_loops.get(asyncio.get_running_loop())) is not None:
        yield found
    else:
        async with connected() as chromium:
            yield chromium


@asynccontextmanager
async def opened(server, key="key-of-tests", **context_options):
    """A signed-in console; it must not have logged an error."""
    async with some_chromium() as chromium, await chromium.new_context(**context_options) as context:
        page = await context.new_page()
        problems = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        await page.goto(str(server.http.base_url).split("/api/")[0])
        await page.get_by_label("API key").fill(key)
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.get_by_role("heading", name="Browsers")).to_be_visible()
        yield page
        assert not problems, problems
