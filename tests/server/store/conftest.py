"""A store on each database."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from cdpbridge.server.store import Store
from tests.postgres import BOTH

NOW = datetime(2026, 11, 2, 12, tzinfo=UTC)


@pytest.fixture(params=BOTH)
def database(request):
    """Asked for by what both databases must do."""
    return request.param


@pytest.fixture
def sqlite_url(tmp_path):
    return f"sqlite+aiosqlite:///{tmp_path / 'test.sqlite3'}"


@pytest.fixture
def url(database, sqlite_url, new_postgresql):
    """Of a new database, which gets its tables when it is opened, or has them."""
    return sqlite_url if database == "sqlite" else new_postgresql()


@pytest.fixture
def empty_url(database, sqlite_url, new_postgresql):
    """Of a database without tables."""
    return sqlite_url if database == "sqlite" else new_postgresql(empty=True)


@pytest.fixture
async def store(url):
    store = await Store.open(url)
    await store.prepare({"tests": ["key"]}, credits=Decimal(1), now=NOW)
    yield store
    await store.close()


@pytest.fixture
async def project(store):
    return await store.project_of("key")
