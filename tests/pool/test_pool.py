"""The pool: over a real server and Chromium, and over scripted ones for what these will not do."""

import asyncio
import json
import logging
import os
import signal
import sys
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import uuid4

import httpx
import pytest

import cdpbridge
from cdpbridge.errors import (
    AuthenticationError,
    ConfigurationError,
    ConnectionClosed,
    EvaluationError,
    LeaseTimeout,
    NavigationError,
    PoolClosed,
    RateLimitError,
    ServerError,
    StopFailed,
    TargetCrashed,
)
from cdpbridge.server.hosts._processes import processes_using
from cdpbridge.testing import SILENT, ScriptedBrowser
from tests import programs
from tests.conftest import until

ONE_BUILD = pytest.mark.one_build("the pool's own work: leases and rentals")

# --- over a real server -----------------------------------------------------------------------------------------------


@pytest.fixture
async def client(server):
    async with cdpbridge.at(server.base_url, server.key) as client:
        yield client
        assert [each async for each in client.browsers.list(status="active")] == []


def kill(server, browser):
    """SIGKILL to every process of a browser."""
    pids = processes_using(server.folder(browser.id))
    assert pids
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


async def owner(tab, name):
    """Sign the context; what the cookie jar held before."""
    before = await tab.evaluate("document.cookie")
    await tab.evaluate(f"document.cookie = 'owner={name}'")
    return before


@ONE_BUILD
@pytest.mark.chromium
async def test_leases_are_isolated_and_leave_nothing(client, site):
    async with cdpbridge.BrowserPool(client, size=1) as pool:
        async with pool.lease() as one, pool.lease() as other:
            assert one.browser is other.browser
            await one.tab.goto(site)
            await other.tab.goto(site)
            second = await one.new_tab()
            await second.goto(site)
            assert await owner(one.tab, "one") == ""
            assert await owner(other.tab, "other") == ""
            assert await second.evaluate("document.cookie") == "owner=one"
            assert (pool.stats.leases, pool.stats.browsers) == (2, 1)
            root = one.browser.connection.root
        assert (await root.send("Target.getBrowserContexts"))["browserContextIds"] == []
        async with pool.tab() as tab:
            await tab.goto(site)
            assert await tab.evaluate("document.cookie") == ""
        pages = [each for each in await one.browser.connection.targets() if each.type == "page"]
        assert [page.url for page in pages] == ["about:blank"]
        assert pool.receipts == []
    assert [receipt.difference for receipt in pool.receipts] == [0]
    assert (pool.receipt.paid, pool.receipt.booked) == (Decimal("0.000833"), Decimal("0.000833"))


@ONE_BUILD
@pytest.mark.chromium
async def test_runs_are_isolated_and_a_context_made_ahead_may_be_lost(client, site):
    async def visit(tab, number):
        await tab.goto(site)
        return await owner(tab, str(number))

    async with cdpbridge.BrowserPool(client, size=1, tabs_per_browser=2) as pool:
        assert [seen async for seen in pool.map(visit, range(6))] == [""] * 6
        async with pool.lease() as lease:
            root = lease.browser.connection.root

            async def contexts():
                return set((await root.send("Target.getBrowserContexts"))["browserContextIds"])

            # What was made ahead is empty; what the map has used is removed, without anything that waits for that.
            await until(lambda: not pool._removals)
            ahead = await contexts() - {lease.context_id}
            assert len(ahead) <= 2
            targets = await root.send("Target.getTargets")
            assert ahead.isdisjoint(each.get("browserContextId") for each in targets["targetInfos"])
            for each in ahead:
                await root.send("Target.disposeBrowserContext", {"browserContextId": each})
        assert [seen async for seen in pool.map(visit, range(3))] == [""] * 3
        assert pool.stats.opened == 1


@ONE_BUILD
@pytest.mark.chromium
async def test_leases_share_a_profile(client, site):
    for seen in ("", "owner=me"):
        async with cdpbridge.BrowserPool(client, size=1, profile="pool") as pool:
            async with pool.tab() as tab:
                await tab.goto(site)
                assert await owner(tab, "me; max-age=9999") == seen
            async with pool.lease() as lease:
                await lease.tab.goto(site)
                assert await owner(lease.tab, "me; max-age=9999") == "owner=me"
            pages = [each for each in await lease.browser.connection.targets() if each.type == "page"]
            assert len(pages) == 1


@ONE_BUILD
@pytest.mark.chromium
async def test_browsers_killed_and_stopped_while_it_maps(client, server, site):
    """Every result once, whatever becomes of the browsers; the money is what they have used."""
    calls, ends = [0] * 60, []

    async def visit(tab, number):
        calls[number] += 1
        if number % 20 == 10 and calls[number] == 1:
            browser = next(
                each for each in pool._fleet.browsers.values() if each.connection is tab.session.connection
            )
            if number == 30:
                await client.browsers.stop(browser.id)
            else:
                await asyncio.to_thread(kill, server, browser)
            ends.append(browser.id)
        elif number > 50:
            # More waits than the browser that is left has tabs for, so the last one to end is replaced as well.
            while pool.stats.opened < 5:
                await asyncio.sleep(0.01)
        await tab.goto(f"{site}/?{number}")
        return number, await tab.evaluate("location.search")

    seen = []
    async with cdpbridge.BrowserPool(client, size=2, tabs_per_browser=3) as pool:
        results = [
            each
            async for each in pool.map(
                visit, range(60), concurrency=6, progress=lambda done, total: seen.append((done, total))
            )
        ]
        stats = pool.stats
    assert results == [(number, f"?{number}") for number in range(60)]
    assert seen == [(done, 60) for done in range(61)]
    assert [calls[number] for number in (10, 30, 50)] == [2, 2, 2]
    assert (stats.lost, stats.leases, stats.waiting) == (3, 0, 0)
    assert stats.retried == sum(calls) - 60
    assert stats.opened == len(pool.receipts) == 5
    assert pool.receipt.difference == 0
    assert pool.receipt.billed_minutes <= 5 + 1  # one of them may have lived for more than a minute
    for browser_id in ends:
        assert (await client.browsers.get(browser_id)).status == "stopped"


@ONE_BUILD
@pytest.mark.chromium
async def test_the_users_own_failures_are_not_repeated(client, site):
    calls = []

    async def work(tab, what):
        calls.append(what)
        match what:
            case "python":
                raise KeyError(what)
            case "script":
                await tab.evaluate("nonsense()")
            case "address":
                await tab.goto("http://127.0.0.1:9/")
            case "crash":
                await tab.session.send("Page.crash")
            case _:
                return await tab.evaluate("1 + 1")

    async with cdpbridge.BrowserPool(client, size=1, tabs_per_browser=3) as pool:
        whats = ["python", "script", "address", "crash", "fine"]
        results = [each async for each in pool.map(work, whats, return_exceptions=True)]
        assert [type(each) for each in results] == [
            KeyError,
            EvaluationError,
            NavigationError,
            TargetCrashed,
            int,
        ]
        with pytest.raises(KeyError):
            await pool.run(work, "python")
        assert pool.stats.opened == 1
    assert sorted(calls) == sorted([*whats, "python"])


@ONE_BUILD
@pytest.mark.chromium
async def test_a_lease_that_takes_too_long(client):
    async with cdpbridge.BrowserPool(client, size=1, lease_timeout=timedelta(seconds=0.2)) as pool:
        with pytest.raises(LeaseTimeout, match=r"more than 0\.2 s") as caught:
            async with pool.tab() as tab:
                await tab.evaluate("new Promise(() => {})")
        assert caught.value.waiting is False
        with pytest.raises(TimeoutError) as own:
            async with pool.tab(timeout=timedelta(seconds=30)):
                raise TimeoutError("the user's own")
        assert not isinstance(own.value, LeaseTimeout)
        assert pool.stats.leases == 0


@ONE_BUILD
@pytest.mark.chromium
async def test_nothing_is_rented_after_a_failure_in_the_block(client):
    with pytest.raises(ZeroDivisionError):
        async with (
            cdpbridge.BrowserPool(client, size=2, tabs_per_browser=1) as pool,
            pool.tab(),
            pool.tab(),
        ):
            # It may get the tab that the failure gives back first; it does not end by itself then.
            waiting = asyncio.ensure_future(pool.run(lambda tab: tab.evaluate("new Promise(() => {})")))
            await asyncio.sleep(0)
            assert pool.stats.waiting == 1
            raise ZeroDivisionError
    with pytest.raises(PoolClosed):
        await waiting
    assert len(pool.receipts) == 2


@ONE_BUILD
@pytest.mark.chromium
async def test_a_pool_left_in_the_middle_of_a_map(client):
    async def forever(tab, _):
        await tab.evaluate("new Promise(() => {})")

    async with cdpbridge.BrowserPool(client, size=1, tabs_per_browser=2) as pool:
        results = pool.map(forever, range(10))
        first = asyncio.ensure_future(anext(results))
        async with asyncio.timeout(60):
            while pool.stats.leases < 2:
                await asyncio.sleep(0.01)
    with pytest.raises(PoolClosed, match="before the map was at its end"):
        await first
    assert pool.stats.leases == 0


SIGTERM = """
import asyncio, os, signal
import cdpbridge

async def forever(tab, _):
    await tab.evaluate("new Promise(() => {})")

async def main():
    async with cdpbridge.BrowserPool(size=2, tabs_per_browser=2) as pool:
        asyncio.get_running_loop().call_later(0, watch, pool)
        async for _ in pool.map(forever, range(10)):
            pass

def watch(pool):
    if pool.stats.leases == 4:
        print(*(browser.id for browser in pool._fleet.browsers.values()), flush=True)
        os.kill(os.getpid(), signal.SIGTERM)
    else:
        asyncio.get_running_loop().call_later(0.02, watch, pool)

asyncio.run(main())
"""


@ONE_BUILD
@pytest.mark.chromium
async def test_fault_a80_sigterm_while_a_pool_works(client, server):
    done = await asyncio.to_thread(
        programs.run,
        [sys.executable, "-W", "error", "-c", SIGTERM],
        env=server.environment(),
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 143, done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stdout.split()) == 2
    for browser_id in done.stdout.split():
        assert (await client.browsers.get(browser_id)).status == "stopped"


# --- over scripted ones -----------------------------------------------------------------------------------------------


class Rest:
    """A REST server that rents out one scripted browser as often as asked."""

    def __init__(self, scripted):
        self.scripted = scripted
        self.life = timedelta(minutes=60)
        self.browsers = {}
        self.creates = []  # statuses to answer instead, in their order
        self.stops = []
        self.tried = 0
        self.may_create = asyncio.Event()
        self.may_create.set()
        self.client = cdpbridge.AsyncClient(
            "key-of-tests",
            "https://rest.test/api/v2",
            max_retries=0,
            http_client=httpx.AsyncClient(transport=httpx.MockTransport(self.answer)),
        )

    @property
    def active(self):
        return sum(each["status"] == "active" for each in self.browsers.values())

    async def answer(self, request):
        path = request.url.path.removeprefix("/api/v2").strip("/").split("/")
        match request.method, path:
            case "POST", ["browsers"]:
                self.tried += 1
                if self.creates:
                    return httpx.Response(self.creates.pop(0), json={"detail": "as told"})
                await self.may_create.wait()
                return httpx.Response(201, json=self.create())
            case "GET", ["browsers", browser_id]:
                return httpx.Response(200, json=self.browsers[browser_id])
            case "PATCH", ["browsers", browser_id]:
                if self.stops:
                    return httpx.Response(self.stops.pop(0), json={"detail": "as told"})
                assert json.loads(request.content) == {"action": "stop"}
                self.browsers[browser_id] |= {
                    "status": "stopped",
                    "finishedAt": datetime.now(UTC).isoformat(),
                }
                return httpx.Response(200, json=self.browsers[browser_id])
        return httpx.Response(404, json={"detail": "no such path"})

    def create(self):
        now = datetime.now(UTC)
        browser = {
            "id": str(uuid4()),
            "status": "active",
            "cdpUrl": self.scripted.http_url,
            "startedAt": now.isoformat(),
            "timeoutAt": (now + self.life).isoformat(),
        }
        self.browsers[browser["id"]] = browser
        return browser


@pytest.fixture
async def scripted():
    async with ScriptedBrowser() as browser:
        browser.on("Target.createBrowserContext", {"browserContextId": "C"})
        yield browser


@pytest.fixture
async def rest(scripted):
    rest = Rest(scripted)
    yield rest
    assert rest.active == 0


@asynccontextmanager
async def pool_of(rest, **options):
    async with cdpbridge.BrowserPool(rest.client, **({"size": 1, "tabs_per_browser": 1} | options)) as pool:
        yield pool


async def turns(count=20):
    for _ in range(count):
        await asyncio.sleep(0)


async def test_nothing_is_rented_before_it_is_needed(rest):
    async with pool_of(rest) as pool:
        await turns()
    assert (rest.tried, pool.receipts, pool.receipt.paid) == (0, [], 0)
    assert repr(pool) == "<BrowserPool closed>"


async def test_a_waiting_lease_can_be_cancelled_at_any_moment(rest):
    """Whenever the cancellation comes, the tab goes to the next in the queue, and none is lost."""
    async with pool_of(rest) as pool:
        for moment in range(12):
            async with pool.tab():
                waiters = [asyncio.ensure_future(pool.run(_nothing)) for _ in range(3)]
                await turns(3)
                assert pool.stats.waiting == 3
            await turns(moment)
            waiters[0].cancel()
            done = await asyncio.gather(*waiters, return_exceptions=True)
            assert done[1:] == ["done", "done"]
            assert done[0] == "done" or isinstance(done[0], asyncio.CancelledError)
            assert (pool.stats.leases, pool.stats.waiting) == (0, 0)
        assert pool.stats.opened == 1


async def _nothing(tab):
    return "done"


async def test_a_cancelled_waiter_that_was_granted_in_the_same_moment(rest):
    async with pool_of(rest) as pool:
        async with pool.tab():
            first = asyncio.ensure_future(pool.run(_nothing))
            second = asyncio.ensure_future(pool.run(_nothing))
            await turns(3)
            [place] = pool._fleet.schedule.places
            first.cancel()  # its future is cancelled now, its task has its turn later
            pool._fleet.schedule.released(place, now=0)
            pool._fleet.pump()
            assert await second == "done"
            place.leases += 1
        assert first.cancelled()
        assert pool.stats.leases == 0


async def test_a_lease_waits_no_longer_than_it_may_and_says_for_what(rest):
    async with pool_of(rest) as pool, pool.tab():
        with pytest.raises(LeaseTimeout, match="1 leases are held on 1 browsers") as caught:
            async with pool.tab(wait_timeout=timedelta(seconds=0.05)):
                pytest.fail("there is a second tab")
        assert caught.value.waiting is True
        assert isinstance(caught.value, TimeoutError)
        assert pool.stats.waiting == 0


async def test_a_full_server_is_waited_for(rest, caplog):
    rest.creates = [429, 429]
    async with pool_of(rest) as pool:
        assert await pool.run(_nothing) == "done"
    assert rest.tried == 3
    assert caplog.text.count("the pool could not open a browser: POST /browsers: 429 as told") == 2


async def test_who_waited_for_a_full_server_is_told_so(rest):
    rest.creates = [429] * 1000
    async with pool_of(rest) as pool:
        waiting = asyncio.create_task(pool.run(_nothing))
        await _until(lambda: pool._fleet.schedule.failure is not None)
        with pytest.raises(LeaseTimeout, match="could not be opened: POST /browsers: 429 as told") as caught:
            async with pool.tab(wait_timeout=0.1):
                pytest.fail("there is a tab")
        waiting.cancel()
    assert isinstance(caught.value.__cause__, RateLimitError)


async def test_a_wrong_key_is_everybodys_end_at_once(rest):
    rest.creates = [401]
    async with pool_of(rest, tabs_per_browser=2) as pool:
        errors = await asyncio.gather(*(pool.run(_nothing) for _ in range(2)), return_exceptions=True)
    assert [type(error) for error in errors] == [AuthenticationError] * 2
    assert errors[0] is not errors[1]
    assert str(errors[0]) == str(errors[1]) == "POST /browsers: 401 as told"
    assert errors[0].status == 401
    assert rest.tried == 1


async def test_a_server_that_fails_again_and_again(rest):
    rest.creates = [500] * 3
    async with pool_of(rest) as pool:
        with pytest.raises(ServerError):
            await pool.run(_nothing)
        assert rest.tried == 3
        assert await pool.run(_nothing) == "done"


async def test_a_browser_is_replaced_before_its_time_is_over(rest):
    rest.life = timedelta(seconds=3)
    async with pool_of(rest) as pool:
        async with pool.tab():
            rest.life = timedelta(minutes=60)
            await asyncio.wait_for(_until(lambda: pool._fleet.schedule.places[0].phase == "draining"), 60)
            waiting = asyncio.ensure_future(pool.run(_nothing))
            await turns()
            assert not waiting.done()  # the pool is one browser large
        assert await waiting == "done"
    assert len(rest.browsers) == 2


async def _until(condition):
    while not condition():
        await asyncio.sleep(0.005)


async def test_an_idle_browser_is_given_back(rest, monkeypatch):
    monkeypatch.setattr("cdpbridge.pool._schedule._MINUTE", 0.2)
    monkeypatch.setattr("cdpbridge.pool._schedule._STOP_MARGIN", 0.0)
    async with pool_of(rest, idle_timeout=timedelta(seconds=0.05)) as pool:
        assert await pool.run(_nothing) == "done"
        await asyncio.wait_for(_until(lambda: rest.active == 0 and pool.receipts), 60)
        assert pool.stats.browsers == 0
        assert await pool.run(_nothing) == "done"
    assert len(pool.receipts) == 2


async def test_a_browser_that_cannot_clear_away_a_lease_is_not_used_again(rest, scripted):
    from cdpbridge.testing import Refusal

    async with pool_of(rest) as pool:
        async with pool.tab():
            scripted.on("Target.disposeBrowserContext", Refusal(-32000, "no"))
        scripted.on("Target.disposeBrowserContext", {})
        assert await pool.run(_nothing) == "done"
        assert pool.stats.opened == 2


async def test_a_browser_that_cannot_clear_away_a_run_is_not_used_again(rest, scripted):
    from cdpbridge.testing import Refusal

    async with pool_of(rest) as pool:
        scripted.on("Target.disposeBrowserContext", Refusal(-32000, "no"))
        assert await pool.run(_nothing) == "done"
        await until(lambda: not pool._removals)
        scripted.on("Target.disposeBrowserContext", {})
        assert await pool.run(_nothing) == "done"
        assert pool.stats.opened == 2


async def test_a_browser_that_hangs_is_lost(rest, scripted, monkeypatch):
    for name in ("_TIMEOUT", "_ALIVE_TIMEOUT"):
        monkeypatch.setattr(f"cdpbridge.pool._lease.{name}", timedelta(seconds=0.5))
    tries = []

    async def work(tab):
        tries.append(tab)
        if len(tries) == 1:
            for method in ("Browser.getVersion", "Target.disposeBrowserContext", "Page.enable"):
                scripted.on(method, SILENT)
        elif len(tries) == 2:
            for method in ("Browser.getVersion", "Target.disposeBrowserContext", "Page.enable"):
                scripted.on(method, {})
        await tab.session.send("Page.enable", timeout=timedelta(seconds=0.5))
        return "done"

    async with pool_of(rest) as pool:
        assert await pool.run(work) == "done"
        assert (pool.stats.lost, pool.stats.retried) == (1, 1)


async def test_a_browser_lost_too_often_is_told(rest, scripted):
    tries = []

    async def work(tab):
        tries.append(tab)
        await (await scripted.client(len(tries) - 1)).close(1001, "session stopped")
        await tab.session.send("Page.enable")

    async with pool_of(rest) as pool:
        with pytest.raises(ConnectionClosed):
            await pool.run(work)
    assert len(tries) == len(rest.browsers) == 3


async def test_a_result_got_before_the_end_counts(rest, scripted):
    """The browser goes after the work is done and before its lease is cleared away: nothing is repeated."""
    tries = []

    async def work(tab):
        tries.append(tab)
        await (await scripted.client()).close(1001, "session stopped")
        await tab.session.connection.wait_closed()
        return "done"

    async with pool_of(rest) as pool:
        assert await pool.run(work) == "done"
        assert len(tries) == 1


async def test_causes_are_found_in_groups_and_chains(rest, scripted):
    tries = []

    async def work(tab):
        tries.append(tab)
        if len(tries) < 3:
            await (await scripted.client(len(tries) - 1)).close(1001, "session stopped")
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(tab.session.send("Page.enable"))
        except* ConnectionClosed as group:
            if len(tries) == 1:
                raise
            raise RuntimeError("wrapped") from group
        return "done"

    async with pool_of(rest) as pool:
        assert await pool.run(work) == "done"


async def test_a_stop_that_fails_is_tried_again_at_the_end(rest, caplog):
    options = {"stop_timeout": timedelta(seconds=5)}
    async with pool_of(rest, **options) as pool:
        async with pool.tab():
            rest.stops = [400, 403]
        pool._fleet.schedule.drain(pool._fleet.schedule.places[0])
        rest.stops = [403]
        pool._fleet.pump()
        await asyncio.wait_for(_until(lambda: pool._fleet.unstopped), 60)
    assert rest.active == 0
    assert len(pool.receipts) == 1
    assert "could not be stopped" in caplog.text


async def test_a_stop_that_cannot_be_confirmed_is_told(rest):
    options = {"stop_timeout": timedelta(seconds=0.1)}
    with pytest.raises(StopFailed):
        async with pool_of(rest, **options) as pool:
            await pool.run(_nothing)
            rest.stops = [403] * 2
    with pytest.raises(KeyError) as caught:
        async with pool_of(rest, **options) as pool:
            await pool.run(_nothing)
            rest.stops = [403] * 2
            raise KeyError
    assert "could not be stopped" in caught.value.__notes__[0]
    for browser in rest.browsers.values():
        await rest.client.browsers.stop(browser["id"])
    _forget()


def _forget():
    """What is deliberately left rented is not the interpreter's to stop."""
    from cdpbridge.rental._shutdown import guard

    for core in list(guard._rented):
        core._unguard()


async def test_a_cancelled_exit_stops_all_the_same(rest):
    entered = asyncio.Event()

    async def use():
        async with pool_of(rest) as pool:
            await pool.run(_nothing)
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.ensure_future(use())
    await entered.wait()
    task.cancel()
    await turns(2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert rest.active == 0


async def test_leaving_while_a_browser_is_being_opened(rest):
    rest.may_create.clear()
    async with pool_of(rest) as pool:
        waiting = asyncio.ensure_future(pool.run(_nothing))
        await asyncio.wait_for(_until(lambda: rest.tried), 60)
        asyncio.get_running_loop().call_later(0.05, rest.may_create.set)
    assert len(rest.browsers) == 1  # it came, and was stopped
    with pytest.raises(PoolClosed):
        await waiting


async def test_a_pool_is_one_block(rest):
    pool = cdpbridge.BrowserPool(rest.client)
    with pytest.raises(PoolClosed, match="not open"):
        await pool.run(_nothing)
    async with pool:
        pass
    with pytest.raises(PoolClosed, match="was left"):
        await pool.run(_nothing)
    with pytest.raises(RuntimeError, match="one block"):
        await pool.__aenter__()


async def test_the_bar(rest, capsys):
    async with pool_of(rest, tabs_per_browser=2) as pool:
        async for _ in pool.map(lambda tab, _: _nothing(tab), range(3), progress=True):
            pass
    assert capsys.readouterr().err.startswith("3/3  1 browser  0:0")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": 0}, "size must be at least 1, not 0"),
        ({"tabs_per_browser": 0}, "tabs_per_browser"),
        ({"timeout": timedelta(0)}, "timeout must be positive"),
        ({"lease_timeout": timedelta(seconds=-1)}, "lease_timeout must be positive"),
        ({"idle_timeout": timedelta(seconds=-1)}, "idle_timeout"),
        ({"lease_timeout": timedelta(minutes=6), "timeout": timedelta(minutes=5)}, "longer than timeout"),
        ({"isolated": True, "profile": "work"}, "isolated leases see nothing of a profile"),
    ],
)
async def test_arguments_that_make_no_sense(rest, options, words):
    with pytest.raises(ConfigurationError, match=words):
        cdpbridge.BrowserPool(rest.client, **options)


async def test_a_map_of_nothing_to_do_with(rest):
    async with pool_of(rest) as pool:
        with pytest.raises(ConfigurationError, match="concurrency"):
            await anext(pool.map(_nothing, [], concurrency=0))
    assert rest.tried == 0


@pytest.fixture(autouse=True)
def talk(caplog):
    caplog.set_level(logging.INFO, "cdpbridge")
