"""The end of a program by a signal: who is waited for."""

import asyncio
import signal
from dataclasses import dataclass, field
from datetime import timedelta
from types import SimpleNamespace

import pytest

import cdpbridge
from cdpbridge.rental import _renewal, _shutdown
from cdpbridge.rental._options import check
from cdpbridge.rental._shutdown import Guard, exit_on_signals


@dataclass(eq=False)
class Rented:
    holder: object
    over: bool = False
    stopped: asyncio.Event = field(default_factory=asyncio.Event)

    async def stop(self):
        self.stopped.set()


async def test_a_block_that_waits_for_what_it_is_opening_does_not_hold_up_the_end(monkeypatch):
    """A pool: its block waits for the task that opens a browser, and that task is not to wait for the block."""
    monkeypatch.setattr(_shutdown, "_LEAVING_SECONDS", 300)
    monkeypatch.setattr(_shutdown, "_exit", lambda *_: None)
    guard = Guard()
    begun = asyncio.Event()

    async def block():
        async def opens():
            async with guard.opening(holder):
                begun.set()
                await asyncio.Event().wait()

        opening = asyncio.create_task(opens())
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.wait({opening})

    holder = asyncio.create_task(block())
    await begun.wait()
    browser = Rented(holder)
    forget = guard.add(browser)
    guard._terminate(signal.SIGTERM)
    async with asyncio.timeout(60):
        await guard._ending
    assert browser.stopped.is_set()
    assert holder.cancelled()
    forget()


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_last_block_resets_the_signals(order):
    blocks = [exit_on_signals(), exit_on_signals()]
    for block in blocks:
        block.__enter__()
    for number, index in enumerate(order):
        assert signal.getsignal(signal.SIGTERM) is _shutdown._leave, number
        blocks[index].__exit__(None, None, None)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


async def test_each_renewal_has_the_slot_timeout_of_the_user(monkeypatch):
    asked = []

    async def begin(options):
        asked.append(options.slot_timeout)
        return SimpleNamespace(options=options, profile_id=None, connect=connect)

    async def connect():
        return None

    monkeypatch.setattr(_renewal.Rental, "begin", begin)
    monkeypatch.setattr(_renewal, "end_replaced", lambda *_: asyncio.sleep(0))
    options = check(cdpbridge.at("http://127.0.0.1:9", "key"), {"slot_timeout": timedelta(minutes=5)})
    rental = await begin(options)
    for _ in range(2):
        rental, connection = await _renewal.next_beside(rental, options)
        rental, connection = await _renewal.next_after(rental, options, connection)
    assert asked == [timedelta(minutes=5), *[timedelta(0), timedelta(minutes=5)] * 2]
