"""What a server did not act on is said once for each field."""

import logging

import httpx
import pytest

from cdpbridge.api import AsyncClient, Client, CustomProxy

from .conftest import BASE_URL, BROWSER, KEY

HEADERS = {"X-Cdpbridge-Ignored-Fields": "extensionIds, customProxy.s%C3%A4ule"}


def answer(request):
    return httpx.Response(201, json=BROWSER, headers=HEADERS)


def said(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


async def test_the_client_warns_once_per_field(caplog):
    transport = httpx.MockTransport(answer)
    async with (
        httpx.AsyncClient(transport=transport) as http,
        AsyncClient(KEY, BASE_URL, http_client=http) as client,
    ):
        await client.browsers.create(extra_body={"extensionIds": []})
        await client.browsers.create(extra_body={"extensionIds": []})
    assert said(caplog) == ["POST /browsers: the server does not act on 'extensionIds', 'customProxy.säule'"]


def test_the_blocking_client_too(caplog):
    with (
        httpx.Client(transport=httpx.MockTransport(answer)) as http,
        Client(KEY, BASE_URL, http_client=http) as client,
    ):
        client.browsers.create()
        client.browsers.create()
    assert len(said(caplog)) == 1


async def test_without_the_header_nothing_is_said(caplog):
    transport = httpx.MockTransport(lambda _request: httpx.Response(201, json=BROWSER))
    async with (
        httpx.AsyncClient(transport=transport) as http,
        AsyncClient(KEY, BASE_URL, http_client=http) as client,
    ):
        await client.browsers.create()
    assert said(caplog) == []


def test_unknown_fields_of_a_proxy_are_sent_and_not_shown():
    proxy = CustomProxy(host="h", port=1.0, token="hunter2")
    assert proxy.model_dump(by_alias=True, exclude_none=True)["token"] == "hunter2"
    assert "hunter2" not in repr(proxy)


@pytest.mark.parametrize("port", ["1", True, 0.5])
def test_integers_are_those_of_json_schema(port):
    with pytest.raises(ValueError, match="integer"):
        CustomProxy(host="h", port=port)
