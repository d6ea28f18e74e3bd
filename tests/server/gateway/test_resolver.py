"""Tokens that the table of addresses does not hold: a resolver adds their browsers, or says why they cannot be reached here."""

import asyncio
from http import HTTPStatus

import pytest

from cdpbridge.cdp import connect
from cdpbridge.errors import ConnectFailed
from cdpbridge.server.gateway import NotReachable

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.one_build("the gateway's table of addresses, whichever browser is behind it"),
]

OTHER = "token-of-another-server"


async def test_a_browser_that_another_server_has_started_is_reached(make_gateway, shared_chrome):
    asked = []
    async with make_gateway() as gateway:

        async def resolve(token):
            asked.append(token)
            await asyncio.sleep(0)
            if token == OTHER and gateway.registry.find(OTHER) is None:
                gateway.registry.add(OTHER, shared_chrome.upstream)
            return token == OTHER

        gateway.registry.resolve_with(resolve)
        url = f"http://127.0.0.1:{gateway.port}/cdp/{OTHER}"
        async with connect(url) as connection, connect(url.replace("http", "ws", 1)) as again:
            for each in (connection, again):
                assert (await each.root.send("Browser.getVersion"))["product"]
        assert asked == [OTHER]  # the table holds it from then on
        with pytest.raises(ConnectFailed) as caught:
            await connect(f"ws://127.0.0.1:{gateway.port}/cdp/unknown").__aenter__()
        assert caught.value.status == 404
        await gateway.registry.close(OTHER, 1001, "end of the test")


@pytest.mark.parametrize("error", [NotReachable(HTTPStatus.MISDIRECTED_REQUEST, "ask the other"), KeyError()])
async def test_a_browser_that_cannot_be_reached_here_is_refused_with_what_to_do(make_gateway, error):
    async with make_gateway() as gateway:

        async def resolve(token):
            raise error

        gateway.registry.resolve_with(resolve)
        with pytest.raises(ConnectFailed) as caught:
            await connect(f"ws://127.0.0.1:{gateway.port}/cdp/{OTHER}").__aenter__()
        expected = (421, "ask the other") if isinstance(error, NotReachable) else (500, "the gateway failed")
        assert caught.value.status == expected[0]
        assert expected[1] in str(caught.value)
