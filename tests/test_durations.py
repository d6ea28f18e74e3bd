"""Durations of public signatures: refused at the call, before anything is rented or connected."""

import asyncio
from datetime import timedelta
from decimal import Decimal
from unittest.mock import Mock

import pytest

import cdpbridge
from cdpbridge import Budget, Tariff, cdp, forecast, playwright, sync
from cdpbridge._durations import paid_minutes, waiting_seconds, waiting_time
from cdpbridge.api import AsyncClient, webhooks
from cdpbridge.chromium import Chromium
from cdpbridge.errors import ConfigurationError
from tests.browser.test_browser import rest, scripted  # noqa: F401  # fixtures
from tests.cases import cases

NO_WAIT = [0, -1, -0.5, float("nan"), float("inf"), 1e300, 10**400, True, "5", None, Decimal(5)]
NO_WAIT += [timedelta(0), timedelta(seconds=-1), b"5", [5]]
NOT_PAID = [5, 5.0, 0, True, "5", float("nan"), timedelta(0), timedelta(minutes=-5), timedelta(seconds=90)]
NOT_PAID += [timedelta(minutes=241), timedelta.max]
OPENERS = [cdpbridge.open_browser, sync.open_browser, cdpbridge.BrowserPool, sync.BrowserPool]


@pytest.mark.parametrize("value", [1, 0.25, timedelta(seconds=0.25), 1e-9])
def test_a_waiting_time_is_seconds_or_a_timedelta(value):
    expected = value if isinstance(value, timedelta) else max(timedelta(seconds=value), timedelta.resolution)
    assert waiting_time("t", value) == expected
    assert waiting_seconds("t", value) == expected.total_seconds() > 0
    assert waiting_time("t", 0, zero=True) == timedelta(0)


@cases("value", NO_WAIT, ids=repr)
def test_what_is_no_waiting_time(value):
    with pytest.raises(ConfigurationError, match="stop_timeout must"):
        waiting_time("stop_timeout", value)


@cases("value", NOT_PAID, ids=repr)
def test_what_is_no_paid_time(value):
    with pytest.raises(ConfigurationError, match="timeout ") as caught:
        paid_minutes("timeout", value)
    if not isinstance(value, timedelta):
        assert "use timedelta(minutes=5)" in str(caught.value)


@cases("opener", OPENERS, ids=lambda each: f"{each.__module__}.{each.__name__}")
@cases("name", ["connect_timeout", "stop_timeout", "slot_timeout", "expiring_before"])
@cases("value", [-1, float("nan"), float("inf"), True, "5", None], ids=repr)
def test_every_front_door_checks_waiting_times_at_the_call(opener, name, value):
    client = Mock(spec=AsyncClient)
    with pytest.raises(ConfigurationError, match=name):
        opener(client, **{name: value})
    assert not client.mock_calls


@cases("opener", OPENERS, ids=lambda each: f"{each.__module__}.{each.__name__}")
@cases("value", NOT_PAID, ids=repr)
def test_every_front_door_checks_paid_time_at_the_call(opener, value):
    with pytest.raises(ConfigurationError, match="timeout "):
        opener(Mock(spec=AsyncClient), timeout=value)


@pytest.mark.parametrize("name", ["lease_timeout", "wait_timeout", "idle_timeout", "retire_before"])
def test_the_pool_checks_its_own(name):
    with pytest.raises(ConfigurationError, match=name):
        cdpbridge.BrowserPool(Mock(spec=AsyncClient), **{name: -1})


@pytest.mark.parametrize("value", [0, -1, float("nan"), "5"])
async def test_a_pool_checks_a_lease_at_the_call(value):
    pool = cdpbridge.BrowserPool(Mock(spec=AsyncClient))
    for name, make in (("wait_timeout", pool.tab), ("timeout", pool.tab), ("timeout", pool.lease)):
        with pytest.raises(ConfigurationError, match=f"{name} must"):
            make(**{name: value})
    with pytest.raises(ConfigurationError, match="timeout must"):
        pool.map(Mock(), [], timeout=value)
    with pytest.raises(ConfigurationError, match="concurrency"):
        pool.map(Mock(), [], concurrency=0)


@pytest.mark.parametrize("connect", [playwright.connect, playwright.connect_sync])
def test_playwright_checks_its_timeout_at_the_call(connect):
    with pytest.raises(ConfigurationError, match="timeout must"):
        connect("http://127.0.0.1:9", timeout=-1)


@pytest.mark.parametrize("value", [5, timedelta(seconds=90)], ids=repr)
def test_crawlees_plugin_checks_paid_time_at_the_call(value):
    pytest.importorskip("crawlee")
    from cdpbridge.integrations.crawlee import RentedBrowserPlugin

    with pytest.raises(ConfigurationError, match="timeout "):
        RentedBrowserPlugin(Mock(spec=AsyncClient), timeout=value)


@pytest.mark.parametrize("name", ["timeout", "command_timeout", "ping_interval", "ping_timeout", "reconnect"])
def test_a_connection_checks_its_own(name):
    with pytest.raises(ConfigurationError, match=name):
        cdp.connect("http://127.0.0.1:9", **{name: -1})


def test_others_that_take_a_duration():
    with pytest.raises(ConfigurationError, match="timeout is paid time"):
        forecast(Tariff(), 5)
    with pytest.raises(ConfigurationError, match="timedelta"):
        Budget(browsers=1, per=5)
    with pytest.raises(ConfigurationError, match="timeout must"):
        AsyncClient("key-of-tests", "https://rest.test/api/v2", timeout="5")
    with pytest.raises(ConfigurationError, match="tolerance must"):
        webhooks.verify(b"", {}, "secret", tolerance="300")
    with pytest.raises(ConfigurationError, match="start_timeout must"):
        asyncio.run(Chromium.start(start_timeout=-1))
    with pytest.raises(ConfigurationError, match="stop_timeout must"):
        asyncio.run(cdpbridge.reap(Mock(spec=AsyncClient), stop_timeout=float("nan")))


async def test_plain_seconds_do_and_the_browser_is_stopped(rest):  # noqa: F811
    """`stop_timeout=5` ran the block and sent no stop."""
    waits = {"stop_timeout": 5, "connect_timeout": 5, "slot_timeout": 0, "expiring_before": 1.5}
    async with cdpbridge.open_browser(rest.client, journal="off", **waits) as browser:
        await browser.connection.root.send("Browser.getVersion", timeout=5)
        assert await browser.connection.is_alive(5)
    assert rest.stops == 1
