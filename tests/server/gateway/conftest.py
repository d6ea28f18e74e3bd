"""A gateway on a real socket over real browsers, and over scripted ones for what Chromium will not do."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import uvicorn
from fastapi import FastAPI

from cdpbridge.server.gateway import Registry, Upstream, gateway_protocol, router
from tests.conftest import only_one_installs
from tests.own_user import OwnUser

TOKEN = "token-of-the-tests"


class Gateway:
    """A running gateway and its table of addresses."""

    def __init__(self, registry, port, prefix=""):
        self.registry = registry
        self.port = port
        self.authority = f"127.0.0.1:{port}"
        self.http_url = f"http://{self.authority}/cdp/{TOKEN}"
        self.ws_url = f"ws://{self.authority}/cdp/{TOKEN}"

    def usage(self):
        return self.registry.usage(TOKEN)

    async def raw(self, request):
        """The answer to a hand-written request, up to the end of its head or of the connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(request)
            try:
                return await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
            except asyncio.IncompleteReadError as error:
                return error.partial
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def upgrade(self, path=f"/cdp/{TOKEN}", **headers):
        """The status of an upgrade request."""
        given = {
            "Host": self.authority,
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "MDEyMzQ1Njc4OTAxMjM0NQ==",
        } | {name.replace("_", "-"): value for name, value in headers.items()}
        lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items()), "", ""]
        return int((await self.raw("\r\n".join(lines).encode())).split()[1])


class _Server(uvicorn.Server):
    def capture_signals(self):
        return suppress()


@asynccontextmanager
async def running_gateway(
    upstream=None, *, allowed_hosts=(), external_base=None, http="auto", context_proxy=None
):
    registry = Registry()
    app = FastAPI(redirect_slashes=False)
    app.include_router(router(registry, external_base or (lambda request: str(request.base_url).rstrip("/"))))
    config = uvicorn.Config(
        app,
        ws=gateway_protocol(registry, allowed_hosts),
        http=http,
        lifespan="off",
        access_log=False,
        log_config=None,
        log_level="warning",
        timeout_graceful_shutdown=5,
    )
    server = _Server(config)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        if upstream is not None:
            registry.add(TOKEN, upstream, context_proxy=context_proxy)
        running = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            while not server.started:
                await asyncio.sleep(0.005)
            yield Gateway(registry, listening.getsockname()[1])
        finally:
            await registry.close(TOKEN, 1001, "end of the test")
            server.should_exit = True
            await running
    assert not server.server_state.connections


@pytest.fixture
def make_gateway():
    return running_gateway


@pytest.fixture(autouse=True)
async def nothing_is_left(request):
    """A test leaves no task behind."""
    yield
    current = asyncio.current_task()
    left = [task for task in asyncio.all_tasks() if task is not current and not task.done()]
    assert not left, f"tasks left behind: {left}"


class Chrome:
    """A Chromium of the tests' own."""

    def __init__(self, process, port, path, user):
        self.process = process
        self.user = user
        self.upstream = Upstream("127.0.0.1", port, path)
        self.port = port
        self.http_url = f"http://127.0.0.1:{port}"
        self.ws_url = f"ws://127.0.0.1:{port}{path}"

    @classmethod
    def start(cls, profile: Path):
        binary = os.environ.get("CDPBRIDGE_CHROMIUM") or shutil.which("chromium-headless-shell")
        if binary is None:
            pytest.skip("no Chromium on this machine")
        profile.mkdir(parents=True)
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
                    f"--user-data-dir={profile}",
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
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                user.end()
                raise RuntimeError("Chromium did not start")
            time.sleep(0.02)
        return cls(process, int(lines[0]), lines[1], user)

    def kill(self):
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def stop(self):
        self.kill()
        self.process.wait()
        self.user.end()


def _profile(tmp_path_factory):
    # Chromium makes a socket in it, and the path of a socket has at most 107 bytes.
    return tmp_path_factory.mktemp("chrome") / "p"


@pytest.fixture(scope="session")
def shared_chrome(tmp_path_factory):
    chrome = Chrome.start(_profile(tmp_path_factory))
    yield chrome
    chrome.stop()


@pytest.fixture
def own_chrome(tmp_path_factory):
    """For tests that end it."""
    chrome = Chrome.start(_profile(tmp_path_factory))
    yield chrome
    chrome.stop()


@pytest.fixture
async def gateway(shared_chrome):
    async with running_gateway(shared_chrome.upstream) as gateway:
        yield gateway


@pytest.fixture
async def own_gateway(own_chrome):
    async with running_gateway(own_chrome.upstream) as gateway:
        yield gateway


@pytest.fixture(scope="session")
def puppeteer():
    """Folder of puppeteer-core, installed on first use."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("no Node on this machine")
    folder = Path(__file__).parents[3] / ".cache" / "node"
    package = folder / "node_modules" / "puppeteer-core"
    with only_one_installs():
        if not package.is_dir():
            command = [
                "npm",
                "install",
                "--no-audit",
                "--no-fund",
                "--prefix",
                str(folder),
                "puppeteer-core@24",
            ]
            installed = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
            if installed.returncode:
                pytest.skip(f"puppeteer-core cannot be installed: {installed.stderr[-300:]}")
    return package


@pytest.fixture
def wait_until():
    """Poll for something that only the outside world can bring about."""

    async def wait_until(condition, timeout=60):
        async with asyncio.timeout(timeout):
            while not condition():
                await asyncio.sleep(0.01)

    return wait_until
