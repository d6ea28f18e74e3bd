"""Pictures of running browsers, for who is signed in to their project."""

from uuid import uuid4

import httpx
import pytest
from playwright.async_api import expect

from tests.server.console.pages import KEYS, opened

ONE_BUILD = pytest.mark.one_build("the console is tested, and one browser shows it")


@ONE_BUILD
@pytest.mark.chromium
async def test_a_thumbnail_is_for_its_project_alone(make_server):
    async with make_server(**KEYS) as server:
        browser = await server.rent(timeout=3)
        root = str(server.http.base_url).split("/api/")[0]
        address = f"{root}/console/thumbnails/{browser['id']}"
        async with httpx.AsyncClient() as mine, httpx.AsyncClient() as other, httpx.AsyncClient() as nobody:
            for http, key in ((mine, "key-of-tests"), (other, "key-of-others")):
                answer = await http.post(f"{root}/console/sign-in", json={"key": key})
                http.headers["X-Cdpbridge-Console"] = answer.json()["proof"]
            picture = await mine.get(address, timeout=30)
            assert (picture.status_code, picture.headers["content-type"]) == (200, "image/jpeg")
            assert picture.content.startswith(b"\xff\xd8\xff")
            assert picture.headers["cache-control"] == "no-store"
            assert (await other.get(address)).status_code == 404
            assert (await nobody.get(address)).status_code == 401
            assert (await mine.get(f"{root}/console/thumbnails/{uuid4()}")).status_code == 404
            await server.stop(browser)
            assert (await mine.get(address)).status_code == 404


@ONE_BUILD
@pytest.mark.chromium
async def test_the_card_shows_it_and_asks_again(make_server):
    async with make_server(**KEYS) as server, opened(server) as page:
        browser = await server.rent(timeout=3)
        picture = page.locator(".card .thumbnail img")
        await expect(picture).to_be_visible()
        await expect(picture).not_to_have_js_property("naturalWidth", 0)  # loaded, and allowed to be
        first = await picture.get_attribute("src")
        await expect(picture).not_to_have_attribute("src", first)
        await server.stop(browser)
