"""`cdpbridge.sync`: the blocking API on real browsers, and every way out of its blocks."""

import gc
import inspect
import os
import signal
import sys
import threading
import time
import weakref
from datetime import timedelta
from decimal import Decimal

import pytest

import cdpbridge
from cdpbridge import sync
from cdpbridge._concurrency import LoopThread
from cdpbridge.browser import Dialog, Response, Route
from cdpbridge.browser._download import Download
from cdpbridge.browser._downloads import DownloadWaiter
from cdpbridge.errors import ConfigurationError, NavigationError
from tests import programs

ONE_BUILD = pytest.mark.one_build(
    "the blocking API runs the asynchronous one, which is tested on both builds"
)

PAGE = "data:text/html,<title>Here</title><a id=a download=report.csv href='data:text/csv,1'>a</a><input type=file id=i multiple>"


def loops():
    return [thread for thread in threading.enumerate() if thread.name == "cdpbridge"]


def eventually(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture(autouse=True)
def no_loop_thread_is_left():
    yield
    assert loops() == []


@pytest.fixture
def client(server):
    return sync.at(server.base_url, server.key)


# --- on real browsers -------------------------------------------------------------------------------------------------


@pytest.mark.chromium
@pytest.mark.parametrize("build", ["shell", "full"])
@pytest.mark.usefixtures("quick_local")
def test_a_program_without_an_event_loop(tmp_path, environment, site, nobody, build):
    heard = []
    with sync.local(data_dir=tmp_path / "data", browser_build=build) as client:
        pid = client.server_pid
        with sync.open_browser(client, profile="work", timeout=timedelta(minutes=5)) as browser:
            browser.on("stopped", lambda: heard.append("stopped"))
            tab = browser.new_tab(site)
            assert (tab.title(), tab.current_url()) == ("Sign in", f"{site}/")
            assert "<form" in tab.content()
            assert tab.evaluate("Promise.resolve(6 * 7)") == 42
            assert tab.send("Runtime.evaluate", {"expression": "1"})["result"]["value"] == 1
            assert tab.screenshot(tmp_path / "it.jpg", quality=50).startswith(b"\xff\xd8")
            assert tab.pdf(print_background=False).startswith(b"%PDF")
            with pytest.raises(NavigationError, match="REFUSED"):
                tab.goto(nobody)
            response = tab.goto(site)
            assert (response.status, response.headers["content-type"]) == (200, "text/html; charset=utf-8")
            assert "Sign in" in response.text()
            said = []
            stop = tab.on(
                "console", lambda message: said.append((message.text, tab.title()))
            )  # may call the API
            tab.on("dialog", lambda dialog: dialog.accept("Ada"))
            tab.route("*/api/who", lambda route: route.fulfill(json={"title": tab.title()}))
            assert tab.evaluate("fetch('/api/who').then(r => r.json())") == {"title": "Sign in"}
            assert tab.evaluate("prompt('name?')") == "Ada"
            tab.evaluate("console.log('said')")
            eventually(lambda: said == [("said", "Sign in")])
            stop()
            tab.unroute("*/api/who")
            tab.fill("text=Name", "ada")
            tab.fill("[name=password]", "lovelace")
            tab.press("Enter")
            tab.wait_for_selector("text=Welcome, ada")
            assert tab.wait_for_expression("document.body.dataset.ready") == "true"
            assert tab.back().url == tab.forward().url.replace("/account", "/") or tab.reload().ok
            tab.set_viewport(500, 400)
            tab.set_cookies([{"name": "a", "value": "b"}])
            assert {each["name"] for each in tab.storage_state()["cookies"]} >= {"a"}
            tab.block(types=["image"])
            tab.goto(PAGE)
            tab.click("body")
            with tab.expect_downloads(1) as several:
                tab.evaluate("a.click()")
            assert several.downloads[0].read() == b"1"
            with tab.expect_download() as waiter:
                tab.evaluate("a.click()")
            path = waiter.download.save(tmp_path)
            assert (path.name, path.read_text()) == ("report.csv", "1")
            tab.set_input_files("#i", [path, str(path)])
            assert tab.evaluate("i.files.length") == 2
            assert len(browser.tabs()) >= 2
            tab.close()
            assert client.browsers.get(browser.id).status == "active"
            assert browser.refund_now > Decimal("0.04")
        assert client.browsers.get(browser.id).status == "stopped"
        assert client.server_pid == pid
    assert heard == ["stopped"]
    assert browser.receipt.difference == 0
    assert browser.receipt.billed_minutes == 1
    with pytest.raises(RuntimeError, match="event loop does not run"):
        browser.new_tab()


@ONE_BUILD
@pytest.mark.chromium
def test_the_server_of_a_blocking_client_runs_as_long_as_its_browser(tmp_path, environment, quick_local):
    client = sync.local(data_dir=tmp_path, browser_build="shell")
    with sync.open_browser(client, journal=tmp_path / "journal.sqlite3") as browser:
        assert client.server_pid is not None
        [entry] = cdpbridge.Journal(tmp_path / "journal.sqlite3").open_entries()
        assert entry.place == "local"  # so that `reap` never asks what listens on that port later
    assert client.server_pid is None
    assert browser.receipt.difference == 0


@ONE_BUILD
@pytest.mark.chromium
def test_a_blocking_client_of_the_environment(environment):
    environment.setenv("CDPBRIDGE_PROVIDER", "local")
    environment.setenv("CDPBRIDGE_BROWSER_BUILD", "shell")
    with sync.Client() as client, sync.open_browser(client) as browser:
        assert client.browsers.get(browser.id).status == "active"
    assert browser.receipt.difference == 0


@ONE_BUILD
@pytest.mark.chromium
def test_a_block_that_fails_stops_its_browser(client):
    with pytest.raises(KeyError, match="mine"), sync.open_browser(client) as browser:
        raise KeyError("mine")
    assert browser.receipt is not None
    with client:
        assert client.browsers.get(browser.id).status == "stopped"


@ONE_BUILD
@pytest.mark.chromium
def test_a_stop_before_the_end_of_the_block(client):
    with sync.open_browser(client) as browser:
        assert browser.stop() is browser.receipt
    assert len(browser.receipts) == 1


@ONE_BUILD
@pytest.mark.chromium
def test_an_opening_rents_once(client):
    with client:
        before = {each.id for each in client.browsers.list()}
        opening = sync.open_browser(client)
        with opening as browser, pytest.raises(RuntimeError, match="opened already"), opening:
            pass
        assert browser.receipt is not None
        with pytest.raises(RuntimeError, match="opened already"), opening:
            pass
        made = [each for each in client.browsers.list() if each.id not in before]
        assert [(each.id, each.status) for each in made] == [(browser.record.id, "stopped")]


@ONE_BUILD
@pytest.mark.chromium
def test_a_handler_that_calls_the_browser_is_told_so_and_does_not_hang(client, caplog):
    with sync.open_browser(client) as browser:
        browser.on("stopped", browser.tabs)
    assert "would wait for itself" in caplog.text
    assert browser.receipt is not None


@ONE_BUILD
@pytest.mark.chromium
def test_handlers_have_threads_of_their_own(client, site, tmp_path):
    """As many at once as there are requests, each with a call that needs a thread of the library's."""
    together = threading.Barrier(40)

    def handle(route):
        together.wait(60)
        other.screenshot(tmp_path / f"{route.request.url.rpartition('/')[2]}.png")
        route.fulfill(json=1)

    with sync.open_browser(client) as browser:
        tab, other = browser.new_tab(site), browser.new_tab(site)
        tab.route("*/all/*", handle)
        script = "Promise.all([...Array(40).keys()].map(n => fetch(`/all/${n}`, {cache: 'no-store'}).then(r => r.json())))"
        assert tab.evaluate(script, timeout=90) == [1] * 40
    assert len(list(tmp_path.glob("*.png"))) == 40


@ONE_BUILD
@pytest.mark.chromium
def test_a_handler_that_goes_on_does_not_keep_the_block_open(client, site):
    begun, release, ended = threading.Event(), threading.Event(), threading.Event()

    def handle(_event):
        begun.set()
        release.wait(60)
        ended.set()

    with sync.open_browser(client) as browser:
        tab = browser.new_tab(site)
        tab.on("console", handle)
        tab.evaluate("console.log(1)")
        assert begun.wait(60)
    assert browser.record.status == "stopped"
    assert not ended.is_set()
    release.set()
    assert ended.wait(60)


@ONE_BUILD
@pytest.mark.chromium
def test_routes_are_forgotten_with_their_removal(client, site):
    with sync.open_browser(client) as browser:
        tab = browser.new_tab(site)
        handlers = weakref.WeakSet()
        for _ in range(3):
            handler = Handler()
            handlers.add(handler)
            tab.route("*/a", handler)
            tab.route("*/b", handler)
            tab.unroute("*/a", handler)
            assert tab.evaluate("fetch('/a').then(r => r.status)") == 404
            assert tab.evaluate("fetch('/b').then(r => r.status)") == 418
            tab.unroute("*/b")
        del handler
        eventually(lambda: gc.collect() >= 0 and not handlers)


class Handler:
    def __call__(self, route):
        route.fulfill(status=418)


async def not_plain(_given):
    pytest.fail("never called")


@ONE_BUILD
@pytest.mark.chromium
def test_handlers_are_plain_functions(client):
    with sync.open_browser(client) as browser:
        tab = browser.new_tab()
        for add in (lambda: tab.route("*", not_plain), lambda: tab.on("console", not_plain)):
            with pytest.raises(ConfigurationError, match="is a plain function: write `def`"):
                add()
    pool = sync.BrowserPool(client)
    for use in (lambda: pool.run(not_plain), lambda: pool.map(not_plain, [1])):
        with pytest.raises(ConfigurationError, match="the work of a pool of the blocking API is a plain"):
            use()


def test_nothing_to_rent(server):
    with (
        pytest.raises(cdpbridge.errors.AuthenticationError),
        sync.open_browser(sync.at(server.base_url, "another-key")),
    ):
        pass


def test_options_are_checked_at_the_call(client):
    with pytest.raises(ConfigurationError, match=r"use timedelta\(minutes=5\)"):
        sync.open_browser(client, timeout=5)
    with pytest.raises(TypeError, match="no option 'profil'; did you mean 'profile'"):
        sync.open_browser(client, profil="work")
    with pytest.raises(ConfigurationError, match="timeout must"):
        sync.at("https://rest.test/api/v2", "key-of-tests", timeout="5")


# --- ways out ---------------------------------------------------------------------------------------------------------

PROGRAM = """
import os, signal, sys, threading, time
from cdpbridge import sync

signals = [getattr(signal, name) for name in sys.argv[1].split(",")]

def strike():
    for number in signals:
        os.kill(os.getpid(), number)

with sync.open_browser() as browser:
    print(browser.id, flush=True)
    browser.on("stopped", lambda: print("stopped", flush=True))
    strike()
    time.sleep(60)
"""


@ONE_BUILD
@pytest.mark.chromium
@pytest.mark.parametrize(
    ("signals", "status"),
    [("SIGTERM", 143), ("SIGHUP", 129), ("SIGINT", -signal.SIGINT), ("SIGTERM,SIGTERM,SIGTERM", 143)],
)
def test_fault_a80_signals(server, client, signals, status):
    done = programs.run(
        [sys.executable, "-c", PROGRAM, signals],
        env=server.environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == status, done.stderr
    browser_id, *said = done.stdout.split()
    assert said == ["stopped"]
    with client:
        browser = client.browsers.get(browser_id)
    assert (browser.status, browser.end_reason) == ("stopped", "stopped_by_caller")
    assert browser.browser_cost == Decimal("0.000833")


@ONE_BUILD
@pytest.mark.chromium
def test_a_fork_does_not_stop_what_its_parent_rented(server, client):
    program = """
import os, sys
from cdpbridge import sync

with sync.open_browser() as browser:
    child = os.fork()
    if child == 0:
        try:
            browser.tabs()
        except RuntimeError as error:
            sys.exit(5 if "fork" in str(error) else 6)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
    assert browser.new_tab().evaluate("6 * 7") == 42
    print(browser.id)
"""
    done = programs.run(
        [sys.executable, "-c", program],
        env=server.environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with client:
        assert client.browsers.get(done.stdout.strip()).end_reason == "stopped_by_caller"


@ONE_BUILD
@pytest.mark.chromium
def test_interrupted_while_it_rents(server, client):
    program = """
import os, signal
from cdpbridge import sync

with sync.open_browser(on_progress=lambda text: os.kill(os.getpid(), signal.SIGINT) if text == "connecting" else None):
    print("inside")
"""
    with client:
        before = {browser.id for browser in client.browsers.list()}
    done = programs.run(
        [sys.executable, "-c", program],
        env=server.environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (-signal.SIGINT, ""), done.stderr
    with client:
        [rented] = [browser for browser in client.browsers.list() if browser.id not in before]
        assert rented.status == "stopped"


@ONE_BUILD
@pytest.mark.chromium
def test_the_end_of_the_interpreter_inside_a_block(server, client, tmp_path):
    program = "from cdpbridge import sync\nopening = sync.open_browser()\nprint(opening.__enter__().id)"
    done = programs.run(
        [sys.executable, "-W", "ignore::ResourceWarning", "-c", program],
        env=server.environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with client:
        assert client.browsers.get(done.stdout.strip()).status == "stopped"


# --- the same operations ----------------------------------------------------------------------------------------------

ONLY_ASYNCHRONOUS = {
    cdpbridge.Browser: {"connection"},  # and with it everything that needs its event loop
    cdpbridge.Tab: set(),
    Download: set(),
    DownloadWaiter: set(),
    Dialog: set(),
    Response: set(),
    Route: set(),
}
ONLY_BLOCKING = {
    Route: {"answered", "request"},  # attributes there
    cdpbridge.Tab: {"send"},
    Download: {"url", "suggested_filename"},  # attributes there
}
PAIRS = [
    (cdpbridge.Browser, sync.Browser),
    (cdpbridge.Tab, sync.Tab),
    (Download, sync.Download),
    (DownloadWaiter, sync.DownloadWaiter),
    (Dialog, sync.Dialog),
    (Response, sync.Response),
    (Route, sync.Route),
]


def members(kind):
    return {name for name in dir(kind) if not name.startswith("_")}


@pytest.mark.parametrize(("asynchronous", "blocking"), PAIRS, ids=lambda kind: kind.__qualname__)
def test_the_same_operations(asynchronous, blocking):
    assert members(blocking) - ONLY_BLOCKING.get(asynchronous, set()) == (
        members(asynchronous) - ONLY_ASYNCHRONOUS[asynchronous]
    )
    for name in members(asynchronous) & members(blocking):
        theirs, ours = getattr(asynchronous, name), getattr(blocking, name)
        assert callable(theirs) == callable(ours), name
        if callable(theirs):
            expected = inspect.signature(theirs).parameters.values()
            found = inspect.signature(ours).parameters.values()
            assert [(each.name, each.kind, each.default) for each in found] == [
                (each.name, each.kind, each.default) for each in expected
            ], name


# --- the thread -------------------------------------------------------------------------------------------------------


def test_work_of_a_block_is_cancelled_and_waited_for():
    ends = []

    async def forever():
        import asyncio

        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ends.append("cleaned up")

    async def start():
        import asyncio

        started.append(asyncio.create_task(forever()))
        await asyncio.sleep(0)

    started = []
    with LoopThread() as loop:
        loop.run(start())
    assert ends == ["cleaned up"]


def test_interrupts_cancel_the_work_and_wait_for_its_end():
    """Ctrl-C twice: the first one cancels the stop's caller, and neither leaves its thread."""
    ends = []

    async def stop():
        import asyncio

        os.kill(os.getpid(), signal.SIGINT)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            os.kill(os.getpid(), signal.SIGINT)
            ends.append("done")

    with pytest.raises(KeyboardInterrupt), LoopThread() as loop:
        loop.run(stop())
    assert ends == ["done"]


@ONE_BUILD
@pytest.mark.chromium
def test_a_client_that_a_request_has_opened_stays_open_after_a_rental(tmp_path, quick_local):
    client = sync.local(data_dir=tmp_path / "data", browser_build="shell")
    try:
        list(client.profiles.list())
        pid = client.server_pid
        with sync.open_browser(client):
            assert client.server_pid == pid
        assert (client.is_open, client.server_pid) == (True, pid)
    finally:
        client.close()
