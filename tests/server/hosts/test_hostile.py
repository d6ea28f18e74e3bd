"""A browser that leaves a hostile profile: its stop is answered, the profile's former version stays, the server ends."""

import asyncio
import logging
import sqlite3
from contextlib import closing

import pytest

from tests.server.profiles.test_untrusted import ENDLESS

pytestmark = pytest.mark.chromium

PLACES = ("Default/Network/Cookies", "Default/Cookies")


def poison(server, browser):
    """An endless view where this build keeps no cookies, so that Chromium itself never opens it."""
    profile = server.folder(browser) / "profile"
    [place] = [profile / name for name in PLACES if not (profile / name).exists()]
    place.parent.mkdir(exist_ok=True, parents=True)
    with closing(sqlite3.connect(place)) as connection:
        connection.execute(ENDLESS)


@pytest.mark.parametrize("build", ["shell", "full"])
async def test_fault_d10_a_hostile_cookie_database_and_the_stop(make_server, build, caplog, wait_until):
    async with make_server(browser_build=build) as server:
        profile = await server.profile()
        browser = await server.rent(profileId=profile)
        await server.set_cookies(browser, "kept")
        await server.stop(browser)
        browser = await server.rent(profileId=profile)
        await server.set_cookies(browser, "lost")
        await wait_until(lambda: any((server.folder(browser) / "profile" / name).exists() for name in PLACES))
        poison(server, browser)
        with caplog.at_level(logging.WARNING):
            async with asyncio.timeout(60):
                assert (await server.stop(browser))["status"] == "stopped"
            # It is saved after the answer.
            await wait_until(lambda: "cookies is not a table" in caplog.text)
        assert await server.cookies_of_profile(profile) == {"kept"}


@pytest.mark.one_build("the server's end, with the database of one browser; its stop has both builds above")
async def test_fault_d10_a_hostile_cookie_database_and_the_servers_end(spawn_server, wait_until):
    async with spawn_server() as server:
        profile = await server.profile()
        browsers = [
            await server.rent(profileId=profile if number == 0 else await server.profile())
            for number in range(2)
        ]
        for browser in browsers:
            await server.set_cookies(browser, "lost")
            folder = server.folder(browser) / "profile"
            await wait_until(lambda folder=folder: any((folder / name).exists() for name in PLACES))
            poison(server, browser)
        _, errors = await server.end(timeout=60)
        assert server.process.returncode == 0
        assert "cookies is not a table" in errors
