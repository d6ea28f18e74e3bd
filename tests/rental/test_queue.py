"""Budgets and slots: tasks and processes that want more browsers than there may be."""

import asyncio
import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import httpx
import pytest

import cdpbridge
from cdpbridge import Budget, Journal
from cdpbridge.errors import APIError, BudgetExceeded, NoFreeSlot, RateLimitError
from tests import programs
from tests.browser.test_browser import rest, scripted  # noqa: F401  # fixtures
from tests.conftest import until
from tests.rental.test_journal import DEAD, an_entry

SOON, LONG = timedelta(seconds=0.6), timedelta(seconds=30)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """What is asked about the order does not depend on how often the queue looks."""
    monkeypatch.setattr("cdpbridge.rental._queue._POLL_SECONDS", 0.02)
    monkeypatch.setattr("cdpbridge.rental._queue._FIRST_PAUSE_SECONDS", 0.1)


@pytest.fixture
def journal(tmp_path):
    return Journal(tmp_path / "journal.sqlite3")


def limited(rest, limit):  # noqa: F811
    """A server with so many slots."""
    made = rest.create

    async def create(body):
        if sum(each["status"] == "active" for each in rest.browsers.values()) >= limit:
            return httpx.Response(429, json={"detail": "Too many concurrent active sessions"})
        return await made(body)

    rest.create = create


async def test_a_budget_refuses_before_money_is_spent(rest, journal):  # noqa: F811
    budget = Budget(usd="0.07")
    async with cdpbridge.open_browser(rest.client, journal=journal, budget=budget):
        with pytest.raises(BudgetExceeded, match=r"allows 0\.07 USD"):
            await cdpbridge.open_browser(rest.client, journal=journal, budget=budget)
    with pytest.raises(BudgetExceeded, match=r"0\.025 are spent"):  # 30 of 60 minutes
        await cdpbridge.open_browser(rest.client, journal=journal, budget=budget)
    async with cdpbridge.open_browser(
        rest.client, journal=journal, budget=budget, timeout=timedelta(minutes=50)
    ):
        pass
    assert rest.count("POST", "/browsers") == 2
    assert not rest.client.is_open


async def test_the_budget_of_the_machine_counts_everybody(rest, journal, environment):  # noqa: F811
    environment.setenv("CDPBRIDGE_BUDGET_MINUTES", "100")
    async with cdpbridge.open_browser(rest.client, journal=journal):
        pass
    options = {"journal": journal, "timeout": timedelta(minutes=71)}
    with pytest.raises(BudgetExceeded, match="of this machine allows 100 minutes"):
        await cdpbridge.open_browser(rest.client, **options)


async def test_a_slot_is_waited_for(rest, journal):  # noqa: F811
    budget = Budget(browsers=1)
    first = await cdpbridge.open_browser(rest.client, journal=journal, budget=budget, label="first")
    with pytest.raises(NoFreeSlot, match="1 browsers at once") as caught:
        await cdpbridge.open_browser(rest.client, journal=journal, budget=budget, slot_timeout=SOON)
    assert f"browser {first.id} of process {os.getpid()} (first)" in caught.value.holders[0]
    assert caught.value.waited >= SOON

    async def second():
        async with cdpbridge.open_browser(
            rest.client, journal=journal, budget=budget, slot_timeout=LONG
        ) as browser:
            return browser.id

    waiting = asyncio.create_task(second())
    await queued(journal, 1)
    assert rest.count("POST", "/browsers") == 1
    await first.stop()
    assert await waiting != first.id


async def queued(journal, count):
    async with asyncio.timeout(60):
        while tickets(journal) != count:
            await asyncio.sleep(0.01)


def tickets(journal):
    return journal._rows("SELECT count(*) FROM queue", ())[0][0]


async def test_first_come_first_served_and_a_waiter_that_leaves_is_no_obstacle(rest, journal):  # noqa: F811
    """Against the server's own limit, which only its 429 tells."""
    limited(rest, 1)
    served = []

    async def use(number):
        async with cdpbridge.open_browser(rest.client, journal=journal, slot_timeout=LONG):
            served.append(number)

    first = await cdpbridge.open_browser(rest.client, journal=journal)
    waiting = []
    for number in range(4):
        waiting.append(asyncio.create_task(use(number)))
        await queued(journal, number + 1)
    waiting[1].cancel()
    await queued(journal, 3)
    with pytest.raises(NoFreeSlot, match="came before"):  # no patience is no way past the queue
        await cdpbridge.open_browser(rest.client, journal=journal)
    await first.stop()
    async with asyncio.timeout(60):
        await asyncio.wait(waiting)
    assert served == [0, 2, 3]
    assert (tickets(journal), journal.open_entries()) == (0, [])


def scripted_creates(rest, refused):  # noqa: F811
    """A server that refuses the creates with those numbers, from 1; from the third on it waits for the returned event."""
    made, numbers, go_on = rest.create, iter(range(1, 100)), asyncio.Event()

    async def create(body):
        number = next(numbers)
        if number > 2:
            await go_on.wait()
        if number in refused:
            return httpx.Response(429, json={"detail": "Too many concurrent active sessions"})
        return await made(body)

    rest.create = create
    return go_on


async def in_a_row(rest, journal, count, served, **options):  # noqa: F811
    """So many rentals that wait, each before the next; `served` gets their numbers as they are let in."""

    async def use(number):
        async with cdpbridge.open_browser(rest.client, journal=journal, slot_timeout=LONG, **options):
            served.append(number)

    waiting = []
    for number in range(count):
        waiting.append(asyncio.create_task(use(number)))
        await queued(journal, number + 1)
    return waiting


@pytest.mark.parametrize("refused", [{4}, {4, 5}, {4, 6}, {5}, {6}, {4, 6, 8}], ids=str)
async def test_who_is_let_in_and_meets_a_429_keeps_its_place(rest, journal, refused):  # noqa: F811
    """Each time, the server has a slot again for the next create: whoever sends it gets it."""
    go_on = scripted_creates(rest, {2} | refused)
    first, served = await cdpbridge.open_browser(rest.client, journal=journal), []
    waiting = await in_a_row(rest, journal, 4, served)
    go_on.set()
    async with asyncio.timeout(60):
        await asyncio.gather(*waiting)
    assert served == [0, 1, 2, 3]
    await first.stop()
    assert (tickets(journal), journal.open_entries()) == (0, [])


async def test_a_place_is_the_one_of_the_first_request_and_not_of_the_429(rest, journal):  # noqa: F811
    """One that is at the server when others begin to wait is before them when it is refused later."""
    made, first, asks, both_wait = rest.create, [], asyncio.Queue(), False
    budget = Budget(browsers=1, name="early")

    async def create(body):
        if len(first) < 2:
            first.append(asyncio.Event())
            await first[-1].wait()
        if not both_wait:
            # The late one must not be on its way again while the early one hears that it is refused.
            headers = {"Retry-After": "1"}
            detail = {"detail": "Too many concurrent active sessions"}
            return httpx.Response(429, json=detail, headers=headers)
        asks.put_nowait(granted := asyncio.Event())
        await granted.wait()
        return await made(body)

    rest.create = create
    served = []

    async def use(name, **options):
        async with cdpbridge.open_browser(rest.client, journal=journal, slot_timeout=LONG, **options):
            served.append(name)

    early = asyncio.create_task(use("early", budget=budget))
    await until(lambda: len(first) == 1)
    late = asyncio.create_task(use("late"))
    await until(lambda: len(first) == 2)  # nothing was refused yet, so it need not wait
    first[1].set()
    await queued(journal, 1)
    first[0].set()
    await queued(journal, 2)
    both_wait = True
    async with asyncio.timeout(60):
        for count in (1, 2):
            (await asks.get()).set()
            await until(lambda: len(served) >= count)  # awaited
        await asyncio.gather(early, late)
    assert served == ["early", "late"]
    assert tickets(journal) == 0


async def test_who_waited_for_a_budget_alone_is_no_obstacle_at_the_server(rest, journal):  # noqa: F811
    budget = Budget(browsers=1)
    first = await cdpbridge.open_browser(rest.client, journal=journal, budget=budget)
    served = []
    [waiting] = await in_a_row(rest, journal, 1, served, budget=budget)
    rest.may_create.clear()
    rest.created.clear()
    await first.stop()
    async with asyncio.timeout(60):
        await rest.created.wait()  # it is at the server, and not answered
    assert tickets(journal) == 0
    rented = asyncio.ensure_future(_opened(rest, journal))
    async with asyncio.timeout(60):
        while rest.count("POST", "/browsers") < 3:
            await asyncio.sleep(0.01)
    rest.may_create.set()
    await (await rented).stop()
    await waiting
    assert served == [0]


async def _opened(rest, journal):  # noqa: F811
    return await cdpbridge.open_browser(rest.client, journal=journal)


@pytest.mark.parametrize("failure", [400, 403, 503, httpx.ConnectError("refused")], ids=str)
async def test_a_waiter_whose_create_fails_lets_the_next_one_in(rest, journal, failure):  # noqa: F811
    made, numbers, go_on = rest.create, iter(range(1, 100)), asyncio.Event()

    async def create(body):
        number = next(numbers)
        if number == 2:
            return httpx.Response(429, json={"detail": "Too many concurrent active sessions"})
        if number > 2:
            await go_on.wait()
        if number == 3:
            if isinstance(failure, Exception):
                raise failure
            return httpx.Response(failure, json={"detail": "as told"})
        return await made(body)

    rest.create = create
    first, served = await cdpbridge.open_browser(rest.client, journal=journal), []
    waiting = await in_a_row(rest, journal, 3, served)
    go_on.set()
    async with asyncio.timeout(60):
        failed, *_ = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(failed, APIError)
    assert served == [1, 2]
    await first.stop()
    assert (tickets(journal), journal.open_entries()) == (0, [])


async def test_a_waiter_that_was_killed_at_the_server_is_passed(rest, journal):  # noqa: F811
    """Its ticket blocks the account until it is seen that its process is dead."""
    entry = an_entry(place=rest.client._base_url, account=journal.fingerprint("key-of-tests"))
    scope, now = f"account {entry.place} {entry.account}", datetime.now(UTC)
    journal.admit(lambda door: door.wait({scope}, None, DEAD, now=now))
    async with cdpbridge.open_browser(rest.client, journal=journal, slot_timeout=LONG):
        assert tickets(journal) == 0


async def test_cancelled_while_it_leaves_the_queue_it_stops_what_it_has_rented(rest, journal):  # noqa: F811
    """The ticket is released after the create: a cancellation there met a browser that was in no variable yet."""
    go_on = scripted_creates(rest, {2})
    first, served = await cdpbridge.open_browser(rest.client, journal=journal), []
    [waiting] = await in_a_row(rest, journal, 1, served)
    leave = journal.leave

    def cancelled_meanwhile(ticket):
        waiting.get_loop().call_soon_threadsafe(waiting.cancel)
        leave(ticket)

    journal.leave = cancelled_meanwhile
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (served, rest.stops) == ([], 1)
    await first.stop()
    assert (rest.stops, journal.open_entries(), tickets(journal)) == (2, [], 0)


async def test_fault_a85_a_429_names_who_holds_the_slots(rest, journal):  # noqa: F811
    limited(rest, 1)
    async with cdpbridge.open_browser(rest.client, journal=journal, label="holder") as browser:
        with pytest.raises(RateLimitError) as caught:
            await cdpbridge.open_browser(rest.client, journal=journal)
        [note] = caught.value.__notes__
        assert f"browser {browser.id} of process {os.getpid()} (holder)" in note
        with pytest.raises(NoFreeSlot, match="Too many concurrent"):
            await cdpbridge.open_browser(rest.client, journal=journal, slot_timeout=SOON)
        assert len(journal.open_entries()) == 1
    assert tickets(journal) == 0


async def test_a_dead_waiter_is_passed(rest, journal):  # noqa: F811
    budget = Budget(browsers=1, name="shared")
    now = datetime.now(UTC)
    journal.admit(lambda door: door.wait({budget.scope}, None, DEAD, now=now))
    silent = now - timedelta(minutes=1)
    journal.admit(lambda door: door.wait({budget.scope}, None, an_entry().owner, now=silent))
    assert tickets(journal) == 2
    async with cdpbridge.open_browser(rest.client, journal=journal, budget=budget):
        pass
    assert tickets(journal) == 0


TAKE = """
import asyncio, sys
from datetime import timedelta
import cdpbridge

async def main():
    budget = cdpbridge.Budget(browsers=1, name="one at a time")
    print("ready", flush=True)
    input()
    async with cdpbridge.open_browser(budget=budget, slot_timeout=timedelta(seconds=60)) as browser:
        async with cdpbridge.at(sys.argv[1]) as client:
            active = {each.id async for each in client.browsers.list(status="active")}
        print(len(active & {entry.browser_id for entry in cdpbridge.Journal().open_entries()}), flush=True)

asyncio.run(main())
"""


@pytest.mark.one_build("a rental is a process and its money, whichever the build")
@pytest.mark.chromium
async def test_processes_share_a_budget_in_the_order_they_came(server, journal):
    """One of those that wait is killed; the others are served in order, one browser at a time."""
    processes = [
        programs.Program(
            [sys.executable, "-c", TAKE, server.base_url],
            env=server.environment(CDPBRIDGE_JOURNAL=str(journal.path)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    holder = an_entry(scopes=(Budget(name="one at a time").scope,))
    journal.intend(holder)
    for number, process in enumerate(processes):
        await asyncio.to_thread(process.stdout.readline)
        process.stdin.write("\n")
        process.stdin.flush()
        await queued(journal, number + 1)
    processes[1].kill()
    journal.withdraw(holder.rental)
    ended = {}
    for number in (0, 2, 3):
        output, _ = await asyncio.to_thread(processes[number].communicate, timeout=280)
        ended[number] = (time.monotonic(), output)
        assert output.split() == ["1"]
    processes[1].communicate()
    order = [entry for entry in journal.entries() if entry.browser_id is not None]
    assert [entry.owner.pid for entry in order] == [processes[number].pid for number in (0, 2, 3)]
    assert (tickets(journal), journal.open_entries()) == (0, [])
    assert sum(entry.receipt.paid for entry in order) == 3 * Decimal("0.000833")
