"""Real Chromium processes: how they start, how they end, and what is left of them."""

import asyncio
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
import uvloop

from cdpbridge.cdp import connect, connect_pipe
from cdpbridge.chromium import Build, Chromium, find, uses_browser_uids
from cdpbridge.errors import BrowserExited, BrowserNotFound, BrowserStartFailed

ONE_BUILD = pytest.mark.one_build("no Chromium of a certain build is started")

pytestmark = pytest.mark.chromium

HERE = os.path.dirname(__file__)


def script(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return Build(path, "full")


def left_in_temp():
    return set(os.listdir(tempfile.gettempdir()))


def open_inodes(pid):
    found = set()
    for entry in os.scandir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):  # closed meanwhile
            found.add(os.stat(entry.path).st_ino)
    return found


def descriptors():
    return set(os.listdir("/proc/self/fd"))


async def set_cookie(connection, name):
    cookie = {"name": name, "value": "1", "domain": "a.example", "expires": time.time() + 86_400}
    await connection.root.send("Storage.setCookies", {"cookies": [cookie]})


async def cookies(connection):
    reply = await connection.root.send("Storage.getCookies")
    return {cookie["name"] for cookie in reply["cookies"]}


async def cookies_in(build, profile):
    async with (
        await Chromium.start(build=build, user_data_dir=profile) as chromium,
        connect_pipe(*chromium.take_pipe()) as connection,
    ):
        return await cookies(connection)


async def answers_and_keeps_a_cookie(build, profile):
    chromium = await Chromium.start(build=build, user_data_dir=profile)
    async with (
        connect(f"ws://127.0.0.1:{chromium.port}{chromium.browser_path}") as by_port,
        connect_pipe(*chromium.take_pipe()) as by_pipe,
    ):
        version = await by_pipe.root.send("Browser.getVersion")
        assert "Chrome" in version["product"]
        assert await by_port.root.send("Browser.getVersion") == version
        await set_cookie(by_pipe, "late")
        await asyncio.sleep(1)
    assert await chromium.stop() in {"closed", "exited"}
    assert chromium.returncode == 0
    assert await cookies_in(build, profile) == {"late"}


# --- start and orderly end --------------------------------------------------------------------------------------------


async def test_fault_b25_a_cookie_set_just_before_the_stop_is_kept(build, tmp_path):
    await answers_and_keeps_a_cookie(build, tmp_path / "profile")
    assert not [name for name in os.listdir(tmp_path / "profile") if name.startswith("Singleton")]


def test_under_uvloop(build, tmp_path):
    uvloop.run(answers_and_keeps_a_cookie(build, tmp_path / "profile"))


async def test_stop_closes_a_pipe_that_nobody_took(build, members):
    chromium = await Chromium.start(build=build)
    profile = chromium.user_data_dir
    assert profile.stat().st_mode & 0o777 == 0o700
    assert await chromium.stop() == "closed"
    assert await chromium.stop() == "exited"
    assert (chromium.returncode, members(chromium.pid), profile.exists()) == (0, [], False)
    with pytest.raises(BrowserExited):
        chromium.take_pipe()


async def test_the_pipe_is_taken_once(build):
    async with await Chromium.start(build=build) as chromium:
        pipe = chromium.take_pipe()
        with pytest.raises(RuntimeError, match="taken already"):
            chromium.take_pipe()
        for fd in pipe:
            assert not os.get_inheritable(fd)
            os.close(fd)


async def test_a_browser_that_does_not_leave_is_killed(build, members):
    chromium = await Chromium.start(build=build)
    os.kill(chromium.pid, signal.SIGSTOP)
    assert await chromium.stop(timeout=timedelta(seconds=0.2)) == "killed"
    assert (chromium.returncode, members(chromium.pid)) == (-signal.SIGKILL, [])
    assert await chromium.stop() == "killed"


async def test_a_cancelled_stop_kills_at_once(build, members, wait_until):
    chromium = await Chromium.start(build=build)
    os.kill(chromium.pid, signal.SIGSTOP)
    stopping = asyncio.create_task(chromium.stop())
    await asyncio.sleep(0.05)
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    await wait_until(lambda: not members(chromium.pid))
    await chromium.kill()


async def test_its_environment_and_descriptors_are_its_own(build, monkeypatch):
    monkeypatch.setenv("CDPBRIDGE_API_KEYS", "secret")
    with socket.socket() as listener:
        listener.set_inheritable(True)
        listener.listen()
        inode = os.fstat(listener.fileno()).st_ino
        async with await Chromium.start(build=build) as chromium:
            assert inode not in open_inodes(chromium.pid)
            with open(f"/proc/{chromium.pid}/environ") as environment:
                assert "secret" not in environment.read()


# --- ends nobody asked for --------------------------------------------------------------------------------------------


async def test_fault_b13_sigkill_is_seen_at_once(build, members):
    chromium = await Chromium.start(build=build)
    waiting = [asyncio.create_task(chromium.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    os.kill(chromium.pid, signal.SIGKILL)
    async with asyncio.timeout(60):  # it is told by the kernel, not found by asking
        assert await asyncio.gather(*waiting[1:]) == [-signal.SIGKILL] * 2
    assert await chromium.stop() == "exited"
    assert members(chromium.pid) == []
    await chromium.kill()


OWNER = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from test_process import set_cookie
from cdpbridge.cdp import connect_pipe
from cdpbridge.chromium import Chromium, find

async def main():
    chromium = await Chromium.start(build=find(sys.argv[1]), user_data_dir=Path(sys.argv[2]))
    connection = await connect_pipe(*chromium.take_pipe())
    await set_cookie(connection, "late")
    await asyncio.sleep(1)
    print(chromium.pid, chromium.user_data_dir, flush=True)
    await chromium.wait()

asyncio.run(main())
"""


async def test_fault_b05_a_killed_owner_takes_its_browser_along(build, tmp_path, members, wait_until):
    profile = tmp_path / "profile"
    command = [sys.executable, "-c", OWNER, build.kind, str(profile), HERE]
    await killed_owner(command, members, wait_until)
    assert await cookies_in(build, profile) == {"late"}


async def killed_owner(command, members, wait_until):
    # Only the next start removes its scratch folder: keep that out of the machine's own, where the browser's user reaches it.
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as scratch:
        Path(scratch).chmod(0o711)
        environment = os.environ | {"TMPDIR": scratch}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as owner:
            pid = int((await asyncio.to_thread(owner.stdout.readline)).split()[0])
            assert pid in members(pid)
            owner.kill()
            await wait_until(lambda: not members(pid))
        assert any(name.startswith("cdpb-scratch-") for name in os.listdir(scratch))


# --- starts that fail -------------------------------------------------------------------------------------------------


@ONE_BUILD
async def test_fault_b08_a_binary_that_exits(tmp_path):
    build = script(tmp_path / "chromium", "echo no such luck >&2; exit 7")
    before = left_in_temp(), descriptors()
    with pytest.raises(BrowserStartFailed, match=r"status 7 [^\n]*\nno such luck") as caught:
        await Chromium.start(build=build)
    assert caught.value.stderr == "no such luck"
    assert (left_in_temp(), descriptors()) == before


@ONE_BUILD
async def test_fault_b08_a_binary_that_never_gets_ready(tmp_path, children):
    build = script(tmp_path / "chromium", "echo hm >&2; sleep 60")
    before = left_in_temp(), descriptors(), children()
    with pytest.raises(BrowserStartFailed, match=r"not ready within 3 s\nhm"):
        await Chromium.start(build=build, start_timeout=timedelta(seconds=3))
    assert (left_in_temp(), descriptors(), children()) == before


@ONE_BUILD
async def test_fault_b08_a_missing_binary_and_one_of_another_machine(tmp_path):
    before = left_in_temp(), descriptors()
    with pytest.raises(BrowserNotFound):
        await Chromium.start(build=Build(tmp_path / "nowhere", "full"))
    build = script(tmp_path / "chromium", "")
    build.path.write_bytes(b"\x7fELFnonsense")
    with pytest.raises(
        BrowserStartFailed, match=r"could not be started|ended with status 127"
    ):  # setpriv asks a shell
        await Chromium.start(build=build)
    assert (left_in_temp(), descriptors()) == before


@ONE_BUILD
async def test_fault_b08_a_profile_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(BrowserStartFailed, match="could not be started"):
        await Chromium.start(build=find(), user_data_dir=tmp_path / "file" / "profile")


@pytest.mark.parametrize("seconds", [0, 0.01, 0.05, 0.1])
async def test_fault_b07_a_cancelled_start_leaves_nothing(build, children, seconds):
    before = left_in_temp(), descriptors(), children()
    starting = asyncio.create_task(Chromium.start(build=build, start_timeout=timedelta(seconds=30)))
    await asyncio.sleep(seconds)
    starting.cancel()
    try:
        await (await starting).stop()
    except asyncio.CancelledError:
        pass
    assert (left_in_temp(), descriptors(), children()) == before


# --- locks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["another-host", socket.gethostname()])
async def test_fault_b27_stale_singleton_lock(build, tmp_path, host):
    dead = subprocess.Popen(["true"])
    dead.wait()
    (tmp_path / "SingletonLock").symlink_to(f"{host}-{dead.pid}")
    (tmp_path / "SingletonCookie").symlink_to("123")
    (tmp_path / "SingletonSocket").symlink_to("/nowhere/SingletonSocket")
    assert await cookies_in(build, tmp_path) == set()


async def test_fault_b26_a_profile_in_use_is_left_to_its_browser(build, tmp_path):
    if build.kind == "shell" and not uses_browser_uids():
        pytest.skip("the shell does not look whether a profile is in use")
    async with await Chromium.start(build=build, user_data_dir=tmp_path) as first:
        with pytest.raises(BrowserStartFailed, match=r"status 21|in use by another browser"):
            await Chromium.start(build=build, user_data_dir=tmp_path)
        assert first.returncode is None


# --- what is left -----------------------------------------------------------------------------------------------------


async def test_fault_b18_cycles_leave_nothing(build, children):
    async with await Chromium.start(build=build):
        pass  # what is opened once is open now
    gc.collect()  # what other tests have left is closed now, not while this one looks
    before = left_in_temp(), descriptors(), children(), threading.active_count()
    for number in range(8):
        chromium = await Chromium.start(build=build)
        if number % 2:
            os.kill(chromium.pid, signal.SIGKILL)
            await chromium.wait()
        await chromium.stop()
    assert (left_in_temp(), children()) == (before[0], before[2])
    assert descriptors() <= before[1]


REAPER = """
import asyncio, ctypes, os, signal, sys
from cdpbridge.chromium import Chromium, find

PR_SET_CHILD_SUBREAPER = 36  # orphans become our children, as with the first process of a container
assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0

async def main():
    for end in ("stop", "kill", "SIGKILL"):
        chromium = await Chromium.start(build=find(sys.argv[1]))
        if end == "SIGKILL":
            os.kill(chromium.pid, signal.SIGKILL)
        await (chromium.kill() if end == "kill" else chromium.stop())

asyncio.run(main())
try:
    print(os.waitpid(-1, os.WNOHANG))
except ChildProcessError:
    print("no children")
"""


async def test_fault_b19_no_zombies_without_an_init(build):
    command = [sys.executable, "-c", REAPER, build.kind]
    result = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
    assert (result.stdout, result.stderr) == ("no children\n", "")


async def test_without_pidfd(build, monkeypatch):
    def missing(pid, flags=0):
        raise OSError("no such system call")

    monkeypatch.setattr(os, "pidfd_open", missing)
    chromium = await Chromium.start(build=build)
    os.kill(chromium.pid, signal.SIGKILL)
    assert await chromium.wait() == -signal.SIGKILL
    await chromium.stop()
    assert await (await Chromium.start(build=build)).stop() == "closed"


@pytest.fixture
def as_on_macos(monkeypatch):
    """Without the system calls that Python for macOS does not have."""
    monkeypatch.delattr(os, "pidfd_open")
    monkeypatch.delattr(os, "waitid")


async def test_every_end_without_pidfd_and_waitid(as_on_macos, build, children, members):
    before = children()
    chromium = await Chromium.start(build=build)
    os.kill(chromium.pid, signal.SIGKILL)
    assert await chromium.wait() == -signal.SIGKILL
    assert await chromium.stop() == "exited"
    assert members(chromium.pid) == []
    chromium = await Chromium.start(build=build)
    assert await chromium.stop() == "closed"
    chromium = await Chromium.start(build=build)
    os.kill(chromium.pid, signal.SIGSTOP)
    assert await chromium.stop(timeout=timedelta(seconds=0.1)) == "killed"
    assert (chromium.returncode, members(chromium.pid)) == (-signal.SIGKILL, [])
    assert children() == before


async def test_a_killed_owner_takes_its_browser_along_without_pidfd(build, tmp_path, members, wait_until):
    command = [
        sys.executable,
        "-c",
        f"import os\ndel os.pidfd_open, os.waitid\n{OWNER}",
        build.kind,
        str(tmp_path / "profile"),
        HERE,
    ]
    await killed_owner(command, members, wait_until)


@ONE_BUILD
async def test_fault_b08_a_binary_that_exits_without_pidfd(as_on_macos, tmp_path):
    build = script(tmp_path / "chromium", "echo no such luck >&2; exit 7")
    with pytest.raises(BrowserStartFailed, match=r"status 7 [^\n]*\nno such luck"):
        await Chromium.start(build=build)


async def test_the_address_is_a_secret(build):
    async with await Chromium.start(build=build) as chromium:
        identifier = chromium.browser_path.rpartition("/")[2]
        assert identifier not in chromium.stderr_tail() + repr(chromium)
        assert "DevTools listening" in chromium.stderr_tail() or build.kind == "full"


async def test_arguments_reach_it(build):
    async with (
        await Chromium.start(build=build, args=["--user-agent=mine"]) as chromium,
        connect_pipe(*chromium.take_pipe()) as connection,
    ):
        version = await connection.root.send("Browser.getVersion")
    assert version["userAgent"] == "mine", json.dumps(version)
