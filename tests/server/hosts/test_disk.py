"""A browser that fills the disk is stopped with a reason, and others go on."""

import asyncio
import os
from contextlib import suppress

import pytest

from cdpbridge.cdp import connect
from cdpbridge.errors import ConnectionClosed
from cdpbridge.server.files import disk_usage

BUILDS = ["shell", "full"]
DOWNLOAD = (
    "for (let i = 0; i < 4; i++) { const a = document.createElement('a'); a.download = `f${i}`;"
    " a.href = URL.createObjectURL(new Blob([new Uint8Array(16e6)])); a.click() }"
)
DATABASE = """
const request = indexedDB.open('x', 1);
request.onupgradeneeded = () => request.result.createObjectStore('s');
request.onsuccess = () => {
  for (let i = 0; i < 4; i++) request.result.transaction('s', 'readwrite').objectStore('s').put(new Blob([
    crypto.getRandomValues(new Uint8Array(65536)), new Uint8Array(16e6)]), i);
}
"""


@pytest.mark.chromium
@pytest.mark.parametrize("attack", [DOWNLOAD, DATABASE], ids=["downloads", "IndexedDB"])
@pytest.mark.parametrize("build", BUILDS)
async def test_fault_d09_a_browser_over_its_disk_limit_is_stopped(make_server, site, build, attack):
    settings = {"browser_build": build, "disk_mb_per_browser": 40, "health_check_seconds": 0.2}
    async with make_server(**settings) as server:
        other = await server.rent()
        browser = await server.rent()
        async with connect(browser["cdpUrl"]) as connection:
            tab = await connection.new_tab(site)
            await tab.send("Page.enable")
            async with tab.expect("Page.loadEventFired"):
                await tab.send("Page.navigate", {"url": site})
            with suppress(ConnectionClosed):  # the limit may be reached before the reply is there
                await tab.send("Runtime.evaluate", {"expression": attack, "userGesture": True})
            async with asyncio.timeout(60):
                while (stopped := await server.browser(browser))["status"] != "stopped":
                    await asyncio.sleep(0.05)
            await connection.wait_closed()
            assert (connection.close_code, connection.close_reason) == (1008, "disk limit reached")
        assert (stopped["endReason"], stopped["browserCost"]) == (
            "disk_limit",
            "0.000833",
        )  # a minute; the rest is refunded
        assert (await server.browser(other))["status"] == "active"
        await server.stop(other)


def test_what_counts_as_used(tmp_path):
    folder = tmp_path / "a"
    (folder / "b").mkdir(parents=True)
    empty = disk_usage([folder], 10**9)
    assert 0 < empty < 100_000
    (folder / "b" / "full").write_bytes(os.urandom(1_000_000))
    assert 1_000_000 <= disk_usage([folder, tmp_path / "missing"], 10**9) - empty < 1_100_000
    with open(folder / "sparse", "wb") as file:
        file.truncate(10**12)
    (folder / "link").symlink_to(folder)
    assert disk_usage([folder], 10**9) - empty < 1_200_000
    for number in range(200):
        (folder / str(number)).touch()
    assert disk_usage([folder], 10**9) - empty >= 1_200_000  # names take room, too
    assert disk_usage([folder], 50_000) < 1_200_000  # no longer than needed
