"""Lost creates and renewals of a rental on the real server, over a network that loses answers and shortens times."""

import asyncio
import json
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from urllib.parse import urlsplit

import pytest

import cdpbridge
from cdpbridge import Journal
from cdpbridge.api import AsyncClient
from cdpbridge.protocol import Storage
from tests.api.test_cut_create import pump, settled, whole_request

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.one_build("a rental is a process and its money, whichever the build"),
]

CREATE = b"POST /api/v2/browsers "
CLIENT_TIME = timedelta(seconds=8)


class Relay:
    """Between client and server: passes requests on one by one, and does to the answers of creates as told.

    Attributes:
        lose: How many of the next creates are cut off when the server has answered.
        shorten: Whether the client is told that a browser lasts some seconds only.
    """

    def __init__(self, server):
        self._server = urlsplit(server.base_url)
        self.creates = 0
        self.lose = 0
        self.shorten = False

    @asynccontextmanager
    async def run(self):
        listening = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]
        self.base_url = f"http://127.0.0.1:{port}{self._server.path}"
        self._tasks = set()
        try:
            yield self
        finally:
            listening.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader, writer):
        self._tasks.add(asyncio.current_task())
        answers, upstream = await asyncio.open_connection(self._server.hostname, self._server.port)
        try:
            while True:
                request = await whole_request(reader)
                upstream.write(request)
                if b"upgrade: websocket" in request.lower():
                    await asyncio.gather(pump(reader, upstream), pump(answers, writer))
                    return
                answer = await whole_request(answers)
                if request.startswith(CREATE):
                    self.creates += 1
                    if self.lose:
                        self.lose -= 1
                        return
                    answer = self._shortened(answer)
                writer.write(answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # one of the two has left
        finally:
            for each in (writer, upstream):
                each.transport.abort()

    def _shortened(self, answer):
        if not self.shorten:
            return answer
        head, _, body = answer.partition(b"\r\n\r\n")
        record = json.loads(body)
        end = datetime.fromisoformat(record["startedAt"]) + CLIENT_TIME
        body = json.dumps(record | {"timeoutAt": end.isoformat()}).encode()
        lines = [each for each in head.split(b"\r\n") if not each.lower().startswith(b"content-length")]
        return b"\r\n".join([*lines, b"content-length: %d" % len(body), b"", body])


@pytest.fixture
async def relay(server):
    async with Relay(server).run() as relay:
        yield relay


@pytest.fixture
def journal(tmp_path):
    return Journal(tmp_path / "journal.sqlite3")


async def all_browsers(client):
    return {browser.id async for browser in client.browsers.list()}


@pytest.mark.parametrize("keys", [True, False], ids=["by its key", "by the list"])
async def test_fault_a81_a_create_whose_answer_is_cut_is_found_again_on_the_real_server(
    server, relay, journal, monkeypatch, keys
):
    if not keys:  # as of a server that does not keep them

        async def keeps_none(_client):
            return False

        monkeypatch.setattr(AsyncClient, "honours_idempotency_keys", keeps_none)
    async with AsyncClient(server.key, server.base_url) as direct:
        before, active = await all_browsers(direct), await settled(direct)
        relay.lose = 1
        async with (
            cdpbridge.at(relay.base_url, server.key) as client,
            cdpbridge.open_browser(client, journal=journal) as browser,
        ):
            tab = await browser.new_tab()
            assert await tab.evaluate("6 * 7") == 42
            assert await settled(direct) - active == {browser.id}
        made = await all_browsers(direct) - before
        assert await settled(direct) <= active
        costs = [(await direct.browsers.get(each)).browser_cost for each in made]
        assert len([cost for cost in costs if cost]) == 1, costs
    assert relay.creates == (2 if keys else 1)
    assert journal.open_entries() == []
    [entry] = journal.entries()
    assert entry.browser_id == browser.id
    assert entry.receipt == browser.receipt


async def renewed(client, journal, profile, relay):
    """A browser of a few seconds and the next one; cookies that the second has of the first, and both ids."""
    handed_over = asyncio.Event()
    async with cdpbridge.open_browser(
        client, journal=journal, profile=profile, timeout=timedelta(minutes=5), renew=True
    ) as browser:
        first = browser.id
        relay.shorten, relay.lose = False, 1  # the next lasts, but its answer is lost
        browser.on("renewed", handed_over.set)
        cookie = {"name": "of", "value": str(first), "url": "http://example.com/", "expires": 2_000_000_000}
        await browser.connection.root.send("Storage.setCookies", {"cookies": [cookie]})
        async with asyncio.timeout(60):
            await handed_over.wait()
        tab = await browser.new_tab()
        assert await tab.evaluate("6 * 7") == 42
        cookies = (await browser.connection.root.send(Storage.get_cookies())).cookies
        second = browser.id
    return first, second, [each.value for each in cookies], browser


@pytest.mark.parametrize("profile", [None, "renewed"])
async def test_a_renewal_on_the_real_server_hands_over_though_an_answer_is_lost(
    server, relay, journal, profile
):
    relay.shorten = True
    async with (
        AsyncClient(server.key, server.base_url) as direct,
        cdpbridge.at(relay.base_url, server.key) as client,
    ):
        active = await settled(direct)
        first, second, cookies, browser = await renewed(client, journal, profile, relay)
        assert first != second
        assert cookies == ([] if profile is None else [str(first)])
        for each in (first, second):
            assert (await direct.browsers.get(each)).status == "stopped"
        assert await settled(direct) <= active
    assert relay.creates == 3
    assert journal.open_entries() == []
    assert [entry.browser_id for entry in journal.entries()] == [first, second]
    assert browser.receipt.paid == sum(entry.receipt.paid for entry in journal.entries())
