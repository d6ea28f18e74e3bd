"""Faults of part A that a real Chromium shows, beside those of `test_chromium.py`; two of them need gigabytes."""

import asyncio
import signal
import subprocess
import sys
import time
from datetime import timedelta

import psutil
import pytest

import cdpbridge
from cdpbridge.cdp import connect, read_stream
from cdpbridge.errors import CommandTimeout, ConnectionClosed, MessageTooBig, TargetClosed
from cdpbridge.protocol import Page
from tests.cdp.test_chromium import AT_ONCE, QUICK, Site, evaluate, renderers

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.one_build("the client's protocol; both builds speak it with the same code"),
]


@pytest.fixture
async def site(running_loop):
    async with Site() as site:
        yield site


# --- targets ----------------------------------------------------------------------------------------------------------


async def test_fault_a42_traffic_of_frames_and_workers_is_on_their_own_sessions(tab, site, wait_until):
    """`Network.enable` counts for one session: what a frame, a worker or a service worker fetches is seen there only.

    Regression: a service worker answers nothing while it waits for the debugger; it stayed frozen until its setup's commands
    had timed out, 30 s.
    """
    site.pages["/"] = (
        "text/html",
        f"""<iframe src='{site.url("/inner", "localhost")}'></iframe>
        <script>
          navigator.serviceWorker.register('/service.js')
          new Worker('/worker.js')
          fetch('/by-page')
        </script>""",
    )
    site.pages["/inner"] = ("text/html", "<script>fetch('/by-frame')</script>")
    site.pages["/worker.js"] = ("text/javascript", "fetch('/by-worker')")
    site.pages["/service.js"] = (
        "text/javascript",
        "self.addEventListener('install', event => event.waitUntil(fetch('/by-service')))",
    )
    seen = {}

    def note(session, event):
        seen.setdefault(event["request"]["url"].rpartition("/")[2], set()).add(session.target_type)

    async def setup(child):
        child.on("Network.requestWillBeSent", lambda event: note(child, event))
        await child.send("Network.enable")

    await tab.auto_attach(setup)
    await setup(tab)
    await tab.send("Page.navigate", {"url": site.url()})
    wanted = ["by-page", "by-frame", "by-worker", "by-service"]
    await wait_until(lambda: all(name in seen for name in wanted))
    assert {name: seen[name] for name in wanted} == {
        "by-page": {"page"},
        "by-frame": {"iframe"},
        "by-worker": {"worker"},
        "by-service": {"service_worker"},
    }


async def test_fault_a43_target_types_nobody_expected(tab):
    """Whatever kinds the browser lists are attached to or refused, one by one, and nothing else suffers."""
    connection = tab.connection
    await tab.send("Page.navigate", {"url": "chrome://newtab"})
    reply = await connection.root.send("Target.getTargets", {"filter": [{}]})
    kinds = set()
    for info in reply["targetInfos"]:
        try:
            session = await connection.attach(info["targetId"])
        except cdpbridge.errors.CommandError:
            continue  # the browser's own target, or one that has just gone
        kinds.add(session.target_type)
        assert session.target_type == info["type"]
        assert info["type"] in repr(session)
        await session.detach()
    assert {"page", "tab"} <= kinds
    assert {target.type for target in await connection.targets()}
    assert await evaluate(tab, "1") == 1


SPECULATION = """<title>start</title><script type=speculationrules>
{"prerender": [{"source": "list", "urls": ["/next"], "eagerness": "immediate"}]}</script>"""


async def test_fault_a45_prerendered_page_takes_the_tab_over(chrome_connection, site, wait_until):
    """Under a `tab` session the activation is a swap of children: calls to the old page end at once, the new one answers."""
    site.pages["/start"] = ("text/html", SPECULATION)
    site.pages["/next"] = (
        "text/html",
        "<title>next</title><script>window.early = document.prerendering</script>",
    )
    root = chrome_connection.root
    target_id = (await root.send("Target.createTarget", {"url": "about:blank"}))["targetId"]

    async def setup(child):
        await child.send("Page.enable")

    for info in (await root.send("Target.getTargets", {"filter": [{"type": "tab"}]}))["targetInfos"]:
        outer = await chrome_connection.attach(info["targetId"])
        await outer.auto_attach(setup, filter=[{}])
        if target_id in {child.target_id for child in outer.children}:
            break
        await outer.detach()
    [page] = outer.children
    await page.send("Page.navigate", {"url": site.url("/start")})
    await wait_until(lambda: len(outer.children) == 2)
    [early] = set(outer.children) - {page}
    async with asyncio.timeout(60):
        while await evaluate(early, "[document.prerendering, window.early]") != [True, True]:
            pass  # not loaded yet
    pending = asyncio.ensure_future(evaluate(page, "new Promise(() => {})", awaitPromise=True))
    await evaluate(page, "setTimeout(() => { location.href = '/next' })")
    async with asyncio.timeout(AT_ONCE):
        with pytest.raises(TargetClosed):
            await pending
    assert page.closed == "closed"
    assert outer.children == [early]
    assert await evaluate(early, "[document.title, location.pathname, window.early]") == [
        "next",
        "/next",
        True,
    ]
    frame = (await early.send(Page.get_frame_tree())).frame_tree.frame
    assert frame.id == early.target_id != target_id
    await root.send("Target.closeTarget", {"targetId": early.target_id})


async def test_fault_a45_page_session_alone_goes_on_through_the_navigation(tab, site):
    """Without a `tab` session the browser does not prerender: the session and its frame stay what they were."""
    site.pages["/start"] = ("text/html", SPECULATION)
    site.pages["/next"] = ("text/html", "<title>next</title>")
    await tab.send("Page.enable")
    async with tab.expect("Page.loadEventFired"):
        await tab.send("Page.navigate", {"url": site.url("/start")})
    async with tab.expect("Page.loadEventFired"):
        await evaluate(tab, "setTimeout(() => { location.href = '/next' })")
    assert await evaluate(tab, "[document.title, location.pathname]") == ["next", "/next"]
    assert tab.closed is None


async def test_fault_a46_frozen_page_is_told_from_a_dead_connection(tab, site):
    """Its timers stand still, so a call that waits for one ends at its own deadline, and the page can be woken."""
    await tab.send("Page.enable")
    async with tab.expect("Page.loadEventFired"):
        await tab.send("Page.navigate", {"url": site.url()})
    await tab.send("Page.setWebLifecycleState", {"state": "frozen"})
    timer = "new Promise(done => setTimeout(() => done('awake'), 1))"
    call = {"expression": timer, "awaitPromise": True, "returnByValue": True}
    with pytest.raises(CommandTimeout):
        await tab.send("Runtime.evaluate", call, timeout=QUICK)
    assert await evaluate(tab, "1 + 1") == 2
    await tab.send("Page.setWebLifecycleState", {"state": "active"})
    await tab.connection.root.send("Target.activateTarget", {"targetId": tab.target_id})
    assert await evaluate(tab, timer, awaitPromise=True) == "awake"


async def test_fault_a46_discarded_page_costs_its_own_deadline_only(own_chrome, site, running_loop):
    """A renderer that does not answer, as a stand-in for a discarded tab: it can be listed, attached and activated without
    waiting, new tabs open, and only a command to it runs into its deadline."""
    async with connect(own_chrome.ws_url) as connection:
        tab = await connection.new_tab(site.url())
        await evaluate(tab, "1")
        stopped = renderers(own_chrome)
        for renderer in stopped:
            renderer.send_signal(signal.SIGSTOP)
        try:
            again = await connection.attach(tab.target_id)
            assert tab.target_id in {target.target_id for target in await connection.targets()}
            await connection.root.send("Target.activateTarget", {"targetId": tab.target_id})
            await connection.new_tab()
            with pytest.raises(CommandTimeout, match="page"):
                await again.send("Runtime.evaluate", {"expression": "1"}, timeout=QUICK)
        finally:
            for renderer in stopped:
                renderer.send_signal(signal.SIGCONT)
        assert await evaluate(again, "2") == 2


# --- bytes ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_fault_a62_reply_over_256_mib_never_comes(own_chrome, running_loop):
    """Chromium drops it without a word: the deadline ends the call, all else goes on, and a stream brings the same bytes."""
    async with connect(own_chrome.ws_url) as connection:
        tab = await connection.new_tab()
        expression = "window.big = 'x'.repeat(257 * 1024 * 1024)"
        with pytest.raises(CommandTimeout):
            await tab.send(
                "Runtime.evaluate",
                {"expression": expression, "returnByValue": True},
                timeout=timedelta(seconds=30),
            )
        assert await evaluate(tab, "1 + 1") == 2
        assert not connection.closed
        blob = await tab.send("Runtime.evaluate", {"expression": "new Blob([big, big])"})
        uuid = (await tab.send("IO.resolveBlob", {"objectId": blob["result"]["objectId"]}))["uuid"]
        size = 0
        async for piece in read_stream(tab, f"blob:{uuid}", size=8 * 1024 * 1024):
            size += len(piece)
        assert size == 2 * 257 * 1024 * 1024


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_fault_a62_slow_reader_loses_nothing_it_cannot_know_of(own_chrome, running_loop):
    """Ten replies of 48 MiB with a reader that sleeps: what Chromium dropped ends at its deadline, nothing hangs."""
    async with connect(own_chrome.ws_url) as connection:
        tab = await connection.new_tab()
        await evaluate(tab, "window.big = 'x'.repeat(48 * 1024 * 1024); 1")
        call = {"expression": "big", "returnByValue": True}
        calls = [
            asyncio.ensure_future(tab.send("Runtime.evaluate", call, timeout=timedelta(seconds=60)))
            for _ in range(10)
        ]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        time.sleep(20)
        await asyncio.wait(calls)
        errors = [call.exception() for call in calls]
        assert all(error is None or isinstance(error, CommandTimeout) for error in errors)
        assert any(error is None for error in errors)
        assert await evaluate(tab, "1 + 1") == 2
        assert not connection._link._mux.pending
        del calls


@pytest.mark.slow
async def test_fault_a63_largest_command_goes_and_a_larger_one_is_refused(tab):
    """99 MiB are read; over 100 MiB Chromium would cut the socket, so it is not sent and the connection lives."""
    mib = 1024 * 1024
    assert await evaluate(tab, f"'{'x' * (99 * mib)}'.length") == 99 * mib
    with pytest.raises(MessageTooBig):
        await evaluate(tab, f"'{'x' * (101 * mib)}'.length")
    assert await evaluate(tab, "1 + 1") == 2


async def test_fault_a64_binary_frame_is_cut_by_chromium(chrome, running_loop):
    """Without a close frame: whatever waits is told 1006 at once. Our transport sends text only."""
    async with connect(chrome.ws_url) as connection:
        tab = await connection.new_tab()
        pending = asyncio.ensure_future(evaluate(tab, "new Promise(() => {})", awaitPromise=True))
        await evaluate(tab, "1")
        connection._link._transport._put(b"\x82\x80\0\0\0\0")  # an empty binary frame, masked
        async with asyncio.timeout(AT_ONCE):
            with pytest.raises(ConnectionClosed) as caught:
                await pending
        assert (caught.value.code, caught.value.sent) == (1006, True)
    async with connect(chrome.ws_url) as connection:
        await connection.root.send("Target.closeTarget", {"targetId": tab.target_id})


async def test_fault_a65_large_reply_among_small_ones(tab):
    """Decoded where it is read, in order; what came behind it waits for one decode and no longer."""
    order = []

    async def ask(name, expression):
        await evaluate(tab, expression)
        order.append(name)

    await asyncio.gather(
        ask("before", "1"), ask("large", "'x'.repeat(16 * 1024 * 1024)"), ask("after", "2"), ask("last", "3")
    )
    assert order == ["before", "large", "after", "last"]


# --- the end ----------------------------------------------------------------------------------------------------------

PROGRAM = """
import asyncio
import cdpbridge

async def main():
    browser = await cdpbridge.open_browser()
    print(browser.id, flush=True)
    tab = await browser.new_tab()
    tab.session.on("Runtime.consoleAPICalled", print)
    asyncio.ensure_future(tab.evaluate("new Promise(() => {{}})"))
    await tab.evaluate("1")
    return browser, tab

{run}
"""
ENDS = {
    "exit": "asyncio.run(main())",
    "exit, handles kept": "kept = asyncio.run(main())",
    "loop closed": "loop = asyncio.new_event_loop(); kept = loop.run_until_complete(main()); loop.close()",
}


@pytest.mark.parametrize("end", ENDS)
async def test_fault_a79_interpreter_exit_stops_what_is_rented(server, end):
    """Best effort at exit: the browser is stopped over plain HTTP, and nothing of ours prints a traceback."""
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-W", "ignore::ResourceWarning", "-c", PROGRAM.format(run=ENDS[end])],
        env=server.environment(),
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    async with cdpbridge.at(server.base_url, server.key) as client:
        assert (await client.browsers.get(done.stdout.strip())).status == "stopped"


async def test_fault_a74_no_socket_is_left(chrome, running_loop, wait_until):
    """Fifty connections, closed, dropped while connecting and closed twice: as many sockets as before."""
    process = psutil.Process()
    before = len(process.net_connections())
    for _ in range(50):
        connection = await connect(chrome.ws_url)
        await connection.close()
        await connection.close()
        connecting = asyncio.ensure_future(connect(chrome.http_url)._opening())
        await asyncio.sleep(0)
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
    await wait_until(lambda: len(process.net_connections()) <= before)
