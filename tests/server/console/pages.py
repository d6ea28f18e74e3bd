"""A signed-in console in a real browser."""

from contextlib import asynccontextmanager

from playwright.async_api import expect

from cdpbridge import playwright
from tests.server.shared_chrome import shared_chrome

expect.set_options(timeout=30_000)  # a busy machine is not a fault

KEYS = {"api_keys": {"tests": "key-of-tests", "others": "key-of-others"}}


@asynccontextmanager
async def opened(server, key="key-of-tests", **context_options):
    """A signed-in console; it must not have logged an error."""
    # In a root process the browser has a uid of its own, and does not see Playwright's folder.
    async with playwright.connect(shared_chrome(), tunnel=True) as chromium:
        page = await (await chromium.new_context(**context_options)).new_page()
        problems = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        await page.goto(str(server.http.base_url).split("/api/")[0])
        await page.get_by_label("API key").fill(key)
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.get_by_role("heading", name="Browsers")).to_be_visible()
        yield page
        assert not problems, problems
