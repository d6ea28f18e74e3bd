"""Cables of machines that are pulled, servers that stop for seconds, and ends at the worst moment: nothing is counted twice."""

import asyncio
import signal

import pytest

from cdpbridge.cdp import connect
from tests import machines, postgres
from tests.conftest import until
from tests.server.workers.grid import Traffic, grid_of, new_profile, paid, rented, stopped

pytestmark = [
    machines.POSSIBLE,
    postgres.INSTALLED,
    pytest.mark.chromium,
    pytest.mark.one_build("servers, workers and their rows, whichever build the workers start"),
    pytest.mark.slow,  # a death is observed for ten seconds, a worker waits for its servers for as long
    pytest.mark.timeout(600),
]

ALONE = ("--alone", "8")


async def state(server, browser):
    found = await server.browser(browser)
    return found["status"], found.get("endReason")


async def becomes(server, browser, *wanted, timeout=60):
    async def as_wanted():
        return await state(server, browser) == wanted

    await until(as_wanted, timeout=timeout)


async def test_fault_b54_a_worker_whose_cable_is_cut_ends_its_browsers_and_none_is_counted_twice(tmp_path):
    async with grid_of(tmp_path) as grid:
        a = await grid.server("a")
        b = await grid.server("b")
        worker = await grid.worker("w", a, b, options=ALONE)
        browsers = [(await rented(a)), (await rented(b, timeout=60))]
        worker.machine.cut()
        for each in browsers:
            await becomes(b, each, "stopped", "worker_lost")
        books = (
            "SELECT id, state, finished_at, charged_micro_usd, refunded_micro_usd FROM browsers ORDER BY id"
        )
        await grid.at_rest()
        booked = grid.rows(books)
        # No server can tell it to.
        await until(lambda: not worker.processes())
        worker.machine.mend()
        again = await rented(a)
        assert [row for row in grid.rows(books) if str(row["id"]) != again["id"]] == booked
        assert (await stopped(b, again))["endReason"] == "stopped_by_caller"
        for each in (*browsers, again):
            assert grid.entries(each) == ["charge", "refund"]
        for each in browsers:
            assert paid(await a.browser(each)) < 0.01
        await grid.in_order()


async def test_a_worker_that_is_cut_off_for_less_than_its_lease_goes_on(tmp_path):
    async with grid_of(tmp_path) as grid:
        a = await grid.server("a")
        worker = await grid.worker("w", a)
        browser = await rented(a)
        async with Traffic(a.address(browser)) as traffic:
            await traffic.goes_on()
            worker.machine.cut()
            beats = f"SELECT beats FROM workers WHERE id = '{worker.id}'"
            [before] = grid.rows(beats)
            await asyncio.sleep(2)
            worker.machine.mend()
            await traffic.goes_on()
            await until(lambda: grid.rows(beats)[0]["beats"] > before["beats"])
        assert await state(a, browser) == ("active", None)
        await stopped(a, browser)
        assert grid.entries(browser) == ["charge", "refund"]
        await grid.in_order()


async def test_fault_b54_what_a_worker_that_was_cut_off_has_saved_does_not_replace_what_came_later(tmp_path):
    async with grid_of(tmp_path) as grid:
        a = await grid.server("a")
        old = await grid.worker("v", a, options=ALONE, slots=1)
        profile = await new_profile(a)
        first = await rented(a, profileId=profile)
        await a.set_cookies(first, "of-the-first")
        # The next one has a slot elsewhere, and begins before the first one's upload can come.
        new = await grid.worker("w", a, slots=1)
        old.machine.cut()
        await becomes(a, first, "stopped", "worker_lost")
        second = await rented(a, profileId=profile)
        assert second["profileWritable"]
        await until(lambda: not old.processes())
        old.machine.mend()
        await until(lambda: grid.rows("SELECT count(*) AS count FROM workers")[0]["count"] == 2)
        saved = f"SELECT version, archive FROM profiles WHERE id = '{profile}'"
        await a.set_cookies(second, "of-the-second")
        assert (await stopped(a, second))["endReason"] == "stopped_by_caller"
        await until(lambda: grid.rows(saved)[0]["version"] == 1)
        [found] = grid.rows(saved)
        assert second["id"].replace("-", "") in found["archive"].replace("-", "")
        assert await a.cookies_of_profile(profile) == {"of-the-second"}
        await until(lambda: not new.processes() and not old.processes())
        await grid.in_order()


async def test_fault_b54_a_worker_that_is_killed_and_started_again_at_its_address_is_another_one(tmp_path):
    async with grid_of(tmp_path) as grid:
        a = await grid.server("a")
        b = await grid.server("b")
        worker = await grid.worker("w", a, b)
        browsers = [await rented(a), await rented(b, timeout=60)]
        worker.end(signal.SIGKILL)
        again = await grid.worker("w", a, b)
        assert again.id != worker.id
        for each in browsers:
            await becomes(a, each, "stopped", "worker_lost")
            assert grid.entries(each) == ["charge", "refund"]
        third = await rented(a)
        async with connect(b.address(third)) as connection:
            await connection.root.send("Browser.getVersion")
        await stopped(b, third)
        assert not again.processes()
        assert len(grid.rows("SELECT id FROM workers")) == 1
        await grid.in_order()


async def test_fault_b53_a_server_that_stood_still_books_nothing_of_what_others_own_by_now(tmp_path):
    async with grid_of(tmp_path) as grid:
        a = await grid.server("a")
        b = await grid.server("b")
        worker = await grid.worker("w", a, b, slots=5)
        profile = await new_profile(a)
        stays, stops = await rented(a), await rented(a, profileId=profile)
        # Its end falls into the time in which this server stands still, and is then another's.
        short = await rented(a, timeout=1)
        [owner] = grid.rows(f"SELECT owner, generation FROM browsers WHERE id = '{stays['id']}'")
        async with Traffic(b.address(stays)) as traffic:
            a.freeze()
            taken = f"SELECT count(*) AS count FROM browsers WHERE owner <> '{owner['owner']}'"
            await until(lambda: grid.rows(taken) == [{"count": 3}])
            assert (await stopped(b, stops))["endReason"] == "stopped_by_caller"
            await becomes(b, short, "stopped", "expired", timeout=90)
            books = "SELECT id, state, end_reason, finished_at, owner, generation, charged_micro_usd, refunded_micro_usd FROM browsers ORDER BY id"
            await grid.at_rest()
            before, entries = grid.rows(books), grid.rows("SELECT * FROM ledger ORDER BY id")
            a.thaw()
            # It answers again, with what the other one has done.
            assert await state(a, stops) == ("stopped", "stopped_by_caller")
            members = "SELECT count(*) AS count FROM servers WHERE beats > 0"
            await until(lambda: grid.rows(members) == [{"count": 2}])
            new = await rented(a)
            await traffic.goes_on()
            assert [row for row in grid.rows(books) if str(row["id"]) != new["id"]] == before
            found = grid.rows("SELECT * FROM ledger ORDER BY id")
            assert [row for row in found if str(row["browser_id"]) != new["id"]] == entries
        for each in (stays, new):
            assert (await stopped(a, each))["endReason"] == "stopped_by_caller"
        for each in (stays, stops, short, new):
            assert grid.entries(each) == ["charge", "refund"]
        await until(lambda: not worker.processes())
        await grid.in_order()


async def test_fault_b53_a_server_is_killed_between_a_reservation_and_the_start(tmp_path):
    """Who repeats the order with its `Idempotency-Key` at the other server gets one browser."""
    async with grid_of(tmp_path) as grid:
        a = await grid.server("a")
        b = await grid.server("b")
        worker = await grid.worker("w", a, b, slots=5)
        await stopped(a, await rented(a))
        keyed = {"headers": {"Idempotency-Key": "once"}, "json": {"timeout": 60}}
        worker.process.send_signal(signal.SIGSTOP)  # so that it does not start yet
        lost = asyncio.create_task(a.http.post("/browsers", **keyed))
        reserved = "SELECT id FROM browsers WHERE state = 'starting' AND worker IS NOT NULL"
        await until(lambda: grid.rows(reserved))
        a.process.send_signal(signal.SIGKILL)
        await asyncio.wait([lost])
        assert lost.exception() is not None
        worker.process.send_signal(signal.SIGCONT)

        async def repeated():
            answer = await b.http.post("/browsers", **keyed)
            return answer.json() if answer.status_code == 201 else None

        browser = await until(repeated)
        assert (await repeated())["id"] == browser["id"]
        assert [str(row["id"]) for row in grid.rows("SELECT id FROM browsers WHERE state = 'active'")] == [
            browser["id"]
        ]
        counted = "SELECT running, starting FROM workers"
        await until(lambda: grid.rows(counted) == [{"running": 1, "starting": 0}])
        folders = worker.folders
        await until(lambda: len(folders()) == 1)
        async with connect(b.address(browser)) as connection:
            await connection.root.send("Browser.getVersion")
        await stopped(b, browser)
        await until(lambda: not worker.processes())
        charged = "SELECT DISTINCT browser_id FROM ledger WHERE browser_id IS NOT NULL"
        assert len(grid.rows(charged)) == 2, "the one that was lost was paid by no one"
        await grid.in_order()


async def test_fault_b53_a_server_is_killed_during_a_stop_that_saves_a_profile(tmp_path):
    async with grid_of(tmp_path) as grid:
        a = await grid.server("a")
        b = await grid.server("b")
        worker = await grid.worker("w", a, b, slots=5)
        profile = await new_profile(a)
        browser = await rented(a, profileId=profile)
        await a.set_cookies(browser, "kept")
        worker.process.send_signal(signal.SIGSTOP)  # so that it does not stop yet
        stop = {"json": {"action": "stop"}}
        lost = asyncio.create_task(a.http.patch(f"/browsers/{browser['id']}", **stop))
        where = f"FROM browsers WHERE id = '{browser['id']}'"
        await until(lambda: grid.rows(f"SELECT state {where}") == [{"state": "stopping"}])
        a.process.send_signal(signal.SIGKILL)
        await asyncio.wait([lost])
        worker.process.send_signal(signal.SIGCONT)

        async def repeated():
            answer = await b.http.patch(f"/browsers/{browser['id']}", **stop)
            return answer.json() if answer.status_code == 200 else None

        found = await until(repeated)
        assert (found["status"], found["endReason"]) == ("stopped", "stopped_by_caller")
        assert grid.entries(browser) == ["charge", "refund"]
        saved = f"SELECT version, archive FROM profiles WHERE id = '{profile}'"
        await until(lambda: grid.rows(saved)[0]["version"] == 1)
        await until(lambda: not worker.processes())
        assert await b.cookies_of_profile(profile) == {"kept"}
        await until(lambda: grid.rows(saved)[0]["version"] == 2)
        await grid.in_order()
