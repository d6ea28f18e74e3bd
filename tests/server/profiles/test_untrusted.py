"""What a browser has left in its folder, read without trust: in bounded time, and nothing but plain files and stored rows."""

import os
import sqlite3
import threading
import time
from contextlib import closing
from uuid import UUID

import pytest

from cdpbridge.chromium import remove_tree
from cdpbridge.server.hosts._cookies import CookieExport, cookies_to_keep
from cdpbridge.server.profiles import Hostile, ProfileRefused, ProfileStore, ProfileTooBig, read_table

PROFILE = UUID("11111111-2222-4333-8444-555555555555")
DOMAINS = "SELECT DISTINCT host_key FROM cookies"
ENDLESS = (
    "CREATE VIEW cookies AS WITH RECURSIVE r(host_key) AS (SELECT 'a' UNION ALL SELECT host_key FROM r)"
    " SELECT host_key, 1 AS creation_utc, 1 AS last_update_utc FROM r"
)
TABLE = "CREATE TABLE cookies (host_key TEXT, creation_utc INTEGER, last_update_utc INTEGER)"
COUNT = "WITH RECURSIVE r(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM r WHERE x < {}) "

HOSTILE = {
    "an endless view": [ENDLESS],
    "a virtual table": ["CREATE VIRTUAL TABLE cookies USING fts5(host_key, creation_utc, last_update_utc)"],
    "computed columns": [
        "CREATE TABLE cookies (x, host_key TEXT AS (printf('%100000s', x)), creation_utc AS (x), last_update_utc AS (x))",
        "INSERT INTO cookies VALUES (1)",
    ],
    "a long value": [TABLE, "INSERT INTO cookies VALUES (printf('%2000000s', 1), 1, 1)"],
    "too many hosts": [TABLE, f"{COUNT.format(150_000)} INSERT INTO cookies SELECT x, x, x FROM r"],
}


def database(path, *statements, wal=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        if wal:
            connection.execute("PRAGMA journal_mode=WAL")
        for statement in statements:
            connection.execute(statement)
        connection.commit()
    return path


@pytest.fixture
def store(tmp_path):
    return ProfileStore(tmp_path / "profiles", max_files=1000)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "browser"
    database(folder / "Default" / "Cookies", TABLE, "INSERT INTO cookies VALUES ('.a.example', 1, 1)")
    return folder


def saved(store, tmp_path):
    target = tmp_path / f"restored-{os.urandom(4).hex()}"
    store.restore(PROFILE, target)
    return {str(path.relative_to(target)) for path in target.rglob("*")}


def refuse(store, folder, reason, tmp_path, kind=ProfileRefused):
    before = saved(store, tmp_path)
    with pytest.raises(kind, match=reason):
        store.save(PROFILE, folder, None)
    assert saved(store, tmp_path) == before
    assert len(list((tmp_path / "profiles" / str(PROFILE)).iterdir())) == 1


@pytest.mark.parametrize("place", ["Default/Network/Cookies", "Default/Cookies"])
@pytest.mark.parametrize("statements", HOSTILE.values(), ids=HOSTILE)
def test_fault_d10_a_hostile_database_is_refused_and_the_former_version_stays(
    store, folder, place, statements, tmp_path
):
    assert store.save(PROFILE, folder, None).cookie_domains == ["a.example"]
    (folder / place).unlink(missing_ok=True)
    database(folder / place, *statements)
    refuse(store, folder, "is not saved", tmp_path)
    # The other place that reads it, before the profile is saved.
    export = CookieExport([{"name": "a"}, {"name": "b", "session": True}], time.time())
    assert cookies_to_keep(export, folder, orderly=False) == export.cookies


def test_fault_d10_a_query_has_a_time(tmp_path):
    path = database(
        tmp_path / "c", TABLE, f"{COUNT.format(300_000)} INSERT INTO cookies SELECT x % 9, x, x FROM r"
    )
    assert len(read_table(path, tmp_path, "cookies", DOMAINS, seconds=60)) == 9
    with pytest.raises(Hostile, match="cannot be read within"):
        read_table(path, tmp_path, "cookies", DOMAINS, seconds=0)


def test_fault_d10_no_journal_is_replayed_and_nothing_is_written_beside_it(tmp_path):
    path = database(tmp_path / "Cookies", TABLE, "INSERT INTO cookies VALUES ('.a.example', 1, 1)")
    (tmp_path / "Cookies-journal").write_bytes(b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + b"\xff" * 600)
    before = {each.name: each.read_bytes() for each in tmp_path.iterdir()}
    assert read_table(path, tmp_path, "cookies", DOMAINS) == [(".a.example",)]
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == before


def test_a_database_with_a_write_ahead_log_is_read(tmp_path):
    path = database(tmp_path / "c", TABLE, "INSERT INTO cookies VALUES ('.a.example', 1, 1)", wal=True)
    assert read_table(path, tmp_path, "cookies", DOMAINS) == [(".a.example",)]


def test_only_the_table_itself_is_read(tmp_path):
    path = database(tmp_path / "c", TABLE, "CREATE TABLE other (x)")
    with pytest.raises(Hostile):
        read_table(path, tmp_path, "cookies", "SELECT x FROM other")
    with pytest.raises(Hostile):
        read_table(path, tmp_path, "cookies", "PRAGMA user_version=1")
    assert read_table(tmp_path / "missing", tmp_path, "cookies", DOMAINS) is None


def _link(path, folder):
    path.symlink_to(folder / "Default" / "Preferences")


def _pipe(path, folder):
    os.mkfifo(path)


def _device(path, folder):
    os.mknod(path, 0o600 | 0o020000, os.makedev(1, 5))  # /dev/zero


def _sparse(path, folder):
    with open(path, "wb") as file:
        file.truncate(10**12)


def _linked_folder(path, folder):
    path.parent.rename(folder / "elsewhere")
    path.parent.symlink_to(folder / "elsewhere")


@pytest.mark.parametrize("made", [_link, _pipe, _device, _sparse, _linked_folder])
def test_fault_d10_a_cookie_database_that_is_no_plain_file(store, folder, made, tmp_path):
    if made is _device and os.geteuid() != 0:
        pytest.skip("devices are made by root")
    store.save(PROFILE, folder, None)
    path = folder / "Default" / "Network" / "Cookies"
    path.parent.mkdir()
    made(path, folder)
    refuse(store, folder, "is not saved", tmp_path)
    export = CookieExport([{"name": "a"}], time.time())
    assert cookies_to_keep(export, folder, orderly=True) == export.cookies


def test_fault_d10_folders_inside_each_other(store, folder, tmp_path):
    store.save(PROFILE, folder, None)
    deep = folder
    for _ in range(100):
        deep /= "a"
        deep.mkdir()
    refuse(store, folder, "folders inside each other", tmp_path, ProfileTooBig)


@pytest.mark.parametrize("kind", ["files", "links", "caches"])
def test_fault_d10_names_without_end(store, folder, kind, tmp_path):
    """Also of what is left out: to look at it takes time, too."""
    store.save(PROFILE, folder, None)
    for number in range(1100):
        if kind == "links":
            (folder / f"link-{number}").symlink_to("nowhere")
        else:
            name = f"Singleton{number}" if kind == "caches" else f"{'x' * 240}{number}"
            (folder / name).touch()
    refuse(store, folder, "too many files", tmp_path, ProfileTooBig)


def test_fault_d10_saving_has_a_time(folder, tmp_path):
    ProfileStore(tmp_path / "profiles").save(PROFILE, folder, None)
    refuse(
        ProfileStore(tmp_path / "profiles", max_seconds=0), folder, "takes too long", tmp_path, ProfileTooBig
    )


async def test_fault_d10_profiles_have_threads_of_their_own(store):
    """However many profiles are being saved: other work on files, and the start of other browsers, do not wait."""
    import asyncio

    go, busy = threading.Event(), threading.Semaphore(0)
    others = set(threading.enumerate())  # of stores that tests before have closed

    def save():
        busy.release()
        go.wait()

    saves = [asyncio.create_task(store.run(save, saving=True)) for _ in range(40)]
    try:
        await asyncio.to_thread(busy.acquire)
        async with asyncio.timeout(30):
            assert await store.run(store.load_cookies, PROFILE) is None
            assert await asyncio.gather(*(asyncio.to_thread(lambda: 1) for _ in range(100))) == [1] * 100
        ours = set(threading.enumerate()) - others
        assert sum(thread.name.startswith("profiles-save") for thread in ours) <= 4
    finally:
        go.set()
        await asyncio.gather(*saves)
        store.close()


@pytest.mark.parametrize("kind", ["link", "pipe", "huge", "deep"])
def test_fault_d10_the_export_is_a_plain_file(tmp_path, kind):
    secret = tmp_path / "secret"
    secret.write_text('{"at": 1, "cookies": []}')
    folder = tmp_path / "browser"
    folder.mkdir()
    export = folder / "cookies.json"
    if kind == "link":
        export.symlink_to(secret)
    elif kind == "pipe":
        os.mkfifo(export)
    elif kind == "huge":
        _sparse(export, folder)
    else:
        export.write_text("[" * 200_000)
    with pytest.raises((Hostile, ValueError)):
        CookieExport.read(folder)
    CookieExport([{"name": "n"}], 2.0).write(folder)  # over it, not through it
    assert CookieExport.read(folder) == CookieExport([{"name": "n"}], 2.0)
    assert secret.read_text() == '{"at": 1, "cookies": []}'
    assert export.stat().st_mode & 0o777 == 0o600


async def test_fault_d10_a_folder_deeper_than_a_recursion_is_removed(tmp_path):
    top = tmp_path / "browser"
    os.mkdir(top)
    folder = os.open(top, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("a", dir_fd=folder)
        inner = os.open("a", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    os.close(folder)
    await remove_tree(top)
    assert not top.exists()
