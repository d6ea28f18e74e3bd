"""A browser that takes too much memory, or too many processes, is stopped with a reason; others go on."""

import os
import subprocess
import sys
from contextlib import suppress
from types import SimpleNamespace
from uuid import uuid4

import pytest

from cdpbridge.cdp import connect
from cdpbridge.errors import ConnectionClosed, TargetCrashed
from cdpbridge.server.hosts import UsageReader
from cdpbridge.server.hosts._limits import Limits
from tests.conftest import until

MIB = 1024**2
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
            # The limit may be reached before the reply is there, and the kernel may end the page before the server looks.
            with suppress(ConnectionClosed, TargetCrashed):
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


async def test_what_the_processes_of_a_group_use():
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

    def ended():
        nonlocal now
        now += 1.5
        return reader.of_group(process.pid).processes == 0

    # The fork ends when it likes.
    await until(ended)


def test_what_was_seen_serves_a_while_without_another_look():
    now = 0.0
    reader = UsageReader(valid_seconds=2.5, clock=lambda: now)
    group = os.getpgrp()
    assert reader.known(group) is None
    used = reader.of_group(group)
    assert used.processes
    now = 2.5
    assert reader.known(group) == used
    now = 2.6
    assert reader.known(group) is None


async def test_fault_d09_the_disk_is_looked_at_now_and_then_and_when_much_was_written(tmp_path, monkeypatch):
    """A hundred idle browsers cost 4 % of a core when all their files were gone through with each health check."""
    place = SimpleNamespace(
        folder=tmp_path / "place",
        scratch=tmp_path / "scratch",
        kept=tmp_path / "b" / "downloads",
        cgroup=None,
    )
    options = SimpleNamespace(
        usage=UsageReader(), max_memory_bytes=None, max_processes=None, max_disk_bytes=100 * MIB
    )
    used, free, looks = 20 * MIB, 1000 * MIB, []

    def look(folders, limit):
        looks.append((tuple(folders), limit))
        return used

    monkeypatch.setattr("cdpbridge.server.hosts._limits.disk_usage", look)
    watch = Limits(uuid4(), place, options, free=lambda _folder: free)

    async def look_again(times=1):
        before = len(looks)
        found = [await watch.passed(os.getpgrp()) for _ in range(times)]
        return found[-1], len(looks) - before

    assert await look_again() == (None, 1)
    assert looks == [((place.folder, place.scratch, place.kept.parent), 100 * MIB)]
    assert await look_again(5) == (None, 0)
    assert await look_again() == (None, 1)
    free -= 39 * MIB
    assert await look_again() == (None, 0)
    free -= 2 * MIB
    assert await look_again() == (None, 1)
    used, free = 101 * MIB, free - 41 * MIB
    assert await look_again() == ("disk", 1)
