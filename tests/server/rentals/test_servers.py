"""Two servers on one PostgreSQL: limits, keys and money hold over both, and one settles what the other leaves."""

import asyncio
from contextlib import asynccontextmanager
from datetime import timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from sqlalchemy.exc import SQLAlchemyError

from cdpbridge._lifecycle import EndReason, State
from cdpbridge.server.rentals import _heart, _membership, _recovery
from tests import postgres
from tests.conftest import until
from tests.server.rentals.conftest import kill

pytestmark = [postgres.INSTALLED, pytest.mark.parametrize("database", ["postgresql"], indirect=True)]

MINUTE = 60.0
KEY = {"Idempotency-Key": "once"}


@pytest.fixture
def quick(monkeypatch):
    """Servers beat and listen often; each lives as long as it is not stopped, however busy this machine is."""
    monkeypatch.setattr(_membership, "DEAD_SECONDS", 90.0)
    monkeypatch.setattr(_membership, "STALE_SECONDS", 80.0)
    monkeypatch.setattr(_heart, "_BEAT_AMONG_OTHERS", timedelta(seconds=0.05))
    monkeypatch.setattr(_heart, "_LISTEN_SECONDS", 0.02)


@pytest.fixture
def mortal(quick, monkeypatch):
    """Servers notice soon what takes them ten seconds otherwise."""
    monkeypatch.setattr(_membership, "DEAD_SECONDS", 1.5)
    monkeypatch.setattr(_membership, "STALE_SECONDS", 1.2)


@pytest.fixture
def two(make_api, tmp_path, quick):
    """Two servers, as a block; each with a folder and machines of its own."""

    @asynccontextmanager
    async def two(second=(), **settings):
        async with (
            make_api(data_dir=tmp_path / "a", **settings) as a,
            make_api(data_dir=tmp_path / "b", **(settings | dict(second))) as b,
        ):
            yield a, b

    return two


async def state(api, browser):
    return (await api.browser(browser))["status"]


async def test_the_limit_and_the_credits_are_of_all_servers(two):
    async with two(max_browsers=3, credits_usd=Decimal("0.2")) as (a, b):
        answers = await asyncio.gather(*(api.post("/browsers", {}) for api in (a, b) * 3))
        assert sorted(answer.status_code for answer in answers) == [201] * 3 + [429] * 3
        rented = [answer.json() for answer in answers if answer.status_code == 201]
        for browser in rented:  # where it does not matter who runs it
            assert (await b.stop(browser))["status"] == "stopped"
        assert (await a.account())["activeSessionCount"] == 0
        assert not a.hosts.running
        assert not b.hosts.running
        # A minute of each is paid.
        charged = [Decimal((await a.browser(browser))["browserCost"]) for browser in rented]
        assert Decimal(str((await b.account())["totalCreditsBalanceUsd"])) == Decimal("0.2") - sum(charged)
        codes = [(await api.post("/browsers", {})).status_code for api in (a, b, a, b)]
        assert codes == [201, 201, 201, 429]


async def test_one_key_is_one_browser_whichever_server_is_asked(two):
    async with two() as (a, b):
        answers = await asyncio.gather(*(api.post("/browsers", {}, headers=KEY) for api in (a, b) * 2))
        assert [answer.status_code for answer in answers] == [201] * 4
        assert len({answer.json()["id"] for answer in answers}) == 1
        assert a.hosts.starts + b.hosts.starts == 1
        assert (await b.post("/browsers", {"timeout": 5}, headers=KEY)).status_code == 409


async def test_a_repeat_waits_for_the_start_on_the_other_server(two, start_failure):
    async with two() as (a, b):
        a.hosts.may_start.clear()
        first = asyncio.create_task(a.post("/browsers", {}, headers=KEY))
        await until(lambda: a.hosts.starting)
        second = asyncio.create_task(b.post("/browsers", {}, headers=KEY))
        a.hosts.may_start.set()
        browser, again = (await first).json(), (await second).json()
        assert browser["id"] == again["id"]
        await a.stop(browser)

        # One that fails there is begun here.
        other = {"Idempotency-Key": "again"}
        a.hosts.may_start.clear()
        a.hosts.failure = start_failure
        first = asyncio.create_task(a.post("/browsers", {}, headers=other))
        await until(lambda: a.hosts.starting)
        second = asyncio.create_task(b.post("/browsers", {}, headers=other))
        a.hosts.may_start.set()
        assert (await first).status_code == 503
        assert (await second).status_code == 201
        assert b.hosts.starts == 1


@pytest.mark.parametrize("given_out", [True, False])
async def test_a_browser_is_taken_back_unless_another_server_gave_it_to_a_client(two, given_out):
    async with two() as (a, b):
        browser = await a.rent(headers=KEY)
        browser_id = UUID(browser["id"])
        if given_out:
            assert (await b.rent(headers=KEY))["id"] == browser["id"]
        await a.services.rentals._discard(browser_id)
        again = await b.rent(headers=KEY)
        assert (again["id"] == browser["id"]) == given_out
        assert await state(a, again) == "active"
        assert (await a.account())["activeSessionCount"] == 1


async def test_a_stop_reaches_the_server_that_runs_the_browser(two):
    async with two() as (a, b):
        browser = await a.rent(timeout=60)
        a.clock.advance(30 * MINUTE)
        stopped = await b.stop(browser)
        assert (stopped["status"], stopped["endReason"]) == ("stopped", EndReason.STOPPED_BY_CALLER)
        assert Decimal(stopped["browserCost"]) == Decimal("0.025")
        assert [each for each, _, _ in a.hosts.stopped] == [UUID(browser["id"])]
        # One that still starts is withdrawn.
        a.hosts.may_start.clear()
        creating = asyncio.create_task(a.post("/browsers", {}))
        await until(lambda: a.hosts.starting)
        [row] = [each for each in await b.services.store.unfinished() if each.state == "starting"]
        await b.services.rentals.stop(row.project_id, row.id)
        assert (await creating).status_code == 503


async def test_fault_b05_b53_the_other_server_settles_what_one_leaves(two, mortal):
    """By the life that the dead server has told of, whatever the clocks on the walls say."""
    async with two(second={"offset": timedelta(minutes=5)}) as (a, b):
        long, short = await a.rent(timeout=60), await a.rent(timeout=15)
        own = await b.rent()
        a.hosts.may_start.clear()
        starting = asyncio.create_task(a.post("/browsers", {}, headers=KEY))
        await until(lambda: a.hosts.starting)
        await a.services.rentals._heart.close()  # or a beat from before might come last
        a.clock.advance(10 * MINUTE)
        await a.services.rentals._heart.beat()
        creating = next(rental for rental in a.services.rentals._rentals.values() if not rental.is_active)
        await kill(a)
        repeat = asyncio.create_task(b.post("/browsers", {}, headers=KEY))
        for browser in (long, short):
            await until(lambda browser=browser: is_stopped(b, browser))
            ended = await b.browser(browser)
            assert ended["endReason"] == EndReason.SERVER_LOST
            assert ended["browserCost"] == "0.008333"  # ten minutes
        assert (await repeat).json()["id"] != str(creating.id)  # its key was free again
        assert await state(b, own) == "active"
        assert (await b.account())["activeSessionCount"] == 2
        assert not await b.services.store.other_servers()
        kinds = [kind for kind, _, _ in await b.entries()]
        assert (kinds.count("charge"), kinds.count("refund")) == (4, 2)
        a.hosts.may_start.set()
        assert (await starting).status_code == 503


async def test_what_was_taken_over_is_settled_to_its_end_when_the_database_fails_meanwhile(
    two, mortal, monkeypatch
):
    monkeypatch.setattr(_recovery, "_RETRY_SECONDS", 0.01)
    async with two() as (a, b):
        left = await a.rent()
        take_over, failures = b.services.store.take_over, [SQLAlchemyError("away")]

        async def fails_once(former, **options):
            if (
                failures
                and (await b.services.store.rental(UUID(left["id"]))).owner == b.services.store.server_id
            ):
                raise failures.pop()
            return await take_over(former, **options)

        monkeypatch.setattr(b.services.store, "take_over", fails_once)
        await kill(a)
        await until(lambda: is_over(b, left))
        assert not failures


async def is_over(api, browser):
    return (await api.services.store.rental(UUID(browser["id"]))).state == State.STOPPED


async def is_stopped(api, browser):
    return await state(api, browser) == "stopped"


async def test_a_server_that_was_taken_for_dead_ends_its_browsers_and_books_nothing(two, mortal):
    async with two() as (a, b):
        browser = await a.rent(timeout=60)
        heart = a.services.rentals._heart
        await heart.close()  # it stands still
        await until(lambda: is_stopped(b, browser))
        booked = await b.entries()
        assert list(a.hosts.running)
        a.clock.advance(30 * MINUTE)
        heart.start()
        await until(lambda: not a.hosts.running and not a.services.rentals._rentals)
        assert await b.entries() == booked
        # It goes on as a server.
        again = await a.rent()
        assert (await b.stop(again))["status"] == "stopped"


async def test_fault_b56_no_server_is_given_up_while_the_database_is_away(two, mortal):
    async with two() as (a, b):
        browsers = [await a.rent(), await b.rent()]
        instance = postgres.instance()
        instance.stop()
        try:
            with pytest.raises(SQLAlchemyError):
                await a.services.rentals._heart.beat()
            await asyncio.sleep(2 * _membership.DEAD_SECONDS)  # longer than any server may be silent
        finally:
            instance.start()
        for api in (a, b):
            before = {each.id: each.beats for each in await api.services.store.other_servers()}
            for _ in range(3):
                await until(lambda api=api, before=before: beaten(api, before))
                before = {each.id: each.beats for each in await api.services.store.other_servers()}
        assert [await state(a, browser) for browser in browsers] == ["active", "active"]
        assert a.hosts.running
        assert b.hosts.running


async def beaten(api, before):
    now = {each.id: each.beats for each in await api.services.store.other_servers()}
    return now.keys() == before.keys() and all(now[each] > before[each] for each in now)


async def test_a_server_settles_at_its_start_what_the_one_before_in_its_folder_left(make_api, tmp_path):
    """At once: its folder was locked, so its predecessor has ended."""
    async with make_api(data_dir=tmp_path / "a") as first:
        profile = (await first.post("/profiles", {})).json()["id"]
        browser = await first.rent(profileId=profile)
        await kill(first)
    async with make_api(data_dir=tmp_path / "b") as other:
        assert await state(other, browser) == "active"  # not yet seen to be dead
        async with make_api(data_dir=tmp_path / "a") as again:
            assert await state(again, browser) == "stopped"
            [left] = again.hosts.left
            assert (str(left.id), left.profile_writable) == (browser["id"], True)


async def test_servers_share_keys_projects_and_addresses(two):
    async with two(second={"api_keys": {"tests": "another-key"}}) as (a, b):
        browser = await a.rent()
        assert await state(b, browser) == "active"
        browser_id = UUID(browser["id"])
        assert b.services.live_tokens.read(a.services.live_tokens.make(browser_id)) == browser_id
        path = "/files/x"
        signed = a.services.signer.download_query(path, 2**40)
        b.services.signer.check_download(path, signed["expires"], signed["signature"], now=0)
        # A project that one has made is known to the other with its first request.
        from cdpbridge.api import admin

        await a.services.accounts.create_project(admin.CreateProjectRequest(name="made", max_browsers=1))
        made = await a.services.accounts.create_key(admin.CreateKeyRequest(project="made"))
        assert (await b.post("/browsers", {}, key=made.key)).status_code == 201
        assert (await b.post("/browsers", {}, key=made.key)).status_code == 429
        assert b.services.accounts.projects_with_keys == a.services.accounts.projects_with_keys
        # A key that is revoked on one is refused by both, and what it rented ends, wherever that runs.
        await a.services.accounts.revoke_key(made.id, stop=a.services.rentals.stop)
        assert (await b.get("/browsers", key=made.key)).status_code == 401
        assert len(b.hosts.stopped) == 1


async def test_any_server_shows_the_address_of_a_browser_and_says_where_it_leads(two):
    async with two() as (a, b):
        b.services.registry.allow_hosts(["test"])
        browser = await a.rent()
        shown = await b.browser(browser)
        tokens = b.services.cdp_tokens
        assert tokens.read(shown["cdpUrl"].rpartition("/")[2]) == UUID(browser["id"])
        assert shown["liveUrl"] == browser["liveUrl"]
        answers = [await b.client.get(f"{shown['cdpUrl']}/json/version")]
        path = f"/files/browsers/{browser['id']}/presigned-url"
        upload = {"fileName": "a.txt", "contentType": "text/plain", "sizeBytes": 1}
        answers.append(await b.post(path, upload))
        answers.append(await b.get(f"/browsers/{browser['id']}/downloads"))
        assert {answer.status_code for answer in answers} == {421}
        for answer in answers:
            assert "server" in answer.json()["detail"]
        assert (await a.get(f"/browsers/{browser['id']}/downloads")).status_code == 200
        # What it is sent signed by the other is not written where no browser finds it.
        presigned = (await a.post(path, upload)).json()
        files = {"file": b"1"}
        assert (
            await b.client.post(presigned["url"], data=presigned["fields"], files=files)
        ).status_code == 421
        assert (
            await a.client.post(presigned["url"], data=presigned["fields"], files=files)
        ).status_code == 204
        await a.stop(browser)
        assert (await b.browser(browser))["cdpUrl"] is None
        assert (await b.client.get(f"{shown['cdpUrl']}/json/version")).status_code == 404
        assert (await b.request("DELETE", f"/browsers/{browser['id']}/files")).status_code == 421
        assert (await b.client.get(f"http://test/cdp/{tokens.make(UUID(int=1))}/json")).status_code == 404


async def test_the_agent_of_another_server_is_not_spoken_to_in_silence(two):
    async with two() as (a, b):
        task, _ = await a.give()
        answer = await b.patch(f"/tasks/{task['id']}", {"action": "pause"})
        assert answer.status_code == 421
        assert "another server" in answer.json()["detail"]
        session = {"sessionId": task["sessionId"]}
        assert (await b.post("/tasks", {"task": "more"} | session)).status_code == 421
        assert (await b.patch(f"/tasks/{task['id']}", {"action": "stop_task_and_session"})).status_code == 200
        assert (await a.over(task))["status"] == "stopped"


async def test_a_server_without_isolation_takes_no_orders_once_another_has_made_a_second_project(two):
    from cdpbridge.api import admin

    async with two(api_keys={"tests": "key-of-tests"}) as (a, b):
        object.__setattr__(b.services, "sharing_refusal", "browsers cannot be kept from each other here")
        await b.stop(await b.rent())
        project = admin.CreateProjectRequest(name="second")
        await a.services.accounts.create_project(project)
        made = await a.services.accounts.create_key(admin.CreateKeyRequest(project="second"))
        for key in (made.key, "key-of-tests"):
            for path, body in (("/browsers", {}), ("/sessions", {}), ("/tasks", {"task": "look"})):
                answer = await b.post(path, body, key=key)
                assert (answer.status_code, "kept from each other" in answer.text) == (503, True), path
        assert not b.hosts.running
        await a.rent(key=made.key)
        await a.services.accounts.revoke_key(made.id, stop=a.services.rentals.stop)
        await b.rent()


async def test_the_key_of_a_program_ends_with_its_own_server_on_the_others_too(make_api, tmp_path):
    key = "key-of-a-program-with-a-server-of-its-own"
    async with make_api(data_dir=tmp_path / "a") as other:
        async with make_api(data_dir=tmp_path / "b", api_keys=key, simulate_countries=True) as own:
            assert (await own.get("/browsers", key=key)).status_code == 200
            assert (await other.get("/browsers", key=key)).status_code == 200
        assert (await other.get("/browsers", key=key)).status_code == 401
        assert (await other.get("/browsers")).status_code == 200


async def test_the_key_of_a_program_whose_server_was_killed_ends_too(make_api, tmp_path, quick):
    key = "key-of-a-program-with-a-server-of-its-own"
    async with (
        make_api(data_dir=tmp_path / "a") as other,
        make_api(data_dir=tmp_path / "b", api_keys=key, simulate_countries=True) as own,
    ):
        await kill(own)
        await other.services.store.forget_server(
            own.services.store.server_id
        )  # as who takes over from it does
        assert (await other.get("/browsers", key=key)).status_code == 401
        # It only seemed dead: its own programs go on.
        assert (await own.get("/browsers", key=key)).status_code == 200
        made = [each for each in await other.services.store.keys() if each[0].server is not None]
        assert len(made) == 1
        await other.services.store.revoke_key(made[0][0].id, now=other.wall())
        assert (await own.get("/browsers", key=key)).status_code == 401
