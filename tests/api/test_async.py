"""`AsyncClient`: what it sends, how often, and how it opens and closes."""

import asyncio
import json
import logging
import socket
import traceback
from datetime import timedelta
from uuid import UUID

import httpx
import pytest

from cdpbridge._version import __version__
from cdpbridge.api import AsyncClient
from cdpbridge.api._blocking import stop_now
from cdpbridge.errors import (
    APIConnectionError,
    APIResponseError,
    APIStatusError,
    APITimeoutError,
    ConfigurationError,
    NotFoundError,
    RateLimitError,
    ServerError,
)

from .conftest import ACCOUNT, BASE_URL, BROWSER, BROWSER_ID, CDP_URL, KEY, PROFILE, page_of

STOPPED = BROWSER | {"status": "stopped", "cdpUrl": None, "liveUrl": None}


def answer(status, body=None, **headers):
    return httpx.Response(status, json=body or {"detail": "as told"}, headers=headers)


# --- what is sent -----------------------------------------------------------------------------------------------------


async def test_what_every_request_carries(rest):
    async with rest.client() as client:
        await client.browsers.get(BROWSER_ID)
    [request] = rest.requests
    assert str(request.url) == f"{BASE_URL}/browsers/{BROWSER_ID}"
    assert request.headers["X-Browser-Use-API-Key"] == KEY
    assert request.headers["User-Agent"] == f"cdpbridge/{__version__}"
    assert request.headers["Accept"] == "application/json"


async def test_every_operation(rest):
    rest.answers = [
        answer(200, ACCOUNT),
        answer(201, PROFILE),
        answer(200, page_of([PROFILE])),
        answer(200, PROFILE),
        answer(200, PROFILE),
        httpx.Response(204),
        answer(201, BROWSER),
        answer(200, page_of([BROWSER])),
        answer(200, BROWSER),
        answer(200, STOPPED),
    ]
    async with rest.client() as client:
        assert (await client.billing.account()).rate_limit == 10
        assert (await client.profiles.create(name="work")).name == "work"
        assert [profile.name async for profile in client.profiles.list()] == ["work"]
        assert (await client.profiles.get(PROFILE["id"])).cookie_domains == ["example.com"]
        await client.profiles.update(PROFILE["id"], name="home")
        assert await client.profiles.delete(PROFILE["id"]) is None
        browser = await client.browsers.create(timeout=timedelta(minutes=5), idempotency_key="k-1")
        assert browser.cdp_url == CDP_URL
        assert (await client.browsers.list(status="active").page(1)).items[0].id == UUID(BROWSER_ID)
        assert (await client.browsers.get(BROWSER_ID)).status == "active"
        assert (await client.browsers.stop(BROWSER_ID)).status == "stopped"
    create = rest.requests[6]
    assert (json.loads(create.content), create.headers["Idempotency-Key"]) == ({"timeout": 5}, "k-1")
    assert rest.requests[7].url.params["filterBy"] == "active"
    assert rest.body == {"action": "stop"}


async def test_a_name_that_is_half_an_emoji_can_be_sent(rest):
    rest.answers = [answer(201, PROFILE)]
    async with rest.client() as client:
        await client.profiles.create(name="\ud83c")
    assert rest.body == {"name": "\ud83c"}


async def test_starting_and_stopping_may_take_longer(rest):
    async with rest.client(timeout=timedelta(seconds=5)) as client:
        for call in (client.browsers.get, client.browsers.stop):
            await call(BROWSER_ID)
        await client.browsers.create()
    timeouts = [request.extensions["timeout"] for request in rest.requests]
    assert [timeout["read"] for timeout in timeouts] == [5, 120, 120]
    assert [timeout["connect"] for timeout in timeouts] == [5, 10, 10]


async def test_a_clients_longer_timeout_counts_for_a_create_too(rest):
    async with rest.client(timeout=timedelta(seconds=300)) as client:
        await client.browsers.create()
    assert rest.requests[0].extensions["timeout"]["read"] == 300


async def test_fault_a11_a_redirect_is_not_followed_even_by_a_client_that_would(rest):
    rest.answers = [httpx.Response(307, headers={"Location": "https://evil.test/"})]
    http = httpx.AsyncClient(transport=httpx.MockTransport(rest), follow_redirects=True)
    async with http, AsyncClient(KEY, BASE_URL, http_client=http) as client:
        with pytest.raises(APIResponseError, match="redirects"):
            await client.billing.account()
    assert len(rest.requests) == 1


# --- tried again ------------------------------------------------------------------------------------------------------

LOST = [
    httpx.ReadTimeout("late"),
    httpx.WriteTimeout("late"),
    httpx.ReadError("reset"),
    httpx.RemoteProtocolError("Server disconnected without sending a response."),
]


@pytest.mark.parametrize("error", LOST, ids=lambda error: type(error).__name__)
async def test_fault_a81_the_lost_answer_of_a_create_is_never_asked_for_again(rest, error):
    rest.answers = [error]
    async with rest.client(max_retries=5) as client:
        for create in (client.browsers.create(idempotency_key="k"), client.profiles.create(name="a")):
            rest.requests.clear()
            with pytest.raises(APIConnectionError) as caught:
                await create
            assert caught.value.maybe_processed
            assert caught.value.__cause__ is error
            assert (len(rest.requests), rest.pauses) == (1, [])


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_fault_a11_a_5xx_to_a_create_proves_nothing(rest, status):
    rest.answers = [answer(status)]
    async with rest.client(max_retries=5) as client:
        with pytest.raises(ServerError):
            await client.browsers.create()
    assert len(rest.requests) == 1


async def test_fault_a11_a_create_that_was_never_sent_is_tried_again(rest):
    rest.answers = [httpx.ConnectError("refused"), httpx.ConnectTimeout(""), answer(201, BROWSER)]
    async with rest.client() as client:
        assert (await client.browsers.create()).status == "active"
    assert len(rest.requests) == 3


@pytest.mark.parametrize("failure", [*LOST, httpx.ConnectError("refused"), 429, 502, 503, 504], ids=str)
async def test_fault_a11_a_read_is_tried_again(rest, failure):
    rest.answers = [answer(failure) if isinstance(failure, int) else failure, answer(200, BROWSER)]
    async with rest.client() as client:
        assert (await client.browsers.get(BROWSER_ID)).status == "active"
    assert len(rest.requests) == 2
    assert 0.25 <= rest.pauses[0] <= 0.5


@pytest.mark.parametrize("max_retries", [0, 1, 3])
async def test_fault_a11_with_a_bound(rest, max_retries):
    rest.answers = [answer(503)]
    async with rest.client(max_retries=max_retries) as client:
        with pytest.raises(ServerError):
            await client.billing.account()
    assert (len(rest.requests), len(rest.pauses)) == (max_retries + 1, max_retries)


@pytest.mark.parametrize("failure", [*LOST, 500, 502, 503], ids=str)
async def test_fault_a82_a_stop_is_repeated(rest, failure):
    rest.answers = [answer(failure) if isinstance(failure, int) else failure, answer(200, STOPPED)]
    async with rest.client() as client:
        assert (await client.browsers.stop(BROWSER_ID)).status == "stopped"
    assert len(rest.requests) == 2


async def test_fault_a82_a_stop_of_nothing_is_the_callers_to_judge(rest):
    rest.answers = [answer(404, {"detail": "Session not found"})]
    async with rest.client() as client:
        with pytest.raises(NotFoundError, match="Session not found"):
            await client.browsers.stop(BROWSER_ID)
    assert len(rest.requests) == 1


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 409, 422])
async def test_fault_a85_a_refusal_is_final(rest, status):
    rest.answers = [answer(status, None, **{"Retry-After": "1"})]
    async with rest.client() as client:
        for call in (client.billing.account(), client.browsers.create(), client.browsers.stop(BROWSER_ID)):
            rest.requests.clear()
            with pytest.raises(APIStatusError):
                await call
            assert len(rest.requests) == 1


@pytest.mark.parametrize(("asked", "tries"), [(None, 1), ("2", 3), ("31", 1)])
async def test_fault_a85_a_429_to_a_create_comes_back_when_it_is_told_when(rest, asked, tries):
    rest.answers = [answer(429, None, **({"Retry-After": asked} if asked else {}))]
    async with rest.client() as client:
        with pytest.raises(RateLimitError) as caught:
            await client.browsers.create()
    assert caught.value.retry_after == (float(asked) if asked else None)
    assert (len(rest.requests), rest.pauses) == (tries, [2.0] * (tries - 1))


async def test_a_server_that_never_answers():
    silent = socket.create_server(("127.0.0.1", 0))  # accepts, reads nothing, says nothing
    with silent:
        base_url = f"http://127.0.0.1:{silent.getsockname()[1]}/api/v2"
        async with AsyncClient(KEY, base_url, timeout=timedelta(seconds=0.2), max_retries=0) as client:
            with pytest.raises(APITimeoutError) as caught:
                await client.billing.account()
    assert caught.value.maybe_processed


async def test_fault_a11_nobody_listens():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    async with AsyncClient(KEY, f"http://127.0.0.1:{port}/api/v2", max_retries=0) as client:
        with pytest.raises(APIConnectionError) as caught:
            await client.browsers.create()
        assert not caught.value.maybe_processed
        with pytest.raises(APIConnectionError):
            await asyncio.to_thread(stop_now, BROWSER_ID, **client.address())


# --- where to ---------------------------------------------------------------------------------------------------------


class Site:
    """A REST server on loopback, for both ways of sending."""

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.base_url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/api/v2"
        self.heads = []
        return self

    async def __aexit__(self, *_):
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader, writer):
        self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        body = json.dumps(STOPPED).encode()
        writer.write(
            b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        )
        await writer.drain()
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", "socks5h://127.0.0.1:9", "nonsense://x"])
async def test_fault_a10_loopback_never_goes_through_the_environments_proxy(monkeypatch, proxy):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, proxy)
    async with Site() as site, AsyncClient(KEY, site.base_url, max_retries=0) as client:
        assert (await client.browsers.get(BROWSER_ID)).status == "stopped"
        stopped = await asyncio.to_thread(stop_now, BROWSER_ID, **client.address())
        assert stopped.status == "stopped"
    assert [head.split()[0] for head in site.heads] == ["GET", "PATCH"]
    assert f"x-browser-use-api-key: {KEY}" in site.heads[1].lower()


async def test_fault_a10_others_do_and_the_error_says_so(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://user:secret@127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://user:secret@127.0.0.1:9")
    async with AsyncClient(KEY, "http://rest.test/api/v2", max_retries=0) as client:
        with pytest.raises(APIConnectionError, match="http_proxy") as caught:
            await client.billing.account()
    assert "secret" not in str(caught.value)


async def test_a_proxy_that_cannot_be_used_is_a_matter_of_configuration(monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "nonsense://user:secret@x")
    monkeypatch.setenv("all_proxy", "nonsense://user:secret@x")
    client = AsyncClient(KEY, BASE_URL)
    with pytest.raises(ConfigurationError, match="environment's proxy") as caught:
        await client.billing.account()
    assert "secret" not in str(caught.value)
    assert not client.is_open


async def test_certificates_that_cannot_be_read(monkeypatch, tmp_path):
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    with pytest.raises(ConfigurationError, match="SSL_CERT_FILE"):
        await AsyncClient(KEY, BASE_URL).billing.account()


async def test_the_environment_says_where(monkeypatch):
    with pytest.raises(ConfigurationError, match="BROWSER_USE_API_KEY"):
        AsyncClient()
    monkeypatch.setenv("BROWSER_USE_API_KEY", KEY)
    assert "api.browser-use.com" in repr(AsyncClient())
    monkeypatch.setenv("CDPBRIDGE_BASE_URL", "http://127.0.0.1:8700/api/v2/")
    assert "127.0.0.1:8700" in repr(AsyncClient())
    assert "other.test" in repr(AsyncClient("other-key", "https://other.test/api/v2"))


@pytest.mark.parametrize("options", [{"max_retries": -1}, {"timeout": timedelta(0)}])
def test_options_that_make_no_sense(options):
    with pytest.raises(ConfigurationError):
        AsyncClient(KEY, BASE_URL, **options)


# --- open and close ---------------------------------------------------------------------------------------------------


async def test_it_opens_by_itself_and_again(rest):
    client = rest.client()
    assert not client.is_open
    for _ in range(2):
        await client.browsers.get(BROWSER_ID)
        assert client.is_open
        await client.aclose()
        assert not client.is_open
    await client.aclose()


async def test_the_last_block_closes_it(rest):
    client = rest.client()
    async with client:
        async with client:
            assert client.is_open
        assert client.is_open
    assert not client.is_open


async def test_who_enters_while_it_is_closed_finds_it_open(rest):
    client = rest.client()
    inside, leave = asyncio.Event(), asyncio.Event()

    async def second():
        async with client:
            inside.set()
            await leave.wait()
            assert client.is_open

    await client.__aenter__()
    lock = client._turns.lock()
    await lock.acquire()
    task = asyncio.create_task(second())
    leaving = asyncio.create_task(client.__aexit__(None, None, None))
    await asyncio.wait({task, leaving}, timeout=0)  # both wait for their turn, the newcomer first
    lock.release()
    await asyncio.wait_for(inside.wait(), 60)
    await leaving
    leave.set()
    await task
    assert not client.is_open


def test_one_client_in_several_loops(rest):
    client = rest.client()

    async def use():
        lock = client._turns.lock()
        await lock.acquire()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one()) for _ in range(3)]
            await asyncio.wait(tasks, timeout=0)  # each waits for its turn, which ties a lock to its loop
            lock.release()

    async def one():
        async with client:
            await client.browsers.get(BROWSER_ID)

    asyncio.run(use())
    asyncio.run(use())
    assert len(rest.requests) == 6


async def test_a_given_client_stays_open(rest):
    http = httpx.AsyncClient(transport=httpx.MockTransport(rest))
    async with AsyncClient(KEY, BASE_URL, http_client=http) as client:
        await client.browsers.get(BROWSER_ID)
    assert not http.is_closed
    await http.aclose()


# --- secrets ----------------------------------------------------------------------------------------------------------


async def test_secrets_are_in_no_log_and_no_error(rest, caplog):
    caplog.set_level(logging.DEBUG, "cdpbridge")
    torn = BROWSER | {"startedAt": CDP_URL}
    rest.answers = [
        answer(503),
        answer(200, BROWSER),
        answer(401, {"detail": f"bad key {KEY}"}),
        answer(200, torn),
    ]
    said = []
    async with rest.client() as client:
        said.append(repr(await client.browsers.get(BROWSER_ID)))
        for _ in range(2):
            with pytest.raises((APIStatusError, APIResponseError)) as caught:
                await client.browsers.get(BROWSER_ID)
            said += traceback.format_exception(caught.value)
        said.append(repr(client))
    text = "".join(said) + caplog.text
    assert KEY not in text
    assert "cdp0" not in text
    assert f"GET /browsers/{BROWSER_ID}: 503 in" in caplog.text
    assert "try 2" in caplog.text
