"""Connections for the tests: over memory with a manual clock, to a scripted browser, to Chromium."""

import asyncio
import gc
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cdpbridge.cdp import Connection, connect
from cdpbridge.cdp._connection import log_handler_error
from cdpbridge.testing import ManualClock, MemoryTransport, ScriptedBrowser
from tests.own_user import OwnUser


@pytest.fixture(autouse=True)
def strict_loop(request):
    """Debug mode, and a check that a test leaves no task behind."""
    if not asyncio.iscoroutinefunction(getattr(request, "function", None)):
        yield
        return
    loop = request.getfixturevalue("running_loop")
    yield
    left = [task for task in asyncio.all_tasks(loop) if not task.done()]
    assert not left, f"tasks left behind: {left}"
    gc.collect()


@pytest.fixture
async def running_loop():
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    loop.slow_callback_duration = 5
    return loop


@pytest.fixture
def turns():
    """Let the loop go round."""

    async def turns(count=5):
        for _ in range(count):
            await asyncio.sleep(0)

    return turns


@pytest.fixture
def wait_until():
    """Poll for something that only the outside world can bring about."""

    async def wait_until(condition, timeout=60):
        async with asyncio.timeout(timeout):
            while not condition():
                await asyncio.sleep(0.01)

    return wait_until


class Memory:
    """A connection over memory, its clock, and what its handlers did wrong."""

    def __init__(self, answer=None):
        self.clock = ManualClock()
        self.transport = MemoryTransport(answer)
        self.failures = []
        self.connection = Connection(
            self.transport, clock=self.clock, on_handler_error=lambda *args: self.failures.append(args)
        )
        self.root = self.connection.root

    def attach(self, session_id="S", target_id="T", kind="page", parent="", waiting=False):
        info = {"targetId": target_id, "type": kind}
        params = {"sessionId": session_id, "targetInfo": info, "waitingForDebugger": waiting}
        self.transport.event("Target.attachedToTarget", params, parent)
        return next(s for s in self.connection.sessions if s.id == session_id)

    def reply(self, index=-1, **result):
        self.transport.deliver({"id": self.transport.sent[index]["id"], "result": result})


@pytest.fixture
async def memory(running_loop):
    memory = Memory()
    yield memory
    await memory.connection.close()


@pytest.fixture
async def scripted(running_loop):
    async with ScriptedBrowser() as browser:
        yield browser


@pytest.fixture
def failures():
    """What the handlers of `connection` and of `chrome_connection` did wrong; it is logged too."""
    return []


def noting(failures):
    def note(*failure):
        failures.append(failure)
        log_handler_error(*failure)

    return note


@pytest.fixture
async def connection(scripted, failures):
    async with connect(scripted.ws_url, on_handler_error=noting(failures)) as connection:
        yield connection


# --- Chromium ---------------------------------------------------------------------------------------------------------


class Chrome:
    """A Chromium for all tests of the run; each takes tabs of its own."""

    def __init__(self, process: subprocess.Popen[bytes], address: str, user: OwnUser) -> None:
        self.process = process
        self.user = user
        self.ws_url = address
        self.http_url = re.sub(r"^ws(://[^/]+).*", r"http\1", address)
        self.authority = self.http_url.removeprefix("http://")
        self.port = int(self.authority.rpartition(":")[2])

    @classmethod
    def start(cls, profile: Path, *switches: str) -> "Chrome":
        binary = os.environ.get("CDPBRIDGE_CHROMIUM") or shutil.which("chromium-headless-shell")
        if binary is None:
            pytest.skip("no Chromium on this machine")
        profile.mkdir(parents=True, exist_ok=True)
        told = profile / "DevToolsActivePort"
        user = OwnUser(profile)
        process = subprocess.Popen(
            user.command(
                [
                    binary,
                    "--headless",
                    "--remote-debugging-port=0",
                    "--no-first-run",
                    "--disable-gpu",
                    "--site-per-process",
                    f"--user-data-dir={profile}",
                    *switches,
                    "about:blank",
                ]
            ),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=user.environment(),
            start_new_session=True,  # the binary on the path may be a shell script: end its whole group
        )
        deadline = time.monotonic() + 90
        while not (told.exists() and len(lines := told.read_text().split()) == 2):
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                process.wait()
                user.end()
                raise RuntimeError("Chromium did not start")
            time.sleep(0.02)
        return cls(process, f"ws://127.0.0.1:{lines[0]}{lines[1]}", user)

    def signal(self, number: int) -> None:
        os.killpg(self.process.pid, number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)

    def stop(self) -> None:
        try:
            self.kill()
        except ProcessLookupError:
            pass  # the test has ended it
        self.process.wait()
        self.user.end()


@pytest.fixture(scope="session")
def chrome(tmp_path_factory) -> Iterator[Chrome]:
    chrome = Chrome.start(tmp_path_factory.mktemp("profile"))
    yield chrome
    chrome.stop()


@pytest.fixture
def own_chrome(tmp_path) -> Iterator[Chrome]:
    """For tests that end it."""
    chrome = Chrome.start(tmp_path / "profile")
    yield chrome
    chrome.stop()


@pytest.fixture
async def chrome_connection(chrome, failures, running_loop):
    async with connect(chrome.ws_url, on_handler_error=noting(failures)) as connection:
        yield connection


@pytest.fixture
async def tab(chrome_connection):
    tab = await chrome_connection.new_tab()
    yield tab
    if not chrome_connection.closed:
        await chrome_connection.root.send("Target.closeTarget", {"targetId": tab.target_id})
