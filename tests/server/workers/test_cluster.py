"""A server process and worker processes: what a user does, unchanged."""

import asyncio
from datetime import timedelta
from decimal import Decimal

import pytest

import cdpbridge
from tests.conftest import KEY, until
from tests.server.workers.worker_programs import SECRET, WorkerProgram

pytestmark = pytest.mark.chromium


@pytest.fixture
async def cluster(spawn_server, tmp_path, build):
    """A server without browsers of its own, and a worker that has registered with it."""
    async with spawn_server(browsers="workers", worker_secret=SECRET) as server:
        url = str(server.http.base_url).rstrip("/").removesuffix("/api/v2")
        worker = WorkerProgram(tmp_path / "worker", server=url, slots=2, browser_build=build)
        try:
            server.url, server.worker = url, worker
            yield server
            await server.end()
        finally:
            worker.end()


@pytest.mark.parametrize("build", ["shell", "full"])
async def test_the_program_of_a_user_runs_on_workers_as_it_is(cluster, site, tmp_path):
    async def rented():
        try:
            return await cluster.rent()
        except AssertionError:  # the worker registers at this moment
            return None

    await cluster.stop(await until(rented))
    profile = await cluster.profile()
    provider = cdpbridge.at(str(cluster.http.base_url).rstrip("/"), KEY)
    async with cdpbridge.open_browser(provider, profile=profile, timeout=timedelta(minutes=60)) as browser:
        tab = await browser.new_tab()
        await tab.goto(site)
        assert await tab.evaluate("location.origin") == site
        await tab.evaluate("document.cookie = 'kept=1; max-age=1000'")
        async with tab.expect_download() as waiter:
            script = "a.download = 'note.txt'; a.href = URL.createObjectURL(new Blob(['text'])); a.click()"
            await tab.evaluate(f"(() => {{ const a = document.createElement('a'); {script} }})()")
        found = await waiter.download.save(tmp_path / "saved")
        assert found.read_text() == "text"
        live = await cluster.http.get(browser.live_url)
        assert live.status_code == 200
    assert browser.receipt.charged == Decimal("0.05")
    assert browser.receipt.refunded > Decimal("0.04")
    assert "kept" in {each["name"] for each in await stored_cookies(cluster, profile, site)}


async def stored_cookies(cluster, profile, site):
    browser = await cluster.rent(profileId=profile)
    async with cdpbridge.cdp.connect(browser["cdpUrl"]) as connection:
        found = await connection.root.send("Storage.getCookies")
    await cluster.stop(browser)
    await asyncio.sleep(0)
    return found["cookies"]
