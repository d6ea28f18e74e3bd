"""A browser that takes too much memory, or too many processes, is stopped with a reason; others go on."""

import subprocess
import sys
from contextlib import suppress

import pytest

from cdpbridge.cdp import connect
from cdpbridge.errors import ConnectionClosed
from cdpbridge.server.hosts._usage import UsageReader
from tests.conftest import until

HOARD = (
    "window.hoard = []; for (let i = 0; i < 60; i++) hoard.push(new Uint8Array(16e6).fill(i)); hoard.length"
)


async def ended(server, browser):
    """Its record, once it has stopped."""

    async def stopped():
        record = await server.browser(browser)
        return record if record["status"] == "stopped" else None

    return await until(stopped)


@pytest.mark.chromium
@pytest.mark.one_build("what is counted are processes of the system")
@pytest.mark.parametrize("isolation", ["none", "auto"])
async def test_fault_d09_a_browser_over_its_limit_of_memory_or_processes_is_stopped(make_server, isolation):
    async with make_server(
        isolation=isolation, memory_mb_per_browser=700, health_check_seconds=0.2
    ) as server:
        other, browser = await server.rent(), await server.rent()
        async with connect(browser["cdpUrl"]) as connection:
            tab = await connection.new_tab()
            with suppress(ConnectionClosed):  # the limit may be reached before the reply is there
                await tab.send("Runtime.evaluate", {"expression": HOARD})
            await connection.wait_closed()
            assert (connection.close_code, connection.close_reason) == (1008, "memory limit reached")
        stopped = await ended(server, browser)
        # A minute; the rest is refunded.
        assert (stopped["endReason"], stopped["browserCost"]) == ("memory_limit", "0.000833")
        assert (await server.browser(other))["status"] == "active"
        await server.stop(other)


@pytest.mark.chromium
@pytest.mark.one_build("what is counted are processes of the system")
async def test_fault_d09_a_browser_with_too_many_processes_is_stopped(make_server):
    async with make_server(max_processes_per_browser=2, health_check_seconds=0.2) as server:
        stopped = await ended(server, await server.rent())
        assert (stopped["endReason"], stopped["browserCost"]) == ("process_limit", "0.000833")


@pytest.mark.chromium
@pytest.mark.parametrize("build", ["shell", "full"])
async def test_fault_d09_pages_of_one_site_share_the_renderers_that_a_browser_may_have(
    make_server, site, build
):
    """A hundred of them computed at once, and no other browser could start."""
    async with make_server(browser_build=build, browser_args=["--renderer-process-limit=2"]) as server:
        browser = await server.rent()
        async with connect(browser["cdpUrl"]) as connection:
            for _ in range(12):
                await connection.new_tab(f"{site}/")
            info = await connection.root.send("SystemInfo.getProcessInfo")
        kinds = [each["type"] for each in info["processInfo"]]
        assert 1 <= kinds.count("renderer") <= 9, kinds


def test_what_the_processes_of_a_group_use():
    """Memory that a process shares with others, such as libraries, is not counted; what was seen is kept for a second."""
    now = 0.0
    reader = UsageReader(clock=lambda: now)
    program = "import os; os.fork(); held = b'x' * 50_000_000; os.write(1, b'.'); os.read(0, 1)"
    command = [sys.executable, "-S", "-c", program]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdout.read(2) == b".."
        used = reader.of_group(process.pid)
        assert used.processes == 2
        assert 100e6 < used.memory < 140e6
        process.communicate(b"\n\n")
    assert reader.of_group(process.pid) == used
    now = 1.5
    assert reader.of_group(process.pid).processes == 0
