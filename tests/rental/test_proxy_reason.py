"""The proxy's reason for an encrypted page that does not load, where Chromium keeps it to itself."""

import asyncio
import socket
from contextlib import asynccontextmanager

import pytest

from cdpbridge.browser._navigation import _proxy_failed
from cdpbridge.cdp import Connection
from cdpbridge.errors import CommandError
from cdpbridge.rental import _proxy_reason
from cdpbridge.rental._proxy_reason import TUNNEL_FAILED, with_proxy_reason
from cdpbridge.testing import MemoryTransport


def connection_to(address):
    return Connection(MemoryTransport(), address=address)


@asynccontextmanager
async def serving(answer):
    asked = []

    async def serve(reader, writer):
        asked.append((await reader.readuntil(b"\r\n\r\n")).split()[1].decode())
        writer.write(b"HTTP/1.1 %b\r\n\r\n%b" % answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/cdp/token", asked


FAILURES = (
    b'[{"host":"a.example","port":443,"text":"the first","error":"dns_error","age":50.5},'
    b'{"host":"b.example","port":8443,"text":"the second","error":"proxy_configuration_error","age":0.1}]'
)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("https://A.example/x", "the first (dns_error)"),
        ("https://b.example:8443/", "the second (proxy_configuration_error)"),
        ("https://redirects.example/", "the second (proxy_configuration_error)"),
        ("https://[", "the second (proxy_configuration_error)"),
    ],
)
async def test_the_failure_of_the_host_or_of_this_moment(url, reason):
    async with serving((b"200 OK", FAILURES)) as (address, asked):
        connection = connection_to(address)
        assert await with_proxy_reason(connection, url, TUNNEL_FAILED) == f"{TUNNEL_FAILED}: {reason}"
        assert await with_proxy_reason(connection, url, "net::ERR_ABORTED") == "net::ERR_ABORTED"
    assert asked == ["/cdp/token/proxy/failures"]


class Unread:
    """A response of the proxy's own that the page has not kept."""

    url = "https://a.example/x"

    async def text(self):
        raise CommandError(
            "Network.getResponseBody", -32000, "No data found for resource with given identifier"
        )


async def test_an_answer_of_the_proxy_that_cannot_be_read_has_its_reason():
    async with serving((b"200 OK", FAILURES)) as (address, _):
        error = await _proxy_failed(connection_to(address), Unread(), "dns_error")
    assert str(error) == "could not load https://a.example/x: the proxy answered: the first (dns_error)"
    async with serving((b"404 Not Found", b"")) as (address, _):
        error = await _proxy_failed(connection_to(address), Unread(), "dns_error")
    assert error.error_text == "the proxy answered: dns_error (dns_error)"


UNSEEN = (
    b'[{"host":"a.example","port":80,"text":"away","error":"connection_refused","age":9,"netError":"net::ERR_CONNECTION_REFUSED"},'
    b'{"host":"xn--strae-oqa.example","port":443,"text":"no name","error":"dns_error","age":9,"netError":"net::ERR_NAME_NOT_RESOLVED"},'
    b'{"host":"c.example","port":80,"text":"it closed","error":"connection_terminated","age":9}]'
)


@pytest.mark.parametrize(
    ("url", "before", "after"),
    [
        ("http://a.example/", "net::ERR_EMPTY_RESPONSE", "net::ERR_CONNECTION_REFUSED"),
        ("http://a.example:81/", "net::ERR_EMPTY_RESPONSE", "net::ERR_EMPTY_RESPONSE"),
        ("https://straße.example/", TUNNEL_FAILED, "net::ERR_NAME_NOT_RESOLVED"),
        ("http://c.example/", "net::ERR_EMPTY_RESPONSE", "net::ERR_EMPTY_RESPONSE"),
        ("http://other.example/", "net::ERR_EMPTY_RESPONSE", "net::ERR_EMPTY_RESPONSE"),
    ],
)
async def test_where_no_proxy_was_ordered_the_error_is_that_of_a_browser_without_one(url, before, after):
    async with serving((b"200 OK", UNSEEN)) as (address, _):
        assert await with_proxy_reason(connection_to(address), url, before) == after


@pytest.mark.parametrize(
    "answer",
    [(b"404 Not Found", b"{}"), (b"200 OK", b"[]"), (b"200 OK", b"<p>"), (b"200 OK", b'[{"host":1}]')],
)
async def test_other_servers_change_nothing(answer):
    async with serving(answer) as (address, _):
        connection = connection_to(address)
        assert await with_proxy_reason(connection, "https://a.example/", TUNNEL_FAILED) == TUNNEL_FAILED
    assert await with_proxy_reason(connection, "https://a.example/", TUNNEL_FAILED) == TUNNEL_FAILED


async def test_a_silent_server_does_not_hold_the_error_up(monkeypatch):
    monkeypatch.setattr(_proxy_reason, "_ANSWER_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        connection = connection_to(f"ws://127.0.0.1:{silent.getsockname()[1]}/cdp/token")
        assert await with_proxy_reason(connection, "https://a.example/", TUNNEL_FAILED) == TUNNEL_FAILED


@pytest.mark.parametrize("address", [None, "127.0.0.1:9", "localhost"])
async def test_without_an_address_of_a_server_nothing_is_asked(address):
    connection = connection_to(address)
    assert await with_proxy_reason(connection, "https://a.example/", TUNNEL_FAILED) == TUNNEL_FAILED


async def test_the_address_stays_secret():
    connection = connection_to("https://example.com/cdp/secret-token")
    assert "secret-token" not in repr(connection) + repr(connection.root)
