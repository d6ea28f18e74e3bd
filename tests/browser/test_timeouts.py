"""A command's own timeout, inside a block that has a longer one, stays what it is."""

import asyncio
import socket
from datetime import timedelta

import pytest

import cdpbridge
from cdpbridge.browser import _download
from cdpbridge.browser._downloads import Downloads, DownloadWaiter
from cdpbridge.browser._frames import Frames
from cdpbridge.cdp import connect
from cdpbridge.errors import CDPError, CommandTimeout, ConnectTimeout, DownloadTimeout
from cdpbridge.testing import SILENT, ScriptedBrowser

BEGUN = {"frameId": "OTHER", "guid": "g", "url": "http://127.0.0.1/a", "suggestedFilename": "a.csv"}


@pytest.fixture
async def scripted():
    async with ScriptedBrowser() as browser:
        browser.on("Target.getTargetInfo", {"targetInfo": {**INFO, "targetId": "PAGE"}})
        browser.on("SystemInfo.getInfo", SILENT)
        yield browser


INFO = {"type": "page", "title": "", "url": "about:blank", "attached": True, "canAccessOpener": False}


async def test_a_command_that_is_not_answered_is_named_and_not_the_wait_around_it(scripted):
    scripted.on("Target.getTargets", SILENT)
    async with connect(scripted.ws_url, command_timeout=0.2) as connection:
        session = await connection.attach("PAGE")
        with pytest.raises(CommandTimeout) as caught:
            async with DownloadWaiter(session, Downloads(session, Frames(session)), 1, timedelta(minutes=5)):
                await (await scripted.client()).event("Browser.downloadWillBegin", BEGUN)
        assert caught.value.method == "Target.getTargets"


async def test_the_wait_itself_is_named_when_it_took_too_long(scripted):
    async with connect(scripted.ws_url, command_timeout=0.2) as connection:
        session = await connection.attach("PAGE")
        with pytest.raises(TimeoutError) as caught:
            async with DownloadWaiter(
                session, Downloads(session, Frames(session)), 1, timedelta(seconds=0.5)
            ):
                pass
        assert isinstance(caught.value, CommandTimeout)
        assert (caught.value.method, caught.value.waited) == ("expect_download", timedelta(seconds=0.5))


async def test_a_connection_that_takes_too_long():
    with socket.create_server(("127.0.0.1", 0)) as server:  # connects, sends nothing
        port = server.getsockname()[1]
        with pytest.raises(TimeoutError) as caught:
            async with connect(f"ws://127.0.0.1:{port}/", timeout=0.2):
                pytest.fail("nothing answers there")
    assert isinstance(caught.value, ConnectTimeout)
    assert isinstance(caught.value, CDPError)
    assert caught.value.stage == "http"


@pytest.mark.one_build("the limit is the client's, and the disk this machine's")
@pytest.mark.chromium
async def test_a_download_whose_disk_is_slow_times_out(server, tmp_path, monkeypatch):
    """The deadline may come while a chunk is written and not while one is awaited: it is the same error."""
    to_thread = asyncio.to_thread

    async def stuck(work, *arguments, **options):
        if work.__name__ == "write":
            await asyncio.Event().wait()
        return await to_thread(work, *arguments, **options)

    async with cdpbridge.open_browser(cdpbridge.at(server.base_url, server.key)) as browser:
        tab = await browser.new_tab("data:text/html,<a download=a.txt href='data:text/plain,abc'>a</a>")
        async with tab.expect_download() as waiter:
            await tab.evaluate("document.querySelector('a').click()")
        monkeypatch.setattr(_download.asyncio, "to_thread", stuck)
        with pytest.raises(DownloadTimeout, match=r"a\.txt.*within 0\.5 s") as caught:
            await waiter.download.save(tmp_path, timeout=0.5)
        assert (caught.value.name, caught.value.waited) == ("a.txt", timedelta(seconds=0.5))
        assert isinstance(caught.value, TimeoutError)
        assert list(tmp_path.iterdir()) == []
