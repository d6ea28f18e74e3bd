"""The stops of a pool that no fault may skip: those of the browser that fails, and of the one beside it."""

import asyncio
import gc

import pytest

import cdpbridge
from cdpbridge.api._async._browsers import AsyncBrowsers
from cdpbridge.errors import CDPBridgeError, PoolClosed, StopFailed
from cdpbridge.rental._shutdown import guard
from tests.pool.test_pool import rest, scripted  # noqa: F401  # fixtures
from tests.rental.test_stop_faults import CALLS, KINDS, LEFT_COROUTINES, FailingCall, _name, broken, quick  # noqa: F401  # a fixture

pytestmark = pytest.mark.programs


@pytest.mark.parametrize("step", [31, pytest.param(7, marks=pytest.mark.slow)])
@pytest.mark.timeout(300)
@LEFT_COROUTINES
async def test_calls_on_the_way_out_of_a_pool_fail_once(rest, step):  # noqa: F811
    """Two browsers: the one whose call fails, and the one beside it. Not every call: each pool takes a while."""
    number, kind = 0, RuntimeError
    while True:
        number += step
        pool = cdpbridge.BrowserPool(rest.client, size=2, tabs_per_browser=1, journal="off")
        failing = FailingCall(number, kind)
        await pool.__aenter__()
        async with pool.tab(), pool.tab():
            browsers = list(pool._fleet.browsers.values())
        error = None
        try:
            with failing:
                await pool.__aexit__(None, None, None)
        except (Exception, asyncio.CancelledError) as raised:
            error = raised
        if len(failing.names) < number:
            break
        for browser in browsers:
            stopped = rest.browsers[str(browser.id)]["status"] == "stopped"
            told = isinstance(error, StopFailed)
            assert stopped or told or browser._core in guard._rented, f"{failing.names[-1]} (call {number})"
            await browser.stop()
    gc.collect()
    assert number > 100
    assert not rest.active


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fault", CALLS, ids=_name)
async def test_what_always_fails_skips_no_stop_of_a_pool(rest, monkeypatch, fault, kind):  # noqa: F811
    pool = cdpbridge.BrowserPool(rest.client, size=2, tabs_per_browser=1, journal="off", stop_timeout=0.5)
    await pool.__aenter__()
    async with pool.tab(), pool.tab():
        browsers = list(pool._fleet.browsers.values())
    error = None
    with monkeypatch.context() as patch:
        broken(patch, *fault, kind)
        try:
            await pool.__aexit__(None, None, None)
        except (Exception, asyncio.CancelledError) as raised:
            error = raised
    if fault == (AsyncBrowsers, "stop"):
        assert isinstance(error, StopFailed)
        await asyncio.gather(*(each.stop() for each in browsers))
    assert len(browsers) == 2
    assert not rest.active


# --- a fleet whose browser opens too late -----------------------------------------------------------------------------


async def test_a_browser_that_opens_after_the_end_of_its_pool_is_stopped(rest):  # noqa: F811
    pool = cdpbridge.BrowserPool(rest.client, size=1, journal="off")
    async with pool:
        waiting = asyncio.create_task(_leased(pool))
        async with asyncio.timeout(60):
            while not pool.stats.opening:
                await asyncio.sleep(0)
            pool._fleet.closed = True  # as at the end, but the opening goes on
            for waiter in pool._fleet._waiters.values():
                waiter.set_exception(PoolClosed("its pool is closed"))
            await pool._fleet._openings.wait()
        assert not rest.active
        with pytest.raises(CDPBridgeError):
            await waiting
    assert len(pool.receipts) == 1


async def _leased(pool):
    async with pool.tab():
        pass
