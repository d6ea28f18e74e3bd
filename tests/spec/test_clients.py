"""The document through both of our clients, against the same server."""

import asyncio
import inspect
from datetime import UTC, datetime, timedelta

import pytest

from cdpbridge.api import AsyncClient, Client
from cdpbridge.errors import (
    BadRequestError,
    ConfigurationError,
    NotFoundError,
    PaymentRequiredError,
    PermissionDeniedError,
    RateLimitError,
    UnprocessableEntityError,
)

from .conftest import FREE, PAID, UNKNOWN


class Caller:
    """Either client, called in the same way."""

    def __init__(self, kind, base_url, key):
        self._runner = asyncio.Runner()
        self._client = (AsyncClient if kind == "async" else Client)(key, base_url)
        self._runner.run(self._open())

    async def _open(self):
        if isinstance(self._client, AsyncClient):
            await self._client.__aenter__()
        else:
            self._client.__enter__()

    def __call__(self, work):
        """What `work` brings for the client."""

        async def call():
            found = work(self._client)
            return await found if inspect.isawaitable(found) else found

        return self._runner.run(call())

    def close(self):
        async def close():
            if isinstance(self._client, AsyncClient):
                await self._client.__aexit__(None, None, None)
            else:
                self._client.__exit__(None, None, None)

        self._runner.run(close())
        self._runner.close()


@pytest.fixture(params=["sync", "async"])
def make_caller(request, api):
    made = []

    def make_caller(key=PAID):
        made.append(Caller(request.param, api.base_url, key))
        return made[-1]

    yield make_caller
    for each in made:
        each.close()


@pytest.fixture
def do(make_caller):
    return make_caller()


def test_account_and_profiles(do):
    """Operations of Billing and Profiles: both clients do each of them."""
    assert do(lambda c: c.billing.account()).plan_info.plan_name == "paid"
    profile = do(lambda c: c.profiles.create(name="by a client"))
    assert do(lambda c: c.profiles.get(profile.id)).name == "by a client"
    assert do(lambda c: c.profiles.update(profile.id, name=None)).name is None
    assert profile.id in {each.id for each in do(lambda c: c.profiles.list(page_size=100).page(1)).items}
    do(lambda c: c.profiles.delete(profile.id))
    with pytest.raises(NotFoundError):
        do(lambda c: c.profiles.get(profile.id))


def test_browsers(do):
    """Operations of Browsers: both clients do each of them."""
    browser = do(lambda c: c.browsers.create(timeout=timedelta(minutes=5), proxy_country="gb"))
    assert (browser.proxy_country_code, browser.proxy_simulated) == ("uk", True)
    assert do(lambda c: c.browsers.get(browser.id)).cdp_url == browser.cdp_url
    assert browser.id in {each.id for each in do(lambda c: c.browsers.list(status="active").page(1)).items}
    assert do(lambda c: c.browsers.stop(browser.id)).status == "stopped"
    with pytest.raises(NotFoundError):
        do(lambda c: c.browsers.get(UNKNOWN))


def test_sessions_and_shares(do):
    """Operations of Sessions: both clients do each of them."""
    session = do(lambda c: c.sessions.create(start_url="example.com"))
    assert do(lambda c: c.sessions.get(session.id)).tasks == []
    assert session.id in {each.id for each in do(lambda c: c.sessions.list(status="active").page(1)).items}
    share = do(lambda c: c.sessions.create_share(session.id))
    assert do(lambda c: c.sessions.get_share(session.id)) == share
    do(lambda c: c.sessions.delete_share(session.id))
    assert do(lambda c: c.sessions.stop(session.id)).status == "stopped"


def test_tasks_and_files(do, tmp_path):
    """Operations of Tasks and Files: both clients do each of them."""
    session = do(lambda c: c.sessions.create())
    uploaded = do(lambda c: c.files.upload(b"abc", file_name="note.txt", session_id=session.id))
    assert uploaded is not None
    created = do(lambda c: c.tasks.create("Look around", session_id=session.id, llm="claude-sonnet-5"))
    task = do(lambda c: c.tasks.wait(created.id))
    assert (task.status, task.is_success, task.llm) == ("finished", True, "claude-sonnet-5")
    assert do(lambda c: c.tasks.logs(created.id)).download_url.startswith("http")
    file = do(lambda c: c.files.download(task.id, task.output_files[0].id, tmp_path))
    assert file.read_bytes() == b"0123456789"
    listed = do(lambda c: c.tasks.list(session_id=session.id, after=datetime(2020, 1, 1, tzinfo=UTC)).page(1))
    assert [each.id for each in listed.items] == [created.id]
    waiting = do(lambda c: c.tasks.create("Wait", session_id=session.id))
    with pytest.raises(BadRequestError):
        do(lambda c: c.tasks.create("More", session_id=session.id))
    assert do(lambda c: c.tasks.stop(waiting.id)).status == "stopped"
    do(lambda c: c.sessions.stop(session.id))


def test_refusals_have_a_class(api, make_caller):
    """Statuses 402, 403, 404, 422, 429: both clients raise a class each."""
    free, small = (
        make_caller(FREE),
        make_caller(api.small_project("refusals", maxBrowsers=1, creditsUsd="0.05").key),
    )
    with pytest.raises(PermissionDeniedError):
        free(lambda c: c.browsers.create(timeout=timedelta(minutes=16)))
    with pytest.raises(NotFoundError):
        free(lambda c: c.browsers.create(profile_id=UNKNOWN))
    with pytest.raises(UnprocessableEntityError, match="unknown country"):
        free(lambda c: c.browsers.create(proxy_country="xx"))
    browser = small(lambda c: c.browsers.create())
    with pytest.raises(RateLimitError):
        small(lambda c: c.send(_plain_create()))
    small(lambda c: c.browsers.stop(browser.id))
    with pytest.raises(PaymentRequiredError):
        small(lambda c: c.browsers.create())


def _plain_create():
    from cdpbridge.api import calls

    return calls.create_browser()


def test_what_no_server_would_take_is_not_sent(do):
    """Lines 420-453, 2469-2470: both clients refuse a blank task, metadata that is too large or no text, part of a minute."""
    for work in (
        lambda c: c.tasks.create("  \n"),
        lambda c: c.tasks.create("x", metadata={"a": 1}),
        lambda c: c.tasks.create("x", metadata={"a": "x" * 20_000}),
        lambda c: c.browsers.create(timeout=timedelta(seconds=90)),
        lambda c: c.browsers.create(timeout=timedelta(minutes=241)),
    ):
        with pytest.raises(ConfigurationError):
            do(work)


def test_metadata_of_any_number(do):
    """Lines 420-425: both clients send more than ten pairs."""
    many = {f"name {number}": "value" for number in range(30)}
    browser = do(lambda c: c.browsers.create(metadata=many))
    assert browser.metadata == many
    do(lambda c: c.browsers.stop(browser.id))


def test_what_has_no_effect_is_said(do, caplog):
    """All: both clients say once for each field that the server does not act on it."""
    for _ in range(2):
        browser = do(lambda c: c.browsers.create(extra_body={"extensionIds": []}))
        assert browser.ignored_fields == ["extensionIds"]
        do(lambda c: c.browsers.stop(browser.id))
    assert len([each for each in caplog.records if "extensionIds" in each.getMessage()]) == 1
    with pytest.raises(UnprocessableEntityError, match="profileId"):
        do(lambda c: c.browsers.create(extra_body={"profileID": None}))
