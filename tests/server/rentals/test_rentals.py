"""From the order to the refund, over scripted machines and a clock that stands still."""

import asyncio
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from cdpbridge._lifecycle import EndReason
from cdpbridge.billing import Tariff, charge, refund
from cdpbridge.errors import BrowserStartFailed
from cdpbridge.server.store import Server
from tests.conftest import until

MINUTE = 60.0


def micro(amount):
    return int(Decimal(amount) * 1_000_000)


def at(text):
    return datetime.fromisoformat(text)


async def test_a_rental_from_start_to_stop(api):
    browser = await api.rent(timeout=60)
    assert browser["status"] == "active"
    assert at(browser["timeoutAt"]) - at(browser["startedAt"]) == timedelta(hours=1)
    assert browser["browserCost"] == "0.05"
    api.clock.advance(30 * MINUTE)
    stopped = await api.stop(browser)
    assert stopped["status"] == "stopped"
    assert stopped["cdpUrl"] is None
    assert at(stopped["finishedAt"]) - at(stopped["startedAt"]) == timedelta(minutes=30)
    assert Decimal(stopped["browserCost"]) == Decimal("0.025")
    [(_, goodbye, save)] = api.hosts.stopped
    assert (goodbye.code, goodbye.reason, save) == (1001, "session stopped", False)


async def test_fault_b04_half_an_hour_gives_half_back(api):
    browser = await api.rent(timeout=60)
    api.clock.advance(30 * MINUTE)
    await api.stop(browser)
    assert await api.entries() == [
        ("grant", "start", micro(100)),
        ("charge", "hour 1", -micro("0.05")),
        ("refund", "refund", micro("0.025")),
    ]
    assert (await api.account())["totalCreditsBalanceUsd"] == 99.975


async def test_fault_b01_timeout(api):
    browser = await api.rent(timeout=2)
    api.clock.advance(2 * MINUTE - 0.001)
    assert (await api.browser(browser))["status"] == "active"
    api.clock.advance(0.001)
    stopped = await api.settled(browser)
    assert stopped["finishedAt"] == stopped["timeoutAt"]
    assert stopped["endReason"] == EndReason.EXPIRED
    [(_, goodbye, _)] = api.hosts.stopped
    assert (goodbye.code, goodbye.reason) == (1001, "session expired")
    assert Decimal(stopped["browserCost"]) == Decimal("0.001667")


async def test_fault_b03_stop_twice_at_once(api):
    browser = await api.rent()
    api.clock.advance(10 * MINUTE)
    answers = await asyncio.gather(*(api.stop(browser) for _ in range(5)))
    answers.append(await api.stop(browser))
    assert all(answer == answers[0] for answer in answers)
    assert len(api.hosts.stopped) == 1
    assert [kind for kind, _, _ in await api.entries()] == ["grant", "charge", "refund"]


async def test_fault_b03_a_stop_while_the_record_of_another_is_closed(api, monkeypatch):
    """Both get the closed record: of the other there are no bytes by host yet."""
    browser = await api.rent()
    store = api.services.store
    finish, closing, go = store.finish, asyncio.Event(), asyncio.Event()

    async def slow(*arguments, **options):
        closing.set()
        await go.wait()
        return await finish(*arguments, **options)

    monkeypatch.setattr(store, "finish", slow)
    first = asyncio.create_task(api.stop(browser))
    await closing.wait()
    second = asyncio.create_task(api.stop(browser))
    early, _ = await asyncio.wait({second}, timeout=0.2)
    go.set()
    assert not early
    assert await first == await second


@pytest.mark.parametrize("order", ["stop, expire, exit", "expire, exit, stop", "exit, stop, expire"])
async def test_fault_b03_stop_timeout_and_crash_race(api, order):
    browser = await api.rent(timeout=5)
    browser_id = next(iter(api.hosts.running))
    stops = []
    for signal in order.split(", "):
        if signal == "stop":
            stops.append(asyncio.create_task(api.stop(browser)))
            await asyncio.sleep(0)
        elif signal == "expire":
            api.clock.advance(5 * MINUTE)
        else:
            api.hosts.crash(browser_id)
    [answer] = await asyncio.gather(*stops)
    assert answer == await api.settled(browser)
    assert len(api.hosts.stopped) == 1
    assert [kind for kind, _, _ in await api.entries()] == ["grant", "charge", "refund"]


async def test_fault_b04_a_crash_refunds_what_was_not_used(api):
    browser = await api.rent(timeout=60)
    api.clock.advance(12 * MINUTE)
    api.hosts.crash(next(iter(api.hosts.running)))
    stopped = await api.settled(browser)
    assert stopped["endReason"] == EndReason.BROWSER_EXITED
    assert Decimal(stopped["browserCost"]) == Decimal("0.01")
    assert api.hosts.stopped[0][1].code == 1011


async def test_each_started_hour_is_charged_when_it_starts(api):
    browser = await api.rent(timeout=180)
    for hours in (1, 2, 3):
        expected = [-micro("0.05")] * hours
        async with asyncio.timeout(60):
            while [amount for kind, _, amount in await api.entries() if kind == "charge"] != expected:
                await asyncio.sleep(0.001)
        api.clock.advance(3601 if hours < 3 else 1798)
    stopped = await api.stop(browser)
    # 2 h 30 min of 3 h: the last half hour comes back.
    assert Decimal(stopped["browserCost"]) == Decimal("0.125")


async def test_an_hour_is_not_charged_before_it_starts(api):
    browser = await api.rent(timeout=120)
    api.clock.advance(3600)
    stopped = await api.stop(browser)
    assert Decimal(stopped["browserCost"]) == Decimal("0.05")
    assert [entry for _, entry, _ in await api.entries()] == ["start", "hour 1"]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)  # a new one for each example
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seconds=st.floats(0, 240 * 60), price=st.sampled_from(["0.05", "0.02", "0.033333", "1", "0"]))
async def test_the_ledger_equals_the_written_rule(make_api, tmp_path_factory, seconds, price):
    directory = tmp_path_factory.mktemp("ledger")
    async with make_api(data_dir=directory, usd_per_hour=price) as api:
        browser = await api.rent(timeout=240)
        api.clock.advance(seconds)
        await api.stop(browser)
        await api.settled(browser)
        used = min(timedelta(seconds=api.clock.time() - 1000), timedelta(hours=4))
        tariff = Tariff(Decimal(price))
        entries = await api.entries()
        charged = -sum(amount for kind, _, amount in entries if kind == "charge")
        refunded = sum(amount for kind, _, amount in entries if kind == "refund")
        assert (charged, refunded) == (micro(charge(tariff, used)), micro(refund(tariff, used)))


@pytest.mark.parametrize("jump", [timedelta(hours=1), timedelta(hours=-1)])
async def test_fault_b06_wall_clock_jumps_move_no_deadline_and_no_money(api, jump):
    browser = await api.rent(timeout=30)
    api.clock.advance(10 * MINUTE)
    api.wall.offset = jump
    assert (await api.browser(browser))["status"] == "active"
    api.clock.advance(20 * MINUTE)
    stopped = await api.settled(browser)
    assert stopped["timeoutAt"] == browser["timeoutAt"] == stopped["finishedAt"]
    assert Decimal(stopped["browserCost"]) == Decimal("0.025")


async def test_fault_b07_a_create_cancelled_halfway_leaves_nothing(api):
    api.hosts.may_start.clear()
    creating = asyncio.create_task(api.rent())
    while not api.hosts.starting:
        await asyncio.sleep(0)
    assert (await api.account())["activeSessionCount"] == 1
    creating.cancel()
    with pytest.raises(asyncio.CancelledError):
        await creating
    async with asyncio.timeout(60):
        while (await api.account())["activeSessionCount"]:
            await asyncio.sleep(0.001)
    api.hosts.may_start.set()
    assert not api.hosts.running
    assert (await api.get("/browsers")).json()["totalItems"] == 0
    assert await api.entries() == [("grant", "start", micro(100))]


async def test_fault_b07_a_client_that_leaves_while_it_is_charged(api):
    """Given up in the very moment the browser is ready: it is undone, and every cent comes back."""
    store = api.services.store
    activate, reached, go_on = store.activate, asyncio.Event(), asyncio.Event()

    async def slow(*arguments, **options):
        reached.set()
        await go_on.wait()
        return await activate(*arguments, **options)

    store.activate = slow
    creating = asyncio.create_task(api.rent())
    await reached.wait()
    creating.cancel()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await creating
    async with asyncio.timeout(60):
        while api.services.rentals._rentals:
            await asyncio.sleep(0.001)
    assert (await api.account())["totalCreditsBalanceUsd"] == 100
    assert not api.hosts.running


async def test_a_stop_while_it_starts(api):
    api.hosts.may_start.clear()
    creating = asyncio.create_task(api.post("/browsers", {}))
    async with asyncio.timeout(60):
        while not (listed := (await api.get("/browsers")).json()["items"]):
            await asyncio.sleep(0.001)
    assert listed[0]["status"] == "active"
    assert listed[0]["cdpUrl"] is None
    stopped = await api.stop(listed[0])
    assert stopped["status"] == "stopped"
    answer = await creating
    assert answer.status_code == 503
    assert "stopped while it was starting" in answer.json()["detail"]
    assert (await api.account())["totalCreditsBalanceUsd"] == 100


async def test_fault_b08_a_failed_start_names_the_cause_and_frees_the_slot(make_api, start_failure):
    async with make_api(max_browsers=1) as api:
        api.hosts.failure = start_failure
        for _ in range(2):
            answer = await api.post("/browsers", {})
            assert answer.status_code == 503
            assert "No space left on device" in answer.json()["detail"]
        assert (await api.account())["totalCreditsBalanceUsd"] == 100
        assert (await api.get("/browsers")).json()["items"] == []
        api.hosts.failure = None
        await api.rent()


async def test_fault_b08_a_browser_that_exits_while_it_is_charged(api):
    store = api.services.store
    activate = store.activate

    async def crashing(browser_id, **options):
        api.hosts.crash(browser_id)
        return await activate(browser_id, **options)

    store.activate = crashing
    browser = await api.rent()
    stopped = await api.settled(browser)
    assert stopped["endReason"] == EndReason.BROWSER_EXITED


@pytest.mark.parametrize("end", ["stop", "expire", "exit", "fail", "cancel"])
async def test_fault_b09_the_limit_and_no_ghost_slots(make_api, end):
    async with make_api(max_browsers=3) as api:
        browsers = await asyncio.gather(*(api.rent(timeout=5) for _ in range(3)))
        refused = await api.post("/browsers", {})
        assert refused.status_code == 429
        assert refused.json()["detail"].startswith(
            "Too many concurrent active sessions. "
            "Please wait for one to finish, kill one, or upgrade your plan. (limit: 3; "
        )
        assert "`max_browsers`" in refused.json()["detail"]
        assert (await api.account())["concurrentSessionLimit"] == 3
        api.hosts.may_stop.clear()  # what is on its way out holds no slot
        if end == "stop":
            ending = asyncio.create_task(api.stop(browsers[0]))
            while len(api.hosts.running) == 3:
                await asyncio.sleep(0)
        elif end == "expire":
            ending = None
            api.clock.advance(5 * MINUTE)
        elif end == "exit":
            ending = None
            api.hosts.crash(next(iter(api.hosts.running)))
        else:
            api.hosts.may_stop.set()
            ending = None
            await api.stop(browsers[0])
            if end == "fail":
                api.hosts.failure = BrowserStartFailed("no memory")
                assert (await api.post("/browsers", {})).status_code == 503
                api.hosts.failure = None
            else:
                api.hosts.may_start.clear()
                creating = asyncio.create_task(api.rent())
                while not api.hosts.starting:
                    await asyncio.sleep(0)
                creating.cancel()
                await asyncio.wait({creating})
                api.hosts.may_start.set()
        async with asyncio.timeout(60):
            while (await api.account())["activeSessionCount"] == 3:
                await asyncio.sleep(0)
        await api.rent()
        api.hosts.may_stop.set()
        if ending is not None:
            await ending


async def test_credits_are_counted_for_starts_on_their_way(make_api):
    async with make_api(credits_usd="0.10") as api:
        api.hosts.may_start.clear()
        creating = [asyncio.create_task(api.post("/browsers", {})) for _ in range(4)]
        while api.hosts.starting < 2:
            await asyncio.sleep(0)
        done, _ = await asyncio.wait(creating, return_when=asyncio.FIRST_COMPLETED)
        api.hosts.may_start.set()
        statuses = sorted(answer.status_code for answer in await asyncio.gather(*creating))
        assert statuses == [201, 201, 402, 402]
        assert done
        assert (await api.account())["totalCreditsBalanceUsd"] == 0
        refused = await api.post("/browsers", {})
        assert refused.status_code == 402
        assert refused.json()["detail"].startswith("Insufficient credits")


async def test_fault_e08_simulated_money_never_runs_out(make_api):
    """By default: the balance falls as it would, and is filled up; also for a project from before, with nothing left."""
    async with make_api(credits_usd=0) as api:
        refused = await api.post("/browsers", {})
        assert refused.status_code == 402
        assert "cdpbridge credits grant" in refused.json()["detail"]
        assert (await api.account())["creditsSimulated"] is False
    async with make_api(usd_per_hour=60, max_browsers=5) as api:
        for _ in range(5):
            await api.rent()
            assert (await api.account())["totalCreditsBalanceUsd"] >= 0
        account = await api.account()
        assert account["totalCreditsBalanceUsd"] == 0  # three grants of 100, five hours at 60
        assert (account["creditsSimulated"], account["usdPerHour"]) == (True, "60")


async def test_idempotency_key(api):
    headers = {"Idempotency-Key": "one"}
    browsers = await asyncio.gather(*(api.rent(timeout=5, headers=headers) for _ in range(4)))
    browsers.append(await api.rent(timeout=5, headers=headers))
    assert len({browser["id"] for browser in browsers}) == 1
    assert api.hosts.starts == 1
    other = await api.post("/browsers", {"timeout": 6}, headers=headers)
    assert other.status_code == 409
    assert "another body" in other.json()["detail"]
    second = await api.rent(timeout=5, headers={"Idempotency-Key": "two"})
    assert second["id"] != browsers[0]["id"]
    others = await api.post("/browsers", {"timeout": 5}, headers=headers, key="key-of-others")
    assert others.json()["id"] not in {second["id"], browsers[0]["id"]}
    await api.stop(browsers[0])
    again = await api.rent(timeout=5, headers=headers)
    assert (again["id"], again["status"]) == (browsers[0]["id"], "stopped")


async def test_idempotency_key_with_another_body_while_it_starts(api):
    api.hosts.may_start.clear()
    headers = {"Idempotency-Key": "one"}
    creating = asyncio.create_task(api.rent(timeout=5, headers=headers))
    while not api.hosts.starting:
        await asyncio.sleep(0)
    assert (await api.post("/browsers", {"timeout": 6}, headers=headers)).status_code == 409
    api.hosts.may_start.set()
    await creating


async def test_idempotency_key_is_free_again_after_a_failure(api, start_failure):
    headers = {"Idempotency-Key": "one"}
    api.hosts.failure = start_failure
    assert (await api.post("/browsers", {"timeout": 5}, headers=headers)).status_code == 503
    api.hosts.failure = None
    assert (await api.rent(timeout=6, headers=headers))["status"] == "active"


async def test_one_of_two_that_wait_for_a_browser_leaves(api):
    api.hosts.may_start.clear()
    headers = {"Idempotency-Key": "one"}
    first = asyncio.create_task(api.rent(headers=headers))
    second = asyncio.create_task(api.rent(headers=headers))
    while sum(rental.start.waiting for rental in api.services.rentals._rentals.values()) < 2:
        await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait({first})
    api.hosts.may_start.set()
    assert (await second)["status"] == "active"
    assert api.hosts.starts == 1


async def test_a_repeated_request_after_its_first_client_left(api):
    api.hosts.may_start.clear()
    headers = {"Idempotency-Key": "one"}
    first = asyncio.create_task(api.rent(headers=headers))
    while not api.hosts.starting:
        await asyncio.sleep(0)
    first.cancel()
    second = asyncio.create_task(api.rent(headers=headers))
    await asyncio.wait({first})
    api.hosts.may_start.set()
    assert (await second)["status"] == "active"
    assert len(api.hosts.running) == 1


@pytest.mark.parametrize("moment", ["while it is undone", "afterwards"])
async def test_a_repeated_request_gets_no_browser_that_was_undone(api, moment):
    """The first client left in the moment when its browser was ready: nobody learnt of it, so it was undone."""
    headers = {"Idempotency-Key": "one"}
    first = await api.rent(headers=headers)
    undoing = asyncio.create_task(api.services.rentals._discard(UUID(first["id"])))
    await asyncio.wait({undoing}, timeout=0 if moment == "while it is undone" else None)
    second = await api.rent(headers=headers)
    await undoing
    assert (second["status"], len(api.hosts.running)) == ("active", 1)
    assert second["id"] != first["id"]
    assert (await api.rent(headers=headers))["id"] == second["id"]


async def test_requests_with_one_key_at_once_start_one_browser(api, monkeypatch):
    """None of them is known yet while the others look into the database."""
    store, reading = api.services.store, asyncio.Event()
    read = store.repeated

    async def slowly(*arguments):
        found = await read(*arguments)
        await reading.wait()
        return found

    monkeypatch.setattr(store, "repeated", slowly)
    headers = {"Idempotency-Key": "one"}
    requests = [asyncio.create_task(api.rent(headers=headers)) for _ in range(3)]
    await asyncio.sleep(0)
    reading.set()
    answers = await asyncio.gather(*requests)
    assert len({answer["id"] for answer in answers}) == 1
    assert api.hosts.starts == 1
    assert not api.services.rentals._turns


async def test_a_start_that_its_event_loop_cancels_is_cancelled(api):
    """An end of the loop is no `StartWithdrawn`: requests that wait for the start see the cancellation itself."""
    api.hosts.may_start.clear()
    creating = asyncio.create_task(api.rent())
    while not api.hosts.starting:
        await asyncio.sleep(0)
    [rental] = api.services.rentals._rentals.values()
    rental.start.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await creating
    assert rental.start.task.cancelled()
    assert (api.services.rentals._rentals, api.hosts.running) == ({}, {})
    assert (await api.account())["activeSessionCount"] == 0


async def test_fault_b26_two_browsers_on_one_profile(api):
    profile = (await api.post("/profiles", {"name": "work"})).json()
    first = await api.rent(profileId=profile["id"])
    second = await api.rent(profileId=profile["id"])
    assert (first["profileWritable"], second["profileWritable"]) == (True, False)
    await api.stop(second)
    assert (await api.get(f"/profiles/{profile['id']}")).json()["cookieDomains"] is None
    api.clock.advance(60)
    await api.stop(first)
    saved = (await api.get(f"/profiles/{profile['id']}")).json()
    assert saved["cookieDomains"] == ["example.com"]
    assert at(saved["updatedAt"]) > at(profile["updatedAt"])
    assert at(saved["lastUsedAt"]) == at(second["startedAt"])


async def test_a_rental_waits_for_the_profile_that_is_being_saved(api):
    profile = (await api.post("/profiles", {})).json()["id"]
    first = await api.rent(profileId=profile)
    api.hosts.may_stop.clear()
    stopping = asyncio.create_task(api.stop(first))
    while api.hosts.running:
        await asyncio.sleep(0)
    creating = asyncio.create_task(api.rent(profileId=profile))
    while len(api.services.rentals._rentals) < 2:
        await asyncio.sleep(0)
    assert api.hosts.starts == 1
    api.hosts.may_stop.set()
    assert (await creating)["profileWritable"] is True
    await stopping


@pytest.mark.parametrize("database", ["sqlite"])
async def test_a_profile_is_saved_after_the_answer_to_the_stop(api):
    """Who looks at it or rents it next waits for that; others do not."""
    profile, other = [(await api.post("/profiles", {})).json()["id"] for _ in range(2)]
    browser = await api.rent(profileId=profile)
    api.hosts.may_save.clear()
    assert (await api.stop(browser))["status"] == "stopped"
    assert (await api.account())["activeSessionCount"] == 0
    looking = asyncio.create_task(api.get(f"/profiles/{profile}"))
    listing = asyncio.create_task(api.get("/profiles"))
    creating = asyncio.create_task(api.rent(profileId=profile))
    assert (await api.get(f"/profiles/{other}")).json()["cookieDomains"] is None
    await api.rent(profileId=other)
    await api.rent()
    assert api.hosts.starts == 3
    assert not any(waiting.done() for waiting in (looking, listing, creating))
    assert not api.hosts.removed
    api.hosts.may_save.set()
    assert (await looking).json()["cookieDomains"] == ["example.com"]
    found = {each["id"]: each["cookieDomains"] for each in (await listing).json()["items"]}
    assert found == {profile: ["example.com"], other: None}
    assert (await creating)["profileWritable"] is True


async def test_a_slot_is_free_when_the_folder_that_took_it_is_removed(make_api):
    """A create that comes before waits for that: the stop is answered, so it would be refused without a reason that shows."""
    async with make_api(max_browsers=2) as api:
        first, second = await api.rent(), await api.rent()
        api.hosts.may_remove.clear()
        await api.stop(first)
        creating = asyncio.create_task(api.post("/browsers", {}))
        await api.stop(second)
        assert (await api.account())["activeSessionCount"] == 0
        assert not creating.done()
        assert api.hosts.starts == 2
        api.hosts.may_remove.set()
        assert (await creating).status_code == 201
        assert {str(each) for each in api.hosts.removed} == {first["id"], second["id"]}
        await api.rent()
        assert (await api.post("/browsers", {})).status_code == 429


@pytest.mark.parametrize("database", ["postgresql"])
async def test_where_there_are_other_servers_a_profile_is_saved_before_the_answer(api):
    """They do not see that it is being saved, and would give its former version to the next browser."""
    profile = (await api.post("/profiles", {})).json()["id"]
    browser = await api.rent(profileId=profile)
    api.hosts.may_save.clear()
    stopping = asyncio.create_task(api.stop(browser))
    while api.hosts.running:
        await asyncio.sleep(0)
    await api.account()
    answered = stopping.done()
    api.hosts.may_save.set()
    assert not answered
    assert (await stopping)["status"] == "stopped"
    found = await api.services.store.profile(await api.project(), UUID(profile))
    assert found.cookie_domains == ["example.com"]


@pytest.mark.parametrize("database", ["sqlite"])
async def test_a_server_that_stops_waits_until_profiles_are_saved_and_folders_removed(make_api):
    async with make_api() as api:
        profile = (await api.post("/profiles", {})).json()["id"]
        browser = await api.rent(profileId=profile)
        api.hosts.may_save.clear()
        await api.stop(browser)
        closing = asyncio.create_task(api.services.rentals.close())
        while not api.services.rentals.closing:
            await asyncio.sleep(0)
        answer = await api.post("/browsers", {})
        closed = closing.done()
        api.hosts.may_save.set()
        await closing
        assert (closed, answer.status_code) == (False, 503)
        assert [str(each) for each in api.hosts.removed] == [browser["id"]]
        found = await api.services.store.profile(await api.project(), UUID(profile))
        assert found.cookie_domains == ["example.com"]


async def test_a_profile_deleted_in_use_is_not_saved(api):
    profile = (await api.post("/profiles", {})).json()["id"]
    browser = await api.rent(profileId=profile)
    assert (await api.request("DELETE", f"/profiles/{profile}")).status_code == 204
    stopped = await api.stop(browser)
    assert stopped["profileId"] == profile
    assert api.hosts.stopped[0][2] is False


async def test_a_profile_deleted_while_it_is_saved_is_forgotten(api, monkeypatch):
    profile = (await api.post("/profiles", {})).json()["id"]
    browser = await api.rent(profileId=profile)
    forgotten = []

    async def forget(profile_id):
        forgotten.append(str(profile_id))

    monkeypatch.setattr(api.services.rentals._endings, "_forget_profile", forget)
    api.hosts.may_stop.clear()
    stopping = asyncio.create_task(api.stop(browser))
    while api.hosts.running:
        await asyncio.sleep(0)
    await api.request("DELETE", f"/profiles/{profile}")
    api.hosts.may_stop.set()
    await stopping
    await api.services.rentals.profile_saved(await api.project())
    assert forgotten == [profile]


async def test_a_server_that_stops_refunds_and_saves(make_api, tmp_path):
    async with make_api() as api:
        profile = (await api.post("/profiles", {})).json()["id"]
        browser = await api.rent(profileId=profile)
        api.clock.advance(15 * MINUTE)
        hosts = api.hosts
    [(_, goodbye, save)] = hosts.stopped
    assert (goodbye.reason, save) == ("server stopping", True)
    async with make_api() as api:
        stopped = await api.browser(browser)
        assert (stopped["status"], stopped["endReason"]) == ("stopped", EndReason.SERVER_LOST)
        assert Decimal(stopped["browserCost"]) == Decimal("0.0125")
        assert api.hosts.left == []


async def test_an_order_that_comes_in_the_moment_in_which_a_server_stops(api):
    """Its start was cancelled before its first step: the answer was 500, and the rental stayed in the list of those that start."""
    closing = asyncio.create_task(api.services.rentals.close())
    assert (await api.post("/browsers", {})).status_code == 503
    await closing
    assert (api.services.rentals._rentals, api.hosts.running) == ({}, {})


async def test_a_server_that_stops_takes_no_orders(api):
    api.hosts.may_start.clear()
    creating = asyncio.create_task(api.post("/browsers", {}))
    while not api.hosts.starting:
        await asyncio.sleep(0)
    await api.services.rentals.close()
    assert (await creating).status_code == 503
    answer = await api.post("/browsers", {})
    assert (answer.status_code, answer.json()["detail"]) == (503, "the server is stopping")


async def test_fault_b05_what_a_killed_server_left_is_settled(make_api, monkeypatch):
    """The rows of a killed server: the last sign of life, not the time of the restart, is what is charged."""
    async with make_api(heartbeat_seconds=0.01) as api:
        profile = (await api.post("/profiles", {})).json()["id"]
        lost = await api.rent(profileId=profile, timeout=60)
        api.clock.advance(20 * MINUTE)
        rentals, store = api.services.rentals, api.services.store

        async def seen():
            [row] = await store.unfinished()
            async with store._read() as session:
                uptime = await session.scalar(select(Server.uptime_ms).where(Server.id == store.server_id))
            return uptime - row.started_uptime_ms == 20 * 60 * 1000

        async with asyncio.timeout(60):
            while not await seen():
                await asyncio.sleep(0.01)
        await rentals._heart.close()
        rentals._rentals.clear()  # as if killed: nothing is written any more
        api.hosts.running.clear()
    async with make_api(offset=timedelta(hours=5)) as api:
        browser = await api.browser(lost)
        assert (browser["status"], browser["endReason"]) == ("stopped", EndReason.SERVER_LOST)
        assert at(browser["finishedAt"]) - at(browser["startedAt"]) == timedelta(minutes=20)
        assert Decimal(browser["browserCost"]) == Decimal("0.016667")
        [left] = api.hosts.left
        assert (str(left.id), str(left.profile_id), left.profile_writable) == (lost["id"], profile, True)
        assert (await api.get(f"/profiles/{profile}")).json()["cookieDomains"] == ["left.example"]
        assert (await api.account())["activeSessionCount"] == 0
        await api.rent()


async def test_signs_of_life_go_on_after_a_failure_that_was_not_foreseen(make_api, monkeypatch, caplog):
    async with make_api(heartbeat_seconds=0.01) as api:
        heart, failures = api.services.rentals._heart, iter([RuntimeError("of the test")])
        beat, after = heart.beat, []

        async def failing():
            for error in failures:
                raise error
            await beat()
            after.append(True)

        monkeypatch.setattr(heart, "beat", failing)
        await until(lambda: after)
    assert "of the test" in caplog.text


async def test_a_database_that_fails_at_the_end_is_tried_again(make_api):
    async with make_api(heartbeat_seconds=0.01) as api:
        browser = await api.rent(timeout=60)
        api.clock.advance(30 * MINUTE)
        store = api.services.store
        settle, failures = store.settle, [OperationalError("x", {}, Exception("disk full"))] * 3

        async def failing(*arguments, **options):
            if failures:
                raise failures.pop()
            return await settle(*arguments, **options)

        store.settle = failing
        await api.stop(browser)
        assert not api.hosts.running
        stopped = await api.settled(browser)
        assert Decimal(stopped["browserCost"]) == Decimal("0.025")


async def test_a_machine_that_fails_at_the_end_leaves_no_ghost(api):
    browser = await api.rent()

    async def failing(*arguments, **options):
        raise OSError("the disk is gone")

    stop, api.hosts.stop = api.hosts.stop, failing
    assert (await api.stop(browser))["status"] == "stopped"
    api.hosts.stop = stop
    api.hosts.running.clear()
    assert (await api.account())["activeSessionCount"] == 0


async def test_the_traffic_of_a_proxy_is_shown(make_api):
    async with make_api(proxies={"de": "direct"}, default_proxy_country="de") as api:
        browser = await api.rent()
        assert browser["proxyCountryCode"] == "de"
        assert api.hosts.specs[0].proxy == "direct"
        api.hosts.bytes = 2_500_000
        assert (await api.browser(browser))["proxyUsedMb"] == "2.5"
        assert (await api.stop(browser))["proxyUsedMb"] == "2.5"
        await api.rent(proxyCountryCode=None)
        assert api.hosts.specs[1].proxy is None
