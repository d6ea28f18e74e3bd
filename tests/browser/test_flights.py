"""A hosted browser is far away: how many round trips each step takes. Counted, not timed; see `tests/far.py`."""

import asyncio
import re
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest

import cdpbridge
from cdpbridge.browser import Tab
from cdpbridge.cdp import Connection
from cdpbridge.cdp._connection import prepare_new_tabs
from cdpbridge.errors import CommandError, NavigationError
from cdpbridge.protocol import Runtime, Target
from cdpbridge.testing import ManualClock, MemoryTransport
from cdpbridge.tunnel import open_tunnel
from cdpbridge.tunnel._address import local_address
from tests.conftest import until
from tests.far import CountingRelay

chromium = pytest.mark.chromium


@asynccontextmanager
async def relayed(address):
    """A relay to the host of an address, and the address through it."""
    where = urlsplit(address)
    relay = CountingRelay(where.hostname, where.port)
    async with relay.serving() as port:
        yield relay, where._replace(netloc=f"127.0.0.1:{port}").geturl()


# --- renting ----------------------------------------------------------------------------------------------------------


@chromium
@pytest.mark.one_build("what is asked does not depend on the build")
async def test_a_rental_takes_three_round_trips_and_its_stop_one(server, tmp_path):
    warm = 3
    async with (
        relayed(server.base_url) as (relay, base_url),
        cdpbridge.at(base_url, server.key) as client,
    ):

        async def warm_up():
            await asyncio.gather(*(client.billing.account() for _ in range(warm)))

        for profile in (None, f"far-{tmp_path.name}"):
            if profile is not None:
                await client.profiles.create(name=profile)
            await warm_up()
            # What is active, the price and the profile's id; the create; the upgrade, over a socket that was opened meanwhile.
            async with relay.counting() as opening:
                browser = await cdpbridge.open_browser(client, profile=profile)
            try:
                assert (opening.flights, opening.connections) == (3, 1)
                await warm_up()
            finally:
                async with relay.counting() as stopping:
                    receipt = await browser.stop()
            # The close frame and the order to stop; the server's answer says what it cost.
            assert (stopping.flights, stopping.connections) == (1, 0)
            assert receipt.booked is not None


# --- pages ------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def far_connection(cdp_url, *, reconnect=False):
    async with (
        relayed(cdp_url) as (relay, address),
        cdpbridge.cdp.connect(address, reconnect=reconnect, record=1_000_000) as connection,
    ):
        async with relay.counting():  # so that the first answer takes long
            prepare_new_tabs(connection)
            await connection.root.send("Browser.getVersion")  # behind it: the preparations are done, too
        yield relay, connection


def asked_for_documents(connection):
    return sum("=> " in line and "Page.getFrameTree" in line for line in connection.flight_record())


@chromium
async def test_a_page_takes_one_round_trip_and_its_first_navigation_another(cdp_url, pages):
    async with (
        far_connection(cdp_url) as (relay, connection),
        cdpbridge.cdp.connect(cdp_url) as near,
    ):
        for _ in range(2):
            async with relay.counting() as opening:
                tab = Tab(await connection.new_tab())
            # A round trip takes longer than the start of the page's process: here, another client waits for that.
            await (await near.attach(tab.target_id)).send(Runtime.evaluate("0"))
            before = asked_for_documents(connection)
            async with relay.counting() as first:
                response = await tab.goto(f"{pages.url}/")
            # One more when the page was slower than its navigation, on a busy machine: then its document is asked for.
            late = asked_for_documents(connection) - before
            assert (response.status, await response.text()) == (200, pages.pages["/"])
            async with relay.counting() as second:
                await tab.goto(f"{pages.url}/")
            assert (opening.flights, first.flights - late, second.flights) == (1, 1, 1)
            assert await tab.title() == "Start"
            await tab.close()
            assert tab.session.closed == "closed"


@chromium
async def test_pages_of_others_are_not_seen(cdp_url):
    async with (
        far_connection(cdp_url) as (_, connection),
        cdpbridge.cdp.connect(cdp_url) as other,
    ):
        heard = []
        connection.root.on(Target.AttachedToTarget, heard.append)
        first = await connection.new_tab()
        foreign = await other.new_tab()
        second = await connection.new_tab()
        assert connection.sessions == [connection.root, first, second]
        assert connection.root.children == [first, second]
        assert (first.parent, second.parent) == (connection.root, connection.root)
        assert {each.target_id for each in await connection.targets()} >= {foreign.target_id, first.target_id}
        # Another attachment to the same page is another session, as ever.
        again = await connection.attach(first.target_id)
        assert again is not first
        assert (await again.send(Runtime.evaluate("1 + 1"))).result.value == 2
        await first.detach()
        assert first.closed == "detached"
        assert (await again.send(Runtime.evaluate("1 + 1"))).result.value == 2
        assert not [event for event in heard if event.target_info.target_id == foreign.target_id]
        for each in (again, second):
            await Tab(each).close()
        await Tab(foreign).close()


@chromium
async def test_a_program_attaches_automatically_as_ever(cdp_url):
    async with far_connection(cdp_url) as (_, connection):
        before = await connection.new_tab()
        seen = []

        async def setup(child):
            seen.append(child.target_id)

        await connection.root.auto_attach(setup)
        after = await connection.new_tab()
        await until(lambda: after.target_id in seen)
        assert before.target_id in seen
        assert await Tab(after).evaluate("2 + 2") == 4
        await connection.root.send(
            "Target.setAutoAttach", {"autoAttach": False, "waitForDebuggerOnStart": False, "flatten": True}
        )
        assert await Tab(before).evaluate("2 + 2") == 4
        for each in (before, after):
            await Tab(each).close()


@chromium
@pytest.mark.one_build("what is sent does not depend on the build")
async def test_a_run_of_a_pool_takes_one_round_trip(server):
    async def nothing(_tab):
        pass

    async with (
        relayed(server.base_url) as (relay, base_url),
        cdpbridge.at(base_url, server.key) as client,
        cdpbridge.BrowserPool(client, size=1, tabs_per_browser=1) as pool,
    ):
        await pool.run(nothing)
        await until(lambda: not pool._removals)  # then the next context is made, too
        # The tab. Its context was made before; that it is removed, and the next one made, is not waited for.
        async with relay.counting() as running:
            await pool.run(nothing)
        assert running.flights == 1


@chromium
async def test_a_tunnel_asks_nothing_twice(cdp_url):
    async with relayed(cdp_url) as (relay, address):
        async with relay.counting() as finding:
            block = open_tunnel(address, bare=False)
            here = await block.__aenter__()
        try:
            # Its client is told the version that the tunnel has learnt, and gets the socket that it has opened.
            async with relay.counting() as connecting:
                connection = await cdpbridge.cdp.connect(here.cdp_url)
            async with connection:
                await connection.root.send("Browser.getVersion")
            assert (finding.flights, connecting.flights) == (2, 1)
            async with cdpbridge.cdp.connect(here.cdp_url) as second:
                await second.root.send("Browser.getVersion")
        finally:
            await block.__aexit__(None, None, None)


@chromium
async def test_a_client_that_is_sure_to_come_finds_its_socket_open(cdp_url):
    async with relayed(cdp_url) as (relay, address):
        async with relay.counting() as finding:
            block = local_address(address, tunnel=True)
            place = await block.__aenter__()
            before = relay.connections
            # the dial of two sockets; what is asked, and the upgrade; the version
            await until(lambda: relay.flights >= 3)
        try:
            async with relay.counting() as connecting:
                connection = await cdpbridge.cdp.connect(place.cdp_url)
                version = await connection.root.send("Browser.getVersion")
            await connection.close()
            assert (finding.flights, connecting.flights, relay.connections) == (3, 0, before)
            async with cdpbridge.cdp.connect(place.cdp_url) as second:
                await second.root.send("Target.getTargets")
                assert await second.root.send("Browser.getVersion") == version
        finally:
            await block.__aexit__(None, None, None)


@chromium
async def test_an_open_socket_that_no_client_takes_is_closed(cdp_url):
    async with relayed(cdp_url) as (relay, address):
        async with local_address(address, tunnel=True):
            await until(lambda: relay.connections >= 2)
        await until(lambda: not relay.open)


@chromium
async def test_after_a_reconnect_pages_go_on_and_new_ones_take_one_round_trip(cdp_url, pages):
    async with (
        far_connection(cdp_url, reconnect=True) as (relay, connection),
        cdpbridge.cdp.connect(cdp_url) as other,
    ):
        tab = Tab(await connection.new_tab())
        await tab.goto(f"{pages.url}/")
        foreign = Tab(await other.new_tab())
        reports = []
        connection.on("reconnected", reports.append)
        relay.cut()
        late = Tab(await other.new_tab())  # it comes while there is no connection
        await until(lambda: reports)
        assert reports[0].restored == (connection.root, tab.session)
        assert (reports[0].lost, reports[0].not_restored) == ((), ())
        assert connection.sessions == [connection.root, tab.session]
        assert await tab.title() == "Start"
        response = await tab.goto(f"{pages.url}/")
        assert await response.text() == pages.pages["/"]
        async with relay.counting() as opening:
            second = Tab(await connection.new_tab())
        assert opening.flights == 1
        await foreign.close()
        relay.cut()
        await until(lambda: len(reports) == 2)
        assert reports[1].restored == (connection.root, tab.session, second.session)
        for each in (tab, second, late):
            await each.close()
        assert connection.sessions == [connection.root]


# --- what can go wrong within one flight ------------------------------------------------------------------------------


class Page:
    """A page far away, over memory: the test answers its commands in the order it likes."""

    def __init__(self):
        self.transport = MemoryTransport()
        clock = ManualClock()
        self.connection = Connection(self.transport, clock=clock)
        prepare_new_tabs(self.connection)
        clock.advance(1)
        self.attached("B", "browser")
        self.answer("Target.attachToBrowserTarget", result={"sessionId": "B"})
        self.attached("S", "page")
        self.tab = Tab(self.connection.sessions[-1])

    def attached(self, session_id, kind):
        params = {"sessionId": session_id, "targetInfo": {"targetId": "T", "type": kind}}
        self.transport.event("Target.attachedToTarget", params)

    def methods(self):
        return [command["method"] for command in self.transport.sent]

    def answer(self, pattern, **reply):
        """Answer what was sent and matches: with a result, or an error."""
        for command in self.transport.sent:
            if re.fullmatch(pattern, command["method"]):
                self.transport.deliver({"id": command["id"], **(reply or {"result": {}})})

    def lifecycle(self, name, loader):
        event = {"frameId": "T", "loaderId": loader, "name": name, "timestamp": 1.0}
        self.transport.event("Page.lifecycleEvent", event, "S")


NAVIGATED = {"result": {"frameId": "T", "loaderId": "L"}}


async def test_what_a_refused_switch_was_is_said_and_it_is_sent_again():
    page = Page()
    async with page.connection:
        going = asyncio.create_task(page.tab.goto("http://a.test/"))
        await until(lambda: "Page.navigate" in page.methods())
        page.answer("Network.enable", error={"code": -32000, "message": "no"})
        page.answer(r"(Page|Inspector)\.enable|Page.setLifecycleEventsEnabled")
        page.answer("Page.navigate", **NAVIGATED)
        with pytest.raises(CommandError, match=r"Network\.enable"):
            await going
        page.transport.sent.clear()
        going = asyncio.create_task(page.tab.goto("http://a.test/"))
        await until(lambda: "Page.navigate" in page.methods())
        assert page.methods().count("Network.enable") == 1
        page.answer(r".*\.enable|Page.setLifecycleEventsEnabled")
        page.answer("Page.navigate", error={"code": -32000, "message": "Cannot navigate to invalid URL"})
        with pytest.raises(NavigationError, match="invalid URL"):
            await going
        # All is enabled now.
        page.transport.sent.clear()
        going = asyncio.create_task(page.tab.goto("http://a.test/"))
        await until(lambda: "Page.navigate" in page.methods())
        assert page.methods() == ["Page.navigate"]
        page.answer("Page.navigate", **NAVIGATED)
        page.lifecycle("commit", "L")
        page.lifecycle("load", "L")
        await going


async def test_a_document_that_came_before_its_events_were_enabled_is_asked_for():
    """Chromium passes on to the next document what the renderer of the one before has not read."""
    page = Page()
    async with page.connection:
        going = asyncio.create_task(page.tab.goto("http://a.test/"))
        await until(lambda: "Page.navigate" in page.methods())
        page.answer("Page.navigate", **NAVIGATED)
        for _ in range(5):
            await asyncio.sleep(0)
        assert "Page.getFrameTree" not in page.methods()
        page.lifecycle("DOMContentLoaded", "L")
        page.lifecycle("load", "L")
        page.answer(r".*\.enable|Page.setLifecycleEventsEnabled")
        await until(lambda: "Page.getFrameTree" in page.methods())
        assert not going.done()
        frame = {
            "id": "T",
            "loaderId": "L",
            "url": "chrome-error://chromewebdata/",
            "domainAndRegistry": "",
            "securityOrigin": "://",
            "mimeType": "text/html",
            "unreachableUrl": "http://a.test/",
            "secureContextType": "InsecureScheme",
            "crossOriginIsolatedContextType": "NotIsolated",
            "gatedAPIFeatures": [],
        }
        page.answer("Page.getFrameTree", result={"frameTree": {"frame": frame}})
        with pytest.raises(NavigationError, match=r"http://a\.test/"):
            await going
