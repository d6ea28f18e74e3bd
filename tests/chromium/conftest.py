"""What a Chromium of the tests may not leave behind."""

import asyncio
import os
import tempfile
from pathlib import Path

import pytest

from cdpbridge.chromium import find
from cdpbridge.errors import BrowserNotFound


@pytest.fixture(autouse=True)
def temporary_folder(monkeypatch, tmp_path_factory):
    """One per test, so that what is left in it is the test's own; short, as Chromium needs it."""
    tmp_path_factory.getbasetemp()  # made on first use, and not in here
    with tempfile.TemporaryDirectory(prefix="t") as folder:
        Path(folder).chmod(0o711)  # browsers of a root process have uids of their own
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield


@pytest.fixture(params=["shell", "full"])
def build(request):
    try:
        return find(request.param)
    except BrowserNotFound as error:
        pytest.skip(str(error))


@pytest.fixture
def wait_until():
    """Poll for something that only the outside world can bring about."""

    async def wait_until(condition, timeout=60):
        async with asyncio.timeout(timeout):
            while not condition():
                await asyncio.sleep(0.01)

    return wait_until


def _stat(pid):
    """State, parent, and process group, from `/proc/<pid>/stat` behind the name in parentheses."""
    with open(f"/proc/{pid}/stat") as file:
        state, parent, group = file.read().rpartition(")")[2].split()[:3]
    return state, int(parent), int(group)


@pytest.fixture
def members():
    """The living processes of a group."""

    def members(group):
        found = []
        for name in filter(str.isdecimal, os.listdir("/proc")):
            try:
                state, _, its_group = _stat(name)
            except OSError:
                continue
            if its_group == group and state != "Z":
                found.append(int(name))
        return found

    return members


@pytest.fixture
def children():
    """Our child processes, zombies too."""

    def children():
        found = []
        for name in filter(str.isdecimal, os.listdir("/proc")):
            try:
                if _stat(name)[1] == os.getpid():
                    found.append(int(name))
            except OSError:
                continue
        return found

    return children
