"""One Playwright for the tests of a file that ask for it."""

import asyncio

import pytest_asyncio

from tests.server.console import pages


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def playwright_of_the_file():
    loop = asyncio.get_running_loop()
    async with pages.connected() as chromium:
        pages.of_loops[loop] = chromium
        yield
        del pages.of_loops[loop]
