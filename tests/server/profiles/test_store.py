"""Snapshots of profile folders: whole or not there, and nothing in them but the profile."""

import json
import logging
import os
import random
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from uuid import UUID, uuid4

import pytest

from cdpbridge.errors import CDPBridgeError
from cdpbridge.server.profiles import ProfileStore, ProfileTooBig
from tests import programs

pytestmark = pytest.mark.programs

PROFILE = UUID("11111111-2222-4333-8444-555555555555")


@pytest.fixture
def store(tmp_path):
    return ProfileStore(tmp_path / "profiles")


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "browser", {"Default/Preferences": "{}", "Local State": "state"})


def write(folder, files):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def read(folder):
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def restored(store, tmp_path, profile=PROFILE):
    target = tmp_path / f"restored-{uuid4()}"
    store.restore(profile, target)
    return target


def cookie_database(path, *hosts):
    path.parent.mkdir(parents=True, exist_ok=True)
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE cookies (host_key TEXT)")
        connection.executemany("INSERT INTO cookies VALUES (?)", [(host,) for host in hosts])
    connection.close()


# --- leases -----------------------------------------------------------------------------------------------------------


def test_fault_b26_one_writer_at_a_time(store):
    assert store.try_lease(PROFILE, "a")
    assert store.try_lease(PROFILE, "a")
    assert not store.try_lease(PROFILE, "b")
    assert store.try_lease(uuid4(), "b")
    store.release(PROFILE, "b")
    assert not store.try_lease(PROFILE, "b")
    store.release(PROFILE, "a")
    store.release(PROFILE, "a")
    assert store.try_lease(PROFILE, "b")


# --- versions ---------------------------------------------------------------------------------------------------------


def test_nothing_saved_is_an_empty_folder(store, tmp_path):
    target = restored(store, tmp_path)
    assert list(target.iterdir()) == []
    assert target.stat().st_mode & 0o777 == 0o700
    assert store.load_cookies(PROFILE) is None
    store.delete(PROFILE)


def test_the_newest_version_counts_and_is_the_only_one_kept(store, folder, tmp_path):
    first = store.save(PROFILE, folder, [{"name": "a", "value": "1", "domain": ".a.example"}])
    write(folder, {"Default/Preferences": "new"})
    second = store.save(PROFILE, folder, None)
    assert (first.version, second.version) == (1, 2)
    assert (first.cookie_domains, second.cookie_domains) == (["a.example"], [])
    assert read(restored(store, tmp_path)) == {"Default/Preferences": "new", "Local State": "state"}
    assert store.load_cookies(PROFILE) is None
    assert len(list((tmp_path / "profiles" / str(PROFILE)).iterdir())) == 1


def test_profiles_are_apart(store, folder, tmp_path):
    store.save(PROFILE, folder, [])
    assert read(restored(store, tmp_path, uuid4())) == {}


def test_only_the_owner_may_look(store, folder, tmp_path):
    store.save(PROFILE, folder, [])
    for path in [
        tmp_path / "profiles",
        *(tmp_path / "profiles").rglob("*"),
        *restored(store, tmp_path).rglob("*"),
    ]:
        assert path.stat().st_mode & 0o077 == 0, path


def test_cookies_come_back_as_they_were(store, folder):
    cookies = [
        {"name": "a", "value": "ü\u2028", "domain": "b.example", "partitionKey": {"topLevelSite": "x"}}
    ]
    store.save(PROFILE, folder, cookies)
    assert store.load_cookies(PROFILE) == cookies


def test_damaged_cookies_are_told_without_their_text(store, folder, tmp_path, caplog):
    store.save(PROFILE, folder, [])
    [file] = (tmp_path / "profiles").rglob("cookies.json")
    file.write_text('[{"value": "s3cret"')
    with caplog.at_level(logging.WARNING):
        assert store.load_cookies(PROFILE) is None
    assert "cannot be read" in caplog.text
    assert "s3cret" not in caplog.text


@pytest.mark.parametrize("database", ["Default/Cookies", "Default/Network/Cookies"])
def test_domains_are_those_of_the_export_and_of_the_database(store, folder, database):
    cookie_database(folder / database, ".b.example", "a.example", "")
    assert store.save(PROFILE, folder, None).cookie_domains == ["a.example", "b.example"]
    cookies = [{"name": "n", "value": "1", "domain": "c.example"}]
    assert store.save(PROFILE, folder, cookies).cookie_domains == ["a.example", "b.example", "c.example"]


def test_a_damaged_database_is_saved_all_the_same(store, folder):
    write(folder, {"Default/Cookies": "no database at all, but long enough to be looked at" * 99})
    assert store.save(PROFILE, folder, None).cookie_domains == []


def test_fault_b31_deleted_is_gone(store, folder, tmp_path):
    store.save(PROFILE, folder, [])
    store.delete(PROFILE)
    assert read(tmp_path / "profiles") == {}
    assert read(restored(store, tmp_path)) == {}
    assert store.save(PROFILE, folder, []).version == 1


def test_a_folder_that_is_not_there_does_not_replace_what_was_saved(store, folder, tmp_path):
    store.save(PROFILE, folder, [])
    with pytest.raises(FileNotFoundError):
        store.save(PROFILE, tmp_path / "nowhere", [])
    assert read(restored(store, tmp_path)) == read(folder)


# --- what is saved ----------------------------------------------------------------------------------------------------


def test_caches_and_locks_are_left_out_and_the_rest_is_kept(store, tmp_path):
    kept = [
        "Local State",
        "Default/Cookies",
        "Default/Preferences",
        "Default/Local Storage/leveldb/000003.log",
        "Default/IndexedDB/https_a.example_0.indexeddb.leveldb/CURRENT",
        "Default/Session Storage/CURRENT",
        "Default/Service Worker/CacheStorage/x/index",
        "Default/Service Worker/ScriptCache/index",
        "Default/Extensions/id/1.0/Cache/file",
    ]
    left_out = [
        "DevToolsActivePort",
        "SingletonCookie",
        "GrShaderCache/data_0",
        "Crashpad/settings.dat",
        "component_crx_cache/x",
        "WidevineCdm/manifest.json",
        "Default/Cache/Cache_Data/index",
        "Default/Code Cache/js/index",
        "Default/GPUCache/data_0",
        "Default/DawnWebGPUCache/data_0",
        "Default/Local Storage/leveldb/LOCK",
        "Default/LOCK",
    ]
    folder = write(tmp_path / "browser", dict.fromkeys(kept + left_out, "x"))
    store.save(PROFILE, folder, None)
    assert set(read(restored(store, tmp_path))) == set(kept)


def test_fault_b32_links_pipes_and_sockets_are_left_out(store, folder, tmp_path, monkeypatch):
    secret = write(tmp_path / "outside", {"secret": "s3cret"})
    (folder / "link").symlink_to(secret / "secret")
    (folder / "Default" / "folder-link").symlink_to(secret)
    (folder / "loop").symlink_to(folder)
    os.mkfifo(folder / "pipe")
    monkeypatch.chdir(folder)  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        store.save(PROFILE, folder, None)
    assert read(restored(store, tmp_path)) == {"Default/Preferences": "{}", "Local State": "state"}
    assert not [path for path in (tmp_path / "profiles").rglob("*") if path.is_symlink()]


@pytest.mark.parametrize("limits", [{"max_bytes": 100_000}, {"max_files": 4}])
def test_fault_b32_too_big(folder, tmp_path, limits):
    store = ProfileStore(tmp_path / "profiles", **limits)
    store.save(PROFILE, folder, None)
    with open(folder / "bomb", "wb") as bomb:
        bomb.truncate(10**12)  # takes no room on the disk
    write(folder, {"more": "x"})
    with pytest.raises(ProfileTooBig, match="is not saved") as caught:
        store.save(PROFILE, folder, None)
    assert isinstance(caught.value, CDPBridgeError)
    assert set(read(restored(store, tmp_path))) == {"Default/Preferences", "Local State"}
    assert len(list((tmp_path / "profiles" / str(PROFILE)).iterdir())) == 1


# --- at once, and killed ----------------------------------------------------------------------------------------------


def test_restore_and_save_at_once(store, folder, tmp_path):
    files = {f"Default/{name}": "0" for name in range(50)}
    store.save(PROFILE, write(folder, files), [])
    failures = []

    def saving(number):
        own = write(tmp_path / f"writer-{number}", files)
        for round_ in range(10):
            write(own, dict.fromkeys(files, f"{number}.{round_}"))
            store.save(PROFILE, own, [])

    def run(work, *arguments):
        try:
            work(*arguments)
        except BaseException as error:
            failures.append(error)

    writers = [threading.Thread(target=run, args=(saving, number)) for number in range(2)]
    for writer in writers:
        writer.start()
    rounds = 0
    while any(writer.is_alive() for writer in writers) or not rounds:
        found = read(restored(store, tmp_path))
        assert len({found[name] for name in files}) == 1
        rounds += 1
    for writer in writers:
        writer.join()
    assert not failures
    assert store.save(PROFILE, folder, []).version == 22
    assert len(list((tmp_path / "profiles" / str(PROFILE)).iterdir())) == 1


SAVER = """
import sys
from pathlib import Path
from uuid import UUID
from cdpbridge.server.profiles import ProfileStore

store, folder, number = ProfileStore(Path(sys.argv[1])), Path(sys.argv[3]), int(sys.argv[4])
print("ready", flush=True)
while True:
    number += 1
    for path in folder.rglob("*"):
        if path.is_file():
            path.write_text(str(number))
    store.save(UUID(sys.argv[2]), folder, [{"name": "n", "value": str(number), "domain": "a.example"}])
    print(number, flush=True)
"""


def test_fault_b29_killed_while_saving(tmp_path):
    root = tmp_path / "profiles"
    names = [f"Default/{folder}/{name}" for folder in range(5) for name in range(10)]
    folder = write(tmp_path / "browser", dict.fromkeys(names, "0"))
    number, chance = 0, random.Random(29)
    for round_ in range(12):
        arguments = [str(root), str(PROFILE), str(folder), str(number)]
        saver = programs.Program([sys.executable, "-c", SAVER, *arguments], stdout=subprocess.PIPE, text=True)
        with saver:
            assert saver.stdout.readline() == "ready\n"
            first = saver.stdout.readline() if round_ % 2 else ""
            time.sleep(chance.uniform(0, 0.15))
            saver.kill()
            committed = [int(line) for line in (first + saver.stdout.read()).split()]
        store = ProfileStore(root)
        found = read(restored(store, tmp_path))
        cookies = store.load_cookies(PROFILE)
        if not found and not committed and number == 0:
            continue  # killed before there was a first version
        assert set(found) == set(names)
        [version] = {int(text) for text in found.values()}
        assert cookies == [{"name": "n", "value": str(version), "domain": "a.example"}]
        assert version >= (committed[-1] if committed else number)
        number = version
    assert number > 0
    store.save(PROFILE, folder, None)
    assert len(list((root / str(PROFILE)).iterdir())) == 1


def test_what_a_killed_delete_left_is_removed_at_the_next_start(store, folder, tmp_path):
    store.save(PROFILE, folder, None)
    (tmp_path / "profiles" / str(PROFILE)).rename(tmp_path / "profiles" / f"old-{PROFILE}")
    ProfileStore(tmp_path / "profiles")
    assert list((tmp_path / "profiles").iterdir()) == []


def test_an_error_of_the_disk_leaves_the_former_version(store, folder, tmp_path, monkeypatch):
    store.save(PROFILE, folder, None)
    write(folder, {"Local State": "new"})

    def full(_fd):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            store.save(PROFILE, folder, None)
    assert json.dumps(read(restored(store, tmp_path))).count("state") == 1
    assert len(list((tmp_path / "profiles" / str(PROFILE)).iterdir())) == 1
