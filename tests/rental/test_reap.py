"""Programs that are killed, and what `reap` does about what they leave: a real server, real processes, SIGKILL."""

import asyncio
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from uuid import uuid4

import pytest

import cdpbridge
from cdpbridge import Journal
from cdpbridge.rental import _price
from cdpbridge.rental._reap import ReapOutcome
from cdpbridge.rental.journal import Outcome
from cdpbridge.rental.journal._owner import Owner
from tests import programs
from tests.rental.test_journal import DEAD, an_entry

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.one_build("a rental is a process and its money, whichever the build"),
]

RENT = """
import asyncio, sys
import cdpbridge

async def main():
    async with cdpbridge.open_browser(label="left") as browser:
        print(browser.id, flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.fixture
def journal(tmp_path):
    return Journal(tmp_path / "journal.sqlite3")


@pytest.fixture
def client(server, environment):
    return cdpbridge.at(server.base_url, server.key)


def start(server, journal, program=RENT, **variables):
    return programs.Program(
        [sys.executable, "-c", program],
        env=server.environment(CDPBRIDGE_JOURNAL=str(journal.path), **variables),
        stdout=subprocess.PIPE,
        text=True,
    )


async def left_by_a_killed_program(server, journal):
    with start(server, journal) as process:
        browser_id = (await asyncio.to_thread(process.stdout.readline)).strip()
        assert browser_id
        process.kill()
    return browser_id


async def status(client, browser_id):
    async with client.share():
        return (await client.browsers.get(browser_id)).status


async def test_what_a_killed_program_left_is_stopped(server, journal, client):
    browser_id = await left_by_a_killed_program(server, journal)
    [entry] = journal.open_entries()
    assert (str(entry.browser_id), entry.label, entry.place) == (browser_id, "left", server.base_url)
    [seen] = await cdpbridge.reap(client, journal=journal, dry_run=True)
    assert (seen.outcome, str(seen.browser_id)) == (ReapOutcome.WOULD_STOP, browser_id)
    assert await status(client, browser_id) == "active"
    [done] = await cdpbridge.reap(client, journal=journal)
    assert (done.outcome, str(done.browser_id)) == (ReapOutcome.STOPPED, browser_id)
    assert done.saved == Decimal("0.05") - Decimal("0.000833")
    assert "(left): stopped, 0.049167 simulated USD saved" in str(done)
    assert await status(client, browser_id) == "stopped"
    assert journal.entry(entry.rental).receipt.booked == Decimal("0.000833")
    assert await cdpbridge.reap(client, journal=journal) == []


async def test_the_next_program_can_do_it(server, journal, client):
    browser_id = await left_by_a_killed_program(server, journal)
    async with cdpbridge.open_browser(client, journal=journal, reap=True) as browser:
        assert await status(client, browser_id) == "stopped"
        assert [entry.browser_id for entry in journal.open_entries()] == [browser.id]
    assert journal.open_entries() == []


async def test_what_a_living_process_owns_is_never_touched(server, journal, client):
    with start(server, journal) as process:
        browser_id = (await asyncio.to_thread(process.stdout.readline)).strip()
        for everything in (False, True):
            assert await cdpbridge.reap(client, journal=journal, all_of_this_key=everything) == []
        assert await status(client, browser_id) == "active"
        process.terminate()
        assert await asyncio.to_thread(process.wait, 100) == 143
    assert journal.open_entries() == []


async def test_two_reapers_at_once(server, journal, client):
    browser_id = await left_by_a_killed_program(server, journal)
    both = await asyncio.gather(*(cdpbridge.reap(client, journal=journal) for _ in range(2)))
    assert {each.outcome for done in both for each in done} <= {ReapOutcome.STOPPED, ReapOutcome.WAS_OVER}
    assert await status(client, browser_id) == "stopped"


async def test_the_key_goes_nowhere_but_where_it_is_sent(server, journal, client, nobody):
    """Entries of other servers, keys, containers, and of embedded servers: nobody is asked."""
    here = {"owner": DEAD, "active_before": frozenset()}
    known = {"browser_id": uuid4(), "started_at": datetime.now(UTC), "timeout_at": datetime.now(UTC)}
    elsewhere = an_entry(**here, place=f"{nobody}/api/v2")
    other_key = an_entry(**here, place=server.base_url, account="another key")
    container = an_entry(
        **here | {"owner": replace(Owner.this_process(), namespace="another container's")},
        place=server.base_url,
        account=journal.fingerprint(server.key),
    )
    local = an_entry(**here, place="local")
    for entry in (elsewhere, other_key, container, local):
        journal.intend(entry)
    journal.rented(elsewhere.rental, known["browser_id"], started_at=NOW, timeout_at=NOW)
    done = {each.entry.rental: each for each in await cdpbridge.reap(client, journal=journal)}
    assert f"reap --provider {nobody}" in done[elsewhere.rental].reason
    assert "another API key" in done[other_key.rental].reason
    assert "another container" in done[container.rental].reason
    assert done[local.rental].outcome is ReapOutcome.WAS_OVER
    assert journal.entry(local.rental).outcome is Outcome.SERVER_ENDED
    assert len(journal.open_entries()) == 3


NOW = datetime.now(UTC)


async def test_one_that_fails_is_no_obstacle_for_the_others(server, journal, client, monkeypatch):
    ids = [await left_by_a_killed_program(server, journal) for _ in range(2)]
    stop = client.browsers.stop

    async def fail(browser_id):
        if str(browser_id) == ids[0]:
            raise cdpbridge.errors.AuthenticationError(status=401, method="PATCH", path="/browsers")
        return await stop(browser_id)

    monkeypatch.setattr(client.browsers, "stop", fail)
    done = {str(each.browser_id): each.outcome for each in await cdpbridge.reap(client, journal=journal)}
    assert done == {ids[0]: ReapOutcome.FAILED, ids[1]: ReapOutcome.STOPPED}
    monkeypatch.undo()
    [again] = await cdpbridge.reap(client, journal=journal)
    assert (str(again.browser_id), again.outcome) == (ids[0], ReapOutcome.STOPPED)


async def test_what_is_in_no_journal_is_stopped_on_request(server, journal, client):
    async with client:
        stray = await client.browsers.create()
    assert await cdpbridge.reap(client, journal=journal) == []
    done = await cdpbridge.reap(client, journal=journal, all_of_this_key=True)
    assert {each.browser_id: each.outcome for each in done}[stray.id] is ReapOutcome.STOPPED


class Billing:
    """What a server says about the account: a price that is none, no answer, or a failure that is none of the API's."""

    def __init__(self, says):
        self.says = says
        self.asked = 0

    async def account(self):
        self.asked += 1
        if self.says == "nothing":
            await asyncio.Event().wait()
        if self.says == "fault":
            raise RuntimeError("a fault of the connection pool")
        return SimpleNamespace(
            usd_per_hour=Decimal(-1), credits_simulated=True, total_credits_balance_usd=Decimal(5)
        )


@pytest.mark.parametrize("says", ["a price below zero", "nothing", "fault"])
async def test_a_price_that_cannot_be_had_keeps_no_browser_running(
    server, journal, client, monkeypatch, says
):
    monkeypatch.setattr(_price, "_PRICE_SECONDS", 0.1, raising=False)
    async with client:
        strays = [(await client.browsers.create()).id for _ in range(2)]
    stop = client.browsers.stop
    asked_before_stop = []

    async def stopped(browser_id):
        asked_before_stop.append(billing.asked)
        return await stop(browser_id)

    for dry_run in (True, False):
        monkeypatch.setattr(client, "billing", billing := Billing(says))
        monkeypatch.setattr(client.browsers, "stop", stopped)
        async with asyncio.timeout(60):
            done = await cdpbridge.reap(client, journal=journal, all_of_this_key=True, dry_run=dry_run)
        outcomes = {each.browser_id: each.outcome for each in done}
        expected = ReapOutcome.WOULD_STOP if dry_run else ReapOutcome.STOPPED
        assert outcomes == dict.fromkeys(strays, expected), done
        if says == "fault":
            assert all("what it cost is not known: a fault" in each.reason for each in done)
        else:
            assert billing.asked == 1
            assert all(each.saved > 0 for each in done)
            assert dry_run or all(each.receipt is not None for each in done)
    assert asked_before_stop[0] == 0
    for each in strays:
        assert await status(client, each) == "stopped"


async def test_a_price_below_zero_is_no_obstacle_to_a_rental(server, journal, client, monkeypatch, caplog):
    monkeypatch.setattr(client, "billing", Billing("a price below zero"))
    async with cdpbridge.open_browser(client, journal=journal) as browser:
        assert await (await browser.new_tab()).evaluate("1 + 1") == 2
    assert browser.receipt.booked == Decimal("0.000833")
    assert "price is not usable (usd_per_hour must be a price of zero or more, not -1)" in caplog.text


# --- killed while the create was on its way ---------------------------------------------------------------------------


async def test_fault_a81_killed_before_the_answer_was_written(server, journal, client):
    async with client:
        before = frozenset([each.id async for each in client.browsers.list(status="active")])
        entry = an_entry(
            owner=DEAD,
            place=server.base_url,
            account=journal.fingerprint(server.key),
            active_before=before,
            intended_at=datetime.now(UTC),
        )
        journal.intend(entry)
        other = await client.browsers.create(timeout=timedelta(minutes=7))  # not as ordered
        browser = await client.browsers.create(timeout=timedelta(minutes=5))
        [done] = await cdpbridge.reap(client, journal=journal)
        assert (done.browser_id, done.outcome) == (browser.id, ReapOutcome.STOPPED)
        assert await status(client, other.id) == "active"
        await client.browsers.stop(other.id)
    assert journal.open_entries() == []


async def test_fault_a81_a_create_that_brought_nothing(server, journal, client):
    fresh, old = (
        an_entry(
            owner=DEAD,
            place=server.base_url,
            account=journal.fingerprint(server.key),
            active_before=frozenset(),
            intended_at=datetime.now(UTC) - age,
        )
        for age in (timedelta(0), timedelta(minutes=11))
    )
    for entry in (fresh, old):
        journal.intend(entry)
    done = {each.entry.rental: each.outcome for each in await cdpbridge.reap(client, journal=journal)}
    assert done == {fresh.rental: ReapOutcome.SKIPPED, old.rental: ReapOutcome.WAS_OVER}
    assert journal.entry(old.rental).outcome is Outcome.NOTHING


@pytest.mark.parametrize("dry_run", [True, False])
async def test_fault_a81_two_creates_and_one_browser(server, journal, client, dry_run):
    async with client:
        before = frozenset([each.id async for each in client.browsers.list(status="active")])
        dead = an_entry(
            owner=DEAD,
            place=server.base_url,
            account=journal.fingerprint(server.key),
            active_before=before,
            intended_at=datetime.now(UTC),
        )
        # A program lives, and its create is on its way to another server.
        elsewhere = replace(
            dead, rental=uuid4(), owner=Owner.this_process(), place="https://elsewhere.test/api/v2"
        )
        for entry in (dead, replace(dead, rental=uuid4()), elsewhere):
            journal.intend(entry)
        browser = await client.browsers.create(timeout=timedelta(minutes=5))
        done = await cdpbridge.reap(client, journal=journal, dry_run=dry_run)
        await client.browsers.stop(browser.id)
    assert [(each.browser_id, each.outcome) for each in done] == [
        (browser.id, ReapOutcome.WOULD_STOP if dry_run else ReapOutcome.STOPPED),
        (None, ReapOutcome.SKIPPED),
    ]
    assert done[1].reason == "its answer may still come; reap again in 10 minutes"


@pytest.mark.parametrize("living", [True, False])
async def test_fault_a81_whose_browser_it_may_be_is_said_as_it_is_known(server, journal, client, living):
    here = Owner.this_process()
    unseen = replace(here, boot="another", host="build-7")
    async with client:
        before = frozenset([each.id async for each in client.browsers.list(status="active")])
        dead = an_entry(
            owner=DEAD,
            place=server.base_url,
            account=journal.fingerprint(server.key),
            active_before=before,
            intended_at=datetime.now(UTC),
        )
        for entry in (dead, replace(dead, rental=uuid4(), owner=here if living else unseen)):
            journal.intend(entry)
        browser = await client.browsers.create(timeout=timedelta(minutes=5))
        done = {each.entry.rental: each for each in await cdpbridge.reap(client, journal=journal)}
        assert await status(client, browser.id) == "active"
        await client.browsers.stop(browser.id)
    found = done[dead.rental]
    assert found.outcome is ReapOutcome.SKIPPED
    who = (
        "another running program"
        if living
        else f"process {here.pid} on build-7, which cannot be seen from here,"
    )
    assert found.reason == f"{who} is creating a browser; this one may be its"


async def test_all_of_this_key_spares_what_a_living_program_is_just_renting(server, journal, client):
    async with client:
        before = frozenset([each.id async for each in client.browsers.list(status="active")])
        renting = an_entry(
            place=server.base_url,
            account=journal.fingerprint(server.key),
            active_before=before,
            intended_at=datetime.now(UTC),
        )
        journal.intend(renting)
        browser = await client.browsers.create(timeout=timedelta(minutes=5))  # its id is not written yet
        assert await cdpbridge.reap(client, journal=journal, all_of_this_key=True) == []
        assert await status(client, browser.id) == "active"
        await client.browsers.stop(browser.id)


async def test_killed_at_any_moment(server, journal, client):
    """Four programs, each killed at another moment of its life; then nothing runs, and no dead owner has a browser."""
    program = RENT.replace("import cdpbridge\n", "import cdpbridge\nprint('begun', flush=True)\n", 1)
    moments = (0.05, 0.2, 0.4, 0.8)

    async def kill_after(seconds):
        with start(server, journal, program) as process:
            assert await asyncio.to_thread(process.stdout.readline) == "begun\n"
            try:
                await asyncio.to_thread(process.wait, seconds)
            except subprocess.TimeoutExpired:
                process.kill()

    await asyncio.gather(*(kill_after(seconds) for seconds in moments))
    async with client, asyncio.timeout(30):
        while True:  # a start whose client is gone is withdrawn by the server
            await cdpbridge.reap(client, journal=journal)
            if not [each async for each in client.browsers.list(status="active")]:
                break
    assert [entry for entry in journal.open_entries() if entry.browser_id is not None] == []


# --- the commands -----------------------------------------------------------------------------------------------------


def run(server, journal, *arguments, status=0):
    done = programs.run(
        [sys.executable, "-m", "cdpbridge", *arguments],
        env=server.environment(CDPBRIDGE_JOURNAL=str(journal.path), COLUMNS="200"),
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


async def test_commands_reap_and_cost(server, journal, tmp_path):
    browser_id = await left_by_a_killed_program(server, journal)
    dry = await asyncio.to_thread(run, server, journal, "reap", "--dry-run")
    assert f"browser {browser_id}" in dry.stdout
    assert "1 would be stopped" in dry.stderr
    done = await asyncio.to_thread(run, server, journal, "reap")
    assert "1 stopped, 0 USD saved, and 0.049167 simulated USD" in done.stderr
    assert "nothing was left" in (await asyncio.to_thread(run, server, journal, "reap")).stderr
    picture = tmp_path / "cost.png"
    table = await asyncio.to_thread(run, server, journal, "cost", "--by", "label", "--chart", str(picture))
    assert "left" in table.stdout
    assert re.search(r"left\t1\t1\t0\.000000\t0\.000833", table.stdout)
    assert "SIMULATED USD" in table.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")
    found = json.loads((await asyncio.to_thread(run, server, journal, "cost", "--format", "json")).stdout)
    assert [(row["browsers"], row["minutes"], row["simulated_usd"]) for row in found] == [(1, 1, "0.000833")]
    assert [row["usd"] for row in found] == ["0.000000"]
    lines = (await asyncio.to_thread(run, server, journal, "cost", "--by", "place", "--format", "csv")).stdout
    assert lines.splitlines() == [
        "place,browsers,minutes,usd,simulated_usd,running,unknown",
        "this machine,1,1,0.000000,0.000833,0,0",
    ]
    assert (
        "is no time"
        in (await asyncio.to_thread(run, server, journal, "cost", "--since", "soon", status=2)).stderr
    )


def test_a_journal_that_cannot_be_written_is_no_obstacle(server, tmp_path):
    program = "import asyncio, cdpbridge\nasync def main():\n    async with cdpbridge.open_browser() as browser: pass\n"
    (tmp_path / "file").write_text("")
    done = programs.run(
        [sys.executable, "-c", program + "    print(browser.receipt)\nasyncio.run(main())"],
        env=server.environment(CDPBRIDGE_JOURNAL=str(tmp_path / "file" / "journal")),
        capture_output=True,
        text=True,
        timeout=280,
        check=True,
    )
    assert "refunded 0.049167" in done.stdout
    assert done.stderr.count("cannot be used") == 1


def test_the_test_run_has_its_own_state_folder(state_dir):
    assert os.environ["XDG_STATE_HOME"] == str(state_dir)
