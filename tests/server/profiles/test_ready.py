"""Copies of profiles that wait for their next browsers: whole, of the version that counts, and of plain files only."""

import errno
import logging
import os
import socket
import subprocess
import sys
from uuid import UUID, uuid4

import pytest

from cdpbridge.server.objects import ObjectStorage
from cdpbridge.server.profiles import NO_VERSION, Archives, ProfileStore, ProfileVersion, _ready, _store
from tests import programs
from tests.conftest import until

PROFILE = UUID("11111111-2222-4333-8444-555555555555")
NAMES = ["Local State", "Default/Preferences", "Default/IndexedDB/a.leveldb/000003.log"]


@pytest.fixture(params=["folder", "object storage"])
def make_store(request, tmp_path):
    """Opens a store over the same folder each time."""

    def make(**options):
        archives = None
        if request.param == "object storage":
            pytest.importorskip("obstore")
            objects = tmp_path / "objects"
            objects.mkdir(exist_ok=True)
            archives = Archives(ObjectStorage(objects.as_uri()))
        return ProfileStore(tmp_path / "profiles", archives=archives, **options)

    return make


@pytest.fixture
def cycle(tmp_path):
    """One browser of a profile: it starts with a version, writes a text into each file, and is saved; returns what is saved."""

    def run(store, text, base=NO_VERSION, profile=PROFILE):
        browser = tmp_path / f"browser-{uuid4()}"
        store.restore(profile, browser / "profile", base)
        write(browser / "profile", text)
        saved = store.save(profile, browser / "profile", [], base=base, writer=uuid4())
        version = ProfileVersion(saved.version, saved.archive)
        store.keep_ready(profile, browser / "profile", version)
        return version

    return run


def write(folder, text):
    for name in (*NAMES, "Default/Cache/data", "Default/IndexedDB/a.leveldb/LOCK"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def read(folder):
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def restored(store, tmp_path, version, profile=PROFILE):
    target = tmp_path / f"restored-{uuid4()}"
    store.restore(profile, target, version)
    return target


def waiting(tmp_path):
    folder = tmp_path / "profiles" / "ready"
    return sorted(folder.iterdir()) if folder.is_dir() else []


def test_a_browser_takes_the_copy_that_waits(make_store, cycle, tmp_path, monkeypatch):
    store = make_store()
    version = cycle(store, "1")
    [ready] = waiting(tmp_path)
    assert read(ready) == dict.fromkeys(NAMES, "1")
    for path in (ready.parent, ready, *ready.rglob("*")):  # others may not look
        assert (path.stat().st_uid, path.stat().st_mode & 0o077) == (os.geteuid(), 0), path
    inodes = {path.stat().st_ino for path in ready.rglob("*")}
    with monkeypatch.context() as patch:
        patch.setattr(_store, "copy_own", None)
        taken = restored(store, tmp_path, version)
    assert read(taken) == dict.fromkeys(NAMES, "1")
    assert {path.stat().st_ino for path in taken.rglob("*")} == inodes
    assert not waiting(tmp_path)
    # The version has files of its own.
    write(taken, "changed")
    assert read(restored(store, tmp_path, version)) == dict.fromkeys(NAMES, "1")


def test_a_profile_goes_from_copy_to_copy(make_store, cycle, tmp_path):
    store, version = make_store(), NO_VERSION
    for number in range(1, 4):
        version = cycle(store, str(number), version)
        assert version.number == number
        [ready] = waiting(tmp_path)
        assert read(ready) == dict.fromkeys(NAMES, str(number))


def test_a_copy_of_another_version_is_not_taken(make_store, cycle, tmp_path):
    store, browser = make_store(), tmp_path / "browser"
    write(browser, "1")
    saved = store.save(PROFILE, browser, [], writer=uuid4())
    former = ProfileVersion(saved.version, saved.archive)
    newest = cycle(store, "2", former)
    store.keep_ready(PROFILE, browser, former)  # late
    assert read(restored(store, tmp_path, newest)) == dict.fromkeys(NAMES, "2")


def test_a_save_removes_the_copy_of_the_former_version(make_store, cycle, tmp_path):
    store = make_store()
    version = cycle(store, "1")
    assert waiting(tmp_path)
    write(tmp_path / "browser", "2")
    store.save(PROFILE, tmp_path / "browser", [], base=version, writer=uuid4())
    assert not waiting(tmp_path)


def test_a_deleted_profile_leaves_no_copy(make_store, cycle, tmp_path):
    store = make_store()
    cycle(store, "1")
    store.delete(PROFILE)
    assert not waiting(tmp_path)
    # A save and a delete at once.
    browser = tmp_path / "browser"
    write(browser, "2")
    saved = store.save(PROFILE, browser, [], writer=uuid4())
    store.delete(PROFILE)
    store.keep_ready(PROFILE, browser, ProfileVersion(saved.version, saved.archive))
    assert not waiting(tmp_path)


async def test_the_next_server_uses_what_is_whole_and_removes_the_rest(make_store, cycle, tmp_path):
    version = cycle(make_store(), "1")
    [ready] = waiting(tmp_path)
    profile, stamp, time_, size, boot = ready.name.split(".")
    others = [
        "new-12345678",
        "old-12345678",
        f"{profile}.{stamp}.0.{size}.{boot}",  # another version of that name, as of a backup
        f"{profile}.v00000009.{time_}.{size}.{boot}",
        f"{uuid4()}.{stamp}.{time_}.{size}.{boot}",
        f"{profile}.{stamp}.{time_}.{size}.{'0' * 32}",  # not synced before the machine was started again
    ]
    for name in others:
        (ready.parent / name).mkdir()
        (ready.parent / name / "Local State").write_text("half")
    store = make_store()
    await until(lambda: waiting(tmp_path) == [ready])
    assert read(restored(store, tmp_path, version)) == dict.fromkeys(NAMES, "1")
    assert not waiting(tmp_path)


async def test_copies_can_be_turned_off(make_store, cycle, tmp_path):
    cycle(make_store(), "1")
    assert waiting(tmp_path)
    store = make_store(max_ready_bytes=0)
    await until(lambda: not waiting(tmp_path))
    cycle(store, "1")
    assert not waiting(tmp_path)


def test_those_made_first_are_removed_first(make_store, cycle, tmp_path, monkeypatch):
    store = make_store(max_ready_bytes=2 * len(NAMES) * 10)
    profiles = [uuid4() for _ in range(3)]
    for profile in profiles:
        cycle(store, "0123456789", profile=profile)
    assert {path.name.partition(".")[0] for path in waiting(tmp_path)} == {str(each) for each in profiles[1:]}
    cycle(store, "0" * 100, profile=profiles[0])  # larger than all that may wait
    assert len(waiting(tmp_path)) == 2
    monkeypatch.setattr(
        _ready.shutil, "disk_usage", lambda _: _ready.shutil._ntuple_diskusage(1000, 700, 300)
    )
    cycle(store, "0123456789", profile=profiles[0])  # a tenth of what is free has one
    assert [path.name.partition(".")[0] for path in waiting(tmp_path)] == [str(profiles[0])]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EXDEV])
def test_where_none_can_be_made_the_version_is_copied(
    make_store, cycle, tmp_path, monkeypatch, caplog, *, number
):
    def refused(*_arguments, **_options):
        raise OSError(number, os.strerror(number))

    store = make_store()
    monkeypatch.setattr(_ready, "move_plain_files", refused)
    with caplog.at_level(logging.INFO, logger="cdpbridge.server"):
        version = cycle(store, "1")
    assert f"no copy of a profile is kept ready for its next browser: [Errno {number}]" in caplog.text
    assert not waiting(tmp_path)
    assert read(restored(store, tmp_path, version)) == dict.fromkeys(NAMES, "1")


def test_one_that_was_removed_is_not_missed(make_store, cycle, tmp_path, caplog):
    store = make_store()
    version = cycle(store, "1")
    [ready] = waiting(tmp_path)
    ready.rename(tmp_path / "elsewhere")
    assert read(restored(store, tmp_path, version)) == dict.fromkeys(NAMES, "1")
    assert "cannot be used" in caplog.text


def test_a_save_on_a_full_disk_takes_the_bytes_of_copies(make_store, cycle, tmp_path, monkeypatch):
    store = make_store()
    other = uuid4()
    cycle(store, "1", profile=other)
    copy, tries = _store.copy_plain_files, []

    def full(source, target, budget):
        tries.append(waiting(tmp_path))
        if tries[-1]:
            raise OSError(errno.ENOSPC, "No space left on device")
        copy(source, target, budget)

    monkeypatch.setattr(_store, "copy_plain_files", full)
    version = cycle(store, "2")
    assert [len(each) for each in tries] == [1, 0]
    assert read(restored(store, tmp_path, version)) == dict.fromkeys(NAMES, "2")


def test_copies_are_removed_when_the_disk_is_needed(make_store, cycle, tmp_path):
    store = make_store()
    version = cycle(store, "1")
    assert store.release_ready()
    assert not store.release_ready()
    assert not waiting(tmp_path)
    assert read(restored(store, tmp_path, version)) == dict.fromkeys(NAMES, "1")


# --- hostile folders --------------------------------------------------------------------------------------------------


def test_fault_b32_what_is_no_plain_file_stays_behind(make_store, tmp_path):
    store, browser = make_store(), tmp_path / "browser"
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    write(browser, "1")
    (browser / "file").symlink_to(outside / "secret")
    (browser / "folder").symlink_to(outside)
    (browser / "Default" / "folder").symlink_to(outside)
    os.mkfifo(browser / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(browser / "socket"))
    (browser / "Default" / "Preferences").chmod(0o4777)
    saved = store.save(PROFILE, browser, [], writer=uuid4())
    store.keep_ready(PROFILE, browser, ProfileVersion(saved.version, saved.archive))
    [ready] = waiting(tmp_path)
    assert read(ready) == dict.fromkeys(NAMES, "1")
    assert (ready / "Default" / "Preferences").stat().st_mode & 0o7777 == 0o600
    assert read(outside) == {"secret": "secret"}


def test_fault_b32_a_file_with_another_name_makes_no_copy(make_store, tmp_path):
    """Who has the other name could write into the next browser's profile."""
    store, browser = make_store(), tmp_path / "browser"
    write(browser, "1")
    os.link(browser / "Local State", tmp_path / "other name")
    saved = store.save(PROFILE, browser, [], writer=uuid4())
    version = ProfileVersion(saved.version, saved.archive)
    store.keep_ready(PROFILE, browser, version)
    assert not waiting(tmp_path)
    (tmp_path / "other name").write_text("written")
    assert read(restored(store, tmp_path, version)) == dict.fromkeys(NAMES, "1")


# --- kills ------------------------------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
from pathlib import Path
from uuid import UUID
from cdpbridge.server.profiles import ProfileStore, ProfileVersion, _move, _ready

stage, root, folder, profile = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), UUID(sys.argv[4])
store = ProfileStore(root)


def kill(*arguments, **options):
    os.kill(os.getpid(), signal.SIGKILL)


if stage == "made":
    _move._make_ours = kill
elif stage == "named":
    _ready.ReadyCopies.add = kill
elif stage == "removed":
    _ready.shutil.rmtree = kill
if stage == "removed":
    store.release_ready()
elif stage == "taken":
    store.restore(profile, folder.with_name("next"))
    kill()
else:
    store.keep_ready(profile, folder, ProfileVersion(1))
    kill()
"""


@pytest.mark.programs
@pytest.mark.parametrize("stage", ["made", "named", "waits", "taken", "removed"])
async def test_fault_b29_killed_while_a_copy_is(stage, tmp_path):
    root, folder = tmp_path / "profiles", tmp_path / "browser"
    write(folder, "1")
    store = ProfileStore(root)
    store.save(PROFILE, folder, None)
    if stage in {"taken", "removed"}:
        store.keep_ready(PROFILE, folder, ProfileVersion(1))
    arguments = [stage, str(root), str(folder), str(PROFILE)]
    with programs.Program([sys.executable, "-c", KILLED, *arguments], stdout=subprocess.PIPE) as killed:
        assert killed.wait(60) == -9
    store = ProfileStore(root)
    left = 1 if stage == "waits" else 0
    await until(lambda: len(waiting(tmp_path)) == left)
    assert read(restored(store, tmp_path, NO_VERSION)) == dict.fromkeys(NAMES, "1")
    assert not waiting(tmp_path)
    if stage == "taken":
        assert read(tmp_path / "next") == dict.fromkeys(NAMES, "1")
