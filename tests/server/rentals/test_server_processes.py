"""Two real servers with real browsers on one PostgreSQL, and the end of one."""

import asyncio
import json
import signal
from decimal import Decimal

import pytest
import websockets

from tests import postgres
from tests.conftest import until

pytestmark = [
    postgres.INSTALLED,
    pytest.mark.chromium,
    pytest.mark.one_build("servers and their rows, whichever build they start"),
]


@pytest.mark.slow  # a death is observed for ten seconds; test_servers.py has the same in a moment
async def test_fault_b53_a_server_is_killed_beside_another(spawn_server, new_postgresql):
    shared = {"database_url": new_postgresql(), "secret_key": postgres.SECRET, "max_browsers": 2}
    async with (
        spawn_server(folder="a", **shared) as a,
        spawn_server(folder="b", **shared) as b,
    ):
        keyed = {"headers": {"Idempotency-Key": "once"}, "json": {}}
        answers = await asyncio.gather(*(server.http.post("/browsers", **keyed) for server in (a, b) * 2))
        assert {answer.status_code for answer in answers} == {201}
        [browser_id] = {answer.json()["id"] for answer in answers}
        more = await asyncio.gather(*(server.http.post("/browsers", json={}) for server in (a, b)))
        assert sorted(answer.status_code for answer in more) == [201, 429]
        first = (await b.http.patch(f"/browsers/{browser_id}", json={"action": "stop"})).json()
        assert first["status"] == "stopped"

        # One on each, wherever the others were started.
        for server in (a, b):
            if not server.folders():
                await server.rent()
        assert [len(server.folders()) for server in (a, b)] == [1, 1]

        # What runs on one is not reached through the other, which says so.
        found = (await a.http.get("/browsers", params={"filterBy": "active"})).json()["items"]
        [on_a] = [each for each in found if a.folder(each).is_dir()]
        at_b = str(b.http.base_url).split("/api/")[0].replace("http", "ws", 1)
        with pytest.raises(websockets.InvalidStatus) as refused:
            await websockets.connect(f"{at_b}/cdp/{on_a['cdpUrl'].rpartition('/')[2]}")
        assert refused.value.response.status_code == 421
        assert b"address of that server" in refused.value.response.body
        async with websockets.connect(f"{at_b}/live/socket") as socket:
            token = on_a["liveUrl"].rpartition("/")[2]
            await socket.send(json.dumps({"type": "hello", "token": token, "share": False}))
            assert json.loads(await socket.recv())["title"] == "On another server"
            with pytest.raises(websockets.ConnectionClosed, match="4421"):
                await socket.recv()

        a.process.send_signal(signal.SIGKILL)
        await asyncio.to_thread(a.process.wait)

        async def active():
            answer = await b.http.get("/browsers", params={"filterBy": "active"})
            return answer.json()["items"]

        await until(lambda: one_is_left(active))
        everyone = (await b.http.get("/browsers")).json()["items"]
        lost = [each for each in everyone if each["endReason"] == "server_lost"]
        assert len(everyone) == 3
        assert len(lost) == 1
        assert Decimal(lost[0]["browserCost"]) < Decimal("0.01")
        assert not a.processes()
        [running] = await active()
        assert b.folder(running).is_dir()
        assert (await b.account())["activeSessionCount"] == 1


async def one_is_left(active):
    return len(await active()) == 1
