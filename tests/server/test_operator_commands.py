"""`cdpbridge keys`, `projects`, `credits` and `workers` against a running server and real browsers, and while none runs."""

import asyncio
import json
import os
import stat
import sys
from contextlib import redirect_stderr, redirect_stdout
from datetime import UTC, datetime
from io import StringIO
from uuid import uuid4

import httpx
import pytest
import websockets

from cdpbridge.cli import _app
from cdpbridge.server.store import Store

pytestmark = [pytest.mark.chromium, pytest.mark.one_build("the server's own work; it does not see the build")]

HEADER = "X-Browser-Use-API-Key"


async def command(server, *arguments, status=0, reach=("--data-dir",), **variables):
    """What a command printed. It runs in this process: to start one for each would take most of these tests' CPU."""
    place = [*reach, str(server.data_dir)] if reach == ("--data-dir",) else list(reach)
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(("CDPBRIDGE_", "BROWSER_USE_")):
                patch.delenv(name)
        for name, value in ({"COLUMNS": "250"} | variables).items():
            patch.setenv(name, value)
        patch.setattr(sys, "argv", ["cdpbridge", *arguments, *place])
        with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err:
            found = await asyncio.to_thread(_status)
    assert found == status, out.getvalue() + err.getvalue()
    return out.getvalue() if status == 0 else err.getvalue()


def _status():
    with pytest.raises(SystemExit) as ended:
        _app.run()
    return ended.value.code


async def closed(socket):
    """The code that a WebSocket ends with."""
    async with asyncio.timeout(30):
        try:
            while True:
                await socket.recv()
        except websockets.ConnectionClosed as end:
            return end.rcvd.code


async def test_a_key_is_made_used_and_revoked_while_the_server_runs(spawn_server):
    async with spawn_server() as server:
        made = json.loads(await command(server, "keys", "create", "--name", "crawler", "--json"))
        root = server.http.base_url.copy_with(path="/")
        async with httpx.AsyncClient(
            base_url=server.http.base_url, headers={HEADER: made["key"]}, timeout=60
        ) as http:
            mine = (await http.post("/browsers", json={})).json()
            kept = await server.rent()
            signed_in = await http.post(
                f"{root}console/sign-in",
                json={"key": made["key"]},
                headers={"Origin": str(root)[:-1]},
            )
            assert signed_in.status_code == 200
            console = {HEADER: "", "X-Cdpbridge-Console": signed_in.json()["proof"]}
            assert (await http.get("/billing/account", headers=console)).status_code == 200
            live = f"{str(root).replace('http', 'ws', 1)}live/socket"
            async with (
                websockets.connect(mine["cdpUrl"].replace("http", "ws", 1), compression=None) as gateway,
                websockets.connect(live, max_size=None) as viewer,
                websockets.connect(kept["cdpUrl"].replace("http", "ws", 1), compression=None) as other,
            ):
                await viewer.send(json.dumps({"type": "hello", "token": mine["liveUrl"].rpartition("/")[2]}))
                assert json.loads(await viewer.recv())["type"]
                await gateway.send('{"id": 1, "method": "Browser.getVersion"}')
                assert json.loads(await gateway.recv())["id"] == 1
                told = await command(server, "keys", "revoke", "crawler")
                assert "is revoked; 1 browser stopped" in told
                assert await closed(gateway) == 1001
                assert await closed(viewer) == 4410
                await other.send('{"id": 2, "method": "Browser.getVersion"}')
                assert json.loads(await other.recv())["id"] == 2
            assert (await http.get("/browsers")).status_code == 401
            assert (await http.get("/billing/account", headers=console)).status_code == 401
            assert (await http.get(f"{root}console/events", headers=console)).status_code == 401
        assert (await server.browser(mine))["status"] == "stopped"
        assert (await server.browser(kept))["status"] == "active"
        listed = await command(server, "keys", "list", "--all")
        assert "crawler" in listed
        assert "revoked" in listed
        assert made["key"] not in listed
        await server.stop(kept)
        _, err = await server.end()
    assert f"key {made['id']} was revoked" in err
    assert made["key"] not in err


async def test_projects_and_credits(spawn_server):
    async with spawn_server() as server:
        told = await command(
            server,
            "projects",
            "create",
            "team a",
            "--plan",
            "free",
            "--max-browsers",
            "2",
            "--credits",
            "1.5",
        )
        assert "plan free, 2 browsers, 1.5 USD" in told
        assert "5.25 USD" in await command(
            server, "credits", "grant", "team a", "3.75", "--note", "invoice 7"
        )
        assert "plan paid" in await command(server, "projects", "set", "team a", "--plan", "paid")
        key = (await command(server, "keys", "create", "--project", "team a")).strip()
        account = (await server.http.get("/billing/account", headers={HEADER: key})).json()
        assert (account["name"], account["totalCreditsBalanceUsd"], account["rateLimit"]) == (
            "team a",
            5.25,
            2,
        )
        listed = json.loads(await command(server, "projects", "list", "--json"))
        assert [(each["name"], each["balanceUsd"]) for each in listed] == [
            ("default", "100"),
            ("team a", "5.25"),
        ]
        for arguments, words in (
            (("credits", "grant", "team a", "0"), "more than nothing"),
            (("credits", "grant", "team a", "1e400"), ""),
            (("credits", "grant", "nothing", "1"), "no project is called"),
            (("keys", "revoke", "nothing"), "no key is called"),
            (("projects", "create", "team a"), "already"),
        ):
            status = 2 if words in {"more than nothing", ""} else 1
            assert words in await command(server, *arguments, status=status)


async def test_over_the_network_an_admin_key_is_needed(spawn_server):
    async with spawn_server(admin_keys="key-of-the-operator") as server:
        reach = ("--server", str(server.http.base_url))
        told = await command(server, "keys", "list", reach=reach, status=1)
        assert "CDPBRIDGE_ADMIN_KEY" in told
        told = await command(
            server, "keys", "list", reach=reach, status=1, CDPBRIDGE_ADMIN_KEY="key-of-tests"
        )
        assert "403 This needs an admin key" in told
        told = await command(server, "keys", "list", reach=reach, CDPBRIDGE_ADMIN_KEY="key-of-the-operator")
        assert "admin" in told
        file = server.data_dir / "operator.json"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        local = json.loads(file.read_text())
        for path in ("/browsers", "/billing/account"):  # the key in the folder is no key of a project
            assert (await server.http.get(path, headers={HEADER: local["key"]})).status_code == 401
        await server.end()
        assert not file.exists()
        told = await command(server, "keys", "create", "--name", "between")
        assert told.startswith("cdpb_")
    async with spawn_server() as server:
        answer = await server.http.get("/billing/account", headers={HEADER: told.strip()})
        assert answer.status_code == 200


async def test_workers_are_listed_and_drained_until_their_last_browser_has_ended(spawn_server):
    async with spawn_server() as server:
        store = await Store.open(f"sqlite+aiosqlite:///{server.data_dir / 'cdpbridge.sqlite3'}")
        worker_id = uuid4()
        terms = {"name": "w1", "address": "10.0.0.5:8701", "protocol": 1, "slots": 8}
        await store.register_worker(worker_id, **terms, now=datetime.now(UTC))
        listed = await command(server, "workers", "list")
        assert "w1" in listed
        assert "10.0.0.5:8701" in listed
        assert "0 of 8" in listed
        assert "not reached" in listed
        [shown] = json.loads(await command(server, "workers", "list", "--json"))
        assert (shown["id"], shown["draining"]) == (str(worker_id), False)
        assert "gets no further browser; it runs none" in await command(
            server, "workers", "drain", "w1", "--wait"
        )
        assert "draining" in await command(server, "workers", "list")
        assert "w2" in await command(server, "workers", "drain", "w2", status=1)
        await store.close()


async def test_workers_need_a_server_that_runs(tmp_path):
    class Nowhere:
        data_dir = tmp_path

    told = await command(Nowhere, "workers", "list", status=1)
    assert "start it, or give --server" in told
