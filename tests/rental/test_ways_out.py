"""Programs that rent from a real server, and every way they end: nothing stays rented."""

import asyncio
import os
import signal
import subprocess
import sys
from datetime import timedelta
from decimal import Decimal

import psutil
import pytest

import cdpbridge
from tests import programs
from tests.conftest import until
from tests.folders import browsers_folder

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.one_build("a rental is a process and its money, whichever the build"),
]

BLOCK = """
import asyncio, os, signal, sys
import cdpbridge

async def main():
    async with cdpbridge.open_browser() as browser:
        print(browser.id, flush=True)
        {inside}

{run}
"""

PROGRAMS = {
    "end of the block": ("pass", "asyncio.run(main())", 0),
    "exception": ("raise KeyError('mine')", "asyncio.run(main())", 1),
    "sys.exit": ("sys.exit(7)", "asyncio.run(main())", 7),
    "cancellation": (
        "asyncio.current_task().cancel(); await asyncio.sleep(60)",
        "asyncio.run(main())",
        1,
    ),
    "Ctrl-C": (
        "os.kill(os.getpid(), signal.SIGINT); await asyncio.sleep(60)",
        "asyncio.run(main())",
        -signal.SIGINT,
    ),
    "SIGTERM": ("os.kill(os.getpid(), signal.SIGTERM); await asyncio.sleep(60)", "asyncio.run(main())", 143),
    "SIGHUP": ("os.kill(os.getpid(), signal.SIGHUP); await asyncio.sleep(60)", "asyncio.run(main())", 129),
    "Ctrl-C twice": (
        (
            "loop = asyncio.get_running_loop(); loop.call_later(0.05, os.kill, os.getpid(), signal.SIGINT); "
            "os.kill(os.getpid(), signal.SIGINT); await asyncio.sleep(60)"
        ),
        "asyncio.run(main())",
        -signal.SIGINT,
    ),
    "SIGTERM in a task": (
        "os.kill(os.getpid(), signal.SIGTERM); await asyncio.sleep(60)",
        "async def outer():\n    await asyncio.gather(main(), asyncio.sleep(60))\nasyncio.run(outer())",
        143,
    ),
}
BY_HAND = """
import asyncio, os, signal
import cdpbridge

async def main():
    browser = await cdpbridge.open_browser()
    print(browser.id, flush=True)
    {inside}

{run}
"""
PROGRAMS_BY_HAND = {
    "forgotten": ("pass", "asyncio.run(main())", 0),
    "SIGTERM": ("os.kill(os.getpid(), signal.SIGTERM); await asyncio.sleep(60)", "asyncio.run(main())", 143),
    "loop dropped": (
        "pass",
        "loop = asyncio.new_event_loop(); loop.run_until_complete(main()); loop.close()",
        0,
    ),
    "SIGTERM after the task that rented it": (
        "return browser",
        (
            "async def outer():\n    await asyncio.create_task(main())\n"
            "    os.kill(os.getpid(), signal.SIGTERM); await asyncio.sleep(60)\nasyncio.run(outer())"
        ),
        143,
    ),
}


def run(program, server, status):
    done = programs.run(
        [sys.executable, "-W", "ignore::ResourceWarning", "-c", program],
        env=server.environment(),
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == status, done.stderr
    return done


async def stopped(server, browser_id):
    async with cdpbridge.at(server.base_url, server.key) as client:
        browser = await client.browsers.get(browser_id.strip())
    assert browser.status == "stopped"
    assert browser.end_reason == "stopped_by_caller"
    assert browser.browser_cost == Decimal("0.000833")


@pytest.mark.parametrize("way", PROGRAMS)
async def test_fault_a80_every_way_out_of_a_block(server, way):
    inside, runs, status = PROGRAMS[way]
    done = await asyncio.to_thread(run, BLOCK.format(inside=inside, run=runs), server, status)
    await stopped(server, done.stdout)
    if status in {129, 143}:
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("way", PROGRAMS_BY_HAND)
async def test_fault_a80_a_handle_that_nobody_stopped(server, way):
    inside, runs, status = PROGRAMS_BY_HAND[way]
    done = await asyncio.to_thread(run, BY_HAND.format(inside=inside, run=runs), server, status)
    await stopped(server, done.stdout)


@pytest.mark.parametrize("moment", ["renting a browser", "connecting"])
@pytest.mark.parametrize(
    "form",
    [
        "async with cdpbridge.open_browser(on_progress=tell):\n        pass",
        "await cdpbridge.open_browser(on_progress=tell)",
    ],
)
async def test_fault_a80_sigterm_on_the_way_in(server, moment, form):
    program = f"""
import asyncio, os, signal
import cdpbridge

def tell(text):
    if text == {moment!r}:
        os.kill(os.getpid(), signal.SIGTERM)

async def main():
    {form}

asyncio.run(main())
"""
    done = await asyncio.to_thread(run, program, server, 143)
    assert "Traceback" not in done.stderr
    async with cdpbridge.at(server.base_url, server.key) as client:
        assert [browser async for browser in client.browsers.list(status="active")] == []


async def test_sigterm_after_an_earlier_loop_has_leaked(server):
    program = """
import asyncio, os, signal
import cdpbridge

async def leak():
    print((await cdpbridge.open_browser()).id, flush=True)

async def block():
    async with cdpbridge.open_browser() as browser:
        print(browser.id, flush=True)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(60)

asyncio.run(leak())
asyncio.run(block())
"""
    done = await asyncio.to_thread(run, program, server, 143)
    for browser_id in done.stdout.split():
        await stopped(server, browser_id)


async def test_loops_in_two_threads(server):
    program = """
import asyncio, os, signal
import cdpbridge
from cdpbridge import sync

def in_a_thread():
    with sync.open_browser() as browser:
        print(browser.id, flush=True)
        return browser

async def main():
    thread = asyncio.create_task(asyncio.to_thread(in_a_thread))
    async with cdpbridge.open_browser() as browser:
        print(browser.id, flush=True)
    assert (await thread).receipt is not None
    await asyncio.sleep(0)
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.sleep(60)

asyncio.run(main())
"""
    done = await asyncio.to_thread(run, program, server, -signal.SIGTERM)
    assert len(done.stdout.split()) == 2
    for browser_id in done.stdout.split():
        await stopped(server, browser_id)


async def test_at_exit_a_stop_that_fails_is_one_line(server):
    program = """
import asyncio
import cdpbridge

async def main():
    browser = await cdpbridge.open_browser()
    print(browser.id, flush=True)
    browser._core.rental.client._base_url = "http://127.0.0.1:9/api/v2"

asyncio.run(main())
"""
    done = await asyncio.to_thread(run, program, server, 0)
    assert "Traceback" not in done.stderr
    assert f"cdpbridge stop {done.stdout.strip()}" in done.stderr
    async with cdpbridge.at(server.base_url, server.key) as client:
        await client.browsers.stop(done.stdout.strip())


async def test_a_programs_own_sigterm_handler_is_left_alone(server):
    program = """
import asyncio, os, signal
import cdpbridge

async def main():
    got = asyncio.Event()
    signal.signal(signal.SIGTERM, lambda *_: got.set())
    async with cdpbridge.open_browser() as browser:
        print(browser.id, flush=True)
        os.kill(os.getpid(), signal.SIGTERM)
        await got.wait()
    print("own way")

asyncio.run(main())
"""
    done = await asyncio.to_thread(run, program, server, 0)
    assert "own way" in done.stdout
    await stopped(server, done.stdout.split()[0])


async def test_the_signal_is_given_back_after_the_last_rental(server):
    program = """
import asyncio, os, signal
import cdpbridge

async def main():
    async with cdpbridge.open_browser() as browser:
        print(browser.id, flush=True)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.sleep(60)

asyncio.run(main())
"""
    done = await asyncio.to_thread(run, program, server, -signal.SIGTERM)
    await stopped(server, done.stdout)


async def test_a_fork_does_not_stop_what_its_parent_rented(server):
    program = """
import asyncio, os, sys
import cdpbridge

async def main():
    browser = await cdpbridge.open_browser()
    print(browser.id, flush=True)
    child = os.fork()
    if child == 0:
        sys.exit(0)
    os.waitpid(child, 0)
    assert (await browser._core.rental.client.browsers.get(browser.id)).status == "active"
    await browser.stop()

asyncio.run(main())
"""
    done = await asyncio.to_thread(run, program, server, 0)
    await stopped(server, done.stdout)


LOCAL = """
import asyncio, sys, time
import cdpbridge

async def main():
    async with cdpbridge.local(data_dir=sys.argv[1], browser_build="shell") as client:
        async with cdpbridge.open_browser(client, profile="work") as browser:
            cookie = {"name": "login", "value": "1", "domain": "example.com", "path": "/", "expires": time.time() + 9999}
            await browser.connection.root.send("Storage.setCookies", {"cookies": [cookie]})
            print(browser.id, flush=True)
            await asyncio.sleep(60)

asyncio.run(main())
"""


def processes(folder):
    """Processes whose command line names `folder`, and is not the server's or the program's own."""
    from cdpbridge.server.hosts._processes import processes_using

    return processes_using(browsers_folder(folder))


async def test_kill_9_of_the_client_ends_its_browsers_within_a_second(tmp_path, environment):
    """`local()`: the server dies with the program, the browsers with the server; the login is in the profile."""
    program = programs.Program(
        [sys.executable, "-c", LOCAL, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    with program:
        browser_id = (await asyncio.to_thread(program.stdout.readline)).strip()
        assert browser_id
        assert processes(tmp_path)
        server = int((tmp_path / "lock").read_text())
        program.kill()
        await until(lambda: not processes(tmp_path), 20)
        await until(lambda: not psutil.pid_exists(server), 20)  # it has the folder as long
    async with cdpbridge.local(data_dir=tmp_path, browser_build="shell") as client:
        browser = await client.browsers.get(browser_id)
        assert (browser.status, browser.browser_cost) == ("stopped", Decimal("0.000833"))
        async with cdpbridge.open_browser(client, profile="work") as again:
            cookies = (await again.connection.root.send("Storage.getCookies"))["cookies"]
        assert [cookie["name"] for cookie in cookies] == ["login"]


async def test_kill_9_of_the_server_ends_its_browsers_within_a_second(tmp_path, environment):
    async with cdpbridge.local(data_dir=tmp_path, browser_build="shell") as client:
        browser = await cdpbridge.open_browser(client, stop_timeout=timedelta(seconds=1))
        os.kill(client.server_pid, signal.SIGKILL)
        await until(lambda: not processes(tmp_path), 20)
        async with asyncio.timeout(20):  # not the half minute that a link is resumed in
            await browser.connection.wait_closed()
        with pytest.raises(cdpbridge.errors.StopFailed, match="ends with the embedded server"):
            await browser.stop()
        assert browser._core.over
    async with cdpbridge.local(data_dir=tmp_path, browser_build="shell") as client:
        assert (await client.browsers.get(browser.id)).status == "stopped"
