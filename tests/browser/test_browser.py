"""The rental: every way in and out, over a REST server that does as told and a scripted browser."""

import asyncio
import json
import logging
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID, uuid4

import httpx
import pytest

import cdpbridge
from cdpbridge.errors import (
    APIResponseError,
    APITimeoutError,
    BrowserExpired,
    BrowserStopped,
    ConfigurationError,
    ConnectFailed,
    ConnectionClosed,
    NavigationError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    StopFailed,
    UnprocessableEntityError,
)
from cdpbridge.testing import SILENT, ScriptedBrowser

STARTED = datetime(2026, 11, 2, 12, tzinfo=UTC)
SOON = timedelta(seconds=1)
BASE_URL = "https://rest.test/api/v2"


class Rest:
    """A REST server: profiles, one account, browsers whose address is `cdp_url`."""

    def __init__(self, cdp_url):
        self.cdp_url = cdp_url
        self.calls = []
        self.keys = []
        self.browsers = {}
        self.profiles = []
        self.balance = Decimal(100)
        self.used = timedelta(minutes=30)
        self.tells_cost = True
        self.created = asyncio.Event()
        self.may_create = asyncio.Event()
        self.may_create.set()
        self.started = STARTED
        self.timeout = lambda body: timedelta(minutes=(body or {}).get("timeout", 60))
        self.on_stop = []  # answers to give before the real one: a status, or an exception
        self.client = cdpbridge.AsyncClient(
            "key-of-tests",
            BASE_URL,
            max_retries=0,
            http_client=httpx.AsyncClient(transport=httpx.MockTransport(self.answer)),
        )

    def count(self, method, path=""):
        return sum(call[0] == method and path in call[1] for call in self.calls)

    @property
    def stops(self):
        return self.count("PATCH", "/browsers/")

    async def answer(self, request):
        path = request.url.path.removeprefix("/api/v2")
        body = json.loads(request.content) if request.content else None
        self.calls.append((request.method, path, body))
        match request.method, path.split("/")[1:]:
            case "GET", ["billing", "account"]:
                return httpx.Response(200, json=self.account())
            case "GET", ["profiles"]:
                return httpx.Response(200, json=self.page(self.profiles))
            case "POST", ["profiles"]:
                self.profiles.append(self.profile(body["name"]))
                return httpx.Response(201, json=self.profiles[-1])
            case "POST", ["browsers"]:
                self.keys.append(request.headers["Idempotency-Key"])
                return await self.create(body)
            case "GET", ["browsers"]:
                return httpx.Response(200, json=self.page(self.listed(request.url.params)))
            case "GET", ["browsers", browser_id]:
                return httpx.Response(200, json=self.browsers[browser_id])
            case "PATCH", ["browsers", browser_id]:
                return self.stop(browser_id)
        return httpx.Response(404, json={"detail": "no such path"})

    async def create(self, body):
        browser = {
            "id": str(uuid4()),
            "status": "active",
            "cdpUrl": self.cdp_url,
            "startedAt": self.started.isoformat(),
            "timeoutAt": (self.started + self.timeout(body)).isoformat(),
        }
        self.browsers[browser["id"]] = browser
        self.balance -= Decimal("0.05")
        self.created.set()
        await self.may_create.wait()
        return httpx.Response(201, json=browser)

    def listed(self, params):
        asked = params.get("filterBy")
        return [each for each in self.browsers.values() if asked in {None, each["status"]}]

    def stop(self, browser_id):
        if self.on_stop:
            given = self.on_stop.pop(0)
            if isinstance(given, Exception):
                raise given
            return httpx.Response(given, json={"detail": "as told"})
        return httpx.Response(200, json=self.end(browser_id))

    def end(self, browser_id):
        browser = self.browsers[browser_id]
        if browser["status"] == "active":
            finished = self.started + self.used
            browser |= {"status": "stopped", "cdpUrl": None, "finishedAt": finished.isoformat()}
            refund = cdpbridge.Receipt.of(cdpbridge.Tariff(), self.used).refunded
            self.balance += refund
            if self.tells_cost:
                browser["browserCost"] = str(Decimal("0.05") - refund)
        return browser

    def account(self):
        plan = dict.fromkeys(
            ["subscriptionStatus", "subscriptionId", "subscriptionCurrentPeriodEnd", "subscriptionCanceledAt"]
        )
        return {
            "monthlyCreditsBalanceUsd": 0,
            "additionalCreditsBalanceUsd": float(self.balance),
            "totalCreditsBalanceUsd": float(self.balance),
            "rateLimit": 10,
            "planInfo": {"planName": "paid", **plan},
            "projectId": str(uuid4()),
        }

    def profile(self, name):
        at = STARTED.isoformat()
        return {"id": str(uuid4()), "name": name, "createdAt": at, "updatedAt": at}

    def page(self, items):
        return {"items": items, "totalItems": len(items), "pageNumber": 1, "pageSize": 100}


@pytest.fixture
async def scripted():
    async with ScriptedBrowser() as browser:
        yield browser


@pytest.fixture
async def rest(scripted):
    return Rest(scripted.http_url)


# --- the way in -------------------------------------------------------------------------------------------------------


async def test_rent_use_stop(rest):
    async with cdpbridge.open_browser(rest.client, timeout=timedelta(minutes=60)) as browser:
        assert await browser.connection.root.send("Browser.getVersion") == {}
        assert (browser.timeout_at - browser.started_at, browser.receipt) == (timedelta(hours=1), None)
        assert rest.stops == 0
    assert rest.stops == 1
    assert browser.receipt.refunded == Decimal("0.025")
    assert (browser.receipt.paid, browser.receipt.difference) == (Decimal("0.025"), 0)
    assert browser.connection.closed
    assert not rest.client.is_open


async def test_a_handle_without_a_block(rest):
    browser = await cdpbridge.open_browser(rest.client)
    receipts = await asyncio.gather(browser.stop(), browser.stop())
    assert receipts == [browser.receipt, browser.receipt]
    assert await browser.stop() is browser.receipt
    assert rest.stops == 1


async def test_a_handle_as_a_block(rest):
    async with await cdpbridge.open_browser(rest.client) as browser:
        assert rest.stops == 0
    assert (rest.stops, browser.receipt is None) == (1, False)


async def test_a_client_in_use_stays_open(rest):
    async with rest.client as client:
        for _ in range(2):
            async with cdpbridge.open_browser(client):
                pass
        assert client.is_open
        assert (await client.billing.account()).rate_limit == 10
    assert not rest.client.is_open


async def test_what_is_sent(rest):
    options = {"profile": UUID(int=7), "proxy_country": "GB", "timeout": timedelta(minutes=15)}
    async with cdpbridge.open_browser(rest.client, **options):
        pass
    [body] = [call[2] for call in rest.calls if call[:2] == ("POST", "/browsers")]
    assert body == {"profileId": str(UUID(int=7)), "proxyCountryCode": "uk", "timeout": 15}
    async with cdpbridge.open_browser(rest.client, proxy_country=None):
        pass
    assert [call[2] for call in rest.calls if call[:2] == ("POST", "/browsers")][-1] == {
        "proxyCountryCode": None
    }


async def test_profile_by_name_is_found_or_made(rest):
    for _ in range(2):
        async with cdpbridge.open_browser(rest.client, profile="work") as browser:
            assert str(browser.profile_id) == rest.profiles[0]["id"]
    assert rest.count("POST", "/profiles") == 1
    async with cdpbridge.open_browser(rest.client, profile=rest.profiles[0]["id"]) as browser:
        assert str(browser.profile_id) == rest.profiles[0]["id"]
    rest.profiles.insert(0, rest.profile("work") | {"createdAt": (STARTED + timedelta(1)).isoformat()})
    async with cdpbridge.open_browser(rest.client, profile="work") as browser:
        assert str(browser.profile_id) == rest.profiles[1]["id"]  # the older one, whoever made the other


async def test_one_profile_for_two_rentals_with_a_new_name(rest):
    async def rent():
        async with cdpbridge.open_browser(rest.client, profile="new") as browser:
            return browser.profile_id

    assert len(set(await asyncio.gather(rent(), rent(), rent()))) == 1
    assert rest.count("POST", "/profiles") == 1


async def test_a_client_shared_by_two_rentals_is_closed_after_the_last(rest):
    """Neither block opened it for the other."""
    first = await cdpbridge.open_browser(rest.client)
    second = await cdpbridge.open_browser(rest.client)
    await first.stop()
    assert rest.client.is_open
    await second.stop()
    assert not rest.client.is_open


async def test_a_client_opened_without_a_block_stays_open(rest):
    await rest.client.billing.account()
    async with cdpbridge.open_browser(rest.client):
        pass
    assert rest.client.is_open
    await rest.client.aclose()


@pytest.mark.parametrize("cancelled", [False, True])
async def test_fault_a80_a_create_whose_answer_cannot_be_read(rest, cancelled):
    made = rest.create

    async def answer(body):
        found = (await made(body)).json()
        del found["timeoutAt"]
        return httpx.Response(201, json=found)

    rest.create = answer
    rest.may_create.clear()
    task = asyncio.create_task(_opened(rest))
    await asyncio.wait_for(rest.created.wait(), 60)
    if cancelled:
        task.cancel()
        await asyncio.sleep(0)
    [record] = rest.browsers.values()
    rest.end = lambda _id: record | {"status": "stopped", "timeoutAt": record["startedAt"]}
    rest.may_create.set()
    with pytest.raises(asyncio.CancelledError if cancelled else APIResponseError) as caught:
        await task
    assert rest.stops == 1
    if not cancelled:
        assert [note for note in caught.value.__notes__ if "was stopped" in note]


async def test_a_create_without_an_answer_says_that_a_browser_may_run(rest):
    async def lose(_body):
        raise httpx.ReadTimeout("late")

    rest.create = lose
    with pytest.raises(APITimeoutError) as caught:
        await _opened(rest, connect_timeout=SOON)
    assert "cdpbridge browsers" in caught.value.__notes__[0]
    assert rest.count("POST", "/browsers") == 1


@pytest.mark.parametrize(
    "options", [{"timeout": timedelta(0)}, {"timeout": timedelta(seconds=90)}, {"profile": " "}]
)
async def test_bad_arguments_rent_nothing(rest, options):
    with pytest.raises(ConfigurationError):
        await cdpbridge.open_browser(rest.client, **options)
    assert rest.count("POST", "/browsers") == 0
    assert not rest.client.is_open


async def test_progress_is_told(rest):
    told = []
    async with cdpbridge.open_browser(rest.client, on_progress=told.append):
        pass
    assert told == ["reaching rest.test", "renting a browser", "connecting"]


async def test_fault_a12_an_address_that_comes_late(rest, scripted):
    rest.cdp_url = None
    opening = asyncio.ensure_future(_opened(rest))
    await asyncio.wait_for(rest.created.wait(), 60)
    [record] = rest.browsers.values()
    record["cdpUrl"] = "http://127.0.0.1:9"  # nobody listens there yet
    while rest.count("GET", f"/browsers/{record['id']}") < 2:
        await asyncio.sleep(0.01)
    record["cdpUrl"] = scripted.http_url
    browser = await opening
    assert await browser.connection.root.send("Browser.getVersion") == {}
    await browser.stop()


async def _opened(rest, **options):
    return await cdpbridge.open_browser(rest.client, **options)


@pytest.mark.parametrize("cdp_url", [None, "http://127.0.0.1:9"])
async def test_fault_a12_no_address_in_time_stops_the_browser(rest, cdp_url):
    rest.cdp_url = cdp_url
    with pytest.raises(ConnectFailed, match=r"within 0\.5 s"):
        await _opened(rest, connect_timeout=timedelta(seconds=0.5))
    assert rest.stops == 1


async def test_fault_a12_a_refusal_that_will_not_change_is_not_waited_for(rest, scripted):
    scripted.http["/json/version"] = (403, "no")
    with pytest.raises(ConnectFailed) as caught:
        await _opened(rest)
    assert (caught.value.status, rest.stops) == (403, 1)


async def test_stopped_by_somebody_else_while_it_starts(rest):
    rest.cdp_url = None
    opening = asyncio.ensure_future(_opened(rest))
    await asyncio.wait_for(rest.created.wait(), 60)
    [browser_id] = rest.browsers
    rest.end(browser_id)
    with pytest.raises(BrowserStopped):
        await opening


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (403, PermissionDeniedError),
        (404, NotFoundError),
        (422, UnprocessableEntityError),
        (429, RateLimitError),
    ],
)
async def test_fault_a85_refusals_are_distinct_and_rent_nothing(rest, status, error):
    async def refuse(_body):
        return httpx.Response(status, json={"detail": "no"})

    rest.create = refuse
    with pytest.raises(error):
        await _opened(rest)
    assert (rest.count("POST", "/browsers"), rest.stops) == (1, 0)


# --- the way out ------------------------------------------------------------------------------------------------------


async def test_fault_a80_an_exception_in_the_block(rest):
    with pytest.raises(KeyError, match="mine"):
        async with cdpbridge.open_browser(rest.client):
            raise KeyError("mine")
    assert rest.stops == 1


async def test_fault_a80_cancelled_in_the_block(rest):
    inside = asyncio.Event()

    async def use():
        async with cdpbridge.open_browser(rest.client):
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(use())
    await asyncio.wait_for(inside.wait(), 60)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert rest.stops == 1


async def test_fault_a80_cancelled_between_create_and_attach(rest, scripted):
    scripted.refusal = None
    scripted.on("Target.getTargets", SILENT)
    rest.cdp_url = None  # so it waits for an address
    task = asyncio.create_task(_opened(rest))
    await asyncio.wait_for(rest.created.wait(), 60)
    while not rest.count("GET", "/browsers/"):
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (rest.stops, rest.client.is_open) == (1, False)


async def test_fault_a80_cancelled_while_the_create_is_on_its_way(rest):
    rest.may_create.clear()
    task = asyncio.create_task(_opened(rest))
    await asyncio.wait_for(rest.created.wait(), 60)
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()  # its answer is waited for
    rest.may_create.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (rest.count("POST", "/browsers"), rest.stops) == (1, 1)


@pytest.mark.parametrize("answer", [404, "stopped", 400])
async def test_fault_a82_a_stop_of_what_is_stopped_succeeds(rest, answer):
    async with cdpbridge.open_browser(rest.client) as browser:
        rest.end(str(browser.id))
        if answer != "stopped":
            rest.on_stop = [answer]
    assert rest.stops == 1
    assert browser.receipt is not None


async def test_fault_a82_a_server_error_is_retried(rest, caplog):
    rest.on_stop = [500, httpx.ReadTimeout("late"), httpx.ConnectError("refused"), 429]
    async with cdpbridge.open_browser(rest.client) as browser:
        pass
    assert rest.stops == 5
    assert browser.receipt.refunded == Decimal("0.025")


async def test_fault_a82_an_unconfirmed_stop_is_raised(rest):
    rest.on_stop = [500] * 100
    with pytest.raises(StopFailed, match="cdpbridge stop") as caught:
        async with cdpbridge.open_browser(rest.client, stop_timeout=timedelta(seconds=1)) as browser:
            pass
    assert caught.value.browser_id == browser.id
    assert f"--provider {BASE_URL}" in str(caught.value)
    assert "active" in repr(browser)
    rest.on_stop = []
    assert (await browser.stop()).refunded == Decimal("0.025")  # a stop that failed can be tried again
    assert not rest.client.is_open


async def test_fault_a82_an_unconfirmed_stop_does_not_hide_the_first_error(rest, caplog):
    rest.on_stop = [401]
    with pytest.raises(KeyError, match="mine") as caught:
        async with cdpbridge.open_browser(rest.client) as browser:
            raise KeyError("mine")
    assert any("cdpbridge stop" in note for note in caught.value.__notes__)
    assert [record.levelno for record in caplog.records if str(browser.id) in record.message] == [
        logging.ERROR
    ]
    browser._core._unguard()


async def test_fault_a83_two_owners_one_refund(rest):
    async with cdpbridge.open_browser(rest.client) as browser:
        rest.end(str(browser.id))
    assert browser.receipt.difference == 0
    assert rest.balance == Decimal("99.975")


async def test_the_receipt_names_a_difference(rest):
    tariff = cdpbridge.Tariff(usd_per_hour=Decimal("0.02"))
    async with cdpbridge.open_browser(rest.client, tariff=tariff) as browser:
        pass
    assert browser.receipt.difference == Decimal("0.015")
    assert "the server booked 0.025" in str(browser.receipt)


async def test_the_receipt_falls_back_to_the_account(rest):
    rest.tells_cost = False
    async with cdpbridge.open_browser(rest.client) as browser:
        pass
    assert (browser.receipt.booked, browser.receipt.account_change) == (None, Decimal("-0.025"))
    assert browser.receipt.difference == 0


async def test_stopped_is_told(rest):
    told = []
    async with cdpbridge.open_browser(rest.client) as browser:
        browser.on("stopped", lambda: told.append("stopped"))
        removed = browser.on("stopped", lambda: told.append("removed"))
        browser.on("disconnected", lambda: told.append("disconnected"))
        removed()
        with pytest.raises(ValueError, match="no event 'gone'"):
            browser.on("gone", print)
    assert sorted(told) == ["disconnected", "stopped"]


# --- while it is rented -----------------------------------------------------------------------------------------------


@asynccontextmanager
async def ended(rest, scripted, used):
    """A rented browser that the server has ended."""
    async with cdpbridge.open_browser(rest.client) as browser:
        rest.used = used
        rest.end(str(browser.id))
        await (await scripted.client()).close(1001, "session stopped")
        await browser.connection.wait_closed()
        yield browser


async def test_fault_a77_a_lost_connection_is_resumed(rest, scripted):
    reports = []
    async with cdpbridge.open_browser(rest.client) as browser:
        tab = await browser.new_tab()
        browser.on("reconnected", reports.append)
        (await scripted.client()).cut()
        await scripted.client(1)
        assert await tab.session.send("Page.enable") == {}
        assert await browser.connection.root.send("Browser.getVersion") == {}
    assert [len(report.lost) for report in reports] == [0]
    assert rest.count("POST", "/browsers") == 1


async def test_use_after_the_time_is_over_says_so(rest, scripted):
    async with ended(rest, scripted, timedelta(minutes=60)) as browser:
        with pytest.raises(BrowserExpired, match="started at 12:00:00"):
            await browser.new_tab()


async def expire(rest, scripted, browser):
    """The server ends the browser at its timeout."""
    rest.used = timedelta(minutes=60)
    rest.end(str(browser.id))
    await (await scripted.client()).close(1001, "session expired")


USES = {
    "session.send": lambda tab: tab.session.send("Page.enable"),
    "root.send": lambda tab: tab.session.connection.root.send("Browser.getVersion"),
    "evaluate": lambda tab: tab.evaluate("1 + 1"),
    "goto": lambda tab: tab.goto("about:blank"),
    "screenshot": lambda tab: tab.screenshot(),
    "cookies": lambda tab: tab.cookies(),
}


@pytest.mark.parametrize("use", USES)
async def test_fault_a84_a_page_used_after_the_time_is_over_says_so(rest, scripted, use):
    async with cdpbridge.open_browser(rest.client) as browser:
        tab = await browser.new_tab()
        await expire(rest, scripted, browser)
        await browser.connection.wait_closed()
        with pytest.raises(BrowserExpired, match="started at 12:00:00") as caught:
            await USES[use](tab)
        assert (caught.value.started_at, caught.value.timeout_at) == (browser.started_at, browser.timeout_at)
        assert (caught.value.code, caught.value.reason) == (1001, "session expired")
        assert isinstance(caught.value, ConnectionClosed)


async def test_fault_a84_what_waits_when_the_time_is_over_is_told_so(rest, scripted):
    scripted.on("Page.enable", SILENT)
    async with cdpbridge.open_browser(rest.client) as browser:
        tab = await browser.new_tab()
        waiting = asyncio.create_task(tab.session.send("Page.enable"))
        await scripted.received("Page.enable")
        events = asyncio.create_task(anext(tab.session.events("Page.loadEventFired")))
        await expire(rest, scripted, browser)
        for task in (waiting, events):
            with pytest.raises(BrowserExpired, match="timed out at"):
                await task
        assert waiting.exception().sent is True


async def test_fault_a84_a_server_that_gives_no_reason_is_held_against_the_clock(rest, scripted):
    rest.timeout = lambda _body: timedelta(seconds=1)
    async with cdpbridge.open_browser(rest.client) as browser:
        tab = await browser.new_tab()
        await (await scripted.client()).close(1000, "")
        await browser.connection.wait_closed()
        with pytest.raises(BrowserExpired) as caught:
            await tab.evaluate("1 + 1")
        assert isinstance(caught.value.__cause__, ConnectionClosed)


async def test_use_after_somebody_stopped_it_says_so(rest, scripted):
    async with ended(rest, scripted, timedelta(minutes=3)) as browser:
        with pytest.raises(BrowserStopped):
            await browser.tabs()


async def test_use_after_the_block_says_so(rest):
    async with cdpbridge.open_browser(rest.client) as browser:
        pass
    with pytest.raises(BrowserStopped):
        await browser.new_tab()


async def test_a_page_that_does_not_load_is_closed_again(rest, scripted):
    scripted.on("Page.navigate", {"frameId": "F", "errorText": "net::ERR_NAME_NOT_RESOLVED"})
    async with cdpbridge.open_browser(rest.client) as browser:
        with pytest.raises(NavigationError, match="ERR_NAME_NOT_RESOLVED"):
            await browser.new_tab("https://nowhere.test")
        await scripted.received("Target.closeTarget")


async def test_no_secret_is_shown(rest, caplog):
    caplog.set_level(logging.DEBUG)
    async with cdpbridge.open_browser(rest.client) as browser:
        shown = repr(browser) + repr(browser.record) + repr(rest.client) + repr(browser.connection)
        address = browser.cdp_url
    everything = shown + caplog.text
    assert "key-of-tests" not in everything
    assert address not in everything
