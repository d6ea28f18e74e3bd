"""A listener enables the domain of its event, or says why it hears nothing."""

import asyncio
import os
from datetime import timedelta

import pytest

from cdpbridge.cdp import connect
from cdpbridge.cdp._domains import LEFT_ALONE, SWITCHES, check_name, domains_of, silence
from cdpbridge.errors import CommandTimeout, ConfigurationError, ConnectionClosed, TargetCrashed
from cdpbridge.protocol import Fetch, Network, Page, Runtime, event_class
from cdpbridge.protocol._base import Event
from cdpbridge.protocol._events import ENABLED_ALONE, EVENTS
from cdpbridge.testing._browser import SILENT, Refusal
from tests.cases import cases

from .conftest import Chrome

SHORT = timedelta(seconds=0.3)
SITE = "data:text/html,<title>there</title>"


# --- the rule ---------------------------------------------------------------------------------------------------------


@cases(
    ("event", "domains"),
    [
        ("Page.loadEventFired", ("Page",)),
        ("Network.responseReceived", ("Network",)),
        ("CSS.styleSheetAdded", ("DOM", "CSS")),
        ("Overlay.inspectModeCanceled", ("DOM", "Overlay")),
        ("Fetch.requestPaused", ()),
        ("Debugger.paused", ()),
        ("Runtime.bindingCalled", ("Runtime",)),
        ("Runtime.consoleAPICalled", ("Runtime",)),
        ("PerformanceTimeline.timelineEventAdded", ()),  # needs to be told which
        ("Target.targetCreated", ()),
        ("Brand.newThing", ()),
    ],
)
def test_which_domains_an_event_needs(event, domains):
    assert domains_of(event) == domains


def test_every_domain_with_events_is_thought_of():
    """It is enabled, left alone for a reason, or has no `enable` that would do."""
    for domain, names in EVENTS.items():
        event = f"{domain}.{names.split()[0]}"
        assert bool(domains_of(event)) == (domain in ENABLED_ALONE and domain not in LEFT_ALONE), domain
        assert event_class(event) is not None
    assert set(LEFT_ALONE) <= ENABLED_ALONE
    assert SWITCHES["Page.enable"] == ("Page", True)
    assert SWITCHES["Page.disable"] == ("Page", False)


@cases(
    ("event", "near"),
    [
        ("Network.responseRecieved", "Network.responseReceived"),
        ("Netwrok.responseReceived", "Network.responseReceived"),
        ("network.responseReceived", "Network.responseReceived"),
        ("Page.load", "Page.loadEventFired"),
        ("Page.fired", "Page.domContentEventFired"),
        ("Page.LoadEventFired", "Page.loadEventFired"),
        ("Page.navigate", "Page."),
        ("Page", "Page."),
        ("loadEventFired", "Page.loadEventFired"),
        ("", "Page.loadEventFired"),
    ],
)
def test_fault_e06_a_name_that_is_no_event_is_refused(event, near):
    with pytest.raises(ConfigurationError, match=near) as caught:
        check_name(event)
    assert "raw=True" in str(caught.value)


@pytest.mark.parametrize("event", ["Page.loadEventFired", "Brand.newThing", "A.b"])
def test_names_that_may_be_events(event):
    check_name(event)


@cases(
    ("event", "enabled", "words"),
    [
        ("Page.loadEventFired", {"Page"}, None),
        ("Page.loadEventFired", set(), "Page is not enabled: send Page.enable"),
        (
            "Fetch.requestPaused",
            set(),
            "send Fetch.enable, which a listener does not do, as it pauses requests",
        ),
        ("Fetch.requestPaused", {"Fetch"}, None),
        ("PerformanceTimeline.timelineEventAdded", set(), "send PerformanceTimeline.enable"),
        ("Page.lifecycleEvent", {"Page"}, "only after Page.setLifecycleEventsEnabled"),
        ("Runtime.bindingCalled", {"Runtime"}, "only after Runtime.addBinding"),
        ("Target.targetCreated", set(), "only after Target.setDiscoverTargets"),
        ("Brand.newThing", set(), None),
    ],
)
def test_why_an_event_does_not_come(event, enabled, words):
    found = silence(event, enabled, {})
    assert (found is None) if words is None else words in found


# --- what is sent -----------------------------------------------------------------------------------------------------


def sent(scripted):
    return [command["method"] for command in scripted.commands if not command["method"].startswith("Target.")]


async def test_enable_is_sent_once_and_before_what_follows(connection, scripted):
    tab = await connection.new_tab()
    tab.on("Page.frameNavigated", print)
    tab.on(Page.LoadEventFired, print)
    async with tab.events(Network.ResponseReceived):
        await tab.send("Page.navigate", {"url": SITE})
    assert sent(scripted) == ["Page.enable", "Network.enable", "Page.navigate"]
    assert {command.get("sessionId") for command in scripted.commands[2:]} == {tab.id}


async def test_a_navigation_waits_until_the_domain_is_enabled(connection, scripted):
    """Else the page's process may read `enable` when the next document has been loaded; nothing else waits for it."""
    answer = asyncio.Event()

    async def later(_client, _command):
        await answer.wait()
        return {}

    scripted.on("Page.enable", later)
    tab, other = await connection.new_tab(), await connection.new_tab()
    tab.on(Page.LoadEventFired, print)
    await tab.send("Runtime.evaluate")
    await other.send("Page.reload")
    going = asyncio.ensure_future(tab.send("Page.navigate", {"url": SITE}))
    await tab.send("Runtime.getHeapUsage")
    assert sent(scripted) == ["Page.enable", "Runtime.evaluate", "Page.reload", "Runtime.getHeapUsage"]
    assert connection._link.send_blocked
    answer.set()
    await going
    assert sent(scripted)[-1] == "Page.navigate"
    assert not connection._link.send_blocked


async def test_a_navigation_does_not_wait_for_ever(connection, scripted):
    """A page that hangs answers no `enable`; to navigate it away is the way out."""
    scripted.on("Page.enable", SILENT)
    tab = await connection.new_tab()
    tab.on(Page.LoadEventFired, print)
    await tab.send("Page.navigate", {"url": SITE}, timeout=timedelta(seconds=2))
    assert sent(scripted) == ["Page.enable", "Page.navigate"]


async def test_each_session_enables_for_itself(connection, scripted):
    one, other = await connection.new_tab(), await connection.new_tab()
    for session in (one, other, connection.root):
        session.on(Page.LoadEventFired, print)
    await connection.root.send("Browser.getVersion")
    enabled = [
        command.get("sessionId", "") for command in scripted.commands if command["method"] == "Page.enable"
    ]
    assert enabled == [one.id, other.id, ""]


async def test_what_the_program_has_enabled_is_left_as_it_is(connection, scripted):
    tab = await connection.new_tab()
    await tab.send(Network.enable(max_total_buffer_size=1000))
    remove = tab.on(Network.ResponseReceived, print)
    remove()
    async with tab.events("Network.loadingFinished"):
        pass
    assert sent(scripted) == ["Network.enable"]
    await tab.send(Network.disable())
    tab.on(Network.ResponseReceived, print)  # the first one since
    await tab.send("Runtime.evaluate")
    assert sent(scripted) == ["Network.enable", "Network.disable", "Network.enable", "Runtime.evaluate"]


async def test_nothing_is_enabled_by_raw_listeners(connection, scripted):
    tab = await connection.new_tab()
    heard = []
    tab.on("Page.newThing", heard.append, raw=True)
    tab.on(Page.LoadEventFired, heard.append, raw=True)
    async with tab.expect("Page.otherThing", raw=True), tab.events("Page.newThing", raw=True):
        client = await scripted.client()
        await client.event("Page.newThing", {"a": 1}, tab.id)
        await client.event("Page.otherThing", {}, tab.id)
    assert heard == [{"a": 1}]
    assert sent(scripted) == []


async def test_an_event_class_of_the_program(connection, scripted):
    """For an event that this version of the library does not know yet."""

    class NewThing(Event):
        METHOD = "Page.newThing"
        a: int = 0

    tab = await connection.new_tab()
    async with tab.expect(NewThing) as found:
        await tab.send("Page.doNewThing")
        await (await scripted.client()).event("Page.newThing", {"a": 1}, tab.id)
    assert found.event.a == 1
    assert sent(scripted) == ["Page.enable", "Page.doNewThing"]


@pytest.mark.parametrize("listen", ["on", "events", "expect"])
async def test_a_typo_is_refused_at_the_call(connection, scripted, listen):
    arguments = (print,) if listen == "on" else ()
    with pytest.raises(ConfigurationError, match=r"Network\.responseReceived"):
        getattr(connection.root, listen)("Network.responseRecieved", *arguments)
    assert sent(scripted) == []


async def test_a_target_without_the_domain_keeps_its_listener(connection, scripted):
    scripted.on("Page.enable", Refusal(-32601, "'Page.enable' wasn't found"))
    tab = await connection.new_tab()
    with pytest.raises(CommandTimeout, match=r"Page\.enable failed: .*'Page\.enable' wasn't found"):
        async with tab.expect(Page.LoadEventFired, timeout=SHORT):
            await tab.send("Runtime.evaluate")
    heard = []
    tab.on("Page.loadEventFired", heard.append)
    await (await scripted.client()).event("Page.loadEventFired", {"timestamp": 1}, tab.id)
    await tab.send("Runtime.evaluate")
    assert heard == [{"timestamp": 1}]


async def test_it_is_enabled_again_on_another_connection(scripted):
    async with connect(scripted.ws_url, reconnect=True) as connection:
        tab = await connection.new_tab()
        tab.on(Page.LoadEventFired, print)
        await tab.send("Runtime.evaluate")
        (await scripted.client()).cut()
        await scripted.received("Page.enable", 2)


async def test_a_listener_that_comes_while_the_connection_is_lost(scripted):
    """Its `enable` goes before the command that follows it, after what is restored."""
    async with connect(scripted.ws_url, reconnect=True) as connection:
        tab = await connection.new_tab()
        await tab.send("Runtime.enable")
        (await scripted.client()).cut()
        async with asyncio.timeout(60):
            while not connection.reconnecting:
                await asyncio.sleep(0)
        scripted.commands.clear()
        tab.on(Page.LoadEventFired, print)
        await tab.send("Page.navigate", {"url": SITE})
        assert [each for each in sent(scripted) if each != "Browser.getVersion"] == [
            "Runtime.enable",
            "Page.enable",
            "Page.navigate",
        ]


async def test_a_listener_on_a_closed_connection(scripted):
    async with connect(scripted.ws_url) as connection:
        tab = await connection.new_tab()
        (await scripted.client()).cut()
        await connection.wait_closed()
        with pytest.raises(ConnectionClosed):
            tab.on(Page.LoadEventFired, print)


async def test_a_listener_from_outside_the_loop(memory):
    """`on` may be called where the connection's loop does not run; `enable` follows when it does."""
    loop, tab = asyncio.get_running_loop(), memory.attach()
    asyncio._set_running_loop(None)
    try:
        tab.on("Page.loadEventFired", print)
    finally:
        asyncio._set_running_loop(loop)
    assert memory.transport.sent == []
    await asyncio.sleep(0)
    assert [command["method"] for command in memory.transport.sent] == ["Page.enable"]


# --- Chromium ---------------------------------------------------------------------------------------------------------

BUILDS = {"shell": "/usr/bin/chromium-headless-shell", "full": "/usr/bin/chromium"}


@pytest.fixture(scope="module", params=BUILDS)
def build(request, tmp_path_factory):
    if not os.path.exists(BUILDS[request.param]):
        pytest.skip(f"no {BUILDS[request.param]} on this machine")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CDPBRIDGE_CHROMIUM", BUILDS[request.param])
        chrome = Chrome.start(tmp_path_factory.mktemp("profile"))
    yield chrome
    chrome.stop()


@pytest.fixture
async def page(build, running_loop):
    async with connect(build.ws_url) as connection:
        page = await connection.new_tab()
        yield page
        if page.closed is None:
            await connection.root.send("Target.closeTarget", {"targetId": page.target_id})


@pytest.mark.chromium
@pytest.mark.parametrize("event", [Page.LoadEventFired, "Page.loadEventFired"])
async def test_fault_e03_expect_then_navigate(page, event):
    """README's snippet on a tab where nothing has been enabled."""
    heard = []
    page.on(Page.FrameNavigated, heard.append)
    async with page.expect(event) as loaded:
        await page.send(Page.navigate(SITE))
    assert loaded.event
    assert [each.frame.url for each in heard] == [SITE]


@pytest.mark.chromium
@pytest.mark.parametrize("text", [False, True])
async def test_fault_e03_each_way_to_listen(page, text):
    network = "Network.responseReceived" if text else Network.ResponseReceived
    said = "Runtime.consoleAPICalled" if text else Runtime.ConsoleAPICalled
    heard = []
    page.on(said, heard.append)
    async with page.events(network) as stream:
        await page.send(Page.navigate(SITE))
        await anext(stream)
    async with page.expect(said):
        await page.send(Runtime.evaluate("console.log(1)"))
    assert len(heard) == 1


@pytest.mark.chromium
async def test_style_sheets_need_two_domains(page):
    async with page.expect("CSS.styleSheetAdded"):
        await page.send(Page.navigate("data:text/html,<style>p { color: red }</style>"))


@pytest.mark.chromium
async def test_a_listener_for_paused_requests_pauses_none(page):
    page.on(Fetch.RequestPaused, print)
    async with page.expect(Page.LoadEventFired):
        await page.send(Page.navigate(SITE))
    with pytest.raises(CommandTimeout, match=r"Fetch is not enabled: send Fetch\.enable"):
        async with page.expect(Fetch.RequestPaused, timeout=SHORT):
            pass


@pytest.mark.chromium
async def test_a_worker_has_no_page_domain(page, running_loop):
    """`enable` fails there; its listeners, and the worker, go on."""
    workers = asyncio.Queue()

    async def setup(worker):
        worker.on("Page.loadEventFired", print)
        worker.on("Runtime.consoleAPICalled", said.append)
        workers.put_nowait(worker)

    said = []
    await page.auto_attach(setup)
    script = "new Worker(URL.createObjectURL(new Blob(['console.log(7)'])))"
    await page.send(Runtime.evaluate(script))
    async with asyncio.timeout(60):
        worker = await workers.get()
        while not said:
            await asyncio.sleep(0.01)
    assert said[0]["args"][0]["value"] == 7
    assert "Page.enable failed" in worker.hint("Page.loadEventFired")


@pytest.mark.chromium
async def test_a_listener_on_a_crashed_page_hears_the_next_one(page):
    async with page.expect(Page.LoadEventFired):
        await page.send(Page.navigate(SITE))
    with pytest.raises(TargetCrashed):
        await page.send("Page.crash")
    answered = []
    page.on(Network.ResponseReceived, answered.append)
    await page.send(Page.navigate(SITE))  # gives it a renderer again
    async with page.expect(Network.ResponseReceived):
        await page.send(Page.navigate(SITE))
    assert answered
