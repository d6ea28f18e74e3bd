"""PostgreSQL that is away, slow or started again; and several servers that start on it at once."""

import asyncio
import logging
import signal
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from cdpbridge.errors import ConfigurationError
from cdpbridge.server.store import Store
from tests import postgres
from tests.conftest import until

pytestmark = [pytest.mark.programs, postgres.INSTALLED]

NOW = datetime(2026, 11, 2, 12, tzinfo=UTC)


@pytest.fixture
def url(new_postgresql):
    return new_postgresql()


async def answers(store):
    try:
        await store.has_keys()
    except SQLAlchemyError:
        return False
    return True


async def test_servers_that_start_at_once_migrate_and_prepare_once(new_postgresql):
    url = new_postgresql(empty=True)
    stores = await asyncio.gather(*(Store.open(url) for _ in range(3)))
    names = [{"shared": ["key"], f"own-{number}": [f"key-{number}"]} for number in range(3)]
    await asyncio.gather(
        *(store.prepare(keys, credits=Decimal(1), now=NOW) for store, keys in zip(stores, names, strict=True))
    )
    found = await stores[0].projects()
    assert [each.project.name for each in found] == ["default", "own-0", "own-1", "own-2", "shared"]
    assert {each.balance for each in found} == {Decimal(1)}
    assert len(await stores[0].keys()) == 4
    shares = await asyncio.gather(
        *(
            store.create_project("made", plan=None, max_browsers=None, credits=Decimal(1), now=NOW)
            for store in stores
        )
    )
    assert len([share for share in shares if share is not None]) == 1
    for store in stores:
        await store.close()


async def test_fault_b56_a_database_that_was_started_again_is_used_again(url):
    """No request fails after that: a connection that is known to be closed is not used."""
    store = await Store.open(url)
    assert await answers(store)
    instance = postgres.instance()
    await asyncio.to_thread(instance.stop)
    try:
        with pytest.raises(SQLAlchemyError, match="FileNotFound"):
            await store.has_keys()
    finally:
        instance.start()
    assert await answers(store)
    await store.close()


async def test_fault_b56_a_database_that_hangs_holds_nothing_up_for_long(url, caplog):
    store = await Store.open(url, timeout=timedelta(seconds=0.3), connections=2)
    instance = postgres.instance()
    assert await answers(store)
    instance.signal_all(signal.SIGSTOP)
    try:
        async with asyncio.timeout(60):
            for _ in range(2):
                assert not any(await asyncio.gather(*(answers(store) for _ in range(4))))
    finally:
        instance.signal_all(signal.SIGCONT)
    await until(lambda: answers(store))
    await store.close()


async def test_a_statement_that_takes_too_long_is_ended_by_the_database(url):
    store = await Store.open(url, timeout=timedelta(seconds=0.2))
    with pytest.raises(SQLAlchemyError, match="statement timeout"):
        async with store._write() as session:
            await session.execute(text("SELECT pg_sleep(30)"))
    assert await answers(store)
    await store.close()


async def test_a_transaction_sees_what_others_have_committed_and_a_page_is_of_one_moment(url):
    """Whatever the database's own default is: limits and money are counted after a lock, and must count what came before it."""
    name = url.partition("?")[0].rpartition("/")[2]
    postgres.instance().rows(
        url, f"ALTER DATABASE {name} SET default_transaction_isolation = 'repeatable read'"
    )
    store = await Store.open(url)
    level = text("SHOW transaction_isolation")
    async with store._write() as session:
        assert await session.scalar(level) == "read committed"
    async with store._read() as session:
        assert await session.scalar(level) == "repeatable read"
    await store.close()
    postgres.instance().rows(url, f"ALTER DATABASE {name} RESET default_transaction_isolation")


async def test_a_database_that_cannot_be_reached_is_reported_without_its_password(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    url = f"postgresql+asyncpg://me:hidden-word@/nothing?host={tmp_path}"
    with pytest.raises(
        ConfigurationError, match=r"check `database_url`, that PostgreSQL runs there"
    ) as caught:
        await Store.open(url)
    assert "hidden-word" not in str(caught.value) + caplog.text


async def test_a_database_that_does_not_exist_is_named(url):
    with pytest.raises(ConfigurationError, match='"nowhere" does not exist'):
        await Store.open(postgres.instance().url("nowhere"))
