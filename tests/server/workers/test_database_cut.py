"""PostgreSQL is away from real servers for as long as operators see it: browsers run on, none is created, nothing is lost."""

import asyncio

import pytest

from tests import machines, postgres
from tests.conftest import until
from tests.server.workers.grid import Traffic, grid_of, new_profile, paid, passing, rented, stopped

pytestmark = [
    machines.POSSIBLE,
    postgres.INSTALLED,
    pytest.mark.chromium,
    pytest.mark.one_build(
        "servers, their rows and the bytes between them, whichever build the worker starts"
    ),
    pytest.mark.slow,  # an outage takes as long as it takes; test_database_away.py has a short one
    pytest.mark.timeout(600),
]

CREATE_SECONDS = 5


@pytest.mark.parametrize(
    ("how", "seconds"), [("refused", 20), ("frozen", 20), ("cut", 20), ("refused", 180), ("cut", 180)]
)
async def test_fault_b56_an_outage_of_postgresql_ends_nothing_and_loses_nothing(tmp_path, how, seconds):
    async with grid_of(tmp_path) as grid:
        a = await grid.server("a", database_timeout_seconds=CREATE_SECONDS)
        b = await grid.server("b", database_timeout_seconds=CREATE_SECONDS)
        worker = await grid.worker("w", a, b, slots=5)
        profile = await new_profile(a)
        plain, saving = await rented(a), await rented(b, profileId=profile)
        ended = {"a": await rented(a), "b": await rented(b)}
        owned = "SELECT id, owner, generation FROM browsers WHERE state = 'active' ORDER BY id"
        before = grid.rows(owned)
        members = "SELECT id FROM servers ORDER BY id"
        servers = grid.rows(members)
        async with Traffic(a.address(plain)) as first, Traffic(a.address(saving)) as second:
            await b.set_cookies(saving | {"cdpUrl": b.address(saving)}, "kept")
            with grid.database_away(how):
                stops = [
                    asyncio.create_task(
                        server.http.patch(f"/browsers/{ended[name]['id']}", json={"action": "stop"})
                    )
                    for name, server in {"a": a, "b": b}.items()
                ]
                refused = 0
                for _ in passing(seconds):
                    for server in (a, b):
                        answer = await server.http.post("/browsers", json={})
                        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2"), answer.text
                        assert "database" in answer.json()["detail"]
                        refused += 1
                    for traffic in (first, second):
                        await traffic.goes_on()
                answered = [answer.status_code for answer in await asyncio.gather(*stops)]
                assert refused >= 2
                assert answered == [503, 503]
            # It is back: what was asked for is done, once, and all others are whose they were.
            again = await rented(a)
            for each, server in ((ended["a"], a), (ended["b"], b)):
                found = await stopped(server, each)
                assert (found["status"], found["endReason"]) == ("stopped", "stopped_by_caller")
            for traffic in (first, second):
                await traffic.goes_on()
        ids = [str(each["id"]) for each in (plain, saving)]
        now = [row for row in grid.rows(owned) if str(row["id"]) in ids]
        assert now == [row for row in before if str(row["id"]) in ids]
        assert grid.rows(members) == servers
        for each, server in ((plain, b), (saving, a), (again, b)):
            found = await stopped(server, each)
            assert found["endReason"] == "stopped_by_caller"
            assert paid(found) > 0
        for each in (plain, saving, again, *ended.values()):
            assert grid.entries(each) == ["charge", "refund"]
        assert grid.rows("SELECT count(*) AS count FROM browsers WHERE started_at IS NOT NULL") == [
            {"count": 5}
        ]
        assert "kept" in await b.cookies_of_profile(profile)
        await until(lambda: not worker.processes())
        await grid.in_order()
