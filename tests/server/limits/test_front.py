"""Faults D13 and the headers of every answer, on a real server."""

import re

import pytest
from playwright.async_api import async_playwright

from cdpbridge.chromium import Chromium, find
from tests.server.limits.test_bodies import routes

ONE_BUILD = pytest.mark.one_build("limits of the server's own port")

pytestmark = [pytest.mark.chromium, pytest.mark.timeout(300)]

FOREIGN = ["evil.example", "evil.example:8700", "127.0.0.1.evil.example", "evil-localhost", "test", "", "a b"]


def statuses_of(answers):
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answers)]


@ONE_BUILD
async def test_fault_d13_a_foreign_host_on_every_route(spawn_server, attack):
    names = '["browsers.example.com"]'
    async with spawn_server(allowed_hosts=names, public_url="https://outside.example/pool") as server:
        target = attack(server)
        found = await routes(target)
        assert len(found) > 35

        async def ask(method, path, *hosts, key=True, version="1.1"):
            fields = [f"Host: {host}" for host in hosts]
            if key:
                fields.append("X-Browser-Use-API-Key: key-of-tests")
            fields += ["Connection: close", "Content-Length: 0"]
            head = "\r\n".join([f"{method} {path} HTTP/{version}", *fields]) + "\r\n\r\n"
            peer = await target.connect(head.encode())
            return await peer.answer()

        for method, path in found:
            answer = await ask(method, path, "evil.example")
            assert statuses_of(answer) == [403], (method, path)
            assert b"`allowed_hosts`" in answer
            assert b"evil.example" not in answer
        for host in FOREIGN:
            assert statuses_of(await ask("GET", "/metrics", host, key=False)) in ([403], [400]), host
        for host in (
            "127.0.0.1:1",
            "[::1]",
            "localhost",
            "a.localhost:9",
            "10.0.0.1",
            "browsers.example.com",
        ):
            assert statuses_of(await ask("GET", "/metrics", host, key=False)) == [200], host
        assert statuses_of(await ask("GET", "/api/v2/browsers", "outside.example")) == [200]
        assert statuses_of(await ask("GET", "/metrics", "localhost", "localhost")) == [400]
        # A balancer that names no host may ask for the server's health, and for nothing else.
        assert statuses_of(await ask("GET", "/healthz", version="1.0")) == [200]
        assert statuses_of(await ask("GET", "/metrics", version="1.0")) == [403]
        for path in ("/live/socket", "/share/socket"):
            upgrade = target.upgrade(path).replace(target.authority.encode(), b"evil.example")
            peer = await target.connect(upgrade)
            assert await peer.status() == 403, path


@ONE_BUILD
async def test_every_answer_says_how_it_may_be_kept(spawn_server, attack):
    """REST's and the gateway's hold addresses that are passwords; files of the pages may be asked for again."""
    async with spawn_server() as server:
        target = attack(server)
        browser = await server.rent()
        root, cdp = target.root, browser["cdpUrl"]
        secret = [
            ("GET", f"{root}/api/v2/browsers"),
            ("GET", f"{root}/api/v2/browsers/{browser['id']}"),
            ("GET", f"{root}/api/v2/browsers/nothing"),
            ("GET", f"{root}/nothing"),
            ("PATCH", f"{root}/healthz"),
            ("GET", f"{root}/metrics"),
            ("GET", f"{root}/pressure"),
            ("GET", f"{cdp}/json/version"),
            ("GET", f"{cdp}/json/list"),
            ("GET", f"{cdp}/json/protocol"),
            ("PUT", f"{cdp}/json/new"),
            ("GET", f"{root}/cdp/x/json/version"),
            ("GET", f"{root}/console/ledger"),
            ("POST", f"{root}/console/sign-out"),
            ("GET", f"{root}/files/x"),
            ("GET", browser["liveUrl"]),
        ]
        for method, url in secret:
            answer = await server.http.request(method, url)
            assert "no-store" in answer.headers["cache-control"], url
            assert answer.headers["x-content-type-options"] == "nosniff", url
        for path in ("/", "/console/static/app.js", "/live/assets/app.js"):
            answer = await server.http.get(f"{root}{path}")
            assert answer.headers["cache-control"] == "no-cache", path
            assert answer.headers["x-content-type-options"] == "nosniff", path
        by_hand = {
            "a bad request": b"nonsense\r\n\r\n",
            "a long head": b"GET / HTTP/1.1\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
            "an upgrade without a browser": target.upgrade("/cdp/x"),
        }
        for name, sent in by_hand.items():
            head = (await (await target.connect(sent)).answer()).lower()
            assert b"cache-control: no-store" in head, name
            assert b"x-content-type-options: nosniff" in head, name
        await server.stop(browser)


class AnotherPort:
    """A server on another port of the same host: what browsers send it, and the page that it shows them."""

    def __init__(self):
        self.requests = []

    async def __call__(self, reader, writer):
        request = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.requests.append(request)
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi"
        )
        await writer.drain()
        writer.close()

    def cookie(self):
        [line] = [line for line in "".join(self.requests).split("\r\n") if line.startswith("Cookie: ")][:1]
        return line.removeprefix("Cookie: ")


@pytest.mark.parametrize("build", ["shell", "full"])
async def test_fault_d13_a_page_and_a_server_on_another_port(spawn_server, attack, build):
    import asyncio

    other = AnotherPort()
    listening = await asyncio.start_server(other, "127.0.0.1", 0)
    outside = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/"
    async with (
        spawn_server() as server,
        await Chromium.start(build=find(build)) as process,
        async_playwright() as playwright,
    ):
        root = attack(server).root
        chromium = await playwright.chromium.connect_over_cdp(f"http://127.0.0.1:{process.port}")
        page = await (await chromium.new_context()).new_page()
        await page.goto(root)
        await page.get_by_label("API key").fill("key-of-tests")
        await page.get_by_role("button", name="Sign in").click()
        await page.get_by_role("heading", name="Browsers").wait_for()
        strange = await page.context.new_page()
        await strange.goto(outside)
        # The other server is sent the cookie; alone, it opens nothing.
        stolen = {"Cookie": other.cookie()}
        assert "cdpbridge_console=" in stolen["Cookie"]
        for proof in ({}, {"X-Cdpbridge-Console": "1"}):
            for path in ("api/v2/browsers", "console/events", "console/files", "console/ledger"):
                headers = stolen | proof | {"X-Browser-Use-API-Key": ""}
                assert (await server.http.get(f"{root}/{path}", headers=headers)).status_code == 401, path
        # Nor can its page sign the console out.
        await strange.evaluate(
            """async root => {
              await fetch(`${root}/console/sign-out`, {method: "POST", mode: "no-cors", credentials: "include"});
              await fetch(`${root}/console/sign-out`, {method: "POST", credentials: "include",
                headers: {"X-Cdpbridge-Console": "1"}}).catch(() => null);
            }""",
            root,
        )
        await page.reload()
        await page.get_by_role("heading", name="Browsers").wait_for()
        await page.get_by_role("button", name="Sign out").click()
        await page.get_by_label("API key").wait_for()
        await page.reload()
        await page.get_by_label("API key").wait_for()
        await chromium.close()
    listening.close()
    await listening.wait_closed()
