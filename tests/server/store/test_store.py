"""The database itself: what it refuses, what it survives, and that it is portable."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from datetime import timedelta
from decimal import Decimal
from uuid import UUID, uuid4

import aiosqlite
import pytest
from sqlalchemy import Uuid, bindparam, event, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.schema import CreateTable

from cdpbridge._lifecycle import EndReason
from cdpbridge.billing import Tariff
from cdpbridge.errors import ConfigurationError
from cdpbridge.server.store import (
    InsufficientCredits,
    LedgerKind,
    Store,
    TooManyBrowsers,
    _engine,
    _rental_steps,
    from_micro_usd,
    key_hash_of,
    to_micro_usd,
)
from cdpbridge.server.store._engine import OLDEST, newest_revision
from cdpbridge.server.store._models import Base
from tests import postgres, programs
from tests.server.store.conftest import NOW

pytestmark = pytest.mark.programs

HOUR = timedelta(hours=1)


@pytest.fixture
def rent(store, project):
    async def rent(timeout=HOUR, **options):
        browser_id = uuid4()
        order = {"profile_id": None, "proxy_country": None, "tariff": Tariff(), "limit": 10, "now": NOW}
        await store.reserve(project, browser_id, timeout=timeout, **(order | options))
        return await store.activate(browser_id, started_at=NOW, profile_writable=None)

    return rent


async def balance(store, project):
    return (await store.account(project)).balance


@pytest.mark.parametrize(
    ("amount", "micro"), [("0.05", 50_000), ("0.0491666", 49_167), ("0.0000005", 0), ("-1", -1_000_000)]
)
def test_money(amount, micro):
    assert to_micro_usd(Decimal(amount)) == micro
    assert from_micro_usd(micro) == Decimal(micro) / 1_000_000


async def test_a_browser_is_settled_once_whatever_races(store, project, rent):
    browser = await rent()
    reasons = [EndReason.STOPPED_BY_CALLER, EndReason.EXPIRED, EndReason.BROWSER_EXITED] * 5
    results = await asyncio.gather(
        *(store.settle(browser.id, reason, HOUR / 2, now=NOW) for reason in reasons)
    )
    [settlement] = [result for result in results if result is not None]
    assert (settlement.charged, settlement.refunded) == (Decimal("0.05"), Decimal("0.025"))
    assert await balance(store, project) == Decimal("0.975")
    assert await store.finish(browser.id, proxy_bytes=3)
    assert not await store.finish(browser.id, proxy_bytes=4)
    assert (await store.browser(project, browser.id)).proxy_bytes == 3


async def test_the_ledger_refuses_a_second_refund(store, project, rent):
    """Even a writer that ignores the conditional update cannot book an entry twice."""
    browser = await rent()
    await store.settle(browser.id, EndReason.EXPIRED, HOUR / 2, now=NOW)
    with pytest.raises(IntegrityError):
        async with store._write() as session:
            await session.execute(
                text(
                    "INSERT INTO ledger (project_id, browser_id, kind, entry, amount_micro_usd, created_at) "
                    "SELECT project_id, browser_id, kind, entry, amount_micro_usd, created_at FROM ledger "
                    "WHERE kind = 'refund'"
                )
            )
    assert await balance(store, project) == Decimal("0.975")


async def test_a_failed_booking_changes_no_state(store, project, rent, monkeypatch):
    """State and money are one transaction: when one half fails, the other did not happen."""
    browser = await rent()

    def failing(*_arguments, **_options):
        raise RuntimeError("cut here")

    with monkeypatch.context() as patch:
        patch.setattr(_rental_steps, "Settlement", failing)  # made when all is written
        with pytest.raises(RuntimeError, match="cut here"):
            await store.settle(browser.id, EndReason.EXPIRED, HOUR / 2, now=NOW)
    assert (await store.browser(project, browser.id)).state == "active"
    assert await balance(store, project) == Decimal("0.95")
    assert await store.settle(browser.id, EndReason.EXPIRED, HOUR / 2, now=NOW)


async def test_hours_are_charged_once(store, project, rent):
    browser = await rent(timeout=4 * HOUR)
    for _ in range(2):
        await store.charge_started_hours(browser.id, HOUR + timedelta(seconds=1), now=NOW)
    assert await balance(store, project) == Decimal("0.9")
    await store.settle(browser.id, EndReason.EXPIRED, 3 * HOUR, now=NOW)  # a timer was missed
    assert await balance(store, project) == Decimal("0.85")
    await store.charge_started_hours(browser.id, 4 * HOUR, now=NOW)
    assert await balance(store, project) == Decimal("0.85")


async def test_stopped_before_it_was_active(store, project):
    browser_id = uuid4()
    order = {"profile_id": None, "proxy_country": None, "tariff": Tariff(), "limit": 1, "now": NOW}
    await store.reserve(project, browser_id, timeout=HOUR, **order)
    assert await store.abandon(browser_id, EndReason.START_FAILED, now=NOW)
    assert not await store.abandon(browser_id, EndReason.START_FAILED, now=NOW)
    assert await store.activate(browser_id, started_at=NOW, profile_writable=None) is None
    assert await balance(store, project) == 1


async def test_old_idempotency_keys_are_forgotten(store, project, rent):
    await rent(idempotency=("old", "hash"))
    assert await store.repeated(project, "old") is not None
    await rent(idempotency=("new", "hash"), now=NOW + timedelta(hours=25))
    assert await store.repeated(project, "old") is None


async def test_keys(store, url, database):
    assert await store.project_of("unknown") is None
    await store.add_key("made-here", now=NOW)
    assert await store.has_keys()
    await store.prepare({"other": ["second"]}, credits=Decimal(1), now=NOW)
    # No longer configured here; another server of the same PostgreSQL may have it in its configuration.
    assert (await store.project_of("key") is None) == (database == "sqlite")
    assert await store.project_of("made-here") is not None
    assert await store.project_of("second") is not None
    if database == "sqlite":
        with open(url.removeprefix("sqlite+aiosqlite:///"), "rb") as file:
            assert b"made-here" not in file.read()
    else:
        assert "made-here" not in str(postgres.instance().rows(url, "SELECT * FROM api_keys"))


async def test_credits_are_granted_once(store, project):
    await store.prepare({"tests": ["key"]}, credits=Decimal(5), now=NOW)
    assert await balance(store, project) == 1
    await store.grant(project, Decimal("2.5"), entry="gift", now=NOW)
    assert await balance(store, project) == Decimal("3.5")


async def test_instants_keep_their_zone(store, rent, project):
    browser = await rent()
    again = await store.browser(project, browser.id)
    assert again.started_at == NOW
    assert again.started_at.tzinfo is not None
    assert again.timeout_at == NOW + HOUR


async def test_the_balance_counts_what_was_booked_and_not_what_was_rolled_back(store, project, rent):
    async def known():
        async with store._write() as session:
            kept = await store._lock(session, project)
            rows = text("SELECT sum(amount_micro_usd) FROM ledger WHERE project_id = :project")
            booked = await session.scalar(rows.bindparams(bindparam("project", project, Uuid())))
        assert kept == booked
        return from_micro_usd(kept)

    assert await known() == Decimal(1)
    browser = await rent()
    await store.settle(browser.id, EndReason.EXPIRED, HOUR / 2, now=NOW)
    assert await known() == Decimal("0.975")
    with pytest.raises(IntegrityError):
        async with store._write() as session:
            for _ in range(2):  # a browser is refunded once
                store._book(
                    session,
                    project,
                    kind=LedgerKind.REFUND,
                    entry="refund",
                    amount=7,
                    now=NOW,
                    browser_id=browser.id,
                )
            await session.flush()
    assert await known() == Decimal("0.975")
    await store.grant(project, Decimal(2), entry="of the operator", now=NOW)
    assert await known() == Decimal("2.975") == await balance(store, project)


async def test_one_limit_and_one_balance_for_all_that_rent_at_once(store, url, project):
    """Two servers of one PostgreSQL, or the tasks of the one that SQLite has: no slot and no cent is given out twice."""
    others = [] if store.one_writer else [await Store.open(url)]
    order = {"profile_id": None, "proxy_country": None, "tariff": Tariff(Decimal("0.25")), "now": NOW}

    async def life(server, limit):
        browser_id = uuid4()
        try:
            await server.reserve(project, browser_id, timeout=HOUR, limit=limit, **order)
        except (TooManyBrowsers, InsufficientCredits) as refusal:
            return type(refusal)
        await server.activate(browser_id, started_at=NOW, profile_writable=None)
        return browser_id

    async def lives(limit):
        return await asyncio.gather(
            *(life((*others, store)[n % (len(others) + 1)], limit) for n in range(12))
        )

    first = await lives(limit=3)
    assert Counter(map(type, first)) == {UUID: 3, type: 9}
    assert set(first) >= {TooManyBrowsers}
    second = await lives(limit=100)  # one USD pays for four hours
    assert Counter(map(type, second)) == {UUID: 1, type: 11}
    assert set(second) >= {InsufficientCredits}
    running = [each for each in first + second if isinstance(each, UUID)]
    ends = [
        server.settle(each, EndReason.EXPIRED, HOUR / 2, now=NOW)
        for each in running
        for server in (*others, store)
    ]
    settled = [each for each in await asyncio.gather(*ends) if each is not None]
    assert len(settled) == 4
    assert await balance(store, project) == Decimal("0.5")
    booked = sum(entry.amount_micro_usd for entry in await store.ledger(project))
    assert booked == to_micro_usd(Decimal("0.5"))
    for server in others:
        await server.close()


async def test_text_of_any_character_is_kept_and_found(store, project, rent):
    """What no database can keep, NUL and half a surrogate pair, is replaced."""
    await rent(labels={"k": "v"})
    for character in ("\0", "\ud800", '"', "'", "\\", "$", ".", "%"):
        profile = await store.create_profile(project, f"a{character}b", limit=None, now=NOW)
        kept = {"a?b", "a\N{REPLACEMENT CHARACTER}b", f"a{character}b"}
        assert (await store.profile(project, profile.id)).name in kept
        labels = {f"k{character}": f"v{character}"}
        browser = await rent(labels=labels)
        found, total = await store.browsers(project, active=None, offset=0, limit=10, labels=labels)
        assert ([each.id for each in found], total) == ([browser.id], 1)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
async def test_each_statement_visits_the_threads_of_sqlite_once(store, project, monkeypatch):
    statements, visits = [], []
    engine = store._engine.sync_engine
    event.listen(engine, "before_cursor_execute", lambda *of: statements.append(of[2]))
    execute = aiosqlite.Connection._execute

    async def counted(self, function, *arguments, **options):
        visits.append(function)
        return await execute(self, function, *arguments, **options)

    monkeypatch.setattr(aiosqlite.Connection, "_execute", counted)
    await store.grant(project, Decimal(1), entry="of the operator", now=NOW)
    begins = [each for each in statements if each.startswith("BEGIN")]
    assert len(begins) == 1
    commits = 1
    assert len(visits) == len(statements) + commits


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
async def test_each_transaction_of_a_rental_visits_the_thread_of_its_writer_once(
    store, project, rent, monkeypatch
):
    statements, visits, levels = [], [], []
    event.listen(store._writer._engine, "before_cursor_execute", lambda *of: statements.append(of[2]))

    def noted(connection):
        cursor = connection.connection.driver_connection.execute("PRAGMA synchronous")
        levels.append({1: "NORMAL", 2: "FULL"}[cursor.fetchone()[0]])

    event.listen(store._writer._engine, "begin", noted)
    in_thread = type(store._writer)._in_thread

    def counted(self, work):
        visits.append(work)
        return in_thread(self, work)

    monkeypatch.setattr(type(store._writer), "_in_thread", counted)
    browser = await rent()
    await store.settle(browser.id, EndReason.EXPIRED, HOUR / 2, now=NOW)
    assert (await store.finish(browser.id, proxy_bytes=3)).proxy_bytes == 3
    begins = [each for each in statements if each.startswith("BEGIN")]
    assert len(visits) == len(begins) == 4
    assert len(statements) - len(begins) <= 10
    # What is answered to a client is on the disk, with all that was written before it.
    assert levels == ["NORMAL", "FULL", "NORMAL", "FULL"]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
async def test_a_cancelled_statement_leaves_no_transaction_behind(store, project, rent, tmp_path):
    """Its thread is still at it when the connection goes back to the pool."""
    for turns in range(20):
        other = asyncio.create_task(rent())
        for _ in range(turns):  # of the loop, so that it is cancelled in another place each time
            await asyncio.sleep(0)
        other.cancel()
        await asyncio.gather(other, return_exceptions=True)
        async with asyncio.timeout(60):
            await store.grant(project, Decimal(1), entry="of the operator", now=NOW)
    with sqlite3.connect(tmp_path / "test.sqlite3", timeout=0, isolation_level=None) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")
    connection.close()


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
async def test_the_connections_are_few_and_keep_few_pages(store):
    async def read():
        async with store._read() as session:
            return await session.scalar(text("PRAGMA cache_size")), store._engine.pool.checkedout()

    found = await asyncio.gather(*(read() for _ in range(30)))
    assert {pages for pages, _ in found} == {-256}
    assert max(connections for _, connections in found) <= 5


@pytest.mark.parametrize("dialect", [sqlite.dialect(), postgresql.dialect()], ids=["sqlite", "postgresql"])
def test_tables_are_portable(dialect):
    for table in Base.metadata.sorted_tables:
        assert "CREATE TABLE" in str(CreateTable(table).compile(dialect=dialect))


def migrated(revision, move=None):
    """A step of Alembic, for `run_sync`: up to a revision, or another move."""
    from alembic import command
    from alembic.config import Config

    def run(connection):
        config = Config()
        config.set_main_option("script_location", "cdpbridge.server.store:migrations")
        config.attributes["connection"] = connection
        (move or command.upgrade)(config, revision)

    return run


async def migrate(url, revision):
    engine = create_async_engine(url)
    async with engine.connect() as connection:
        await connection.run_sync(migrated(revision))
    await engine.dispose()


async def test_the_migrations_make_the_tables_of_the_models(empty_url):
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    await migrate(empty_url, "head")
    engine = create_async_engine(empty_url)
    async with engine.connect() as connection:
        difference = await connection.run_sync(
            lambda sync: compare_metadata(MigrationContext.configure(sync), Base.metadata)
        )
    await engine.dispose()
    assert difference == []


def structure(file):
    """What a database file is made of, whatever the order in which it was made."""
    with sqlite3.connect(file) as connection:
        master = connection.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
        found = {("revision",): connection.execute("SELECT version_num FROM alembic_version").fetchall()}
        for kind, name, sql in master:
            if kind == "table":
                columns = connection.execute(f"PRAGMA table_info({name})")
                found["columns", name] = {column[1:] for column in columns}
                keys = connection.execute(f"PRAGMA foreign_key_list({name})")
                found["keys", name] = {key[2:] for key in keys}
            elif sql is not None:
                found["index", name] = " ".join(sql.split())
            else:  # of a constraint; SQLite numbers them as they come
                columns = connection.execute(f"PRAGMA index_info({name})")
                found["constraint", *(column[2] for column in columns), name.rpartition("_")[0]] = True
    connection.close()
    return found


async def test_an_empty_database_gets_the_tables_that_migrations_make(tmp_path):
    new, old = tmp_path / "new.sqlite3", tmp_path / "old.sqlite3"
    await (await Store.open(f"sqlite+aiosqlite:///{new}")).close()
    await migrate(f"sqlite+aiosqlite:///{old}", "head")
    assert structure(new) == structure(old)


async def test_fault_b12_the_first_tables_cut_short_are_made_again(sqlite_url, monkeypatch, tmp_path):
    def cut():
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(_engine, "newest_revision", cut)
        with pytest.raises(KeyboardInterrupt):
            await Store.open(sqlite_url)
    with sqlite3.connect(tmp_path / "test.sqlite3") as connection:
        assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
    connection.close()
    store = await Store.open(sqlite_url)
    await store.prepare({}, credits=Decimal(1), now=NOW)
    await store.close()


def test_alembics_head_is_the_newest_revision():
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", "cdpbridge.server.store:migrations")
    assert ScriptDirectory.from_config(config).get_heads() == [newest_revision()]


def test_a_database_that_is_empty_or_up_to_date_needs_no_alembic(tmp_path):
    program = """
import asyncio, sys
from cdpbridge.server.store import Store
async def main():
    await (await Store.open(sys.argv[1])).close()
asyncio.run(main())
print("alembic" in sys.modules)
"""
    command = [sys.executable, "-c", program, f"sqlite+aiosqlite:///{tmp_path / 'a.sqlite3'}"]
    ran = [subprocess.run(command, capture_output=True, text=True, timeout=90, check=True) for _ in range(2)]
    assert [each.stdout.strip() for each in ran] == ["False", "False"]


async def test_opening_again_changes_nothing(store, url, project, rent):
    await rent()
    second = await Store.open(url)
    assert await balance(second, project) == Decimal("0.95")
    await second.close()


async def test_a_newer_database_is_used_by_an_older_server_that_can(store, url, project, rent):
    """While servers are upgraded one after the other, and after the way back."""
    await rent()
    async with store._write() as session:
        await session.execute(text("ALTER TABLE browsers ADD COLUMN of_later VARCHAR(10)"))
        await session.execute(text("CREATE TABLE of_later (id INTEGER PRIMARY KEY)"))
        await session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    older = await Store.open(url)
    try:
        assert await balance(older, project) == Decimal("0.95")
        await older.create_project("of the older", plan=None, max_browsers=None, credits=Decimal(1), now=NOW)
        assert "of the older" in (await store.project_names()).values()
    finally:
        await older.close()
    async with store._write() as session:
        await session.execute(text("UPDATE tables SET oldest = '9998'"))
    with pytest.raises(ConfigurationError, match=r"9999, which servers from 9998 on can use"):
        await Store.open(url)


async def test_what_migrations_add_has_a_default(tmp_path):
    """An older server, which does not know it, adds rows too."""
    file = tmp_path / "new.sqlite3"
    await (await Store.open(f"sqlite+aiosqlite:///{file}")).close()
    old = tmp_path / "old.sqlite3"
    await migrate(f"sqlite+aiosqlite:///{old}", OLDEST)

    def columns(file):
        with sqlite3.connect(file) as connection:
            names = [
                row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            ]
            found = {
                (table, column[1]): column
                for table in names
                for column in connection.execute(f"PRAGMA table_info({table})")
            }
        connection.close()
        return found

    before, now = columns(old), columns(file)
    tables = {table for table, _ in before}
    assert set(before) <= set(now)
    added = [column for place, column in now.items() if place not in before and place[0] in tables]
    assert [column for column in added if column[3] and column[4] is None] == []


@pytest.mark.parametrize("content", [b"this is no database" * 1000, b"SQLite format 3\0" + bytes(4080)])
async def test_fault_b12_a_file_that_is_no_database_is_reported(tmp_path, sqlite_url, content):
    (tmp_path / "test.sqlite3").write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"test\.sqlite3.*move the file away"):
        await Store.open(sqlite_url)


WRITER = """
import asyncio, sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import uuid4
from cdpbridge.billing import Tariff
from cdpbridge._lifecycle import EndReason
from cdpbridge.server.store import Store

async def main():
    now = datetime.now(UTC)
    store = await Store.open(sys.argv[1])
    await store.prepare({"tests": ["key"]}, credits=Decimal(1000), now=now)
    project = await store.project_of("key")
    while True:
        browser_id = uuid4()
        await store.reserve(project, browser_id, profile_id=None, proxy_country=None, timeout=timedelta(hours=1),
                            tariff=Tariff(), limit=10**6, now=now)
        await store.activate(browser_id, started_at=now, profile_writable=None)
        await store.settle(browser_id, EndReason.EXPIRED, timedelta(minutes=30), now=now)
        print(browser_id, flush=True)

asyncio.run(main())
"""


async def test_fault_b12_killed_while_it_writes(url, tmp_path, database):
    """SIGKILL between and in transactions, then garbage at the log's end: nothing committed is lost, all is consistent."""
    told = []
    for _ in range(3):
        process = programs.Program(
            [sys.executable, "-c", WRITER, url], stdout=subprocess.PIPE, text=True, cwd=os.getcwd()
        )
        told += [process.stdout.readline().strip() for _ in range(20)]
        process.send_signal(signal.SIGKILL)
        rest, _ = process.communicate()
        told += rest.split()
    if database == "sqlite":
        with open(tmp_path / "test.sqlite3-wal", "ab") as log:
            log.write(os.urandom(3000))
    store = await Store.open(url)
    try:
        project = await store.project_of("key")
        rows = {str(row.id): row for row in await store.unfinished()}
        assert set(told) <= set(rows)
        assert all(rows[each].state == "stopping" for each in told)
        charged = sum(row.charged_micro_usd - row.refunded_micro_usd for row in rows.values())
        assert await balance(store, project) == 1000 - from_micro_usd(charged)
    finally:
        await store.close()
    if database != "sqlite":
        return
    with sqlite3.connect(tmp_path / "test.sqlite3") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


async def test_fault_b12_a_migration_cut_short_is_done_again(empty_url, monkeypatch):
    from alembic import op

    await migrate(empty_url, "0001")
    create_index, calls = op.create_index, []

    def cut(*arguments, **options):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return create_index(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(op, "create_index", cut)
        with pytest.raises(KeyboardInterrupt):
            await Store.open(empty_url)
    store = await Store.open(empty_url)
    await store.prepare({}, credits=Decimal(1), now=NOW)
    await store.close()


async def test_a_database_of_the_first_version_is_brought_up_to_date(empty_url):
    from alembic import command

    engine = create_async_engine(empty_url)
    project, browser = uuid4(), uuid4()
    async with engine.connect() as connection:
        await connection.run_sync(migrated("0001"))
        then = "'2026-11-02 12:00:00'"
        rows = [f"INSERT INTO projects VALUES ('{project.hex}', 'old', {then})"]
        rows += [
            f"INSERT INTO api_keys VALUES ('{key_hash_of(name)}', '{project.hex}', false, {then})"
            for name in ("old-key", "other-old-key")
        ]
        rows.append(
            "INSERT INTO browsers (id, project_id, state, timeout_minutes, usd_per_hour, minimum_minutes, created_at,"
            " started_at, charged_micro_usd, refunded_micro_usd, proxy_bytes) VALUES"
            f" ('{browser.hex}', '{project.hex}', 'stopped', 60, '0.05', 1, {then}, {then}, 50000, 0, 0)"
        )
        rows += [
            "INSERT INTO ledger (project_id, browser_id, kind, entry, amount_micro_usd, created_at)"
            f" VALUES ('{project.hex}', {of}, '{kind}', '{entry}', {amount}, {then})"
            for of, kind, entry, amount in (
                ("NULL", "grant", "start", 1_000_000),
                (f"'{browser.hex}'", "charge", "hour 1", -50_000),
            )
        ]
        for row in rows:
            await connection.exec_driver_sql(row)
        await connection.commit()
    store = await Store.open(empty_url)
    found = await store.browser(project, browser)
    assert (found.labels, found.agent_session_id, found.cost) == (None, None, Decimal("0.05"))
    assert await store.agent_sessions(project, active=None, offset=0, limit=10) == ([], 0)
    assert await store.project_of("old-key") == project
    assert await balance(store, project) == Decimal("0.95")
    await store.grant(project, Decimal(1), entry="gift", now=NOW)
    assert await balance(store, project) == Decimal("1.95")
    keys = await store.keys()
    assert {(key.admin, key.revoked_at, key.last_used_at, name) for key, name in keys} == {
        (False, None, None, "old")
    }
    assert len({key.id for key, _ in keys}) == 2
    await store.close()
    async with engine.connect() as connection:  # and back
        await connection.run_sync(migrated("0001", command.downgrade))
        assert (await connection.execute(text("SELECT count(*) FROM browsers"))).scalar() == 1
        assert (await connection.execute(text("SELECT count(*) FROM api_keys"))).scalar() == 2
    await engine.dispose()
