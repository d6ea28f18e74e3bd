"""`cdpbridge.sync.BrowserPool`: leases that threads hold, and every way out of its block."""

import inspect
import signal
import sys
import threading
import time
from datetime import timedelta

import pytest

import cdpbridge
from cdpbridge import sync
from cdpbridge._concurrency import LoopThread
from cdpbridge.errors import AuthenticationError, ConfigurationError, LeaseTimeout, PoolClosed
from cdpbridge.sync import _browser, _pool
from cdpbridge.testing import SILENT, ScriptedBrowser
from tests import programs
from tests.pool.test_pool import Rest, _forget

ONE_BUILD = pytest.mark.one_build("the blocking API runs the asynchronous one")


def rental_threads():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("cdpbridge")]


@pytest.fixture(autouse=True)
def no_thread_is_left():
    """None but those of fixtures that other files share."""
    before = rental_threads()
    yield
    until(lambda: rental_threads() == before)  # one that has handed over its result is about to end


def until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, inspect.getsource(condition)
        time.sleep(0.01)


# --- on real browsers -------------------------------------------------------------------------------------------------


@ONE_BUILD
@pytest.mark.chromium
def test_a_pool_without_an_event_loop(server, site):
    def signed(tab, name):
        tab.goto(site)
        tab.evaluate(f"document.cookie = 'name={name}'")
        return threading.current_thread(), tab.evaluate("document.cookie.match(/name=(\\w+)/)[1]")

    with sync.BrowserPool(sync.at(server.base_url, server.key), size=2, tabs_per_browser=2) as pool:
        results = list(pool.map(signed, ["a", "b", "c", "d", "e"]))
        assert [name for _, name in results] == ["a", "b", "c", "d", "e"]
        assert threading.main_thread() not in [thread for thread, _ in results]
        with pool.lease() as lease:
            assert lease.context_id
            assert lease.new_tab().evaluate("1 + 1") == 2
            assert len(lease.browser.tabs()) >= 2
            browser_id = lease.browser.id
            assert not lease.lost
        assert pool.run(signed, "f") == (threading.main_thread(), "f")
        assert pool.stats.leases == 0
    assert pool.receipt.difference == 0
    with sync.at(server.base_url, server.key) as client:
        assert client.browsers.get(browser_id).status == "stopped"


PROGRAM = """
import os, signal, sys, threading, time
from cdpbridge import sync

def forever(tab, number):
    tab.evaluate("new Promise(() => {})")

def strike():
    while pool.stats.leases < 4:
        time.sleep(0.02)
    print(*(browser.id for browser in pool._pool._fleet.browsers.values()), flush=True)
    for _ in range(int(sys.argv[2])):
        os.kill(os.getpid(), getattr(signal, sys.argv[1]))

with sync.BrowserPool(size=2, tabs_per_browser=2) as pool:
    threading.Thread(target=strike).start()
    for _ in pool.map(forever, range(10)):
        pass
"""


@ONE_BUILD
@pytest.mark.chromium
@pytest.mark.parametrize(
    ("number", "times", "status"),
    [("SIGTERM", 1, 143), ("SIGTERM", 3, 143), ("SIGINT", 1, -signal.SIGINT), ("SIGHUP", 1, 129)],
)
def test_fault_a80_signals_while_a_pool_works(server, number, times, status):
    done = programs.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, number, str(times)],
        env=server.environment(),
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == status, done.stderr
    assert "cdpbridge-map" not in done.stderr
    assert len(done.stdout.split()) == 2
    with sync.at(server.base_url, server.key) as client:
        for browser_id in done.stdout.split():
            assert client.browsers.get(browser_id).status == "stopped"


# --- over scripted ones -----------------------------------------------------------------------------------------------


@pytest.fixture
def scripted():
    with LoopThread() as loop:
        browser = loop.run(_entered(ScriptedBrowser()))
        browser.on("Target.createBrowserContext", {"browserContextId": "C"})
        yield browser
        loop.run(browser.__aexit__(None, None, None))


async def _entered(browser):
    return await browser.__aenter__()


@pytest.fixture
def rest(scripted):
    rest = Rest(scripted)
    yield rest
    assert rest.active == 0


def pool_of(rest, **options):
    return sync.BrowserPool(rest.client, **({"size": 1, "tabs_per_browser": 1} | options))


def ask(tab, item="A.b"):
    tab.send(item)
    return item


def test_a_lease_that_takes_too_long(rest, scripted):
    scripted.on("A.slow", SILENT)
    with pool_of(rest) as pool:
        with pytest.raises(LeaseTimeout, match=r"more than 0\.2 s"), pool.tab(timeout=0.2) as tab:
            with pytest.raises(LeaseTimeout, match=r"more than 0\.2 s"):
                tab.send("A.slow")
            with pytest.raises(LeaseTimeout, match=r"more than 0\.2 s"):
                tab.send("A.b")
        with pytest.raises(LeaseTimeout) as caught, pool.tab(timeout=0.1) as tab:
            tab.send("A.slow")
        assert not caught.value.waiting
        with (
            pool.tab() as tab,
            pytest.raises(LeaseTimeout, match="no tab within"),
            pool.tab(wait_timeout=0.1),
        ):
            pass
        assert pool.run(ask) == "A.b"
    with pytest.raises(PoolClosed, match=r"lease of this tab has ended"):
        tab.send("A.b")


def test_work_is_repeated_when_its_browser_is_lost(rest, scripted):
    tries = []

    def end(client, _command):
        for browser in rest.browsers.values():
            browser["status"] = "stopped"
        client.cut()
        return SILENT

    def fragile(tab, item):
        tries.append(item)
        return ask(tab, "A.end" if len(tries) == 1 else "A.b")

    scripted.on("A.end", end)

    with pool_of(rest) as pool:
        assert pool.run(fragile, "x") == "A.b"
        assert pool.stats.retried == 1
        tries.clear()
        assert list(pool.map(fragile, ["y"])) == ["A.b"]
        assert (tries, pool.stats.retried) == (["y", "y"], 2)


def test_failures_are_the_readers(rest):
    def fail(tab, item):
        if item == 1:
            raise KeyError("mine")
        if item == 2:
            raise SystemExit(3)
        if item == 3:
            raise StopIteration
        return item

    with pool_of(rest, tabs_per_browser=4) as pool:
        with pytest.raises(KeyError, match="mine"):
            list(pool.map(fail, [1]))
        results = list(pool.map(fail, range(5), return_exceptions=True))
        assert (results[0], type(results[1]), results[4]) == (0, KeyError, 4)
        assert "SystemExit(3) was raised in a thread of a map" in str(results[2])
        assert isinstance(results[3], RuntimeError)
        with pytest.raises(KeyError, match="mine"), pool.tab():
            raise KeyError("mine")
        with pytest.raises(StopIteration), pool.tab():
            raise StopIteration
        with pytest.raises(KeyboardInterrupt), pool.tab():
            raise KeyboardInterrupt
        assert pool.stats.leases == 0


def test_items_may_block_and_use_the_pool(rest):
    told = []

    def items():
        for number in range(3):
            with pool.tab() as tab:
                ask(tab)
            yield number

    with pool_of(rest, tabs_per_browser=2) as pool:
        assert list(pool.map(lambda tab, item: item, items(), concurrency=1)) == [0, 1, 2]
        list(pool.map(lambda tab, item: item, [1, 2], progress=lambda *so_far: told.append(so_far)))
    assert told == [(0, 2), (1, 2), (2, 2)]


def test_a_map_that_is_left_ends_its_work(rest, scripted):
    scripted.on("A.slow", SILENT)
    failed = []

    def work(tab, item):
        try:
            return ask(tab, item)
        except PoolClosed as error:
            failed.append(str(error))
            raise

    with pool_of(rest, tabs_per_browser=3) as pool:
        for _ in pool.map(work, ["A.b", "A.slow", "A.slow"]):
            until(lambda: sum(each["method"] == "A.slow" for each in scripted.commands) == 2)
            break
        until(lambda: len(failed) == 2)
        assert "its map was left" in failed[0]
        assert pool.run(ask) == "A.b"


def test_a_pool_that_is_left_while_threads_work(rest, scripted, caplog):
    scripted.on("A.slow", SILENT)
    ends = []

    def hold():
        try:
            with pool.tab() as tab:
                tab.send("A.slow")
        except PoolClosed as error:
            ends.append(str(error))

    def wait():
        try:
            with pool.tab():
                pass
        except PoolClosed as error:
            ends.append(str(error))

    with pool_of(rest) as pool:
        threads = [threading.Thread(target=hold)]
        threads[0].start()
        until(lambda: any(each["method"] == "A.slow" for each in scripted.commands))
        threads.append(threading.Thread(target=wait))
        threads[1].start()
        until(lambda: pool.stats.waiting == 1)
    for thread in threads:
        thread.join()
    assert sorted(ends) == [
        "the pool was closed while a lease waited for a tab",
        "the pool was closed while this lease was held",
    ]
    assert not caplog.records


def test_a_pool_is_one_block(rest):
    pool = pool_of(rest)
    with pytest.raises(PoolClosed, match="not open"), pool.tab():
        pass
    with pool:
        with pytest.raises(RuntimeError, match="one block"), pool:
            pass
        lease = pool.lease()
        with lease:
            pass
        with pytest.raises(RuntimeError, match="entered already"), lease:
            pass
        with pytest.raises(ConfigurationError, match="timeout"):
            pool.tab(timeout=-1)
        with pytest.raises(ConfigurationError, match="concurrency"):
            pool.map(ask, [], concurrency=0)
    with pytest.raises(PoolClosed, match="its block was left"):
        pool.run(ask)
    with pytest.raises(RuntimeError, match="one block"), pool:
        pass
    with pytest.raises(ConfigurationError, match="size"):
        sync.BrowserPool(rest.client, size=0)
    with pytest.raises(TypeError, match="no option 'profil'"):
        sync.BrowserPool(rest.client, profil="work")


def test_nothing_can_be_rented(rest):
    rest.creates = [401]
    with pool_of(rest) as pool, pytest.raises(AuthenticationError):
        pool.run(ask)


def test_a_stop_that_cannot_be_confirmed_is_told(rest):
    options = {"stop_timeout": timedelta(seconds=0.2), "journal": "off"}
    with pytest.raises(cdpbridge.errors.StopFailed), pool_of(rest, **options) as pool:
        pool.run(ask)
        rest.stops = [500] * 50
    for browser in rest.browsers.values():
        browser["status"] = "stopped"
    _forget()


# --- inside an event loop ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [sync.BrowserPool, sync.open_browser])
async def test_a_coroutine_is_told_what_to_write(block):
    def helper():
        with block(sync.at("https://rest.test/api/v2", "key-of-tests")):
            pass

    with pytest.raises(RuntimeError, match=r"inside a coroutine, and in a notebook, write `async with"):
        helper()


@ONE_BUILD
@pytest.mark.chromium
def test_playwrights_own_loop_is_not_in_the_way(server):
    """In a program of its own: Playwright leaves its loop set in this thread."""
    program = """
from playwright.sync_api import sync_playwright
from cdpbridge import sync

with sync_playwright(), sync.open_browser() as browser:
    print(browser.new_tab().evaluate("6 * 7"))
"""
    done = programs.run(
        [sys.executable, "-c", program],
        env=server.environment(),
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.stdout.strip() == "42", done.stderr


# --- the same names ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asynchronous", "blocking"),
    [(cdpbridge.BrowserPool, sync.BrowserPool), (cdpbridge.pool.Lease, sync.Lease)],
    ids=["BrowserPool", "Lease"],
)
def test_the_same_operations(asynchronous, blocking):
    def public(kind):
        names = {name for name in dir(kind) if not name.startswith("_")}
        return names | {"receipts"} if "receipt" in names else names

    attributes = {"browser", "context_id", "lost"}  # of the asynchronous lease
    assert public(blocking) - attributes == public(asynchronous) - {"open", "close"} - attributes
    for name in ({"__init__"} if "receipt" in public(blocking) else set()) | public(blocking) - attributes - {
        "receipts"
    }:
        theirs, ours = getattr(asynchronous, name), getattr(blocking, name)
        assert callable(theirs) == callable(ours), name
        if callable(theirs):
            found, expected = (
                [(each.name, each.kind, each.default) for each in inspect.signature(it).parameters.values()]
                for it in (ours, theirs)
            )
            assert found == expected, name


def test_every_name_is_public():
    assert set(_browser.__all__) | set(_pool.__all__) == set(sync.__all__)
