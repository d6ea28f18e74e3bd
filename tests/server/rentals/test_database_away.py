"""The database goes away while browsers start, run and end: those that run go on, and nothing is lost or paid twice."""

import asyncio
from decimal import Decimal

import pytest

from cdpbridge.server.store._postgresql import DatabaseUnavailable
from tests import postgres
from tests.conftest import until

pytestmark = [postgres.INSTALLED, pytest.mark.parametrize("database", ["postgresql"], indirect=True)]

MINUTE = 60.0


@pytest.fixture
def away():
    """Gives `go` and `come_back` of the database of all tests; it is back at the end."""
    instance = postgres.instance()

    class Away:
        gone = False

        def go(self):
            instance.stop()
            self.gone = True

        def come_back(self):
            if self.gone:
                instance.start()
                self.gone = False

    away = Away()
    yield away
    away.come_back()


async def test_fault_b56_browsers_run_and_end_and_none_is_created_while_the_database_is_away(make_api, away):
    async with make_api(heartbeat_seconds=0.02, max_browsers=3) as api:
        profile = (await api.post("/profiles", {"name": "work"})).json()["id"]
        stays, stops, crashes = (
            await api.rent(timeout=60),
            await api.rent(timeout=60, profileId=profile),
            await api.rent(timeout=60),
        )
        ids = list(api.hosts.running)
        api.clock.advance(30 * MINUTE)
        away.go()
        assert (await api.post("/browsers", {})).status_code == 503
        project = api.services.rentals._rentals[ids[1]].project_id
        with pytest.raises(DatabaseUnavailable):
            await api.services.rentals.stop(project, ids[1])
        api.hosts.crash(ids[2])
        await until(lambda: list(api.hosts.running) == ids[:1])
        # Its profile is saved, though the database could not say that there is one.
        assert [saved for _, _, saved in api.hosts.stopped] == [True, False]
        away.come_back()
        for browser in (stops, crashes):
            await until(lambda browser=browser: ended(api, browser))
            assert Decimal((await api.browser(browser))["browserCost"]) == Decimal("0.025")
        assert (await api.browser(stays))["status"] == "active"
        assert (await api.account())["activeSessionCount"] == 1
        assert (await api.get(f"/profiles/{profile}")).json()["cookieDomains"] == ["example.com"]
        kinds = [kind for kind, _, _ in await api.entries()]
        assert (kinds.count("charge"), kinds.count("refund")) == (3, 2)


async def ended(api, browser):
    return (await api.browser(browser))["status"] == "stopped"


async def test_a_start_that_the_database_has_left_holds_no_slot_and_no_key(make_api, away):
    async with make_api(heartbeat_seconds=0.02, max_browsers=1) as api:
        api.hosts.may_start.clear()
        headers = {"Idempotency-Key": "once"}
        creating = asyncio.create_task(api.post("/browsers", {}, headers=headers))
        await until(lambda: api.hosts.starting)
        away.go()
        api.hosts.may_start.set()
        answer = await creating
        assert answer.status_code == 503
        assert "database" in answer.json()["detail"]
        assert not api.hosts.running
        away.come_back()
        await until(lambda: not api.services.rentals._endings._unwithdrawn)
        await api.rent(headers=headers)
        assert api.hosts.starts == 2


async def test_a_browser_whose_activation_was_answered_by_none_is_paid_by_none(make_api, monkeypatch):
    """The commit came through and its answer did not: its client has got 503 and pays nothing."""
    async with make_api(max_browsers=1) as api:
        store = api.services.store
        activate = store.activate

        async def lost(*arguments, **options):
            await activate(*arguments, **options)
            raise DatabaseUnavailable("the connection was lost")

        with monkeypatch.context() as patch:
            patch.setattr(store, "activate", lost)
            assert (await api.post("/browsers", {})).status_code == 503
        assert not api.hosts.running
        account = await api.account()
        assert (account["activeSessionCount"], account["totalCreditsBalanceUsd"]) == (0, 100)
        await api.rent()
