"""Wall clocks of servers that differ by minutes: libfaketime sets those of real servers, and leaves their monotonic ones."""

import asyncio
import signal
from datetime import datetime, timedelta
from decimal import Decimal

import pytest

from tests import machines, postgres
from tests.conftest import until
from tests.server.workers.grid import Traffic, grid_of, new_profile, paid, rented, stopped

pytestmark = [
    machines.POSSIBLE,
    machines.FAKETIME_INSTALLED,
    postgres.INSTALLED,
    pytest.mark.chromium,
    pytest.mark.one_build("the books of servers, whichever build the worker starts"),
    pytest.mark.slow,  # real deadlines of a minute, and a real death of ten seconds
    pytest.mark.timeout(600),
]

APART = 300


def when(text):
    return datetime.fromisoformat(text)


async def test_fault_a87_b06_wall_clocks_minutes_apart_change_no_deadline_and_no_money(tmp_path):
    async with grid_of(tmp_path) as grid:
        late = await grid.server("a", clock=APART)
        early = await grid.server("b", clock=-APART)
        worker = await grid.worker("w", late, early, slots=6)
        loop = asyncio.get_running_loop()
        profile = await new_profile(late)
        began = loop.time()
        # A minute each: one ends where it began, one at the server that takes over.
        short = {"late": await rented(late, timeout=1), "early": await rented(early, timeout=1)}
        long = {
            "late": await rented(late, timeout=60, profileId=profile),
            "early": await rented(early, timeout=60),
        }
        shown = when(long["late"]["startedAt"]) - when(long["early"]["startedAt"])
        assert abs(shown - timedelta(seconds=2 * APART)) < timedelta(minutes=1), (
            "the clocks are as this test wants them"
        )
        for each in (*short.values(), *long.values()):
            minutes = 1 if each in short.values() else 60
            assert when(each["timeoutAt"]) - when(each["startedAt"]) == timedelta(minutes=minutes)
        assert grid.rows("SELECT name FROM workers") == [{"name": "w"}], "neither counts it as lost"
        async with Traffic(early.address(long["late"])) as traffic:
            late.process.send_signal(signal.SIGKILL)
            await asyncio.to_thread(late.process.wait, 30)
            owned = f"SELECT count(*) AS count FROM browsers WHERE owner = (SELECT owner FROM browsers WHERE id = '{long['early']['id']}')"
            await until(lambda: grid.rows(owned) == [{"count": 4}])
            await traffic.goes_on()
            assert loop.time() - began < 60, "too slow a machine to see that none has ended before its time"
            assert [(await early.browser(each))["status"] for each in short.values()] == ["active", "active"]

            async def over(browser):
                return (await early.browser(browser))["status"] == "stopped"

            for each in short.values():
                await until(lambda each=each: over(each), timeout=90)
                found = await early.browser(each)
                assert found["endReason"] == "expired"
                assert when(found["finishedAt"]) - when(found["startedAt"]) == timedelta(minutes=1)
                assert paid(found) == Decimal("0.000833")
            # By the deadline of its start, not five minutes before or after it.
            assert 60 <= loop.time() - began < 150
            await traffic.goes_on()
        # It comes back, with a clock that has been set right meanwhile.
        right = await grid.server("a")
        minutes = 1 + (loop.time() - began) // 60
        for each, server in ((long["late"], right), (long["early"], right)):
            found = await stopped(server, each)
            assert found["endReason"] == "stopped_by_caller"
            used = paid(found) / (Decimal("0.05") / 60)
            assert 1 < used < minutes + Decimal("0.1"), "minutes of use, by no wall clock"
            assert grid.entries(each) == ["charge", "refund"]
        assert [grid.entries(each) for each in short.values()] == [["charge", "refund"]] * 2
        await until(lambda: not worker.processes())
        await grid.in_order()
