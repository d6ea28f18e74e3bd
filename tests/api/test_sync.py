"""`Client`: what differs from the asynchronous one, and that it is the same in the rest."""

import inspect
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import UUID

import httpx
import pytest

from cdpbridge.api import AsyncClient, Client, calls
from cdpbridge.errors import (
    APIConnectionError,
    APIResponseError,
    AuthenticationError,
    ConfigurationError,
    NotFoundError,
    RateLimitError,
    ServerError,
)

from .conftest import ACCOUNT, BASE_URL, BROWSER, BROWSER_ID, CDP_URL, KEY, PROFILE, Rest, page_of

GROUPS = ("billing", "browsers", "files", "profiles", "sessions", "tasks")


@pytest.fixture
def rest(monkeypatch):
    rest = Rest()
    monkeypatch.setattr("cdpbridge.api._sync_io.sleep", rest.pauses.append)
    return rest


@pytest.fixture
def client(rest):
    with httpx.Client(transport=httpx.MockTransport(rest)) as http:
        yield Client(KEY, BASE_URL, http_client=http)


def answer(status, body=None, **headers):
    return httpx.Response(status, json=body or {"detail": "as told"}, headers=headers)


def public(thing):
    return {name for name, _ in inspect.getmembers(type(thing), callable) if not name.startswith("_")}


def test_the_same_operations():
    ours, theirs = Client(KEY, BASE_URL), AsyncClient(KEY, BASE_URL)
    only_asynchronous = {"aclose", "honours_idempotency_keys"}
    assert public(ours) == public(theirs) - only_asynchronous | {"close"}
    for group in GROUPS:
        one, other = getattr(ours, group), getattr(theirs, group)
        assert public(one) == public(other) - only_asynchronous, group
        for name in public(one):
            parameters = [inspect.signature(getattr(each, name)).parameters.keys() for each in (one, other)]
            assert parameters[0] == parameters[1], name


def test_use(rest, client):
    rest.answers = [
        answer(200, ACCOUNT),
        answer(200, page_of([PROFILE])),
        answer(201, BROWSER),
        answer(200, BROWSER),
    ]
    assert client.billing.account().rate_limit == 10
    profiles = client.profiles.list(query="work")
    assert [profile.name for profile in profiles] == ["work"]
    assert profiles.total_items == 1
    assert rest.requests[-1].url.params["query"] == "work"
    assert client.browsers.create(timeout=timedelta(minutes=5)).cdp_url == CDP_URL
    raw = client.send_raw(calls.get_browser(BROWSER_ID))
    assert (raw.status, raw.parsed.id, raw.headers["content-type"]) == (
        200,
        UUID(BROWSER_ID),
        "application/json",
    )
    assert CDP_URL.encode() in raw.body
    assert "cdp0" not in repr(raw)


def test_raw_answers_carry_the_request_id(rest, client):
    rest.answers = [answer(200, BROWSER, **{"X-Request-Id": "r-1"})]
    assert client.send_raw(calls.stop_browser(BROWSER_ID)).request_id == "r-1"


def test_fault_a11_a_read_is_tried_again(rest, client):
    rest.answers = [httpx.ConnectError("refused"), answer(503), answer(200, BROWSER)]
    assert client.browsers.get(BROWSER_ID).status == "active"
    assert len(rest.pauses) == 2


@pytest.mark.parametrize("failure", [httpx.ReadTimeout("late"), httpx.ReadError("reset"), 500, 503], ids=str)
def test_fault_a81_a_create_is_not(rest, client, failure):
    rest.answers = [answer(failure) if isinstance(failure, int) else failure]
    for create in (client.browsers.create, client.sessions.create, lambda: client.tasks.create("t")):
        rest.requests.clear()
        with pytest.raises((APIConnectionError, ServerError)):
            create()
        assert len(rest.requests) == 1


def test_fault_a81_unless_a_key_makes_two_requests_one(rest):
    rest.answers = [httpx.ReadError("reset"), answer(503), answer(201, BROWSER)]
    with (
        httpx.Client(transport=httpx.MockTransport(rest)) as http,
        Client(KEY, BASE_URL, http_client=http, idempotent_creates=True) as client,
    ):
        client.browsers.create(idempotency_key="k-1")
        assert [request.headers["Idempotency-Key"] for request in rest.requests] == ["k-1"] * 3
        rest.requests.clear()
        with pytest.raises(APIConnectionError):
            client.browsers.create()  # no key, no promise
        assert len(rest.requests) == 1


def test_fault_a85_refusals(rest, client):
    for status, kind in ((401, AuthenticationError), (404, NotFoundError), (429, RateLimitError)):
        rest.answers = [answer(status)]
        with pytest.raises(kind):
            client.sessions.stop(BROWSER_ID)
        rest.requests.clear()


def test_a_download_list_goes_on_from_its_cursor(rest, client):
    file = {"path": "a.pdf", "size": 3, "lastModified": "2026-11-02T12:00:00Z"}
    rest.answers = [
        answer(200, {"files": [file], "nextCursor": "c1", "hasMore": True}),
        answer(200, {"files": [file | {"path": "b.pdf"}], "nextCursor": None, "hasMore": False}),
    ]
    assert [each.path for each in client.browsers.downloads(BROWSER_ID, include_urls=True)] == [
        "a.pdf",
        "b.pdf",
    ]
    assert [dict(request.url.params) for request in rest.requests] == [
        {"limit": "100", "includeUrls": "true"},
        {"limit": "100", "includeUrls": "true", "cursor": "c1"},
    ]


def test_it_opens_and_closes(rest):
    http = httpx.Client(transport=httpx.MockTransport(rest))
    client = Client(KEY, BASE_URL, http_client=http)
    with client, client:
        assert client.is_open
    assert not client.is_open
    client.browsers.get(BROWSER_ID)
    assert client.is_open
    client.close()
    assert not client.is_open
    assert not http.is_closed
    http.close()


def test_threads_share_it(rest):
    barrier = threading.Barrier(8)
    with httpx.Client(transport=httpx.MockTransport(rest)) as http:
        client = Client(KEY, BASE_URL, http_client=http)

        def use(_):
            barrier.wait(100)
            with client:
                return client.browsers.get(BROWSER_ID).status

        with ThreadPoolExecutor(8) as threads:
            assert set(threads.map(use, range(8))) == {"active"}
        assert (client._users, client.is_open) == (0, False)


def test_configuration(rest, monkeypatch):
    with pytest.raises(ConfigurationError, match="BROWSER_USE_API_KEY"):
        Client()
    monkeypatch.setenv("BROWSER_USE_API_KEY", KEY)
    monkeypatch.setenv("CDPBRIDGE_BASE_URL", "http://127.0.0.1:8700/api/v2")
    assert "127.0.0.1:8700" in repr(Client())
    assert KEY not in repr(Client())


def test_a_torn_answer_of_a_create_names_what_was_made(rest, client):
    rest.answers = [answer(201, {"id": BROWSER_ID, "status": "active"})]
    with pytest.raises(APIResponseError) as caught:
        client.browsers.create()
    assert caught.value.answer_id == BROWSER_ID


@pytest.mark.one_build("the REST client does not see the build")
@pytest.mark.chromium
def test_the_life_of_a_rental_on_a_real_server(server):
    with Client(server.key, server.base_url) as client:
        before = client.billing.account().total_credits_balance_usd
        browser = client.browsers.create(timeout=timedelta(minutes=5), proxy_country="de")
        assert browser.id in [each.id for each in client.browsers.list(status="active")]
        stopped = client.browsers.stop(browser.id)
        assert before - client.billing.account().total_credits_balance_usd == stopped.browser_cost
        profile = client.profiles.create(name="sync")
        assert client.profiles.update(profile.id, name="renamed").name == "renamed"
        client.profiles.delete(profile.id)
        with pytest.raises(NotFoundError):
            client.profiles.get(profile.id)
