"""A real Chromium behind a proxy that cuts the wire."""

import asyncio
import random
from datetime import timedelta

import pytest

from cdpbridge.cdp import connect
from cdpbridge.errors import CommandError, ConnectionClosed, TargetClosed
from cdpbridge.protocol import Runtime
from tests.cdp.test_chromium import Site

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.one_build("the client's protocol; both builds speak it with the same code"),
]

SECOND = timedelta(seconds=1)


class CuttingProxy:
    """Passes bytes on until told to cut; may refuse for a while."""

    def __init__(self, port):
        self.target = port
        self.pairs = set()
        self.refusing = False
        self.connections = 0
        self.cut_after = None  # bytes from the browser on the next connections
        self.tasks = set()

    async def __aenter__(self):
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def _serve(self, reader, writer):
        self.tasks.add(asyncio.current_task())
        if self.refusing:
            writer.transport.abort()
            return
        self.connections += 1
        try:
            upstream_reader, upstream = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        pair = (writer.transport, upstream.transport)
        self.pairs.add(pair)
        budget, self.cut_after = self.cut_after, None
        try:
            await asyncio.gather(
                self._pass(reader, upstream, None, pair), self._pass(upstream_reader, writer, budget, pair)
            )
        finally:
            self.pairs.discard(pair)
            self._abort(pair)

    async def _pass(self, reader, writer, budget, pair):
        try:
            while data := await reader.read(65536):
                if budget is not None:
                    data, budget = data[:budget], budget - len(data)
                writer.write(data)
                if budget is not None and budget <= 0:
                    break
                await writer.drain()
        except OSError:
            pass
        self._abort(pair)

    def _abort(self, pair):
        for transport in pair:
            transport.abort()

    def cut(self):
        for pair in list(self.pairs):
            self._abort(pair)

    async def __aexit__(self, *_):
        self.server.close()
        self.cut()
        await self.server.wait_closed()
        if self.tasks:
            await asyncio.wait(self.tasks, timeout=5)


@pytest.fixture
async def site(running_loop):
    async with Site() as site:
        yield site


@pytest.fixture
async def proxy(chrome, running_loop):
    async with CuttingProxy(chrome.port) as proxy:
        yield proxy


@pytest.fixture
async def resuming(chrome, proxy, monkeypatch):
    monkeypatch.setattr("cdpbridge.cdp._reconnect._STEADY", 0.0)
    address = chrome.ws_url.replace(f":{chrome.port}/", f":{proxy.port}/")
    async with connect(address, reconnect=True) as connection:
        connection.reports = asyncio.Queue()
        connection.on("reconnected", connection.reports.put_nowait)
        yield connection
        for target in await connection.targets():
            if target.type == "page" and target.target_id in connection.mine:
                await connection.root.send("Target.closeTarget", {"targetId": target.target_id})


@pytest.fixture
async def tab(resuming):
    resuming.mine = set()
    tab = await resuming.new_tab()
    resuming.mine.add(tab.target_id)
    return tab


async def evaluate(session, expression):
    return (await session.send(Runtime.evaluate(expression, return_by_value=True))).result.value


async def reported(connection, timeout=60):
    async with asyncio.timeout(timeout):
        return await connection.reports.get()


async def test_fault_a77_a_drop_does_not_mean_a_dead_browser(resuming, proxy, tab):
    await evaluate(tab, "window.mark = 'still here'")
    console = asyncio.Queue()
    tab.on(Runtime.ConsoleAPICalled, console.put_nowait)
    await tab.send("Runtime.enable")
    await tab.send("Page.enable")
    await tab.send(
        "Emulation.setDeviceMetricsOverride",
        {"width": 321, "height": 400, "deviceScaleFactor": 1, "mobile": False},
    )
    added = await tab.send("Page.addScriptToEvaluateOnNewDocument", {"source": "window.planted = 1"})
    removed = await tab.send("Page.addScriptToEvaluateOnNewDocument", {"source": "window.removed = 1"})
    kept = await tab.send("Page.addScriptToEvaluateOnNewDocument", {"source": "window.kept = 1"})
    await tab.send("Page.removeScriptToEvaluateOnNewDocument", removed)
    await tab.send("Runtime.addBinding", {"name": "tell"})
    await tab.send("Network.enable")
    await tab.send("Network.setExtraHTTPHeaders", {"headers": {"X-Ours": "1"}})
    old_id = tab.id
    proxy.cut()
    report = await reported(resuming)
    assert report.restored == (resuming.root, tab)
    assert (report.lost, report.not_restored) == ((), ())
    assert tab.id != old_id
    assert resuming.sessions == [resuming.root, tab]
    assert await evaluate(tab, "window.mark") == "still here"
    assert await evaluate(tab, "innerWidth") == 321
    assert await evaluate(tab, "typeof tell") == "function"
    await evaluate(tab, "console.log('heard')")
    async with asyncio.timeout(60):
        assert (await console.get()).args[0].value == "heard"
    async with tab.expect("Page.loadEventFired"):
        await tab.send("Page.navigate", {"url": "about:blank?again"})
    assert await evaluate(tab, "[window.planted, window.removed, window.kept]") == [1, None, 1]
    await tab.send("Page.removeScriptToEvaluateOnNewDocument", kept)
    async with tab.expect("Page.loadEventFired"):
        await tab.send("Page.navigate", {"url": "about:blank?once"})
    assert await evaluate(tab, "[window.planted, window.removed, window.kept]") == [1, None, None]
    more = await tab.send("Page.addScriptToEvaluateOnNewDocument", {"source": "window.more = 1"})
    assert more["identifier"] != added["identifier"]
    await tab.send("Page.removeScriptToEvaluateOnNewDocument", added)
    async with tab.expect("Page.loadEventFired"):
        await tab.send("Page.navigate", {"url": "about:blank?last"})
    assert await evaluate(tab, "[window.planted, window.kept, window.more]") == [None, None, 1]


async def test_a_virtual_authenticator_goes_on_without_its_credentials(resuming, proxy, tab):
    await tab.send("WebAuthn.enable")
    options = {"protocol": "ctap2", "transport": "internal", "hasResidentKey": True}
    added = await tab.send("WebAuthn.addVirtualAuthenticator", {"options": options})
    proxy.cut()
    report = await reported(resuming)
    [lacking] = report.not_restored
    assert (lacking.session, lacking.method) == (tab, "WebAuthn.addVirtualAuthenticator")
    assert "credentials" in lacking.reason
    assert await tab.send("WebAuthn.getCredentials", added) == {"credentials": []}
    await tab.send("WebAuthn.removeVirtualAuthenticator", added)
    with pytest.raises(CommandError):
        await tab.send("WebAuthn.getCredentials", added)


async def test_fault_a75_a_target_that_was_closed_meanwhile(resuming, proxy, tab, chrome):
    other = await resuming.new_tab()
    resuming.mine.add(other.target_id)
    proxy.refusing = True
    proxy.cut()
    async with connect(chrome.ws_url) as direct:
        await direct.root.send("Target.closeTarget", {"targetId": other.target_id})
        async with asyncio.timeout(60):  # it is answered before the target has gone
            while any(target.target_id == other.target_id for target in await direct.targets()):
                await asyncio.sleep(0.01)
    waiting = asyncio.ensure_future(other.send("Runtime.evaluate", {"expression": "1"}))
    also = asyncio.ensure_future(evaluate(tab, "2"))
    proxy.refusing = False
    report = await reported(resuming)
    assert report.lost == (other,)
    with pytest.raises(TargetClosed) as caught:
        await waiting
    assert (caught.value.reason, other.closed) == ("closed", "closed")
    assert await also == 2


async def test_auto_attached_frames_and_workers_come_back(resuming, proxy, tab, site):
    site.pages["/"] = (
        "text/html",
        f"<iframe src='{site.url('/frame', 'localhost')}'></iframe><script>new Worker('/worker.js')</script>",
    )
    site.pages["/frame"] = ("text/html", "frame")
    site.pages["/worker.js"] = ("text/javascript", "self.mark = 'same worker'")
    set_up = []

    async def setup(child):
        set_up.append(child)
        await child.send("Runtime.enable")

    await tab.auto_attach(setup)
    async with tab.expect("Page.loadEventFired"):
        await tab.send("Page.enable")
        await tab.send("Page.navigate", {"url": site.url()})
    async with asyncio.timeout(60):
        while {child.target_type for child in tab.children} != {"iframe", "worker"}:
            await asyncio.sleep(0.02)
    children = {child.target_type: child for child in tab.children}
    async with asyncio.timeout(60):  # its script may still be loading
        while await evaluate(children["worker"], "self.mark") != "same worker":
            await asyncio.sleep(0.02)
    contexts = []
    children["iframe"].on("Runtime.executionContextCreated", contexts.append)
    proxy.cut()
    report = await reported(resuming)
    assert set(report.restored) == {resuming.root, tab, *children.values()}
    assert report.lost == ()
    assert len(set_up) == 2
    assert contexts
    assert await evaluate(children["worker"], "self.mark") == "same worker"
    assert await evaluate(children["iframe"], "document.body.textContent") == "frame"
    assert {child.target_type: child for child in tab.children} == children
    await evaluate(tab, "new Worker('/worker.js'); 1")
    async with asyncio.timeout(60):
        while len(set_up) < 3:
            await asyncio.sleep(0.02)


async def test_fault_a76_a_second_drop_during_the_restore(resuming, proxy, tab, wait_until):
    for method in ("Page.enable", "Runtime.enable", "Network.enable", "DOM.enable", "Log.enable"):
        await tab.send(method)
    for budget in (1, 130, 300, 400, 500, 600, 700, 900):
        before = proxy.connections
        proxy.cut_after = budget  # within the handshake, the restore, or just behind it
        proxy.cut()
        answer = None
        while answer is None:
            try:
                answer = await evaluate(tab, "1 + 1")
            except ConnectionClosed:
                continue
        assert answer == 2
        await wait_until(lambda: proxy.connections == before + 2)
        report = await reported(resuming)
        if resuming.reports.qsize():
            report = resuming.reports.get_nowait()
        assert report.restored == (resuming.root, tab)
        assert report.not_restored == ()


async def cut_under_load(resuming, proxy, tabs, times, seed):
    chance = random.Random(seed)
    outcomes = {"done": 0, "sent": 0, "unsent": 0}
    stop = asyncio.Event()
    heard = dict.fromkeys(tabs, 0)

    async def load(tab, number):
        """Each tab answers with its own mark: an answer of another one would be the worst of all faults."""
        while not stop.is_set():
            try:
                answer = await evaluate(tab, f"console.log('tick'); window.mark + ':' + {number}")
                assert answer == f"{tab.target_id}:{number}"
                outcomes["done"] += 1
            except ConnectionClosed as error:
                outcomes["sent" if error.sent else "unsent"] += 1

    for tab in tabs:

        def count(event, tab=tab):
            heard[tab] += 1

        tab.on(Runtime.ConsoleAPICalled, count)
        await tab.send("Runtime.enable")
        await evaluate(tab, f"window.mark = '{tab.target_id}'")
    loads = [asyncio.ensure_future(load(tab, number)) for tab in tabs for number in range(5)]
    for number in range(times):
        await asyncio.sleep(chance.uniform(0, 0.15))
        if chance.random() < 0.3:
            proxy.cut_after = chance.randrange(1, 5000)
        proxy.cut()
        report = await reported(resuming)
        assert len(report.restored) == len(tabs) + 1, (seed, number, report)
        assert (report.lost, report.not_restored) == ((), ())
        before = dict(heard)
        for tab in tabs:
            try:
                assert await evaluate(tab, "console.log('here'); window.mark") == tab.target_id
            except ConnectionClosed:
                continue  # the byte budget has struck again
            assert heard[tab] > before[tab]
        for running in loads:
            if running.done():
                running.result()
    stop.set()
    await asyncio.gather(*loads)
    while not resuming.reports.empty():
        resuming.reports.get_nowait()
    assert not resuming._link._mux.pending
    assert not resuming._link._mux.targets.suspended
    return outcomes


@pytest.mark.parametrize("times", [20, pytest.param(200, marks=[pytest.mark.slow, pytest.mark.timeout(600)])])
async def test_fault_a77_cut_at_random_moments_under_load(resuming, proxy, tab, times):
    tabs = [tab]
    for _ in range(2):
        tabs.append(await resuming.new_tab())
        resuming.mine.add(tabs[-1].target_id)
    seed = random.randrange(2**32)
    print("seed", seed)
    outcomes = await cut_under_load(resuming, proxy, tabs, times, seed)
    print(outcomes)
    assert outcomes["done"] > times


async def test_pages_attached_by_the_root_come_back(chrome, proxy, running_loop):
    address = chrome.ws_url.replace(f":{chrome.port}/", f":{proxy.port}/")
    async with connect(address, reconnect=True) as connection:
        reports = asyncio.Queue()
        connection.on("reconnected", reports.put_nowait)
        context = (await connection.root.send("Target.createBrowserContext"))["browserContextId"]
        set_up = []

        async def setup(child):
            set_up.append(child)
            await child.send("Page.enable")

        await connection.root.auto_attach(setup)
        created = await connection.root.send(
            "Target.createTarget", {"url": "about:blank", "browserContextId": context}
        )
        async with asyncio.timeout(60):
            while created["targetId"] not in {session.target_id for session in set_up}:
                await asyncio.sleep(0.02)
            while not all(session._node.ready for session in connection.sessions):
                await asyncio.sleep(0.02)
        page = next(session for session in set_up if session.target_id == created["targetId"])
        await evaluate(page, "window.mark = 5")
        proxy.cut()
        async with asyncio.timeout(60):
            report = await reports.get()
        assert page in report.restored
        assert report.lost == ()
        assert await evaluate(page, "window.mark") == 5
        async with page.expect("Page.loadEventFired"):
            await page.send("Page.reload")
        await connection.root.send("Target.closeTarget", {"targetId": page.target_id})


async def test_fault_a77_a_browser_that_died_is_given_up(own_chrome, proxy):
    told = asyncio.Event()
    proxy.target = own_chrome.port
    address = own_chrome.ws_url.replace(f":{own_chrome.port}/", f":{proxy.port}/")
    async with connect(address, reconnect=SECOND) as connection:
        connection.on("disconnected", told.set)
        tab = await connection.new_tab()
        own_chrome.kill()
        with pytest.raises(ConnectionClosed):
            await evaluate(tab, "1")
        async with asyncio.timeout(60):
            await told.wait()
        assert connection.closed
