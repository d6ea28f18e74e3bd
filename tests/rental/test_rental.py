"""Lost creates, deadlines, renewals and money of a rental, over a REST server that does as told and a scripted browser."""

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import httpx
import pytest

import cdpbridge
from cdpbridge import Journal, Tariff
from cdpbridge.errors import (
    APITimeoutError,
    BrowserExpired,
    ConfigurationError,
    ConnectionClosed,
    ServerError,
    StopFailed,
)
from cdpbridge.rental._rental import stop_noting
from cdpbridge.rental.journal import Outcome
from tests.browser.test_browser import Rest, rest, scripted  # noqa: F401  # fixtures
from tests.rental.test_journal import an_entry

SECOND = timedelta(seconds=1)


@pytest.fixture
def journal(tmp_path):
    return Journal(tmp_path / "journal.sqlite3")


@pytest.fixture
def now_rest(rest):  # noqa: F811
    """A server whose clock goes as ours."""
    rest.started = datetime.now(UTC)
    return rest


def lose_answers(rest, error, times=1):  # noqa: F811
    """Creates are done, but their answers never come."""
    made, left = rest.create, [error] * times

    async def create(body):
        answer = await made(body)
        if left:
            given = left.pop()
            if isinstance(given, Exception):
                raise given
            return httpx.Response(given, json={"detail": "as told"})
        return answer

    rest.create = create


# --- lists of hosts ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lists", [{"allowed_hosts": ["a.example"]}, {"denied_hosts": ["a.example"]}, {"allowed_hosts": []}]
)
async def test_a_server_that_does_not_limit_hosts_rents_nothing_that_stays(rest, journal, lists):  # noqa: F811
    """The cloud takes fields that it does not know, and says nothing: a browser without limits is not what was ordered."""
    with pytest.raises(ConfigurationError, match=next(iter(lists))) as caught:
        await cdpbridge.open_browser(rest.client, journal=journal, **lists)
    assert "was stopped" in caught.value.__notes__[0]
    assert (rest.count("POST", "/browsers"), rest.stops, journal.open_entries()) == (1, 1, [])


async def test_a_server_that_limits_hosts_names_them_again(rest, journal):  # noqa: F811
    made, bodies = rest.create, []

    async def create(body):
        bodies.append(body)
        answer = await made(body)
        named = {name: body[name] for name in ("allowedHosts", "deniedHosts")}
        return httpx.Response(answer.status_code, json=answer.json() | named)

    rest.create = create
    lists = {"allowed_hosts": ("a.example",), "denied_hosts": ["b.example"]}
    async with cdpbridge.open_browser(rest.client, journal=journal, **lists) as browser:
        assert (browser.record.allowed_hosts, browser.record.denied_hosts) == (["a.example"], ["b.example"])
    assert bodies[0] | {"allowedHosts": ["a.example"], "deniedHosts": ["b.example"]} == bodies[0]


@pytest.mark.parametrize("name", ["allowed_hosts", "denied_hosts"])
def test_what_is_no_list_of_hosts_is_refused_at_the_call(name):
    for wrong in ("example.com", [1]):
        with pytest.raises(ConfigurationError, match=f"{name} is a list of hosts"):
            cdpbridge.open_browser("local", **{name: wrong})


# --- A81: the create whose answer never came --------------------------------------------------------------------------


@pytest.mark.parametrize("loss", [httpx.ReadTimeout("late"), httpx.ReadError("reset"), 502, 504, 500])
async def test_fault_a81_a_lost_answer_is_settled_by_the_list_and_never_doubled(now_rest, journal, loss):
    await now_rest.create(None)  # somebody else's, from before
    lose_answers(now_rest, loss)
    async with cdpbridge.open_browser(now_rest.client, journal=journal) as browser:
        assert str(browser.id) == list(now_rest.browsers)[1]
        assert await browser.connection.root.send("Browser.getVersion") == {}
    assert (now_rest.count("POST", "/browsers"), now_rest.stops, journal.open_entries()) == (1, 1, [])


async def test_fault_a81_a_server_that_keeps_keys_is_asked_again(now_rest, journal):
    lose_answers(now_rest, httpx.ReadTimeout("late"))
    first, made = now_rest.create, {}

    async def create(body):
        key = now_rest.keys[-1]
        if key in made:
            return httpx.Response(201, json=made[key])
        try:
            return await first(body)
        finally:
            made[key] = list(now_rest.browsers.values())[-1]
            made[key]["endReason"] = None  # as our server's answers have

    now_rest.create = create
    async with cdpbridge.open_browser(now_rest.client, journal=journal) as browser:
        assert [str(browser.id)] == list(now_rest.browsers)
    assert now_rest.keys[0] == now_rest.keys[1]
    assert now_rest.stops == 1


async def test_fault_a81_a_newcomer_of_another_order_is_not_taken(now_rest, journal):
    made = now_rest.create

    async def lose(_body):
        await made({"timeout": 7})  # another machine rents at the same moment
        raise httpx.ReadTimeout("late")

    now_rest.create = lose
    with pytest.raises(APITimeoutError) as caught:
        await cdpbridge.open_browser(
            now_rest.client, journal=journal, timeout=timedelta(minutes=5), connect_timeout=SECOND
        )
    assert "cdpbridge reap --provider" in caught.value.__notes__[0]
    assert now_rest.stops == 0
    assert journal.open_entries()[0].given_up


async def test_fault_a81_while_others_rent_their_newcomers_are_left_alone(now_rest, journal):
    lose_answers(now_rest, httpx.ReadTimeout("late"))
    rival = an_entry(
        place=now_rest.client._base_url,
        account=journal.fingerprint("key-of-tests"),
        active_before=frozenset(),
        timeout=None,
        intended_at=datetime.now(UTC),
    )
    journal.intend(rival)
    with pytest.raises(APITimeoutError) as caught:
        await cdpbridge.open_browser(now_rest.client, journal=journal, connect_timeout=SECOND)
    assert "whose they are is not clear" in caught.value.__notes__[0]
    assert now_rest.stops == 0


async def test_fault_a81_cancelled_while_a_lost_create_is_settled(now_rest, journal):
    now_rest.may_create.clear()
    lose_answers(now_rest, httpx.ReadTimeout("late"))

    async def opened():
        return await cdpbridge.open_browser(now_rest.client, journal=journal)

    task = asyncio.create_task(opened())
    await asyncio.wait_for(now_rest.created.wait(), 60)
    task.cancel()
    now_rest.may_create.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (now_rest.count("POST", "/browsers"), now_rest.stops, journal.open_entries()) == (1, 1, [])


async def test_fault_a81_a_plain_server_error_rents_nothing_and_says_so(now_rest, journal):
    async def refuse(_body):
        return httpx.Response(503, json={"detail": "no"})

    now_rest.create = refuse
    with pytest.raises(ServerError):
        await cdpbridge.open_browser(now_rest.client, journal=journal)
    [entry] = journal.entries()
    assert entry.outcome is Outcome.REFUSED


# --- A80, A82, A83: the journal in every way out ----------------------------------------------------------------------


@pytest.mark.parametrize("awaits", range(0, 60, 3))
async def test_fault_a80_cancelled_at_any_await(rest, journal, awaits):  # noqa: F811
    """Wherever it hits, what was rented is stopped once, and the journal has no open entry."""

    async def use():
        async with cdpbridge.open_browser(rest.client, journal=journal):
            await asyncio.sleep(0)

    task = asyncio.create_task(use())
    for _ in range(awaits):
        await asyncio.sleep(0)
        if task.done():
            break
    task.cancel()
    await asyncio.wait({task})
    assert journal.open_entries() == []
    assert all(browser["status"] == "stopped" for browser in rest.browsers.values())
    assert rest.stops == len(rest.browsers)
    assert not rest.client.is_open


async def test_fault_a82_a_stop_that_failed_is_left_to_reap(rest, journal):  # noqa: F811
    rest.on_stop = [500] * 100
    with pytest.raises(StopFailed, match="cdpbridge stop") as caught:
        async with cdpbridge.open_browser(rest.client, journal=journal, stop_timeout=SECOND) as browser:
            pass
    assert caught.value.browser_id == browser.id
    [entry] = journal.open_entries()
    assert (entry.given_up, entry.browser_id) == (True, browser.id)
    rest.on_stop = []
    [done] = await cdpbridge.reap(rest.client, journal=journal)
    assert str(done).endswith("stopped, 0.025 USD saved")
    assert journal.open_entries() == []
    browser._core._unguard()


async def test_fault_a83_a_second_owner_stops_it_and_the_journal_counts_once(rest, journal):  # noqa: F811
    async with cdpbridge.open_browser(rest.client, journal=journal) as browser:
        rest.end(str(browser.id))
    [entry] = journal.entries()
    assert entry.receipt.paid == browser.receipt.paid == Decimal("0.025")


async def test_what_the_journal_says(rest, journal):  # noqa: F811
    options = {"profile": "work", "proxy_country": "de", "timeout": timedelta(minutes=15), "label": "nightly"}
    async with cdpbridge.open_browser(
        rest.client, journal=journal, tariff=Tariff(Decimal("0.02")), **options
    ) as browser:
        [entry] = journal.open_entries()
        assert (entry.profile, entry.country, entry.label) == ("work", "de", "nightly")
        assert (entry.browser_id, entry.timeout_at) == (browser.id, browser.timeout_at)
        assert str(entry.rental) == rest.keys[-1]
        assert entry.tariff == Tariff(Decimal("0.02"))
    assert "key-of-tests" not in repr(journal.entries())


# --- A84, A87: the deadline -------------------------------------------------------------------------------------------


def last(rest, seconds):  # noqa: F811
    """Browsers of this server may run for some seconds."""
    rest.timeout = lambda _body: timedelta(seconds=seconds)


async def test_fault_a84_expiring_is_told_before_the_time_is_over(rest):  # noqa: F811
    last(rest, 6)
    told = asyncio.get_running_loop().create_future()
    async with cdpbridge.open_browser(rest.client, expiring_before=timedelta(seconds=5.9)) as browser:
        browser.on("expiring", told.set_result)
        left = await asyncio.wait_for(told, 60)
        assert timedelta(0) < left <= timedelta(seconds=3)  # at half of so short a time


async def test_fault_a84_a_block_that_lost_its_browser_to_the_timeout_says_so(rest, scripted):  # noqa: F811
    with pytest.raises(BrowserExpired, match="started at 12:00:00") as caught:
        async with cdpbridge.open_browser(rest.client) as browser:
            rest.used = timedelta(minutes=60)
            rest.end(str(browser.id))
            await (await scripted.client()).close(1001, "session expired")
            await browser.connection.wait_closed()
            await browser.connection.root.send("Browser.getVersion")
    assert isinstance(caught.value.__cause__, ConnectionClosed)
    assert caught.value.timeout_at == caught.value.started_at + timedelta(hours=1)


@pytest.mark.parametrize("skew", [timedelta(days=-30), timedelta(days=30)])
async def test_fault_a87_a_clock_that_is_wrong_changes_neither_deadline_nor_money(rest, skew):  # noqa: F811
    rest.started = datetime.now(UTC) + skew
    rest.used = timedelta(minutes=3)
    told = []
    async with cdpbridge.open_browser(rest.client) as browser:
        browser.on("expiring", told.append)
        await browser.connection.root.send("Browser.getVersion")
        assert (browser.cost_now, browser.refund_now) == (Decimal("0.000833"), Decimal("0.049167"))
        assert timedelta(minutes=59) < browser._core.rental.deadline.timeout <= timedelta(hours=1)
    assert told == []
    assert browser.receipt.billed_minutes == 3


# --- renewal ----------------------------------------------------------------------------------------------------------


async def test_renewal_without_a_profile_overlaps(rest, journal):  # noqa: F811
    last(rest, 1)
    events = []
    handed = asyncio.Event()

    async def renew(browser):
        old, new = rest.browsers.values()
        events.append((old["status"], new["status"], str(browser.id) == new["id"]))
        rest.timeout = lambda _body: timedelta(hours=1)
        await browser.new_tab()
        handed.set()

    async with cdpbridge.open_browser(rest.client, journal=journal, renew=renew) as browser:
        rest.timeout = lambda _body: timedelta(hours=1)
        first = browser.id
        await asyncio.wait_for(handed.wait(), 60)
        while len(journal.open_entries()) > 1:
            await asyncio.sleep(0.01)
        assert [entry.browser_id for entry in journal.open_entries()] == [browser.id]
        assert browser.id != first
        assert await browser.connection.root.send("Browser.getVersion") == {}
    assert events == [("active", "active", True)]
    assert (len(browser.receipts), rest.stops, journal.open_entries()) == (2, 2, [])
    assert browser.receipt.paid == sum(receipt.paid for receipt in browser.receipts)
    assert not rest.client.is_open


async def test_failures_of_handlers_are_told_after_a_renewal_too(rest, scripted):  # noqa: F811
    last(rest, 1)
    told = []
    renewed = asyncio.Event()

    async def renew(_browser):
        rest.timeout = lambda _body: timedelta(hours=1)
        renewed.set()

    options = {"renew": renew, "on_handler_error": lambda *failure: told.append(failure)}
    async with cdpbridge.open_browser(rest.client, **options) as browser:
        await asyncio.wait_for(renewed.wait(), 60)
        await (await scripted.client(1)).send("no JSON")
        await browser.connection.root.send("Browser.getVersion")
    assert [(session, method) for _error, session, method in told] == [(None, "")]


@pytest.mark.parametrize("kind", [KeyError, KeyboardInterrupt, asyncio.CancelledError])
async def test_a_stop_that_fails_after_an_interrupt_is_logged(kind, caplog):
    class Stuck:
        async def stop(self):
            raise failed

    failed, error = StopFailed(UUID(int=1), "no answer"), kind()
    await stop_noting(Stuck(), error)
    assert error.__notes__ == [str(failed)]
    assert [record.message for record in caplog.records] == ([] if kind is KeyError else error.__notes__)


async def test_renewal_with_a_profile_saves_it_first(rest):  # noqa: F811
    last(rest, 1)
    order = []
    renewed = asyncio.Event()

    async def save(_left):
        await asyncio.sleep(0)
        order.append(f"saved, {rest.stops} stopped")

    async with cdpbridge.open_browser(rest.client, profile=UUID(int=7), renew=True) as browser:
        rest.timeout = lambda _body: timedelta(hours=1)
        browser.on("expiring", save)
        browser.on("renewed", renewed.set)
        await asyncio.wait_for(renewed.wait(), 60)
        order.append(f"{rest.stops} stopped, {len(rest.browsers)} rented")
        assert browser.profile_id == UUID(int=7)
        await browser.new_tab()
    assert order == ["saved, 0 stopped", "1 stopped, 2 rented"]


async def test_a_stop_during_a_renewal_leaves_nothing(rest, journal):  # noqa: F811
    last(rest, 1)
    async with cdpbridge.open_browser(rest.client, journal=journal, renew=True) as browser:
        rest.created.clear()
        rest.may_create.clear()
        await asyncio.wait_for(rest.created.wait(), 60)
        asyncio.get_running_loop().call_later(0.05, rest.may_create.set)
    assert len(rest.browsers) == 2
    assert all(each["status"] == "stopped" for each in rest.browsers.values())
    assert (journal.open_entries(), browser.receipt is None) == ([], False)


async def test_a_renewal_that_fails_leaves_the_old_one(rest, caplog):  # noqa: F811
    last(rest, 1)
    async with cdpbridge.open_browser(rest.client, renew=True) as browser:

        async def refuse(_body):
            return httpx.Response(402, json={"detail": "no credits"})

        rest.create = refuse
        while "could not be renewed" not in caplog.text:
            await asyncio.sleep(0.01)
        assert await browser.connection.root.send("Browser.getVersion") == {}
    assert "no credits" in caplog.text
    assert rest.stops == 1
