"""The manual clock, and what it shares with the event loop."""

import asyncio

import pytest

from cdpbridge.testing import ManualClock


@pytest.mark.parametrize("make", [ManualClock, asyncio.get_running_loop], ids=["manual", "loop"])
async def test_every_clock(make):
    clock = make()
    now = clock.time()
    calls = []
    clock.call_at(now + 0.02, calls.append, "late")
    clock.call_at(now + 0.01, calls.append, "soon")
    clock.call_at(now + 0.01, calls.append, "cancelled").cancel()
    assert not calls
    async with asyncio.timeout(60):
        while len(calls) < 2:
            if isinstance(clock, ManualClock):
                clock.advance(0.01)
            await asyncio.sleep(0)
    assert calls == ["soon", "late"]
    assert clock.time() >= now + 0.02


def test_calls_are_made_in_order_each_at_its_time():
    clock = ManualClock(100)
    seen = []

    def again():
        seen.append(("again", clock.time()))
        if len(seen) < 4:
            clock.call_at(clock.time() + 1, again)

    clock.call_at(101, again)
    clock.call_at(102.5, lambda: seen.append(("once", clock.time())))
    assert clock.scheduled == 2
    clock.advance(3)
    assert seen == [("again", 101), ("again", 102), ("once", 102.5), ("again", 103)]
    assert clock.time() == 103


def test_what_is_overdue_does_not_turn_the_clock_back():
    clock = ManualClock(100)
    seen = []
    clock.call_at(50, lambda: seen.append(clock.time()))
    clock.advance(0)
    assert seen == [100]
    with pytest.raises(ValueError):
        clock.advance(-1)
