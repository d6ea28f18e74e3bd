"""The client against the embedded server's own application, over machines of paper."""

from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import UUID

import httpx
import pytest

from cdpbridge.api import AsyncClient
from cdpbridge.errors import (
    AuthenticationError,
    ConflictError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    UnprocessableEntityError,
)

from .conftest import KEY

pytestmark = pytest.mark.programs

pytest.importorskip("fastapi")


class PaperHosts:
    """Machines that run nothing."""

    def __init__(self):
        self.running = {}

    async def start(self, spec, *, on_exit, on_limit):
        from cdpbridge.server.hosts import Placement

        writable = None if spec.profile_id is None else True
        self.running[spec.id] = Placement(f"token-{spec.id.hex}", writable)
        return self.running[spec.id]

    def placement(self, browser_id):
        return self.running.get(browser_id)

    async def connection(self, browser_id):
        return None  # there is nothing to watch

    def blocked_requests(self, browser_id):
        return None

    def proxy_bytes(self, browser_id):
        return 0

    def traffic(self, browser_id):
        return []

    async def stop(self, browser_id, goodbye, *, save):
        from cdpbridge.server.hosts import StopReport

        return StopReport("closed", None, 0) if self.running.pop(browser_id, None) else None

    ready = 0
    waiting = 0

    def lost(self, browser_id):
        return False

    def answered(self):
        return ()

    def remains(self):
        return ()

    def fits_ready(self, spec):
        return False

    def start_ahead(self, _readable):
        """No order is guessed here."""

    async def release_ready(self):
        return False

    async def recover(self, left):
        return {}

    async def close(self):
        assert not self.running


@pytest.fixture
def make_client(tmp_path):
    @asynccontextmanager
    async def make_client(**settings):
        from cdpbridge.server import Settings, create_app

        given = {"data_dir": tmp_path / "data", "api_keys": KEY, "browser_build": "shell"} | settings
        app = create_app(Settings.load(allowed_hosts=["test"], **given), hosts=lambda *_: PaperHosts())
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app)) as http,
            AsyncClient(KEY, "http://test/api/v2", http_client=http) as client,
        ):
            client.http = http
            yield client

    return make_client


async def test_the_life_of_a_rental(make_client):
    async with make_client(proxies={"uk": "direct"}) as client:
        before = (await client.billing.account()).total_credits_balance_usd
        profile = await client.profiles.create(name="work")
        assert [each.id async for each in client.profiles.list()] == [profile.id]
        assert (await client.profiles.update(profile.id, name="home")).name == "home"
        browser = await client.browsers.create(
            profile_id=profile.id, proxy_country="GB", timeout=timedelta(minutes=15), idempotency_key="k-1"
        )
        assert browser.timeout_at - browser.started_at == timedelta(minutes=15)
        assert browser.profile_writable
        assert [each.id async for each in client.browsers.list(status="active")] == [browser.id]
        stopped = await client.browsers.stop(browser.id)
        assert (stopped.status, stopped.cdp_url) == ("stopped", None)
        assert (await client.browsers.stop(browser.id)).finished_at == stopped.finished_at
        after = (await client.billing.account()).total_credits_balance_usd
        assert before - after == stopped.browser_cost
        await client.profiles.delete(profile.id)
        await client.profiles.delete(profile.id)
        with pytest.raises(NotFoundError, match="Profile not found"):
            await client.profiles.get(profile.id)


async def test_an_idempotency_key(make_client):
    async with make_client() as client:
        first = await client.browsers.create(idempotency_key="k-1")
        assert (await client.browsers.create(idempotency_key="k-1")).id == first.id
        with pytest.raises(ConflictError):
            await client.browsers.create(timeout=timedelta(minutes=5), idempotency_key="k-1")
        await client.browsers.stop(first.id)


async def test_fault_a85_refusals(make_client):
    async with make_client(plan="free", max_browsers=1) as client:
        with pytest.raises(PermissionDeniedError):
            await client.browsers.create(timeout=timedelta(minutes=16))
        with pytest.raises(NotFoundError, match="Profile not found"):
            await client.browsers.create(profile_id=UUID(int=1))
        with pytest.raises(UnprocessableEntityError, match="proxyCountryCode"):
            await client.browsers.create(proxy_country="zz")
        with pytest.raises(NotFoundError, match="Session not found"):
            await client.browsers.stop(UUID(int=1))
        browser = await client.browsers.create()
        with pytest.raises(RateLimitError):
            await client.browsers.create()
        await client.browsers.stop(browser.id)
        async with AsyncClient(
            "key-of-a-stranger", "http://test/api/v2", http_client=client.http
        ) as stranger:
            with pytest.raises(AuthenticationError, match="Invalid API key"):
                await stranger.billing.account()


async def test_stopping_whatever_the_list_shows(make_client):
    async with make_client(max_browsers=25) as client:
        for _ in range(25):
            await client.browsers.create()
        async for browser in client.browsers.list(status="active", page_size=10):
            await client.browsers.stop(browser.id)
        assert (await client.browsers.list(status="active").page()).total_items == 0
