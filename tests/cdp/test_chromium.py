"""The faults of part A that a real Chromium shows."""

import asyncio
import signal
from contextlib import suppress
from datetime import timedelta

import psutil
import pytest

from cdpbridge.cdp import connect
from cdpbridge.errors import (
    CommandError,
    CommandTimeout,
    ConnectFailed,
    ConnectionClosed,
    TargetClosed,
    TargetCrashed,
)
from cdpbridge.protocol import Page, Runtime, Target

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.one_build("the client's protocol; both builds speak it with the same code"),
]

QUICK = timedelta(milliseconds=400)
AT_ONCE = 60  # seconds; generous, the machine is shared


class Site:
    """A web server with a few pages."""

    def __init__(self):
        self.pages = {}
        self.requests = []
        self.tasks = set()

    async def __aenter__(self):
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def _serve(self, reader, writer):
        self.tasks.add(asyncio.current_task())
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            path = head.split()[1].decode()
            self.requests.append(path)
            kind, body = self.pages.get(path, ("text/html", ""))
            answer = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}"
            writer.write(answer.encode())
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def url(self, path="/", host="127.0.0.1"):
        return f"http://{host}:{self.port}{path}"

    async def __aexit__(self, *_):
        self.server.close()
        await self.server.wait_closed()
        if self.tasks:
            await asyncio.wait(self.tasks, timeout=5)


@pytest.fixture
async def site(running_loop):
    async with Site() as site:
        yield site


async def evaluate(session, expression, **kwargs):
    reply = await session.send(
        "Runtime.evaluate", {"expression": expression, "returnByValue": True, **kwargs}
    )
    return reply["result"].get("value", reply["result"])


def renderers(chrome):
    found = []
    for child in psutil.Process(chrome.process.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # a zombie, or it has ended meanwhile
            if "--type=renderer" in " ".join(child.cmdline()):
                found.append(child)
    return found


# --- set-up -----------------------------------------------------------------------------------------------------------


async def test_every_form_of_address(chrome):
    for address in (
        chrome.ws_url,
        chrome.http_url,
        chrome.authority,
        f"ws://{chrome.authority}",
        f"localhost:{chrome.port}",
    ):
        async with connect(address) as connection:
            assert "Chrome" in (await connection.root.send("Browser.getVersion"))["product"]


async def test_compression_works(chrome):
    async with connect(chrome.ws_url, compression=True) as connection:
        assert "Chrome" in (await connection.root.send("Browser.getVersion"))["product"]
        assert connection._link._transport._compressing


async def test_fault_a04_wrong_browser_id(chrome):
    with pytest.raises(ConnectFailed) as caught:
        await connect(chrome.ws_url[:-1])
    assert (caught.value.stage, caught.value.status) == ("upgrade", 404)


async def test_fault_a05_page_endpoint(chrome, tab):
    async with connect(f"{chrome.http_url}/devtools/page/{tab.target_id}") as connection:
        assert await evaluate(connection.root, "1 + 1") == 2
        with pytest.raises(CommandError) as caught:
            await connection.root.send("Target.createBrowserContext")
        assert caught.value.code in {-32000, -32601}


async def test_fault_a06_origin_is_refused(chrome):
    with pytest.raises(ConnectFailed, match="rigin") as caught:
        await connect(chrome.ws_url, headers={"Origin": "http://localhost"})
    assert (caught.value.stage, caught.value.status) == ("upgrade", 403)


async def test_fault_a07_host_that_is_a_name(chrome):
    for address, stage in ((chrome.http_url, "http"), (chrome.ws_url, "upgrade")):
        with pytest.raises(ConnectFailed, match="Host header") as caught:
            await connect(address, headers={"Host": "browser.example"})
        assert (caught.value.stage, caught.value.status) == (stage, 500)


async def test_fault_a13_hung_renderer_does_not_block_connecting(own_chrome, running_loop):
    async with connect(own_chrome.ws_url) as first:
        tab = await first.new_tab()
        await evaluate(tab, "1")
        stopped = renderers(own_chrome)
        for renderer in stopped:
            renderer.send_signal(signal.SIGSTOP)
        try:
            async with asyncio.timeout(60), connect(own_chrome.http_url) as second:
                other = await second.attach(tab.target_id)
                with pytest.raises(CommandTimeout, match="page"):
                    await other.send("Runtime.evaluate", {"expression": "1"}, timeout=QUICK)
                assert "product" in await second.root.send("Browser.getVersion")
        finally:
            for renderer in stopped:
                renderer.send_signal(signal.SIGCONT)
        assert await evaluate(tab, "2") == 2


# --- commands ---------------------------------------------------------------------------------------------------------


async def test_fault_a15_command_without_a_reply(tab):
    with pytest.raises(CommandTimeout, match=r"Runtime\.evaluate got no answer from page"):
        await tab.send(
            "Runtime.evaluate", {"expression": "new Promise(() => {})", "awaitPromise": True}, timeout=QUICK
        )
    assert await evaluate(tab, "1") == 1


async def test_fault_a18_replies_out_of_order(tab):
    slow = "new Promise(done => setTimeout(() => done('slow'), 300))"
    order = []

    async def call(name, work):
        await work
        order.append(name)

    await asyncio.gather(
        call("slow", evaluate(tab, slow, awaitPromise=True)),
        call("fast", evaluate(tab, "1")),
        call("browser", tab.connection.root.send("Browser.getVersion")),
    )
    assert order[-1] == "slow"
    assert sorted(order) == ["browser", "fast", "slow"]


async def test_fault_a22_reply_without_a_session_id(chrome_connection):
    connection = chrome_connection
    node = connection._link._mux.attach(connection.root._node, "F" * 32, {"targetId": "none", "type": "page"})
    with pytest.raises(TargetClosed) as caught:
        await node.owner.session.send("Page.enable")
    assert caught.value.__cause__.code == -32001


@pytest.mark.parametrize(
    "message",
    [
        b"{nope",
        b'{"id":"a","method":"A.b"}',
        b'{"id":1.5,"method":"A.b"}',
        b'{"id":2147483648,"method":"A.b"}',
    ],
)
async def test_fault_a23_error_without_an_id(tab, message, wait_until):
    connection = tab.connection
    pending = asyncio.ensure_future(evaluate(tab, "new Promise(() => {})", awaitPromise=True))
    await wait_until(lambda: connection._link._mux.pending)
    connection._link._transport.send(message)
    with pytest.raises(CommandError) as caught:
        await pending
    assert caught.value.code in {-32700, -32600}
    assert connection.stats.unaddressed_errors == 1
    assert await evaluate(tab, "1") == 1


async def test_fault_a25_extra_key(tab, wait_until):
    connection = tab.connection
    pending = asyncio.ensure_future(evaluate(tab, "new Promise(() => {})", awaitPromise=True))
    await wait_until(lambda: connection._link._mux.pending)
    [number] = connection._link._mux.pending
    connection._link._transport.send(b'{"id":%d,"method":"Browser.getVersion","extra":1}' % number)
    with pytest.raises(CommandError, match="property other than") as caught:
        await pending
    assert caught.value.code == -32600


async def test_fault_a26_bad_parameter(tab):
    with pytest.raises(CommandError) as caught:
        await tab.send("Page.navigate", {"url": 5})
    assert caught.value.code == -32602
    assert "params.url" in caught.value.data
    assert await tab.send("Runtime.evaluate", {"expression": "1", "unknown": 1})


async def test_unknown_method(tab):
    with pytest.raises(CommandError) as caught:
        await tab.send("Page.noSuchThing")
    assert (caught.value.code, caught.value.method) == (-32601, "Page.noSuchThing")


async def test_fault_a27_promise_pending_while_the_page_navigates(tab, wait_until):
    pending = asyncio.ensure_future(evaluate(tab, "new Promise(() => {})", awaitPromise=True))
    await wait_until(lambda: tab.connection._link._mux.pending)
    await tab.send("Page.navigate", {"url": "data:text/html,x"})
    async with asyncio.timeout(AT_ONCE):
        with pytest.raises(CommandError) as caught:
            await pending
    assert caught.value.code == -32000


async def test_fault_a28_open_dialog_is_named_by_the_timeout(tab):
    await tab.send("Page.enable")
    async with tab.expect("Page.javascriptDialogOpening"):
        alert = asyncio.ensure_future(evaluate(tab, "alert('x')"))
    with pytest.raises(CommandTimeout, match="alert dialog is open"):
        await tab.send("Runtime.evaluate", {"expression": "1"}, timeout=QUICK)
    await tab.send("Page.handleJavaScriptDialog", {"accept": True})
    await alert
    assert await evaluate(tab, "1") == 1
    assert tab.hint() is None


async def test_fault_a29_unanswered_paused_request(tab, site, wait_until):
    await tab.send("Fetch.enable")
    navigation = asyncio.ensure_future(tab.send("Page.navigate", {"url": site.url()}))
    await wait_until(tab.hint)
    never = {"expression": "new Promise(() => {})", "awaitPromise": True}
    with pytest.raises(CommandTimeout, match="1 requests are paused"):
        await tab.send("Runtime.evaluate", never, timeout=QUICK)
    assert not navigation.done()
    assert "product" in await tab.connection.root.send("Browser.getVersion")
    await tab.send("Fetch.disable")
    await navigation
    assert tab.hint() is None


async def test_fault_a29_failing_handler_fails_the_request(tab, site, failures):
    async def handler(_):
        raise LookupError

    tab.on("Fetch.requestPaused", handler)
    await tab.send("Fetch.enable")
    async with asyncio.timeout(60):
        reply = await tab.send("Page.navigate", {"url": site.url()})
    assert reply["errorText"] == "net::ERR_FAILED"
    assert isinstance(failures[0][0], LookupError)


async def test_fault_a30_paused_by_another_client(chrome, tab, site):
    async with connect(chrome.ws_url) as other:
        intruder = await other.attach(tab.target_id)
        await intruder.send("Fetch.enable")
        navigation = asyncio.ensure_future(tab.send("Page.navigate", {"url": site.url()}))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(navigation), 0.4)
    async with asyncio.timeout(60):
        assert "errorText" not in await navigation


async def test_fault_a31_busy_page_is_not_death(tab):
    await tab.send("Runtime.enable")
    async with tab.expect("Runtime.consoleAPICalled"):  # what has not begun cannot be terminated
        busy = asyncio.ensure_future(evaluate(tab, "console.log('begun'); while (true);"))
    late = asyncio.ensure_future(evaluate(tab, "2"))
    await tab.connection.root.send("Browser.getVersion")
    assert not busy.done()
    assert not late.done()
    await tab.send("Runtime.terminateExecution")
    with pytest.raises(CommandError, match="terminated"):
        await busy
    assert await late == 2


# --- targets ----------------------------------------------------------------------------------------------------------


async def test_fault_a32_send_to_a_closing_target(chrome_connection):
    tab = await chrome_connection.new_tab()
    closing = asyncio.ensure_future(
        chrome_connection.root.send("Target.closeTarget", {"targetId": tab.target_id})
    )
    pending = asyncio.ensure_future(evaluate(tab, "new Promise(() => {})", awaitPromise=True))
    async with asyncio.timeout(AT_ONCE):
        with pytest.raises(TargetClosed):
            await pending
    await closing
    with pytest.raises(TargetClosed) as caught:
        await evaluate(tab, "1")
    assert caught.value.reason == "closed"


async def test_fault_a33_dead_session_is_refused_locally(tab):
    connection = tab.connection
    second = await connection.attach(tab.target_id)
    await second.detach()
    sent = connection.stats.commands
    with pytest.raises(TargetClosed):
        await evaluate(second, "1")
    assert connection.stats.commands == sent
    assert await evaluate(tab, "1") == 1


@pytest.fixture
async def framed(tab, site):
    """A page of 127.0.0.1 with a frame of localhost, which has a process and a session of its own."""
    site.pages["/"] = ("text/html", f"<iframe src='{site.url('/inner', 'localhost')}'></iframe>")
    site.pages["/inner"] = ("text/html", "<script>window.inner = 7</script>")
    attached = asyncio.get_running_loop().create_future()

    async def setup(child):
        if child.target_type == "iframe" and not attached.done():
            attached.set_result(child)

    await tab.auto_attach(setup)
    await tab.send("Page.enable")
    async with tab.expect("Page.loadEventFired"):
        await tab.send("Page.navigate", {"url": site.url()})
    return tab, await asyncio.wait_for(attached, 60)


async def test_fault_a34_child_ends_with_its_parent(framed, wait_until):
    page, frame = framed
    assert frame.parent is page
    assert await evaluate(frame, "window.inner") == 7
    pending = asyncio.ensure_future(evaluate(frame, "new Promise(() => {})", awaitPromise=True))
    await wait_until(lambda: page.connection._link._mux.pending)
    async with asyncio.timeout(AT_ONCE):
        await page.detach()
        with pytest.raises(TargetClosed) as caught:
            await pending
    assert caught.value.reason == frame.closed == "parent"


@pytest.mark.parametrize("discover", [False, True])
async def test_fault_a35_crash_and_revival(tab, discover):
    if discover:
        await tab.connection.root.send("Target.setDiscoverTargets", {"discover": True})
    await tab.send("Page.enable")
    pending = asyncio.ensure_future(evaluate(tab, "new Promise(() => {})", awaitPromise=True))
    crash = asyncio.ensure_future(tab.send("Page.crash"))
    async with asyncio.timeout(AT_ONCE):
        for call in (pending, crash):
            with pytest.raises(TargetCrashed):
                await call
    with pytest.raises(TargetCrashed):
        await evaluate(tab, "1")
    async with asyncio.timeout(60):
        async with tab.expect("Page.loadEventFired"):
            await tab.send("Page.navigate", {"url": "data:text/html,<title>back</title>"})
        assert await evaluate(tab, "document.title") == "back"
    assert tab.closed is None


async def test_fault_a35_killed_renderer_tells_its_status(own_chrome, running_loop):
    async with connect(own_chrome.ws_url) as connection:
        tab = await connection.new_tab()
        await connection.root.send("Target.setDiscoverTargets", {"discover": True})
        await evaluate(tab, "1")
        async with connection.root.expect(
            Target.TargetCrashed, lambda event: event.target_id == tab.target_id
        ) as waiter:
            for renderer in renderers(own_chrome):
                renderer.kill()
        with pytest.raises(TargetCrashed) as caught:
            await evaluate(tab, "1")
        assert caught.value.status == waiter.event.status == "killed"
        assert caught.value.error_code == 9


@pytest.mark.parametrize("way", ["Browser.close", "SIGKILL"])
async def test_fault_a36_browser_ends(own_chrome, way, running_loop):
    connection = await connect(own_chrome.ws_url)
    tab = await connection.new_tab()
    pending = asyncio.ensure_future(evaluate(tab, "new Promise(() => {})", awaitPromise=True))
    if way == "SIGKILL":
        await evaluate(tab, "1")
        own_chrome.kill()
    else:
        await connection.root.send("Browser.close")
    async with asyncio.timeout(60):
        with pytest.raises((ConnectionClosed, TargetClosed)):
            await pending
        await connection.wait_closed()
    assert connection.close_code == 1006
    with pytest.raises(ConnectionClosed) as caught:
        await connection.root.send("Browser.getVersion")
    assert caught.value.sent is False
    await connection.close()


async def test_fault_a37_two_sessions_on_one_target(tab):
    second = await tab.connection.attach(tab.target_id)
    assert second.id != tab.id
    assert second.target_id == tab.target_id
    seen = []
    for session in (tab, second):
        session.on("Runtime.consoleAPICalled", lambda _, session=session: seen.append(session))
        await session.send("Runtime.enable")
    await evaluate(tab, "console.log(1)")
    await second.send("Runtime.disable")
    assert sorted(map(id, seen)) == sorted(map(id, (tab, second)))


async def test_fault_a38_auto_attach_again_keeps_the_children(framed):
    page, frame = framed
    await page.auto_attach()
    assert page.children == [frame]
    assert await evaluate(frame, "window.inner") == 7


async def test_fault_a39_no_event_is_missed(chrome_connection, site):
    site.pages["/"] = ("text/html", "<script>new Worker('/worker.js')</script>")
    site.pages["/worker.js"] = ("text/javascript", "console.log('first line')")
    requests, lines = [], []
    heard = asyncio.Event()

    def hear(event):
        lines.append(event.args[0].value)
        heard.set()

    async def setup(child):
        child.on(Runtime.ConsoleAPICalled, hear)
        child.on("Network.requestWillBeSent", lambda event: requests.append(event["request"]["url"]))
        await asyncio.gather(child.send("Runtime.enable"), child.send("Network.enable"))

    root = chrome_connection.root
    await root.auto_attach(setup)
    target = await root.send(Target.create_target(site.url()))
    async with asyncio.timeout(60):
        await heard.wait()
    assert requests[0] == site.url()
    assert lines == ["first line"]
    await root.send(Target.close_target(target.target_id))


async def test_page_whose_setup_asks_one_by_one_runs_all_the_same(chrome_connection, site, wait_until):
    prepared = []

    async def setup(child):
        await child.send("Runtime.enable")
        await child.send("Network.enable")
        prepared.append(child.target_id)

    root = chrome_connection.root
    await root.auto_attach(setup)
    target = await root.send(Target.create_target(site.url()))
    await wait_until(lambda: target.target_id in prepared)
    await root.send(Target.close_target(target.target_id))


async def test_fault_a40_child_runs_although_its_setup_fails(chrome_connection, site, failures):
    site.pages["/"] = ("text/html", "<script>new Worker('/worker.js')</script>")
    site.pages["/worker.js"] = ("text/javascript", "fetch('/alive')")

    async def setup(child):
        raise LookupError(child.target_type)

    root = chrome_connection.root
    await root.auto_attach(setup)
    target = await root.send(Target.create_target(site.url()))
    async with asyncio.timeout(60):
        while "/alive" not in site.requests:
            await root.send("Browser.getVersion")
    assert {session.target_type for _error, session, _method in failures} >= {"page", "worker"}
    await root.send(Target.close_target(target.target_id))


async def test_fault_a41_worker_inside_a_frame_is_seen(tab, site):
    site.pages["/"] = ("text/html", f"<iframe src='{site.url('/inner', 'localhost')}'></iframe>")
    site.pages["/inner"] = ("text/html", "<script>new Worker('/worker.js')</script>")
    site.pages["/worker.js"] = ("text/javascript", "1")
    found = asyncio.get_running_loop().create_future()

    async def setup(child):
        if child.target_type == "worker":
            found.set_result(child)

    await tab.auto_attach(setup)
    await tab.send("Page.navigate", {"url": site.url()})
    worker = await asyncio.wait_for(found, 60)
    assert worker.parent.target_type == "iframe"
    assert worker.parent.parent is tab


async def test_fault_a44_tab_targets(tab):
    connection = tab.connection
    reply = await connection.root.send("Target.getTargets", {"filter": [{}]})
    kinds = {info["type"] for info in reply["targetInfos"]}
    assert {"tab", "page"} <= kinds
    outer = next(info for info in reply["targetInfos"] if info["type"] == "tab")
    session = await connection.attach(outer["targetId"])
    assert session.target_type == "tab"
    await session.auto_attach(filter=[{}])
    assert [child.target_type for child in session.children] == ["page"]
    assert "page" in {target.type for target in await connection.targets()}


# --- events and bytes -------------------------------------------------------------------------------------------------


async def test_fault_a48_coroutine_handler_sends_commands(tab):
    done = asyncio.Event()
    titles = []

    async def handler(_):
        titles.append(await evaluate(tab, "document.title"))
        done.set()

    tab.on(Page.LoadEventFired, handler)
    await tab.send(Page.enable())
    await tab.send(Page.navigate("data:text/html,<title>t</title>"))
    async with asyncio.timeout(60):
        await done.wait()
    assert titles == ["t"]


async def test_fault_a50_events_keep_their_order(tab, site):
    order = []
    for name in ("frameStartedNavigating", "frameNavigated", "domContentEventFired", "loadEventFired"):
        tab.on(f"Page.{name}", lambda _, name=name: order.append(name))
    await tab.send("Page.enable")
    async with tab.expect(Page.LoadEventFired):
        await tab.send(Page.navigate(site.url()))
    assert order == ["frameStartedNavigating", "frameNavigated", "domContentEventFired", "loadEventFired"]


async def test_twenty_thousand_console_lines_arrive_in_order(tab):
    seen = []
    tab.on("Runtime.consoleAPICalled", lambda event: seen.append(event["args"][0]["value"]))
    await tab.send("Runtime.enable")
    await evaluate(tab, "for (let n = 0; n < 20000; n++) console.log(n)")
    async with asyncio.timeout(30):
        while len(seen) < 20000:
            await evaluate(tab, "1")
    assert seen == list(range(20000))


async def test_fault_a56_lone_surrogate(tab):
    assert await evaluate(tab, r"'a\ud83cz'") == "a\ud83cz"
    assert await evaluate(tab, "'\ud83c'.length") == 1
    answer = await tab.send(Runtime.evaluate(r"'a\ud83cz'"))
    assert answer.result.value == "a\ud83cz"
    assert await evaluate(tab, "'😀é'") == "😀é"


async def test_fault_a60_numbers(tab):
    results = [
        (await tab.send(Runtime.evaluate(text))).result
        for text in ("NaN", "-0", "Infinity", "10n**30n", "2**53+2")
    ]
    assert [result.unserializable_value for result in results] == [
        "NaN",
        "-0",
        "Infinity",
        "1" + "0" * 30 + "n",
        None,
    ]
    assert results[-1].value == 2**53 + 2
    assert isinstance(results[-1].value, int)


async def test_fault_a61_reply_over_our_limit(chrome):
    async with connect(chrome.ws_url, max_message_bytes=1024 * 1024) as connection:
        tab = await connection.new_tab()
        with pytest.raises(Exception, match="over the limit of 1048576 bytes") as caught:
            await evaluate(tab, "'x'.repeat(2 * 1024 * 1024)")
        assert type(caught.value).__name__ == "MessageTooBig"
        assert connection.close_code == 1009
    async with connect(chrome.ws_url) as connection:
        await connection.root.send("Target.closeTarget", {"targetId": tab.target_id})


async def test_large_results(tab):
    text = await evaluate(tab, "'x'.repeat(20_000_000)")
    assert len(text) == 20_000_000
    assert await evaluate(tab, f"'{'y' * 5_000_000}'.length") == 5_000_000


async def test_hundred_in_flight(tab):
    results = await asyncio.gather(*(evaluate(tab, str(n)) for n in range(1000)))
    assert results == list(range(1000))


async def test_fault_a77_targets_survive_the_socket(chrome):
    async with connect(chrome.ws_url) as connection:
        tab = await connection.new_tab()
        await evaluate(tab, "window.kept = 5")
    async with connect(chrome.ws_url) as connection:
        again = await connection.attach(tab.target_id)
        assert await evaluate(again, "window.kept") == 5
        await connection.root.send("Target.closeTarget", {"targetId": again.target_id})
