"""Playwright's downloads and uploads, by themselves, where the browser sees another disk."""

import hashlib
import json
import os
from datetime import timedelta
from pathlib import Path

import pytest

import cdpbridge
from cdpbridge import playwright, sync
from cdpbridge.chromium import uses_browser_uids
from cdpbridge.tunnel import shares_files
from tests.tunnel.file_site import content

pytestmark = pytest.mark.chromium


async def download(page, click):
    async with page.expect_download() as info:
        await page.click(click)
    return await info.value


async def test_fault_c22_downloads(far_session, site_url, here):
    async with playwright.connect(far_session) as connected:
        for context in (connected.contexts[0], await connected.new_context()):
            page = await context.new_page()
            await page.goto(site_url)
            for link, name, size in (("#report", "märz.csv", 4), ("#big", "big.bin", 3_000_017)):
                found = await download(page, link)
                assert found.suggested_filename == name
                path = await found.path()
                assert Path(path).read_bytes() == content(name, size)
                await found.save_as(here / "sub" / name)
                assert (here / "sub" / name).read_bytes() == content(name, size)
                await found.delete()
                assert not Path(path).exists()
            assert (await (await download(page, "#other")).path()) is not None
            inner = page.frames[1]
            async with page.expect_download() as info:
                await inner.click("#inner")
            assert Path(await (await info.value).path()).read_bytes() == content("inner.txt", 9)


async def test_fault_c22_uploads(far_session, site_url, here):
    big, small = here / "big.bin", here / "märz.csv"
    big.write_bytes(os.urandom(60 * 1024 * 1024))  # Playwright refuses more than 50 MB to a remote browser
    small.write_bytes(b"a,b\n")
    os.utime(small, (1_000_000_000, 1_000_000_000))
    async with playwright.connect(far_session) as connected:
        for context in (connected.contexts[0], await connected.new_context()):
            page = await context.new_page()
            await page.goto(site_url)
            await page.set_input_files("#many", [big, small])
            found = json.loads(await page.evaluate("read(many.files)"))
            digests = [hashlib.sha256(each.read_bytes()).hexdigest() for each in (big, small)]
            assert [each[0] for each in found] == ["big.bin", "märz.csv"]
            assert [each[4] for each in found] == digests
            assert found[1][3] == 1_000_000_000_000
            await page.set_input_files("#many", [])
            assert await page.evaluate("many.files.length") == 0


async def test_fault_c22_a_folder(far_session, site_url, here):
    (here / "tree" / "deep").mkdir(parents=True)
    (here / "tree" / "a.txt").write_text("a")
    (here / "tree" / "deep" / "b.txt").write_text("b")
    async with playwright.connect(far_session) as connected:
        page = await connected.contexts[0].new_page()
        await page.goto(site_url)
        await page.set_input_files("#folder", here / "tree")
        found = json.loads(await page.evaluate("read(folder.files)"))
        assert sorted(each[2] for each in found) == ["tree/a.txt", "tree/deep/b.txt"]


async def test_the_form_is_sent(far_session, site_url, here, file_site):
    (here / "x.txt").write_text("hello")
    async with playwright.connect(far_session) as connected:
        page = await connected.contexts[0].new_page()
        await page.goto(site_url)
        async with page.expect_file_chooser() as chooser:
            await page.click("#one")
        await (await chooser.value).set_files(here / "x.txt")
        async with page.expect_navigation():
            await page.evaluate("form.submit()")
    assert ("x.txt", b"hello") in file_site.received


def test_fault_c22_synchronous(far_server, site_url, here):
    (here / "x.txt").write_text("hello")
    client = cdpbridge.at(far_server.base_url, far_server.key)
    with sync.open_browser(client) as browser, playwright.connect_sync(browser) as connected:
        page = connected.contexts[0].new_page()
        page.goto(site_url)
        with page.expect_download() as info:
            page.click("#report")
        info.value.save_as(here / "out.csv")
        assert (here / "out.csv").read_bytes() == content("märz.csv", 4)
        page.set_input_files("#one", here / "x.txt")
        assert json.loads(page.evaluate("read(one.files)"))[0][:2] == ["x.txt", 5]


async def test_turned_off_it_is_a_remote_browser(far_session, site_url):
    assert await shares_files(far_session) is False
    async with playwright.connect(far_session, tunnel=False) as connected:
        page = await connected.contexts[0].new_page()
        await page.goto(site_url)
        found = await download(page, "#report")
        assert not Path(await found.path()).exists()


@pytest.mark.one_build("both are on one disk; the other tests here have both builds")
@pytest.mark.parametrize("tunnel", [None, True])
async def test_a_browser_that_shares_the_disk(server, site_url, here, tunnel):
    client = cdpbridge.at(server.base_url, server.key)
    async with cdpbridge.open_browser(client) as browser:
        assert await shares_files(browser) is not uses_browser_uids()  # a root process's has a uid of its own
        async with playwright.connect(browser, tunnel=tunnel, timeout=timedelta(seconds=20)) as connected:
            page = await connected.contexts[0].new_page()
            await page.goto(site_url)
            await (await download(page, "#report")).save_as(here / "a.csv")
            await page.set_input_files("#one", here / "a.csv")
            assert json.loads(await page.evaluate("read(one.files)"))[0][:2] == ["a.csv", 4]
