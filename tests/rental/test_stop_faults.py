"""The stop that no fault may skip: every call on the way out of a rental fails once, one at a time, and each in several ways."""

import asyncio
import gc
import logging
import sqlite3
import sys
from contextlib import AsyncExitStack
from datetime import timedelta
from itertools import cycle
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import httpx
import pytest

import cdpbridge
from cdpbridge import Journal, Receipt
from cdpbridge._lifecycle import Deadline
from cdpbridge.api import AsyncClient, BrowserSession
from cdpbridge.api._async._billing import AsyncBilling
from cdpbridge.api._async._browsers import AsyncBrowsers
from cdpbridge.browser._events import Events
from cdpbridge.cdp import Connection
from cdpbridge.errors import StopFailed
from cdpbridge.rental import _rental, _stop
from cdpbridge.rental._options import check
from cdpbridge.rental._rental import Rental
from cdpbridge.rental._shutdown import Guard, guard
from tests.browser.test_browser import Rest, rest, scripted  # noqa: F401  # fixtures

pytestmark = pytest.mark.programs

PACKAGE = str(Path(cdpbridge.__file__).parent)
NOT_THE_WAY_OUT = (f"{PACKAGE}/testing", f"{PACKAGE}/server")
KINDS = [RuntimeError, OSError, KeyError, asyncio.CancelledError, sqlite3.OperationalError]
# A fault between the making of a coroutine and its first step leaves it without one.
LEFT_COROUTINES = pytest.mark.filterwarnings(
    "ignore:coroutine .* was never awaited:RuntimeWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
# Where a fault comes before the stop has a task of its own: what is rented then stays guarded, and the next stop works.
BEFORE = {
    "Browser.__repr__",
    "Browser.id",
    "Browser.record",
    "BrowserCore.__repr__",
    "BrowserCore._stop",
    "BrowserCore.exit",
    "BrowserCore.leave",
    "BrowserCore.rental",
    "BrowserCore.stop",
    "Opening.__aexit__",
    "_end",
    "_ended",
    "_failed",
    "to_the_end",
    "unhindered",
}


@pytest.fixture(autouse=True)
def quick(monkeypatch, caplog):
    monkeypatch.setattr("cdpbridge.rental._stop._STOP_RETRY_SECONDS", 0.01)
    caplog.set_level(logging.CRITICAL, "cdpbridge")
    caplog.set_level(logging.CRITICAL, "asyncio")  # what failed in a callback of the loop is the test's own


@pytest.fixture
def journal(tmp_path):
    return Journal(tmp_path / "journal.sqlite3")


class FailingCall:
    """Raises in one call, or resumption, of a function of the package, counted from 1; keeps the names of all."""

    def __init__(self, number, kind):
        self.number = number
        self.kind = kind
        self.names = []

    def __enter__(self):
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_):
        sys.settrace(None)

    def _trace(self, frame, event, _argument):
        file = frame.f_code.co_filename
        if event == "call" and file.startswith(PACKAGE) and not file.startswith(NOT_THE_WAY_OUT):
            self.names.append(frame.f_code.co_qualname)
            if len(self.names) == self.number:
                sys.settrace(None)
                raise self.kind("scripted")


async def leave(opening, failing):
    """Enter a block and leave it with a failing call; what was in the block, and what left it."""
    inside = await opening.__aenter__()
    try:
        with failing:
            await opening.__aexit__(None, None, None)
    except (Exception, asyncio.CancelledError) as error:
        return inside, error
    return inside, None


AT_LENGTH = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.mark.parametrize(
    ("which", "kinds"),
    [
        ("each function once", [RuntimeError, asyncio.CancelledError]),  # the one, then the other
        pytest.param("each call", [RuntimeError], marks=AT_LENGTH),
        pytest.param("each call", [asyncio.CancelledError], marks=AT_LENGTH),
    ],
)
@pytest.mark.timeout(300)
@LEFT_COROUTINES
async def test_every_call_on_the_way_out_of_a_block_fails_once(scripted, which, kinds):  # noqa: F811
    rest = Rest(scripted.http_url)  # noqa: F811
    none = FailingCall(0, RuntimeError)
    await leave(cdpbridge.open_browser(rest.client, journal="off"), none)
    assert len(none.names) > 100
    numbers = range(1, len(none.names) + 1)
    if which == "each function once":
        numbers = [none.names.index(name) + 1 for name in dict.fromkeys(none.names)]
    before, tried = set(), 0
    for number, kind in zip(numbers, cycle(kinds), strict=False):
        rest = Rest(scripted.http_url)
        failing = FailingCall(number, kind)
        browser, error = await leave(cdpbridge.open_browser(rest.client, journal="off"), failing)
        if len(failing.names) < number:  # this time a reply came sooner, and it was fewer
            continue
        name, tried = failing.names[-1], tried + 1
        if not rest.stops and not isinstance(error, StopFailed):
            before.add(name)
            assert browser._core in guard._rented, f"{name} (call {number}): neither stopped nor guarded"
        if isinstance(error, StopFailed):
            assert isinstance(error.__cause__, kind), f"{name} (call {number})"
        await browser.stop()
        assert rest.stops >= 1, f"{name} (call {number})"
    gc.collect()
    assert tried > 0.9 * len(numbers)
    assert before <= BEFORE


# --- faults that stay -------------------------------------------------------------------------------------------------


def _name(fault):
    return f"{fault[0].__name__}.{fault[1]}"


CALLS = [
    (AsyncClient, "share"),
    (_stop, "stop_advice"),
    (AsyncClient, "__aenter__"),
    (AsyncClient, "__aexit__"),
    (AsyncBilling, "account"),
    (AsyncBrowsers, "stop"),
    (AsyncExitStack, "aclose"),
    (BrowserSession, "model_copy"),
    (Connection, "close"),
    (Deadline, "used"),
    (Events, "emit"),
    (Guard, "_remove"),
    (Journal, "end"),
    (Journal, "give_up"),
    (_rental, "receipt_of"),
    (Receipt, "total"),
]


def broken(monkeypatch, owner, name, kind):
    monkeypatch.setattr(owner, name, Mock(side_effect=kind("scripted")))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fault", CALLS, ids=_name)
async def test_what_always_fails_skips_no_stop(rest, journal, monkeypatch, fault, kind):  # noqa: F811
    rest.tells_cost = False  # so that the account is read
    first = await cdpbridge.open_browser(rest.client, journal=journal)
    second = await cdpbridge.open_browser(rest.client, journal=journal)
    with monkeypatch.context() as patch:
        broken(patch, *fault, kind)
        results = await asyncio.gather(first.stop(), second.stop(), return_exceptions=True)
    if fault == (AsyncBrowsers, "stop"):
        assert all(isinstance(each, StopFailed) for each in results)
        assert all(isinstance(each.__cause__, kind) for each in results)
        assert all(entry.given_up for entry in journal.open_entries())
    else:
        assert rest.stops == 2
        assert not any(isinstance(each, StopFailed) for each in results)
    await asyncio.gather(first.stop(), second.stop())
    assert {each["status"] for each in rest.browsers.values()} == {"stopped"}
    assert rest.stops == 2
    assert first._core.over
    assert first._core not in guard._rented or fault == (Guard, "_remove")


@pytest.mark.parametrize("kind", KINDS)
async def test_one_rental_of_a_renewed_browser_cannot_be_stopped(rest, monkeypatch, kind):  # noqa: F811
    """Two rentals in one handle: the fault of the first is no reason to leave the second one running."""
    browser = await cdpbridge.open_browser(rest.client, journal="off")
    other = await cdpbridge.open_browser(rest.client, journal="off")
    browser._core.rentals.append(other._core.rental)
    stop, first = AsyncBrowsers.stop, browser._core.rentals[0].id

    async def fails_for_the_first(self, browser_id, **options):
        if browser_id == first:
            raise kind("scripted")
        return await stop(self, browser_id, **options)

    with monkeypatch.context() as patch:
        patch.setattr(AsyncBrowsers, "stop", fails_for_the_first)
        with pytest.raises(StopFailed, match=str(first)) as caught:
            await browser.stop()
    assert isinstance(caught.value.__cause__, kind)
    assert rest.stops == 1
    await browser.stop()
    await other.stop()
    assert rest.stops == 2


async def test_a_handler_of_stopped_that_raises_is_heard_in_the_log_only(rest, caplog):  # noqa: F811
    caplog.set_level(logging.ERROR, "cdpbridge")
    told = []
    async with cdpbridge.open_browser(rest.client) as browser:
        browser.on("stopped", Mock(side_effect=ValueError("of the handler")))
        browser.on("stopped", lambda: told.append(1))
    assert (rest.stops, told, browser.receipt is None) == (1, [1], False)
    assert "of the handler" in caplog.text


async def test_a_stop_cancelled_by_the_end_of_its_loop_is_done(rest):  # noqa: F811
    browser = await cdpbridge.open_browser(rest.client)
    end, answered = rest.stop, asyncio.Event()
    asked = asyncio.Event()

    async def slow(browser_id):
        asked.set()
        await answered.wait()
        return end(browser_id)

    async def answer(request, given=rest.answer):
        if request.method == "PATCH":
            return await slow(request.url.path.rsplit("/", 1)[1])
        return await given(request)

    rest.client._given_http = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    await rest.client.aclose()
    stopping = asyncio.create_task(browser.stop())
    async with asyncio.timeout(60):
        await asked.wait()
    browser._core._stopping.cancel()  # as `asyncio.run` cancels every task
    answered.set()
    assert (await stopping) is browser.receipt
    assert rest.browsers[str(browser.id)]["status"] == "stopped"


# --- without an event loop --------------------------------------------------------------------------------------------


class Held(SimpleNamespace):
    """What the guard knows of a browser."""

    __hash__ = object.__hash__


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("kind", [RuntimeError, OSError, StopFailed, KeyboardInterrupt, SystemExit])
def test_at_exit_one_that_fails_is_no_obstacle_for_the_others(kind):
    errors = {StopFailed: StopFailed("id", "no answer")}
    stops = [Mock(side_effect=errors.get(kind) or kind("scripted")), Mock()]
    ended = Guard()
    ended._rented = {Held(over=False, holder=None, stop_blocking=stop): None for stop in stops}
    if issubclass(kind, Exception):
        ended._at_exit()
    else:
        with pytest.raises(kind):
            ended._at_exit()
    assert [stop.call_count for stop in stops] == [1, 1]
    ended._rented.clear()  # it is called once more when the test run ends


def test_at_exit_a_warning_that_is_an_error_skips_no_stop(caplog):
    """`python -W error`, as these tests run: the warning about a browser that is left came before its stop."""
    caplog.set_level(logging.ERROR, "cdpbridge")
    stops = [Mock(), Mock()]
    ended = Guard()
    ended._rented = {Held(over=False, holder=None, stop_blocking=stop): None for stop in stops}
    ended._at_exit()
    assert [stop.call_count for stop in stops] == [1, 1]
    ended._rented.clear()  # it is called once more when the test run ends
    assert "still rented" in caplog.text


@pytest.mark.parametrize("name", ["end", "give_up"])
async def test_a_blocking_stop_whose_journal_fails_is_a_stop(rest, journal, monkeypatch, name):  # noqa: F811
    browser = await cdpbridge.open_browser(rest.client, journal=journal)
    asked = Mock(
        side_effect=RuntimeError("scripted") if name == "give_up" else None, return_value=browser.record
    )
    with monkeypatch.context() as patch:
        broken(patch, Journal, name, sqlite3.OperationalError)
        patch.setattr(_rental, "stop_now", lambda browser_id, **_address: asked(browser_id))
        if name == "give_up":
            with pytest.raises(StopFailed) as caught:
                browser._core.stop_blocking()
            assert isinstance(caught.value.__cause__, RuntimeError)
        else:
            browser._core.stop_blocking()
    asked.assert_called_once_with(browser.id)
    await browser.stop()


# --- the way in -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "fault",
    [(Journal, "rented"), (Rental, "__init__"), (Guard, "add"), (Rental, "connect")],
    ids=_name,
)
async def test_what_fails_after_the_create_stops_what_it_brought(rest, journal, monkeypatch, fault, kind):  # noqa: F811
    with monkeypatch.context() as patch:
        broken(patch, *fault, kind)
        with pytest.raises(kind):
            await cdpbridge.open_browser(rest.client, journal=journal)
    assert (rest.count("POST", "/browsers"), rest.stops) == (1, 1)
    assert journal.open_entries() == []


# --- reap -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [RuntimeError, OSError, KeyError])
async def test_a_reap_goes_on_after_a_fault(rest, journal, monkeypatch, kind):  # noqa: F811
    browsers = [await cdpbridge.open_browser(rest.client, journal=journal) for _ in range(2)]
    for entry in journal.open_entries():
        journal.give_up(entry.rental)
    get = AsyncBrowsers.get

    async def fails_for_the_first(self, browser_id):
        if browser_id == browsers[0].id:
            raise kind("scripted")
        return await get(self, browser_id)

    with monkeypatch.context() as patch:
        patch.setattr(AsyncBrowsers, "get", fails_for_the_first)
        done = await cdpbridge.reap(rest.client, journal=journal)
    assert sorted(each.outcome for each in done) == ["failed", "stopped"]
    for browser in browsers:
        await browser.stop()


def test_the_default_of_stop_timeout_is_half_a_minute():
    assert check(Mock(spec=AsyncClient), {}).stop_timeout == timedelta(seconds=30)
