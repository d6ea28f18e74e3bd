"""Copies of profiles: shared bytes where the file system can do that, never the same file."""

import errno
import os

import pytest

from cdpbridge.server.profiles import _copy
from cdpbridge.server.profiles._copy import Budget, TooBig, copy_own, copy_plain_files


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "profile"
    (folder / "Default" / "IndexedDB").mkdir(parents=True)
    (folder / "Local State").write_bytes(b"{}")
    (folder / "Default" / "IndexedDB" / "000003.log").write_bytes(os.urandom(3 * 1024**2 + 1))
    (folder / "Default" / "empty").touch()
    return folder


@pytest.fixture
def clones(monkeypatch):
    """Numbers of files that were shared, on a file system that seems to know it."""
    found = []

    def ioctl(target, request, source):
        assert request == _copy._FICLONE
        os.pwrite(target, os.pread(source, 1 << 30, 0), 0)
        found.append(os.fstat(source).st_ino)

    monkeypatch.setattr(_copy.fcntl, "ioctl", ioctl)
    return found


def ways():
    budget = Budget(10**9, 1000, 64, float("inf"))
    return [
        lambda source, target: copy_plain_files(source, target, budget),
        lambda source, target: (target.mkdir(), copy_own(source, target)),
    ]


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("copy", ways(), ids=["to save", "to restore"])
def test_a_copy_is_another_file(folder, tmp_path, copy):
    """A hard link would not be: Chromium writes SQLite's files in place, and so into the saved version."""
    copy(folder, tmp_path / "copy")
    assert contents(tmp_path / "copy") == contents(folder)
    for path in contents(folder):
        assert (tmp_path / "copy" / path).stat().st_ino != (folder / path).stat().st_ino
        assert (tmp_path / "copy" / path).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("copy", ways(), ids=["to save", "to restore"])
def test_bytes_are_shared_where_the_file_system_can(folder, tmp_path, copy, clones, monkeypatch):
    monkeypatch.setattr(_copy.os, "sendfile", None)
    copy(folder, tmp_path / "copy")
    assert contents(tmp_path / "copy") == contents(folder)
    assert len(clones) == len(contents(folder))


@pytest.mark.parametrize("copy", ways(), ids=["to save", "to restore"])
@pytest.mark.parametrize(
    ("number", "copied"), [(errno.EXDEV, True), (errno.EOPNOTSUPP, True), (errno.ENOSPC, False)]
)
def test_where_it_cannot_they_are_copied(folder, tmp_path, copy, monkeypatch, *, number, copied):
    def ioctl(*_arguments):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(_copy.fcntl, "ioctl", ioctl)
    if copied:
        copy(folder, tmp_path / "copy")
        assert contents(tmp_path / "copy") == contents(folder)
    else:
        with pytest.raises(OSError, match=os.strerror(number)):
            copy(folder, tmp_path / "copy")


def test_shared_bytes_count_as_others(folder, tmp_path, clones):
    with pytest.raises(TooBig):
        copy_plain_files(folder, tmp_path / "copy", Budget(3 * 1024**2, 1000, 64, float("inf")))
    copy_plain_files(folder, tmp_path / "whole", budget := Budget(4 * 1024**2, 1000, 64, float("inf")))
    assert budget.bytes_left == 1024**2 - 3
    assert clones
