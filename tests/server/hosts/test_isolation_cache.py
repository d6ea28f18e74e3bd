"""What a start believes of an earlier start's test of isolation."""

import asyncio
import json
import os
import sys
from dataclasses import replace

import pytest

from cdpbridge.chromium import Build
from cdpbridge.isolation import Means
from cdpbridge.server.hosts import _isolation, _isolation_cache
from cdpbridge.server.hosts._isolation_cache import IsolationCache
from cdpbridge.server.settings import Settings

MEANS = Means(processes=False, landlock=True)


@pytest.fixture
def build(tmp_path):
    binary = tmp_path / "chromium"
    binary.write_bytes(b"a binary")
    return Build(binary, "shell")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def file(folder, build):
    IsolationCache([build], folder).write(MEANS)
    return folder / "isolation.json"


def test_a_result_is_found_again_by_every_server_of_the_user(build, folder, file):
    assert IsolationCache([build], folder).read() == MEANS
    assert [each.stat().st_mode & 0o777 for each in (folder, file)] == [0o700, 0o600]
    assert os.listdir(folder) == ["isolation.json"]


def test_builds_have_results_of_their_own_beside_each_other(build, folder, file):
    full = replace(build, kind="full", path=build.path.with_name("full"))
    full.path.write_bytes(b"the whole browser")
    IsolationCache([full], folder).write(Means())
    assert (IsolationCache([build], folder).read(), IsolationCache([full], folder).read()) == (MEANS, Means())
    for number in range(16):
        build.path.write_bytes(b"version %d" % number)
        IsolationCache([build], folder).write(MEANS)
    assert len(json.loads(file.read_text())) == 16
    assert IsolationCache([full], folder).read() is None
    assert IsolationCache([build], folder).read() == MEANS


def test_it_lies_in_the_users_cache_folder_and_not_in_that_of_the_data(build, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "of the user"))
    IsolationCache([build]).write(MEANS)
    assert (tmp_path / "of the user" / "cdpbridge" / "isolation.json").is_file()
    assert IsolationCache([build]).read() == MEANS


def test_another_build_kernel_version_or_right_is_tested_again(build, folder, file, monkeypatch):
    before = build.path.stat()
    build.path.write_bytes(b"a newer binary")
    assert IsolationCache([build], folder).read() is None
    build.path.write_bytes(b"a binary")
    os.utime(build.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert IsolationCache([build], folder).read() == MEANS
    assert IsolationCache([build, replace(build, kind="full")], folder).read() is None
    for name, value in (("__version__", "0.0.1"), ("_VERSION", 1)):
        with monkeypatch.context() as patch:
            patch.setattr(_isolation_cache, name, value)
            assert IsolationCache([build], folder).read() is None
    lines = _isolation_cache._lines
    changes = {
        "/proc/self/status": ["CapEff:\t0"],
        "/proc/self/mountinfo": ["1 1 0:1 / /proc/masked ro"],
        "/proc/sys/user/max_user_namespaces": ["0"],
    }
    lines = _isolation_cache._lines
    for path, text in changes.items():
        changed = {path: text}
        with monkeypatch.context() as patch:
            patch.setattr(_isolation_cache, "_lines", lambda each, of=changed: of.get(each) or lines(each))
            assert IsolationCache([build], folder).read() is None, path
    monkeypatch.setattr(_isolation_cache.platform, "release", lambda: "2.6.32")
    assert IsolationCache([build], folder).read() is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"key": 1}',
        b"\xff",
        {"processes": True},
        {"processes": True, "landlock": "yes"},
        {"processes": 1, "landlock": 1},
        {"processes": True, "landlock": True, "more": True},
        ["processes", "landlock"],
        None,
    ],
    ids=str,
)
def test_a_wrong_file_is_worth_nothing(build, folder, file, content):
    if not isinstance(content, bytes):
        content = json.dumps(dict.fromkeys(json.loads(file.read_text()), content)).encode()
    file.write_bytes(content)
    assert IsolationCache([build], folder).read() is None


@pytest.mark.parametrize("what", ["writable file", "writable folder", "link", "second name"])
def test_a_file_that_another_user_may_have_written_is_not_believed(build, folder, file, what, caplog):
    match what:
        case "writable file":
            file.chmod(0o622)
        case "writable folder":
            folder.chmod(0o770)
        case "link":
            file.rename(folder / "other.json")
            file.symlink_to("other.json")
        case "second name":
            os.link(file, folder / "other.json")
    assert IsolationCache([build], folder).read() is None
    [record] = caplog.records
    assert "isolation is tested again" in record.message
    # The next start has a file of its own again, with nothing from the other one in it.
    file.unlink()
    IsolationCache([build], folder).write(MEANS)
    assert IsolationCache([build], folder).read() == MEANS
    assert len(caplog.records) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
@pytest.mark.parametrize("of", ["file", "folder"])
def test_another_users_file_is_not_believed(build, folder, file, of):
    os.chown(file if of == "file" else folder, 65533, 65533)
    assert IsolationCache([build], folder).read() is None
    if of == "folder":
        file.unlink()
        IsolationCache([build], folder).write(MEANS)
        assert os.listdir(folder) == []


def test_a_folder_that_cannot_be_written_is_no_error(build, tmp_path):
    (tmp_path / "file").touch()
    cache = IsolationCache([build], tmp_path / "file" / "cache")
    cache.write(MEANS)
    assert cache.read() is None


def test_a_user_without_a_home_keeps_nothing(build, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(_isolation_cache.platformdirs, "user_cache_dir", lambda name: f"~/.cache/{name}")
    cache = IsolationCache([build])
    cache.write(MEANS)
    assert cache.read() is None
    assert os.listdir(tmp_path) == ["chromium"]


async def test_a_known_result_is_not_tested_again(build, folder, file, monkeypatch):
    async def never(*_):
        raise AssertionError("it was tested again")

    class Builds:
        usual = for_profile = build

    monkeypatch.setattr(_isolation, "breach", never)
    monkeypatch.setattr(_isolation, "IsolationCache", lambda builds: IsolationCache(builds, folder))
    monkeypatch.setattr(_isolation.sys, "platform", "linux")
    assert await _isolation._tested(None, Builds, None) == MEANS


@pytest.mark.skipif(sys.platform != "linux", reason="isolation is made of Linux namespaces")
@pytest.mark.usefixtures("file")
async def test_a_masked_proc_is_a_warning_that_names_the_option(build, folder, monkeypatch, caplog, tmp_path):
    class Builds:
        usual = for_profile = build

    monkeypatch.setattr(_isolation, "IsolationCache", lambda builds: IsolationCache(builds, folder))
    monkeypatch.setattr(_isolation.Launcher, "prepare", lambda self: asyncio.sleep(0))
    settings = Settings.load(data_dir=tmp_path / "data", isolation="require")
    prepared = await _isolation.prepare_isolation(settings, Builds, None)
    await prepared.isolator.close()
    assert prepared.words == str(prepared.isolator)
    [record] = [each for each in caplog.records if each.levelname == "WARNING"]
    assert "no process namespace" in record.message
    assert "--security-opt systempaths=unconfined" in record.message
