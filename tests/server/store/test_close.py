"""What tasks that use the database meet when it is closed."""

import asyncio
import gc
import warnings

import pytest
from sqlalchemy import text

from cdpbridge.server.store import _database
from cdpbridge.server.store._database import Database


async def read(database):
    async with database._read() as session:
        await session.execute(text("SELECT 1"))
        await session.execute(text("SELECT 1"))


@pytest.mark.parametrize("cancelled", [False, True])
async def test_no_connection_is_left_to_the_collector(tmp_path, cancelled):
    """Whatever stage a task is at: a pool that was disposed of does not close what comes back later."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        for steps in range(1, 40, 4):
            database = await Database.open(f"sqlite+aiosqlite:///{tmp_path}/a.sqlite3")
            task = asyncio.create_task(read(database))
            for _ in range(steps):
                await asyncio.sleep(0)
            if cancelled:
                task.cancel()
            await database.close()
            outcome = (await asyncio.gather(task, return_exceptions=True))[0]
            assert outcome is None or isinstance(outcome, asyncio.CancelledError | RuntimeError)
            del task, database, outcome
            gc.collect()
    assert [str(each.message) for each in found if issubclass(each.category, ResourceWarning)] == []


async def test_a_closed_database_says_so(tmp_path):
    database = await Database.open(f"sqlite+aiosqlite:///{tmp_path}/a.sqlite3")
    await database.close()
    with pytest.raises(RuntimeError, match="the database is closed"):
        await read(database)


async def test_a_task_that_does_not_end_does_not_hold_the_end_up(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(_database, "_RETURN_SECONDS", 0.05)
    database = await Database.open(f"sqlite+aiosqlite:///{tmp_path}/a.sqlite3")
    async with database._read():
        await database.close()
    assert "1 tasks still use the database" in caplog.text
