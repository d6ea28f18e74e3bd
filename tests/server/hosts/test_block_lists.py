"""Block lists of a server: what its browsers do not reach, per rental, counted."""

import asyncio

import pytest

from cdpbridge.cdp import connect

pytestmark = pytest.mark.chromium

PAGE = b"""<!doctype html><title>page</title><img src="http://ads.localhost:%d/pixel.png"><script src="http://x.track.localhost:%d/t.js">
</script><img src="/own.png">"""


@pytest.fixture
async def site():
    """A site that notes who was asked for what, whatever the name."""
    asked = []

    async def answer(reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        path = head.split(" ")[1]
        host = next(line.split(": ")[1] for line in head.split("\r\n") if line.lower().startswith("host: "))
        asked.append((host.partition(":")[0], path))
        body = PAGE % (port, port) if path == "/" else b""
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
            % len(body)
            + body
        )
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        yield f"http://site.localhost:{port}/", asked


async def visited(record, url):
    async with connect(record["cdpUrl"]) as connection:
        tab = await connection.new_tab()
        await tab.send("Page.enable")
        async with tab.expect("Page.loadEventFired"):
            await tab.send("Page.navigate", {"url": url})


@pytest.fixture
def lists(tmp_path):
    (tmp_path / "hosts").write_text("0.0.0.0 ads.localhost.test\n0.0.0.0 ads.localhost\n")
    (tmp_path / "rules").write_text("||track.localhost^\n")
    return {"block_lists": [str(tmp_path / "hosts"), str(tmp_path / "rules")]}


@pytest.mark.parametrize("build", ["shell", "full"])
async def test_listed_hosts_are_not_reached_and_counted(make_server, lists, site, build):
    url, asked = site
    async with make_server(browser_build=build, **lists) as server:
        record = await server.rent()
        await visited(record, url)
        assert {host for host, _ in asked} == {"site.localhost"}
        running = (await server.http.get(f"/browsers/{record['id']}")).json()
        assert running["blockedRequests"] >= 2
        stopped = await server.stop(record)
        assert stopped["blockedRequests"] >= running["blockedRequests"]
        asked.clear()
        record = await server.rent(blockAds=False)
        await visited(record, url)
        assert {host for host, _ in asked} == {"site.localhost", "ads.localhost", "x.track.localhost"}
        assert record["blockedRequests"] is None


@pytest.mark.one_build("the answer to a request; what is blocked has both builds above")
async def test_a_request_cannot_turn_on_what_is_not_there(make_server):
    async with make_server() as server:
        answer = await server.http.post("/browsers", json={"blockAds": True})
        assert (answer.status_code, "block_lists" in answer.text) == (422, True)
        for path in ("/browsers", "/sessions"):
            answer = await server.http.post(path, json={"blockAds": "no"})
            assert answer.status_code == 422
