"""A blocking client's options and connections, used from an event loop: `of_blocking`."""

import gzip
import socket
import threading
from uuid import UUID

import httpx
import pytest

from cdpbridge.api import Client
from cdpbridge.errors import APIError, APITimeoutError, NotFoundError, ServerError
from cdpbridge.providers import of_blocking


async def test_the_options_of_a_blocking_client_go_along():
    asked = []

    def answer(request):
        asked.append((request, threading.current_thread()))
        if len(asked) < 4:
            return httpx.Response(503, json={"detail": "as told"}, headers={"Retry-After": "0"})
        if len(asked) == 4:
            return httpx.Response(307, headers={"Location": "https://elsewhere.test/"})
        return httpx.Response(
            404, content=gzip.compress(b'{"detail": "no such one"}'), headers={"Content-Encoding": "gzip"}
        )

    own = httpx.Client(
        transport=httpx.MockTransport(answer),
        headers={"X-Gateway": "ours"},
        auth=("user", "password"),
        follow_redirects=True,
    )
    blocking = Client("key-of-tests", "https://rest.test/api/v2", timeout=7, max_retries=2, http_client=own)
    async with of_blocking(blocking) as client:
        with pytest.raises(ServerError):
            await client.browsers.stop(UUID(int=1))
        assert len(asked) == 3
        with pytest.raises(APIError):
            await client.browsers.stop(UUID(int=1))
        with pytest.raises(NotFoundError, match="no such one"):
            await client.browsers.stop(UUID(int=1))
    assert len(asked) == 5
    assert not own.is_closed
    for request, thread in asked:
        assert (request.method, request.url.host) == ("PATCH", "rest.test")
        assert request.headers["X-Gateway"] == "ours"
        assert request.headers["Authorization"].startswith("Basic ")
        assert request.headers["X-Browser-Use-API-Key"] == "key-of-tests"
        assert request.content == b'{"action": "stop"}'
        assert thread is not threading.main_thread()
    assert of_blocking(Client("k" * 8, "https://rest.test/api/v2", timeout=7, max_retries=0)).options() == {
        "timeout": 7,
        "max_retries": 0,
        "http_client": None,
        "idempotent_creates": False,
    }
    own.close()


async def test_the_timeout_of_a_blocking_client_ends_its_requests():
    with socket.create_server(("127.0.0.1", 0)) as silent, httpx.Client() as own:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/api/v2"
        blocking = Client("key-of-tests", address, timeout=0.2, max_retries=0, http_client=own)
        async with of_blocking(blocking) as client:
            with pytest.raises(APITimeoutError):
                await client.billing.account()
