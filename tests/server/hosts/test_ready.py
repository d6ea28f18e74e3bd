"""Browsers that run before they are ordered: taken, replaced, given up, and like any other for who gets one."""

import asyncio
import os
import signal
import time
from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

import httpx
import pytest

from cdpbridge.cdp import Connection, connect
from cdpbridge.errors import BrowserStartFailed, CDPError
from cdpbridge.server.gateway import Registry
from cdpbridge.server.hosts import BrowserOptions, BrowserSpec, Builds, LocalHosts, _ready
from cdpbridge.server.hosts._ready import ReadyBrowsers
from cdpbridge.server.limits import read_machine
from cdpbridge.server.profiles import ProfileStore
from tests.conftest import until
from tests.folders import browsers_folder
from tests.isolation.kernel import needs_isolation

ONE_BUILD = pytest.mark.one_build("the host's own table; what a browser shows has both builds below")

# What a page and a client can find out about a browser that has just been rented.
FOUND = """[
  history.length, document.cookie, document.referrer, document.URL, document.visibilityState, name, origin,
  innerWidth, innerHeight, outerWidth, outerHeight, screenX, screenY, devicePixelRatio, navigator.userAgent,
  performance.getEntriesByType('navigation').length, performance.getEntriesByType('resource').length,
]"""


async def evaluate(session, expression):
    options = {"expression": expression, "returnByValue": True, "awaitPromise": True}
    return (await session.send("Runtime.evaluate", options))["result"].get("value")


async def seen(browser):
    """What the first client sees of a new browser, and when the time of its first page begins."""
    async with connect(browser["cdpUrl"]) as connection:
        root = connection.root

        async def titled():
            """The targets once they have loaded: one that was started for this order may not have yet."""
            found = (await root.send("Target.getTargets"))["targetInfos"]
            return all(each["title"] for each in found) and found

        # Before anything is attached.
        targets = [
            {name: value for name, value in each.items() if name not in {"targetId", "browserContextId"}}
            for each in sorted(await until(titled), key=lambda each: each["url"])
            # The server's own extension in the full build: its worker comes and goes, in any browser.
            if each["type"] != "service_worker"
        ]
        [page] = [each for each in await connection.targets() if each.type == "page"]
        tab = await connection.attach(page.target_id)
        entries = await tab.send("Page.getNavigationHistory")
        found = {
            "targets": targets,
            "version": await root.send("Browser.getVersion"),
            "contexts": (await root.send("Target.getBrowserContexts"))["browserContextIds"],
            "cookies": (await root.send("Storage.getCookies"))["cookies"],
            "window": (await root.send("Browser.getWindowForTarget", {"targetId": page.target_id}))["bounds"],
            "history": [entries["currentIndex"], [each["url"] for each in entries["entries"]]],
            "page": await evaluate(tab, FOUND),
        }
        began = await evaluate(tab, "performance.timeOrigin")
    async with httpx.AsyncClient() as http:
        base = browser["cdpUrl"]
        for path in ("version", "list"):
            listed = (await http.get(f"{base}/json/{path}")).json()
            each = listed if isinstance(listed, dict) else listed[0]
            found[path] = [sorted(each), each.get("Browser"), each.get("url"), each.get("title")]
    return found, began


async def ready(server, but=None):
    """The place of the browser that waits; not `but`."""
    hosts = server.app.state.services.hosts

    def waits():
        [place] = [each[0].place.id for each in hosts._ready._waiting] or [None]
        return place if place != but else None

    return await until(waits)


async def pressure(server):
    base = str(server.http.base_url).partition("/api/")[0]
    return (await server.http.get(f"{base}/pressure")).json()


async def place_of(server, browser):
    return (await server.app.state.services.store.rental(UUID(browser["id"]))).place_id


@pytest.mark.chromium
@pytest.mark.parametrize(
    ("build", "isolation"), [("shell", "none"), pytest.param("full", "require", marks=needs_isolation)]
)
async def test_an_order_gets_the_browser_that_waits_and_nothing_shows_of_that(
    make_server, site, build, isolation, monkeypatch
):
    settings = {"browser_build": build, "isolation": isolation, "proxies": {"de": "direct"}}
    async with make_server(warm_browsers=1, **settings) as server:
        profile = await server.profile()
        place = await ready(server)
        # Not for an order that changes its start: these are the ones to compare with.
        cold = await server.rent(profileId=profile)
        assert await place_of(server, cold) == UUID(cold["id"])
        expected, _ = await seen(cold)
        await server.stop(cold)
        assert await ready(server) == place

        before = time.time() * 1000
        with monkeypatch.context() as patch:
            # An order waits for as few answers of the browser as it can.
            patch.setattr(Connection, "attach", attached_too_late)
            browser = await server.rent(proxyCountryCode="de")
        assert await place_of(server, browser) == place != UUID(browser["id"])
        found, began = await seen(browser)
        assert found == expected
        assert began >= before - 1  # a clock of milliseconds
        assert await ready(server, place)  # replaced

        # It is on the net now, and its files are the rental's.
        async with connect(browser["cdpUrl"]) as connection:
            tab = await connection.new_tab()
            await tab.send("Page.enable")
            async with tab.expect("Page.loadEventFired"):
                await tab.send("Page.navigate", {"url": site})
            save = "document.body.innerHTML = '<a download=note.txt href=\"data:,note\">'; document.links[0].click()"
            await evaluate(tab, save)
            listing = f"/browsers/{browser['id']}/downloads"
            files = await until(lambda: listed(server, listing))
        assert [each["path"] for each in files] == ["note.txt"]
        stopped = await server.stop(browser)
        assert float(stopped["proxyUsedMb"]) > 0
        assert [each["host"] for each in stopped["hostTraffic"]] == ["127.0.0.1"]
        assert [each["path"] for each in await listed(server, listing)] == [each["path"] for each in files]
    assert not list((server.data_dir / "files" / "browsers").glob(str(place)))


async def attached_too_late(_connection, _target_id):
    raise CDPError("this was to be done before")


async def listed(server, path):
    answer = await server.http.get(path)
    assert answer.status_code == 200, answer.text
    return answer.json()["files"]


@pytest.mark.chromium
@ONE_BUILD
async def test_orders_that_need_a_start_of_their_own_or_are_refused_leave_it_where_it_is(make_server):
    proxies = {"de": "http://user:secret@proxy.invalid:3128"}
    async with make_server(warm_browsers=1, max_browsers=1, isolation="none", proxies=proxies) as server:
        place = await ready(server)
        own = {"host": "127.0.0.1", "port": 9, "username": "u", "password": "p", "ignoreCertErrors": True}
        for order in (
            {"browserScreenWidth": 800, "browserScreenHeight": 600},
            {"customProxy": own},
            # Switches of Chromium, where it is not isolated: UDP would go around the proxy and the list.
            {"proxyCountryCode": "de"},
            {"allowedHosts": ["example.com"]},
        ):
            browser = await server.rent(**order)
            assert await place_of(server, browser) == UUID(browser["id"]), order
            # The project has its one browser; the one that waits is in no project's limit, and not for a refused order.
            assert (await server.http.post("/browsers", json={})).status_code == 429
            assert await ready(server) == place
            await server.stop(browser)
        account = await server.account()
        assert (account["activeSessionCount"], server.app.state.services.rentals.states()["active"]) == (0, 0)
        assert await place_of(server, await server.rent()) == place


@pytest.mark.chromium
@ONE_BUILD
async def test_one_that_ends_or_hangs_while_it_waits_is_replaced_and_not_handed_out(make_server, monkeypatch):
    monkeypatch.setattr("cdpbridge.server.hosts._first_page._RENEWAL_SECONDS", 0.5)
    async with make_server(warm_browsers=1, stop_timeout_seconds=0.5) as server:
        first = await ready(server)
        os.kill(server.main_process({"id": str(first)}), signal.SIGKILL)
        second = await ready(server, first)
        assert not (browsers_folder(server.data_dir) / str(first)).exists()

        hung = server.main_process({"id": str(second)})
        os.kill(hung, signal.SIGSTOP)
        browser = await server.rent()
        assert await place_of(server, browser) not in {first, second}
        assert await server.cookies(browser) == set()
        await until(lambda: not server.processes({"id": str(second)}))


@pytest.mark.chromium
@ONE_BUILD
async def test_one_that_exits_while_it_is_handed_over_is_replaced_and_its_order_has_the_files_of_another(
    make_server, monkeypatch
):
    """The order has not ended with it, and the folders of its files are not removed with it."""
    async with make_server(warm_browsers=1) as server:
        place = await ready(server)
        [waiting] = [each for each, _ in server.app.state.services.hosts._ready._waiting]

        async def exits(connection, spec):
            if connection is waiting.connection:
                os.kill(server.main_process({"id": str(place)}), signal.SIGKILL)
                await until(lambda: not waiting.running)
                await asyncio.sleep(0)  # what watches it has seen that

        monkeypatch.setattr("cdpbridge.server.hosts._browser.open_first_page", exits)
        browser = await server.rent()
        assert await place_of(server, browser) != place
        assert not (browsers_folder(server.data_dir) / str(place)).exists()
        async with connect(browser["cdpUrl"]) as connection:
            tab = await connection.new_tab()
            save = "document.body.innerHTML = '<a download=note.txt href=\"data:,note\">'; document.links[0].click()"
            await evaluate(tab, save)
            await until(lambda: listed(server, f"/browsers/{browser['id']}/downloads"))


@pytest.mark.chromium
@ONE_BUILD
@needs_isolation
async def test_one_reads_the_files_that_every_order_may_read(make_server, tmp_path):
    given = tmp_path / "given.txt"
    given.write_text("given")
    async with make_server(warm_browsers=1, isolation="require", files=[given]) as server:
        place = await ready(server)
        browser = await server.rent()
        assert await place_of(server, browser) == place
        async with connect(browser["cdpUrl"]) as connection:
            tab = await connection.new_tab(given.as_uri())
            await until(lambda: evaluate(tab, "document.body.innerText === 'given'"))


@pytest.mark.chromium
@ONE_BUILD
async def test_memory_is_for_orders_first(make_server, monkeypatch):
    """An order ends what waits when it cannot use it; what it can use, it takes: that costs no more memory."""
    hosts = None

    def short(*folders):
        left = 0 if hosts is not None and hosts.ready else 1 << 40
        return replace(read_machine(*folders), memory_available=left)

    # Else what waits may have been ended before the order comes.
    monkeypatch.setattr("cdpbridge.server.rentals._pressure.Pressure.reason", lambda _: None)
    monkeypatch.setattr("cdpbridge.server.rentals._pressure.read_machine", short)
    async with make_server(warm_browsers=1) as server:
        place = await ready(server)
        hosts = server.app.state.services.hosts
        usual = await server.rent()
        assert await place_of(server, usual) == place
        await server.stop(usual)
        await until(lambda: hosts.ready)
        other = await server.rent(browserScreenWidth=900, browserScreenHeight=700)
        assert await place_of(server, other) == UUID(other["id"])
        await server.stop(other)


@pytest.mark.chromium
@ONE_BUILD
async def test_fault_b12_a_killed_server_leaves_no_ready_browser_and_keeps_the_files_of_a_rented_one(
    spawn_server,
):
    async def is_ready(server):
        return (await pressure(server))["readyBrowsers"] == 1

    async with spawn_server(warm_browsers=1) as server:
        await until(lambda: is_ready(server))
        [place] = server.folders()
        browser = await server.rent()
        await until(lambda: is_ready(server))
        assert browser["id"] not in {each.name for each in server.folders()}
        async with connect(browser["cdpUrl"]) as connection:
            tab = await connection.new_tab()
            save = "document.body.innerHTML = '<a download=note.txt href=\"data:,note\">'; document.links[0].click()"
            await evaluate(tab, save)
            listing = f"/browsers/{browser['id']}/downloads"
            await until(lambda: listed(server, listing))
        await server.end(signal.SIGKILL)
        left = server.folders()
        assert place in left
        assert len(left) == 2
    async with spawn_server() as server:
        assert not server.folders()
        assert not server.processes()
        assert (await server.browser(browser))["status"] == "stopped"
        assert [each["path"] for each in await listed(server, listing)] == ["note.txt"]
        assert [each.name for each in (server.data_dir / "files" / "browsers").iterdir()] == [browser["id"]]


class Scripted:
    """A browser that has no process."""

    def __init__(self):
        self.id = uuid4()
        self.running = True
        self.waited = False
        self.ended = False

    async def begin_waiting(self):
        assert not self.waited

    async def discard(self, _frame):
        self.ended = True


class Start:
    """Starts that succeed, fail or wait as told."""

    def __init__(self):
        self.made = []
        self.error = None
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.begun = 0

    async def __call__(self):
        self.begun += 1
        await self.go_on.wait()
        if self.error is not None:
            raise self.error
        self.made.append(Scripted())
        return self.made[-1]


@pytest.fixture
async def keeping():
    """A pool over scripted starts, closed at the end."""
    pools = []

    def keeping(number=1, *, start=None, strain=lambda: None, **options):
        start = start or Start()
        pool = ReadyBrowsers(number, start, may_start=lambda: True, strain=strain, **options)
        pool.open()
        pools.append((pool, start))
        return pool, start

    yield keeping
    for pool, start in pools:
        await pool.close()
        assert (await pool.take()) is None
        assert all(browser.ended for browser in start.made if not getattr(browser, "taken", False))


async def take(pool):
    browser = await pool.take()
    if browser is not None:
        browser.taken = True
    return browser


async def test_so_many_are_kept_and_the_oldest_is_taken_first(keeping):
    pool, start = keeping(2)
    await until(lambda: pool.waiting == 2)
    assert await take(pool) is start.made[0]
    await until(lambda: pool.waiting == 2)
    assert start.begun == 3


async def test_the_successor_of_one_that_was_taken_starts_a_moment_later_however_many_are_taken(
    keeping,
):
    pool, start = keeping(3)
    await until(lambda: pool.waiting == 3)
    taken_at = asyncio.get_running_loop().time()
    await take(pool)
    for _ in range(5):
        pool.look()
        await asyncio.sleep(0)
    assert start.begun == 3
    at = pool._not_before
    await take(pool)
    assert pool._not_before == at  # or a stream of orders would find none in the end
    await until(lambda: start.begun == 5 and pool.waiting == 3)
    assert asyncio.get_running_loop().time() >= at > taken_at


async def test_an_old_one_is_replaced(keeping):
    pool, start = keeping(age_seconds=0.05)
    await until(lambda: pool.waiting)
    pool.look()
    await until(lambda: pool.look() or (start.made[0].ended and pool.waiting))


async def test_an_order_waits_for_one_that_starts_already_but_two_do_not_wait_for_one(keeping):
    start = Start()
    start.go_on.clear()
    pool, _ = keeping(start=start)
    await until(lambda: start.begun)
    first = asyncio.create_task(take(pool))
    await asyncio.sleep(0)
    assert await take(pool) is None
    start.go_on.set()
    assert await first is start.made[0]


@pytest.mark.parametrize("late", [False, True])
async def test_an_order_that_is_cancelled_leaves_the_browser_that_it_waited_for(keeping, late):
    start = Start()
    start.go_on.clear()
    pool, _ = keeping(start=start)
    await until(lambda: start.begun)
    order = asyncio.create_task(pool.take())
    await asyncio.sleep(0)
    if late:  # it has its answer, and has not seen it
        start.go_on.set()
        while not start.made:
            await asyncio.sleep(0)
        assert not order.done()
    order.cancel()
    await asyncio.wait({order})
    assert order.cancelled()
    start.go_on.set()
    await until(lambda: pool.waiting == 1)
    assert await take(pool) is start.made[0]


async def test_a_start_that_fails_answers_the_order_that_waits_and_is_tried_again(keeping):
    start = Start()
    start.error = BrowserStartFailed("no binary")
    start.go_on.clear()
    pool, _ = keeping(start=start)
    await until(lambda: start.begun)
    order = asyncio.create_task(take(pool))
    await asyncio.sleep(0)
    start.go_on.set()
    assert await order is None
    begun = start.begun
    start.error = None
    for _ in range(3):
        pool.look()
        await asyncio.sleep(0)
    assert start.begun == begun  # not at once
    await until(lambda: pool.waiting == 1)


async def test_one_that_exits_is_not_handed_out(keeping):
    pool, start = keeping()
    await until(lambda: pool.waiting)
    [lost] = start.made
    lost.running = False
    pool.lost(lost.id)
    await until(lambda: pool.waiting and lost.ended)
    assert await take(pool) is not lost
    pool.lost(lost.id)  # again, it does nothing


async def test_one_that_cannot_be_stopped_cleanly_holds_up_no_order(keeping, caplog):
    pool, start = keeping(2)
    await until(lambda: pool.waiting == 2)

    async def fails(_frame):
        start.made[0].ended = True
        raise OSError("no such device")

    start.made[0].discard = fails
    assert await pool.release()
    assert all(each.ended for each in start.made[:2])
    assert "was not stopped cleanly" in caplog.text


async def test_one_that_exits_in_the_moment_it_is_ready_is_not_kept(keeping):
    class Dead(Start):
        async def __call__(self):
            browser = await super().__call__()
            browser.running = len(self.made) > 1
            return browser

    pool, start = keeping(start=Dead())
    await until(lambda: pool.waiting)
    assert start.made[0].ended
    assert len(start.made) == 2


async def test_under_strain_none_starts_and_only_short_memory_ends_those_that_wait(keeping):
    why = None
    pool, start = keeping(strain=lambda: why)
    await until(lambda: pool.waiting)
    why = "cpu"
    pool.look()
    await asyncio.sleep(0)
    assert pool.waiting == 1
    why = "memory"
    pool.look()
    await until(lambda: start.made[0].ended)
    assert (pool.waiting, start.begun) == (0, 1)
    why = None
    pool.look()
    await until(lambda: pool.waiting == 1)
    assert await pool.release()
    assert not await pool.release()


# --- started ahead of an order that is about to come ------------------------------------------------------------------


async def test_one_that_was_started_ahead_is_for_the_order_that_comes_meanwhile_and_is_not_replaced(keeping):
    pool, start = keeping(0)
    start.go_on.clear()
    pool.start_ahead()
    pool.start_ahead()  # there is one for the next order
    order = asyncio.create_task(take(pool))
    await until(lambda: start.begun == 1)
    start.go_on.set()
    browser = await order
    assert [browser] == start.made
    assert not browser.waited  # as one that is started when it is ordered
    pool.look()
    await asyncio.sleep(0)
    assert (start.begun, pool.waiting) == (1, 0)


async def test_one_that_was_started_ahead_ends_when_no_order_comes(keeping, monkeypatch):
    monkeypatch.setattr(_ready, "_AHEAD_SECONDS", 0.0)
    pool, start = keeping(0)
    pool.start_ahead()
    await until(lambda: start.made and start.made[0].waited)
    await until(lambda: pool.look() or start.made[0].ended)
    assert (start.begun, pool.waiting) == (1, 0)


async def test_none_is_started_ahead_under_strain_nor_by_a_pool_that_is_closed(keeping):
    why = "cpu"
    pool, start = keeping(0, strain=lambda: why)
    pool.start_ahead()
    await asyncio.sleep(0)
    assert not start.begun
    why = None
    await pool.close()
    pool.start_ahead()
    await asyncio.sleep(0)
    assert not start.begun


async def test_the_browser_of_an_order_that_was_cancelled_has_waited(keeping):
    pool, start = keeping(0)
    start.go_on.clear()
    pool.start_ahead()
    order = asyncio.create_task(pool.take())
    await until(lambda: start.begun)
    start.go_on.set()
    while not start.made:
        await asyncio.sleep(0)
    order.cancel()
    await asyncio.wait({order})
    await until(lambda: pool.waiting == 1)
    assert (await take(pool)).waited


@pytest.mark.chromium
@ONE_BUILD
async def test_one_that_was_started_ahead_outlives_the_removal_of_what_a_killed_server_has_left(tmp_path):
    tmp_path.chmod(0o711)
    root = tmp_path / "browsers"
    left = root / str(uuid4())
    (left / "profile").mkdir(parents=True)
    root.chmod(0o711)
    second, minute = timedelta(seconds=1), timedelta(minutes=1)
    builds = Builds.found("shell", None)
    hosts = LocalHosts(
        root,
        ProfileStore(tmp_path / "profiles"),
        Registry(),
        BrowserOptions(builds, (), minute, second, minute, minute, minute),
        concurrent_starts=1,
        queue_timeout=minute,
    )
    try:
        hosts.start_ahead((tmp_path,))  # for an order that no browser of this host would suit
        assert not hosts.ready
        hosts.start_ahead(())
        await until(lambda: hosts.ready)
        [place] = {each.name for each in root.iterdir()} - {left.name}
        await hosts.recover([])
        assert [each.name for each in root.iterdir()] == [place]
        spec = BrowserSpec(uuid4())
        placement = await hosts.start(spec, on_exit=lambda _: None, on_limit=lambda *_: None)
        assert str(placement.place_id) == place
    finally:
        await hosts.close()
    assert not list(root.iterdir())
