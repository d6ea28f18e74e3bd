"""Viewport, cookies and state of a tab, and several downloads at once, in both builds."""

import asyncio
import time

import pytest

from cdpbridge.errors import CommandTimeout, ConfigurationError
from tests.builds import on_the_shell

pytestmark = pytest.mark.chromium
LATER = int(time.time()) + 86400


@pytest.fixture
def page(own_page):
    """Storage stays in a context."""
    return own_page


async def test_viewport(page, pages):
    await page.goto(pages.url)
    await page.set_viewport(390, 844, device_scale_factor=3, mobile=True)
    await page.reload()
    assert await page.evaluate("[screen.width, screen.height, devicePixelRatio]") == [390, 844, 3]
    await page.set_viewport(800, 600)
    assert await page.evaluate("[innerWidth, innerHeight, devicePixelRatio]") == [800, 600, 1]
    for size in ((0, 1), (1, -1), (1.5, 1), ("1", 1), (True, 1)):
        with pytest.raises(ConfigurationError, match=r"must be a whole number of pixels, 1 or more, not"):
            await page.set_viewport(*size)
    with pytest.raises(ConfigurationError, match="device_scale_factor must be positive"):
        await page.set_viewport(1, 1, device_scale_factor=0)


async def test_cookies(page, pages):
    await page.goto(pages.url)
    await page.set_cookies(
        [
            {"name": "a", "value": "1"},
            {"name": "b", "value": "2", "url": pages.other, "httpOnly": True, "sameSite": "Strict"},
            {
                "name": "c",
                "value": "3",
                "domain": "example.com",
                "path": "/x",
                "expires": LATER,
                "secure": True,
            },
            {"name": "d", "value": "4", "domain": "127.0.0.1", "expires": -1, "sameSite": "lax"},
        ]
    )
    assert await page.evaluate("document.cookie.split('; ').sort()") == ["a=1", "d=4"]
    state = await page.storage_state()
    by_name = {each["name"]: each for each in state["cookies"]}
    assert (by_name["b"]["httpOnly"], by_name["b"]["sameSite"], by_name["b"]["domain"]) == (
        True,
        "Strict",
        "localhost",
    )
    assert (by_name["c"]["path"], by_name["c"]["expires"], by_name["c"]["secure"]) == ("/x", LATER, True)
    await page.set_cookies(state["cookies"])
    kept = await page.cookies()
    await page.session.send("Network.clearBrowserCookies")
    assert await page.cookies() == []
    await page.set_cookies(kept)
    assert {each.name for each in await page.cookies()} == {"a", "d"}
    await page.set_cookies([])


@on_the_shell("what a cookie is made of is checked here; what the browser refuses is tested below on both")
@pytest.mark.parametrize(
    ("cookie", "words"),
    [
        ({"name": "a"}, "needs name and value"),
        ({"name": "a", "value": 1}, "needs name and value, both texts"),
        ({"name": "a", "value": "1", "sameSite": "no_restriction"}, "sameSite must be Strict, Lax or None"),
        (
            {"name": "a", "value": "1", "expirationDate": 1},
            "no field 'expirationDate'; it has name, value, url",
        ),
        ({"name": "__Secure-a", "value": "secret"}, "refuses the cookies '__Secure-a'"),
        ("a=1", "a cookie is a dict"),
    ],
)
async def test_cookies_that_are_none(page, pages, cookie, words):
    await page.goto(pages.url)
    with pytest.raises(ConfigurationError, match=words) as caught:
        await page.set_cookies([{"name": "fine", "value": "1"}, cookie])
    assert "secret" not in str(caught.value)


async def test_the_others_are_set_when_the_browser_refuses_a_cookie(page, pages):
    await page.goto(pages.url)
    with pytest.raises(ConfigurationError, match="refuses the cookies '__Secure-a'"):
        await page.set_cookies([{"name": "__Secure-a", "value": "1"}, {"name": "fine", "value": "2"}])
    with pytest.raises(ConfigurationError, match="needs name and value"):
        await page.set_cookies([{"name": "wrong"}, {"name": "unset", "value": "2"}])
    assert [each.name for each in await page.cookies()] == ["fine"]


async def test_a_cookie_without_a_site(page):
    with pytest.raises(ConfigurationError, match="neither url nor domain, and the page is at no site"):
        await page.set_cookies([{"name": "a", "value": "1"}])


async def test_storage_state(page, pages):
    pages.pages["/outer"] = f"<iframe src='{pages.other}/'></iframe>"
    await page.goto(f"{pages.other}/")
    await page.evaluate("localStorage.b = '2'")
    await page.goto(f"{pages.url}/outer")
    await page.evaluate("localStorage.a = '1', document.cookie = 'c=3'")
    state = await page.storage_state(origins=[pages.other])
    assert [(each["name"], each["value"]) for each in state["cookies"]] == [("c", "3")]
    items = {each["origin"]: each["localStorage"] for each in state["origins"]}
    assert items == {
        pages.url: [{"name": "a", "value": "1"}],
        pages.other: [{"name": "b", "value": "2"}],
    }
    with pytest.raises(ConfigurationError, match="is no origin"):
        await page.storage_state(origins=["nowhere"])


# --- several downloads ------------------------------------------------------------------------------------------------


@pytest.fixture
async def files(page, pages):
    for number in range(5):
        pages.answers[f"/file{number}"] = (
            200,
            {"Content-Disposition": f"attachment; filename={number}.csv"},
            f"file {number}".encode(),
        )
    links = "".join(f"<a href=/file{number} download>{number}</a>" for number in range(5))
    pages.pages["/files"] = (
        f"{links}<button onclick=\"document.querySelectorAll('a').forEach(each => each.click())\">All</button>"
    )
    await page.goto(f"{pages.url}/files")
    return [f"file {number}".encode() for number in range(5)]


async def test_fault_c15_one_click_that_starts_five_files(page, files, tmp_path):
    async with page.expect_downloads(5) as waiter:
        await page.click("button")
    paths = await asyncio.gather(*(each.save(tmp_path) for each in waiter.downloads))
    assert sorted(path.read_bytes() for path in paths) == files
    assert sorted(path.name for path in paths) == [f"{number}.csv" for number in range(5)]
    assert waiter.download is waiter.downloads[0]


async def test_fault_c15_blocks_in_blocks_get_a_file_each(page, files):
    async with (
        page.expect_download() as one,
        page.expect_downloads(2) as two,
        page.expect_download() as three,
    ):
        await page.click("button")
    found = [one.download, *two.downloads, three.download]
    contents = [await each.read() for each in found]
    assert len(set(contents)) == 4
    assert set(contents) <= set(files)


async def test_fault_c15_blocks_one_after_the_other(page, files):
    heard = []
    stop = page.on("download", heard.append)
    for number in (3, 1, 4):
        async with page.expect_download() as waiter:
            await page.click(f'text="{number}"')
        assert await waiter.download.read() == files[number]
    assert [each.url.rpartition("/")[2] for each in heard] == ["file3", "file1", "file4"]
    stop()


async def test_fault_c15_fewer_than_expected(page, files):
    with pytest.raises(CommandTimeout, match=r"expect_downloads\(3\).*: 1 have begun"):
        async with page.expect_downloads(3, timeout=1):
            await page.click('text="2"')
    with pytest.raises(ConfigurationError, match="count must be a number of downloads"):
        page.expect_downloads(0)


async def test_fault_c05_goto_in_a_block(page, pages, files):
    async with page.expect_download() as waiter:
        assert await page.goto(f"{pages.url}/file2") is None
    assert await waiter.download.read() == files[2]
