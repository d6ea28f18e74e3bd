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
from cdpbridge.errors import BudgetExceeded, NoFreeSlot, RateLimitError

from .test_browser import rest, scripted  # noqa: F401  # fixtures
from .test_journal import DEAD, an_entry

SOON, LONG = timedelta(seconds=0.6), timedelta(seconds=30)


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
    async with asyncio.timeout(20):
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
    async with asyncio.timeout(25):
        await asyncio.wait(waiting)
    assert served == [0, 2, 3]
    assert (tickets(journal), journal.open_entries()) == (0, [])


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


@pytest.mark.chromium
async def test_processes_share_a_budget_in_the_order_they_came(server, journal):
    """One of those that wait is killed; the others are served in order, one browser at a time."""
    processes = [
        subprocess.Popen(
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
        output, _ = await asyncio.to_thread(processes[number].communicate, timeout=60)
        ended[number] = (time.monotonic(), output)
        assert output.split() == ["1"]
    processes[1].communicate()
    order = [entry for entry in journal.entries() if entry.browser_id is not None]
    assert [entry.owner.pid for entry in order] == [processes[number].pid for number in (0, 2, 3)]
    assert (tickets(journal), journal.open_entries()) == (0, [])
    assert sum(entry.receipt.paid for entry in order) == 3 * Decimal("0.000833")
