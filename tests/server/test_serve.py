"""The server as a process: how it starts, and every way it ends."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import httpx
import pytest

from cdpbridge.cdp import connect
from cdpbridge.errors import ConfigurationError, ConnectFailed
from cdpbridge.server import Settings, serve
from tests.conftest import clean_environment
from tests.folders import browsers_folder

ONE_BUILD = pytest.mark.one_build("the server's own work; it does not see the build")

pytestmark = pytest.mark.chromium


def run_server(*arguments, **environment):
    """A server that ends by itself."""
    clean = clean_environment()
    return subprocess.run(
        [sys.executable, "-m", "cdpbridge.server", *arguments],
        env=clean | environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


@ONE_BUILD
async def test_one_line_when_ready_and_nothing_else(spawn_server):
    async with spawn_server(start=subprocess.Popen) as server:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/api/v2", str(server.http.base_url).rstrip("/"))
        assert (await server.account())["totalCreditsBalanceUsd"] == 100
        output, errors = await server.end()
        assert (server.process.returncode, output, errors) == (0, "", "")


@ONE_BUILD
@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
async def test_asked_to_end_it_stops_refunds_and_saves(spawn_server, number):
    async with spawn_server() as server:
        profile = await server.profile()
        browser = await server.rent(profileId=profile, timeout=60)
        await server.set_cookies(browser, "last")
        async with connect(browser["cdpUrl"]) as connection:
            output, errors = await server.end(number)
            assert (server.process.returncode, output, errors) == (0, "", "")
            await connection.wait_closed()
            assert (connection.close_code, connection.close_reason) == (1001, "server stopping")
        assert not server.processes()
        assert not server.folders()
    async with spawn_server() as server:
        stopped = await server.browser(browser)
        assert (stopped["status"], stopped["browserCost"]) == ("stopped", "0.000833")
        assert await server.cookies_of_profile(profile) == {"last"}


@pytest.mark.parametrize("build", [pytest.param("shell", marks=pytest.mark.slow), "full"])
async def test_fault_b05_sigkill_of_the_server(spawn_server, wait_until, build):
    async with spawn_server(browser_build=build, max_browsers=2) as server:
        profile = await server.profile()
        browsers = [await server.rent(profileId=profile, timeout=60), await server.rent(timeout=60)]
        await server.set_cookies(browsers[0], "last-second")
        server.process.kill()
        await wait_until(lambda: not server.processes())
    async with spawn_server(browser_build=build, max_browsers=2) as server:
        for browser in browsers:
            stopped = await server.browser(browser)
            assert (stopped["status"], stopped["endReason"]) == ("stopped", "server_lost")
            assert Decimal(stopped["browserCost"]) == Decimal("0.000833")
        account = await server.account()
        assert account["activeSessionCount"] == 0
        assert account["totalCreditsBalanceUsd"] == float(100 - 2 * Decimal("0.000833"))
        assert not server.folders()
        both = await asyncio.gather(server.rent(profileId=profile), server.rent())
        assert "last-second" in await server.cookies(both[0])
        assert both[0]["profileWritable"] is True


@ONE_BUILD
async def test_fault_b12_leftovers_of_every_kind(spawn_server):
    """Half-written files and folders that nobody knows do not keep the server from starting."""
    async with spawn_server() as server:
        profile = await server.profile()
        browser = await server.rent(profileId=profile)
        await server.set_cookies(browser, "kept")
        server.process.kill()
        await asyncio.to_thread(server.process.wait)
        (server.folder(browser) / "cookies.json").write_text('{"at": 1, "cook')
        (server.folder(browser) / "cookies.json.new").write_text("{")
        unknown = browsers_folder(server.data_dir) / "nobody-knows.gone"
        unknown.mkdir()
        (unknown / "file").write_text("x")
        (server.data_dir / "lock").write_text("nonsense")
    async with spawn_server() as server:
        assert not server.folders()
        assert await server.cookies_of_profile(profile) == {"kept"}


@ONE_BUILD
async def test_the_key_that_is_made_is_shown_once(spawn_server):
    async with spawn_server(key=None) as server:
        line = await asyncio.to_thread(server.process.stderr.readline)
        key = line.removeprefix("cdpbridge: API key (shown once): ").strip()
        assert len(key) > 30
        headers = {"X-Browser-Use-API-Key": key}
        assert (await server.http.get("/billing/account", headers=headers)).status_code == 200
        assert (await server.http.get("/billing/account")).status_code == 401
        await server.end()
    async with spawn_server(key=None) as server:
        assert (await server.http.get("/billing/account", headers=headers)).status_code == 200
        _, errors = await server.end()
        assert errors == ""


@ONE_BUILD
async def test_it_ends_with_its_owner(spawn_server):
    reading, writing = os.pipe()
    async with spawn_server("--dead-man-fd", str(reading), pass_fds=[reading]) as server:
        os.close(reading)
        await server.rent()
        os.write(writing, b"still here")
        assert (await server.account())["activeSessionCount"] == 1
        os.close(writing)
        assert await asyncio.to_thread(server.process.wait, 100) == 0
        assert not server.processes()


@ONE_BUILD
async def test_one_server_per_data_dir(spawn_server):
    async with spawn_server() as server:
        second = await asyncio.to_thread(run_server, "--port", "0", "--data-dir", str(server.data_dir))
        assert second.returncode == 2
        assert f"used by another server (process {server.process.pid})" in second.stderr
        assert (await server.account())["activeSessionCount"] == 0


@ONE_BUILD
def test_a_taken_port(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        ended = run_server("--port", port, "--data-dir", str(tmp_path))
    assert ended.returncode == 2
    assert f"cannot listen on 127.0.0.1 port {port}" in ended.stderr
    assert "choose another `port`" in ended.stderr
    assert "Traceback" not in ended.stderr


BAD = [
    (["--host", "no such host"], {}, "correct `host`"),
    (["--config", "/nowhere.toml"], {}, "/nowhere.toml does not exist"),
    ([], {"CDPBRIDGE_PLAN": "gold"}, "plan (environment variable CDPBRIDGE_PLAN)"),
    (["--data-dir", "/proc/nothing"], {}, "choose another `data_dir`"),
    (["--dead-man-fd", "77"], {}, "dead_man_fd 77 is not open"),
]


@ONE_BUILD
def test_a_bad_configuration_ends_it(tmp_path):
    arguments, _, words = BAD[0]
    ended = run_server("--port", "0", "--data-dir", str(tmp_path), *arguments)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr


SEVERAL = """
import json, os, sys
from cdpbridge.server.__main__ import main
for arguments, environment in json.loads(sys.argv[1]):
    os.environ.update(environment)
    print("status", main(arguments), file=sys.stderr, flush=True)
    for name in environment:
        del os.environ[name]
"""


@ONE_BUILD
def test_each_bad_configuration_is_one_clear_line(tmp_path):
    """In one process: to start one takes more than a second of the processor."""
    common = ["--port", "0", "--data-dir", str(tmp_path)]
    tries = [[[*common, *arguments], environment] for arguments, environment, _ in BAD]
    command = [sys.executable, "-c", SEVERAL, json.dumps(tries)]
    ended = subprocess.run(
        command, env=clean_environment(), capture_output=True, text=True, timeout=280, check=True
    )
    assert "Traceback" not in ended.stderr
    assert ended.stdout == ""
    said = ended.stderr.split("status 2\n")
    assert said.pop() == ""
    for (_, _, words), text in zip(BAD, said, strict=True):
        assert words in text


@ONE_BUILD
def test_a_file_is_no_dead_mans_pipe(tmp_path):
    with open(tmp_path / "file", "w") as file:
        settings = Settings.load(port=0, data_dir=tmp_path / "data", browser_build="shell")
        with pytest.raises(ConfigurationError, match="must be a pipe or a socket"):
            serve(settings, dead_man_fd=file.fileno())
    mask = os.umask(0o022)
    os.umask(mask)
    assert mask != 0o077  # the server's is not left to the program that called it


@ONE_BUILD
@pytest.mark.parametrize("problem", ["no pipe", "a port that is taken"])
def test_the_programs_own_signal_handlers_come_back(tmp_path, problem):
    """Else Ctrl-C would do nothing in a program that goes on after an error."""

    def ours(number, frame):
        raise AssertionError(number)

    before = signal.getsignal(signal.SIGINT), signal.signal(signal.SIGTERM, ours)
    try:
        with open(tmp_path / "file", "w") as file, socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = 0 if problem == "no pipe" else taken.getsockname()[1]
            settings = Settings.load(port=port, data_dir=tmp_path / "data", browser_build="shell")
            with pytest.raises(ConfigurationError):
                serve(settings, dead_man_fd=file.fileno() if problem == "no pipe" else None)
        assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == (before[0], ours)
    finally:
        signal.signal(signal.SIGTERM, before[1])


@ONE_BUILD
def test_in_a_thread_it_says_what_to_do(tmp_path):
    settings = Settings.load(port=0, data_dir=tmp_path / "data", browser_build="shell")
    with ThreadPoolExecutor(1) as pool, pytest.raises(ConfigurationError, match=r"main thread.*local\(\)"):
        pool.submit(serve, settings).result()


@ONE_BUILD
def test_the_settings_are_shown():
    ended = run_server("--show-settings")
    assert ended.returncode == 0
    assert "| `max_browsers` | `CDPBRIDGE_MAX_BROWSERS` |" in ended.stdout


@ONE_BUILD
async def test_no_secret_in_the_logs(spawn_server):
    async with spawn_server() as server:
        browser = await server.rent()
        async with connect(browser["cdpUrl"]) as connection:
            await connection.root.send("Browser.getVersion")
        with pytest.raises(ConnectFailed):
            await connect(browser["cdpUrl"] + "x")
        os.kill(server.main_process(browser), signal.SIGKILL)
        await server.stopped(browser)
        output, errors = await server.end()
        token = browser["cdpUrl"].rsplit("/", 1)[-1]
        assert token not in output + errors
        assert "key-of-tests" not in output + errors


@ONE_BUILD
async def test_an_idle_connection_does_not_hold_up_the_end(spawn_server):
    async with spawn_server(limits={"keep_alive_seconds": 300, "grace_seconds": 300}) as server:
        idle = httpx.AsyncClient(base_url=server.http.base_url)
        await idle.get("/billing/account")
        await server.end(timeout=60)
        await idle.aclose()
