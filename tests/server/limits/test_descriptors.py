"""Faults D11 and B22: at the descriptor limit others are served, on a real server."""

import asyncio

import psutil
import pytest

from cdpbridge.cdp import connect

pytestmark = [
    pytest.mark.one_build("limits of the server's own port"),
    pytest.mark.chromium,
    pytest.mark.timeout(300),
]

LIMIT = 192


async def test_fault_d11_others_are_served_at_the_descriptor_limit(spawn_server, attack):
    async with spawn_server(descriptors=LIMIT) as server:
        target = attack(server)
        browser = await server.rent()
        process = psutil.Process(server.process.pid)
        async with connect(browser["cdpUrl"]) as connection:
            openings = {
                "silent": b"",
                "half a head": b"GET /healthz HTTP/1.1\r\nX: ",
                "half a body": target.head("POST /console/sign-in", "Content-Length: 100") + b'{"key',
                "idle": target.head("GET /healthz"),
                "a viewer without a hello": target.upgrade("/live/socket"),
            }
            for name, first in openings.items():
                await asyncio.gather(*(target.connect(first) for _ in range(LIMIT)))
                for _ in range(3):
                    assert await target.serves(), name
                assert process.num_fds() < LIMIT - 30, name  # kept for browsers
                assert (await connection.root.send("Browser.getVersion"))["product"], name
            # A browser starts, and is driven, beside them.
            other = await server.rent()
            async with connect(other["cdpUrl"]) as second:
                assert (await second.root.send("Browser.getVersion"))["product"]
            assert (await server.http.get("/billing/account")).json()["activeSessionCount"] == 2
        target.close()
        await server.stop(browser)
        await server.stop(other)
        _, errors = await server.end()
        assert "Traceback" not in errors
        assert "out of system resource" not in errors


async def test_fault_b22_no_browser_is_started_without_descriptors(spawn_server, attack):
    async with spawn_server(descriptors=192, max_browsers=40, concurrent_starts=1) as server:
        target = attack(server)
        browsers, refused = [], None
        while refused is None:
            answer = await server.http.post("/browsers", json={})
            if answer.status_code == 201:
                browsers.append(answer.json())
            else:
                refused = answer
        assert refused.status_code == 503
        assert "file descriptors are left for browsers" in refused.json()["detail"]
        pressure = (await server.http.get(f"{target.root}/pressure")).json()
        assert (pressure["accepting"], pressure["reason"]) == (False, "descriptors")
        async with connect(browsers[0]["cdpUrl"]) as connection:
            assert (await connection.root.send("Browser.getVersion"))["product"]
        # Clients that stay do not take the places of requests: what runs can be stopped.
        path = "/cdp/" + browsers[0]["cdpUrl"].rpartition("/")[2]
        statuses = set()
        for _ in range(100):
            peer = await target.connect(target.upgrade(path))
            statuses.add(await peer.status())
        assert 503 in statuses
        await server.stop(browsers.pop())
        await server.stop(browsers.pop())
        target.close()
        async with asyncio.timeout(60):
            while not (await server.http.get(f"{target.root}/pressure")).json()["accepting"]:
                await asyncio.sleep(0.05)
        browsers.append(await server.rent())
        for browser in browsers:
            await server.stop(browser)
        _, errors = await server.end()
        assert "Traceback" not in errors


async def test_clients_of_one_browser_have_a_limit(spawn_server, attack):
    async with spawn_server(max_clients_per_browser=3) as server:
        target = attack(server)
        browser, other = await server.rent(), await server.rent()

        async def status(rented):
            peer = await target.connect(target.upgrade("/cdp/" + rented["cdpUrl"].rpartition("/")[2]))
            return peer, await peer.status()

        opened = [await status(browser) for _ in range(3)]
        assert [code for _, code in opened] == [101, 101, 101]
        peer, code = await status(browser)
        assert code == 429
        assert b"max_clients_per_browser" in await peer.answer()
        assert (await status(other))[1] == 101
        opened[0][0].close()
        async with asyncio.timeout(60):
            while (await status(browser))[1] != 101:
                await asyncio.sleep(0.05)


async def test_the_soft_limit_is_raised(spawn_server):
    async with spawn_server(descriptors="-S 300") as server:
        process = psutil.Process(server.process.pid)
        _, hard = process.rlimit(psutil.RLIMIT_NOFILE)
        soft, _ = process.rlimit(psutil.RLIMIT_NOFILE)
        assert soft == min(hard, 65_536)
