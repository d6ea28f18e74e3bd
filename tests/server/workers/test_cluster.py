"""A server process and worker processes: what a user does, unchanged."""

import asyncio
import re
import shlex
import signal
import subprocess
import sys
import time
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

import cdpbridge
from cdpbridge import playwright
from tests import programs
from tests.conftest import KEY, clean_environment, until
from tests.server.tls import free_port
from tests.server.workers.worker_programs import SECRET, WorkerProgram

pytestmark = pytest.mark.chromium

SAVE = """(() => {
    const a = document.createElement('a')
    a.download = 'note.txt'
    a.href = URL.createObjectURL(new Blob(['text']))
    a.click()
})()"""


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
            await tab.evaluate(SAVE)
        found = await waiter.download.save(tmp_path / "saved")
        assert found.read_text() == "text"
        async with playwright.connect(browser) as remote:
            page = await remote.contexts[0].new_page()
            async with page.expect_download() as coming:
                await page.evaluate(SAVE)
            await (await coming.value).save_as(tmp_path / "again.txt")
            assert (tmp_path / "again.txt").read_text() == "text"
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
    return found["cookies"]


@pytest.mark.one_build("the commands of a page of the documentation")
async def test_the_commands_of_the_page_on_workers_run(tmp_path, site):
    page = (Path(__file__).parents[3] / "docs" / "cluster.md").read_text()
    block = re.search(r"```sh\n(.*?)```", page, re.DOTALL)[1]
    block = block.replace("8700", str(free_port())).replace("https://example.com", site)
    environment = clean_environment(CDPBRIDGE_WARM_BROWSERS="0", CDPBRIDGE_BROWSER_BUILD="shell")
    running = []

    def command(line):
        words = shlex.split(line)
        own = dict(word.split("=", 1) for word in words if "=" in word.partition(" ")[0].partition("/")[0])
        words = words[len(own) :]
        assert words[0] == "cdpbridge", line
        where = ["--listen", "127.0.0.1:0"] if words[1] == "worker" else []
        return [sys.executable, "-m", *words, *where], environment | own

    try:
        exported, *started, last = block.splitlines()
        environment |= dict(word.split("=", 1) for word in shlex.split(exported)[1:])
        for line in started:
            arguments, variables = command(line)
            # Each in the folder of its own data.
            folder = ["--data-dir", str(tmp_path / arguments[3])]
            running.append(
                programs.Program(
                    [*arguments, *folder], env=variables, stdout=subprocess.PIPE, cwd=tmp_path, text=True
                )
            )
            assert running[-1].stdout.readline().startswith("cdpbridge: ")
        arguments, variables = command(last)
        done = await asyncio.to_thread(
            programs.run, arguments, env=variables, cwd=tmp_path, capture_output=True, text=True, timeout=280
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert (tmp_path / "page.png").read_bytes().startswith(b"\x89PNG")
        assert "refunded" in done.stdout + done.stderr
    finally:
        for program in reversed(running):
            program.terminate()
            program.wait(60)
            program.stdout.close()


@pytest.mark.one_build("processes of servers and workers")
async def test_a_server_that_is_killed_and_started_again_goes_on_with_its_browsers(spawn_server, tmp_path):
    port = free_port()
    worker = None
    try:
        async with spawn_server("--port", str(port), browsers="workers", worker_secret=SECRET) as killed:
            worker = WorkerProgram(
                tmp_path / "worker", server=f"http://127.0.0.1:{port}", slots=2, browser_build="shell"
            )
            browser = await killed.rent()
            await killed.end(signal.SIGKILL)
        async with spawn_server("--port", str(port), browsers="workers", worker_secret=SECRET) as server:
            assert (await server.browser(browser))["status"] == "active"
            async with cdpbridge.cdp.connect(browser["cdpUrl"]) as connection:
                await connection.root.send("Browser.getVersion")
            stopped = await server.stop(browser)
            assert (stopped["status"], stopped["endReason"]) == ("stopped", "stopped_by_caller")
    finally:
        if worker is not None:
            worker.end()


@pytest.mark.one_build("processes of servers and workers")
@pytest.mark.parametrize("build", ["shell"])
async def test_fault_b54_b57_orders_wait_for_a_slot_and_a_lost_worker_ends_what_it_ran(cluster, tmp_path):
    async def shown():
        return (await cluster.http.get(f"{cluster.url}/pressure")).json()

    async def free(count):
        return (await shown()).get("slots", {}).get("free") == count

    await until(lambda: free(2))
    browsers = [await cluster.rent(), await cluster.rent(timeout=60)]
    creating = asyncio.ensure_future(cluster.rent(timeout=60))

    async def waits():
        found = await shown()
        return (found["waitingOrders"], found["reason"]) == (1, "slots")

    await until(waits)
    await cluster.stop(browsers.pop(0))
    browsers.append(await creating)
    assert (await shown())["slots"] == {"total": 2, "free": 0, "running": 2, "starting": 0}

    cluster.worker.end(signal.SIGKILL)
    began = time.monotonic()
    for browser in browsers:
        await until(lambda browser=browser: ended(cluster, browser))
        found = await cluster.browser(browser)
        assert found["endReason"] == "worker_lost"
        assert Decimal(found["browserCost"]) < Decimal("0.01"), "the rest of the hour is given back"
    # Six seconds of silence, two between looks; the rest is this machine's load.
    assert time.monotonic() - began < 60
    assert (await cluster.account())["activeSessionCount"] == 0

    async def forgotten():
        return (await shown())["workers"] == {"accepting": 0, "draining": 0}

    await until(forgotten)
    again = WorkerProgram(tmp_path / "again", server=cluster.url, slots=1, browser_build="shell")
    try:
        # It is ordered while the worker still registers: then it waits.
        assert (await cluster.stop(await cluster.rent()))["status"] == "stopped"
        assert (await shown())["slots"] == {"total": 1, "free": 1, "running": 0, "starting": 0}
    finally:
        again.end()


async def ended(cluster, browser):
    return (await cluster.browser(browser))["status"] == "stopped"
