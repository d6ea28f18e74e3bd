"""Programs that share one server of `local()`: they join, see only what is theirs, and end without each other."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import signal
import socket
import subprocess
import sys
import time
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import psutil
import pytest

import cdpbridge
from cdpbridge._embedded import _hello
from cdpbridge._embedded._folder import Kind, holder_of, note_holder, socket_path, take
from cdpbridge._embedded._hello import Answer, Hello
from cdpbridge.errors import ConfigurationError, ConflictError, NavigationError, NotFoundError
from cdpbridge.server.hosts._processes import processes_using
from tests import programs
from tests.conftest import until
from tests.folders import WARM_BROWSERS, browsers_folder
from tests.isolation.kernel import needs_isolation
from tests.own_user import open_way

pytestmark = [pytest.mark.programs, pytest.mark.usefixtures("quick_local", "environment")]

CHROMIUM = (
    pytest.mark.chromium,
    pytest.mark.one_build("a rental is a process and its money, whichever the build"),
)


def chromium(test):
    for mark in CHROMIUM:
        test = mark(test)
    return test


def local(folder, **settings):
    return cdpbridge.local(data_dir=folder, **({"browser_build": "shell"} | settings))


def server_of(folder) -> int:
    return int((folder / "lock").read_text())


def browsers(folder):
    return processes_using(browsers_folder(folder))


# A program: says its browser, its server and its own view each time that it is asked, until its input ends.
PROGRAM = """
import asyncio, json, sys
import cdpbridge

async def main(folder, profile):
    async with cdpbridge.local(data_dir=folder, browser_build="shell") as client:
        async with cdpbridge.open_browser(client, profile=profile or None) as browser:
            tab = await browser.new_tab()
            print(json.dumps({"browser": str(browser.id), "server": client.server_pid}), flush=True)
            while line := await asyncio.to_thread(sys.stdin.readline):
                ids = [str(each.id) async for each in client.browsers.list(status="active")]
                print(json.dumps({"sum": await tab.evaluate(line), "ids": ids}), flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


class Renter:
    """A program that rents, in a process of its own."""

    def __init__(self, folder: Path, profile: str = "", code: str = PROGRAM):
        self._program = programs.Program(
            [sys.executable, "-c", code, str(folder), profile],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.said: dict = {}

    @property
    def pid(self) -> int:
        return self._program.pid

    async def reads(self) -> dict:
        line = await asyncio.to_thread(self._program.stdout.readline)
        assert line, "the program has ended"
        return json.loads(line)

    async def ready(self):
        self.said = await self.reads()
        return self

    async def asked(self, expression: str) -> dict:
        self._program.stdin.write(f"{expression}\n")
        self._program.stdin.flush()
        return await self.reads()

    async def works(self) -> None:
        """It goes on, and sees nothing but its own browser."""
        assert await self.asked("20 + 22") == {"sum": 42, "ids": [self.said["browser"]]}

    def kill(self) -> None:
        """With its process group, as the end of a terminal does."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        self.kill()
        await asyncio.to_thread(self._program.__exit__)


# --- joining ----------------------------------------------------------------------------------------------------------


@chromium
@pytest.mark.parametrize("profile", [None, "work"])
async def test_a_browser_starts_while_its_program_starts_or_joins_the_server(tmp_path, environment, profile):
    """Its place has a name of its own then; one that starts with its order lives in a place of the browser's name."""
    environment.delenv(WARM_BROWSERS)
    places = set()
    async with AsyncExitStack() as stack:
        for how in ("starts", "joins"):
            where = local(tmp_path, max_load_per_cpu=10_000)
            browser = await stack.enter_async_context(cdpbridge.open_browser(where, profile=profile))
            [place] = {each.name for each in browsers_folder(tmp_path).iterdir()} - places
            places.add(place)
            assert (place == str(browser.id)) == (profile is not None), how


@chromium
async def test_programs_share_profiles_and_the_ledger_and_see_no_other_ones_browsers(tmp_path):
    async with local(tmp_path) as first, local(tmp_path) as second:
        assert first.server_pid == second.server_pid == server_of(tmp_path)
        assert first.address()["api_key"] != second.address()["api_key"]
        mine = await first.browsers.create()
        async with cdpbridge.open_browser(second, profile="work") as theirs:
            assert [each.id async for each in first.browsers.list()] == [mine.id]
            assert [each.id async for each in second.browsers.list(status="active")] == [theirs.id]
            for call in (first.browsers.get, first.browsers.stop, first.browsers.downloads):
                with pytest.raises(NotFoundError, match="Session not found"):
                    found = call(theirs.id)
                    if hasattr(found, "__aiter__"):
                        [each async for each in found]
                    else:
                        await found
            # The limit is of both.
            assert (await first.billing.account()).active_session_count == 2
            assert await theirs.connection.root.send("Browser.getVersion")
        [profile] = [each async for each in first.profiles.list()]
        assert profile.name == "work"
        balances = [(await each.billing.account()).total_credits_balance_usd for each in (first, second)]
        assert balances[0] == balances[1]
        key = first.address()["api_key"]
        async with cdpbridge.at(first.base_url, key) as again:
            assert (await again.browsers.get(mine.id)).status == "active"
        await second.aclose()
        # A program that has left leaves its records, as the one before it on this folder does.
        assert {each.id async for each in first.browsers.list()} == {mine.id, theirs.id}
        assert (await first.browsers.get(mine.id)).status == "active"
    assert not browsers(tmp_path)


@chromium
async def test_a_program_that_leaves_ends_its_browsers_and_its_key(tmp_path):
    async with local(tmp_path) as first:
        async with local(tmp_path) as second:
            left = await second.browsers.create()
            address = second.address()
        assert (await first.browsers.get(left.id)).status == "stopped"
        async with cdpbridge.at(**address, max_retries=0) as late:
            with pytest.raises(cdpbridge.errors.AuthenticationError):
                await late.billing.account()
        assert not browsers(tmp_path)


async def test_several_at_once_start_one_server(tmp_path):
    clients = [local(tmp_path) for _ in range(6)]
    async with AsyncExitStack() as stack:
        await asyncio.gather(*(stack.enter_async_context(client) for client in clients))
        assert {client.server_pid for client in clients} == {server_of(tmp_path)}
        assert len({client.address()["api_key"] for client in clients}) == 6
        assert (tmp_path / "server.sock").is_socket()
        assert (tmp_path / "server.sock").stat().st_mode & 0o077 == 0
    assert not (tmp_path / "server.sock").exists()


@chromium
async def test_a_key_of_one_idempotent_request_means_nothing_to_another_program(tmp_path):
    """Also without a browser: the same request of two programs has two answers."""
    async with local(tmp_path, max_browsers=1) as first, local(tmp_path, max_browsers=1) as second:
        ids = []
        for client in (first, second):
            async with cdpbridge.at(**client.address(), idempotent_creates=True) as same:
                browser = await same.send(cdpbridge.api.calls.create_browser(idempotency_key="the-same"))
                ids.append(browser.id)
                await same.browsers.stop(browser.id)
        assert ids[0] != ids[1]


@pytest.mark.parametrize("length", [120, 230])
async def test_a_folder_with_a_long_path_is_joined_elsewhere(tmp_path, length):
    folder = tmp_path / ("x" * max(1, length - len(str(tmp_path))))
    assert len(os.fsencode(folder / "server.sock")) > 100
    path = socket_path(folder)
    async with local(folder) as first, local(folder) as second:
        assert first.server_pid == second.server_pid
        assert path.is_socket()
        assert path.parent.stat().st_mode & 0o077 == 0
    assert not path.exists()


# --- settings ---------------------------------------------------------------------------------------------------------


async def test_settings_that_differ_are_named_with_both_values(tmp_path, environment):
    secret = "key-of-a-model"
    async with local(tmp_path, max_browsers=7, llm_base_url="http://127.0.0.1:9", llm_api_key=secret):
        config = tmp_path / "settings.toml"
        config.write_text("max_browsers = 7\n")
        # What is not given does not count, and what is the same may be given in other ways.
        for same in ({}, {"max_browsers": "7"}, {"config": config}):
            async with cdpbridge.local(data_dir=tmp_path, **same):
                pass
        for other, words in (
            ({"max_browsers": 3}, "max_browsers is 3 here and 7 there"),
            (
                {"usd_per_hour": 1, "plan": "free"},
                "plan is 'free' here and 'paid' there; usd_per_hour is 1 here",
            ),
            ({"llm_api_key": "another-secret"}, r"llm_api_key is a secret \(not shown\) here"),
            ({"max_browsers": "many"}, "bad configuration: max_browsers"),
        ):
            with pytest.raises(ConfigurationError, match=words) as caught:
                async with cdpbridge.local(data_dir=tmp_path, **other):
                    pass
            assert not {secret, "another-secret"} & set(str(caught.value).split())
        environment.setenv("CDPBRIDGE_MAX_BROWSERS", "5")
        with pytest.raises(ConfigurationError, match=r"max_browsers is 5 here and 7 there.*private=True"):
            async with cdpbridge.local(data_dir=tmp_path):
                pass
        async with cdpbridge.local(data_dir=tmp_path / "own", private=True) as own:
            assert (await own.billing.account()).rate_limit == 5


@chromium
async def test_each_program_has_its_own_proxies_and_hears_of_its_own_orders(tmp_path, caplog):
    async with local(tmp_path, proxies={"de": "direct"}) as first, local(tmp_path) as second:
        caplog.set_level(logging.WARNING)
        async with cdpbridge.open_browser(first, proxy_country="de") as browser:
            pass
        assert browser.receipt.simulated_country is None
        async with cdpbridge.open_browser(second, proxy_country="de") as browser:
            pass
        assert browser.receipt.simulated_country == "de"
        # Said to the program that ordered it, and not to both.
        await until(lambda: caplog.text.count("its proxy country 'de' is simulated") == 1)
    assert caplog.text.count("its proxy country 'de' is simulated") == 1
    assert "its proxy country 'de' is simulated" in (tmp_path / "server.log").read_text()


@needs_isolation
@chromium
async def test_browsers_read_the_files_of_their_own_program_alone(tmp_path, environment):
    """Files and working directory come with each program, whichever has started the server."""
    open_way(tmp_path / "x")
    tmp_path.chmod(0o755)
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir(mode=0o755)
        folder.chmod(0o755)
        (folder / "page.html").write_text(f"<title>{folder.name}</title>")
        (folder / "page.html").chmod(0o644)
    clients = [local(tmp_path / "data", isolation="require", files=[folder]) for folder in folders]
    async with clients[0], clients[1]:
        assert clients[0].server_pid == clients[1].server_pid
        for client, own, other in zip(clients, folders, reversed(folders), strict=True):
            async with cdpbridge.open_browser(client) as browser:
                tab = await browser.new_tab((own / "page.html").as_uri())
                assert await tab.title() == own.name
                with pytest.raises(NavigationError, match="ERR_FILE_NOT_FOUND"):
                    await tab.goto((other / "page.html").as_uri())
        with pytest.raises(ConfigurationError, match=r"files: .*/nowhere cannot be shown to browsers"):
            async with local(tmp_path / "data", isolation="require", files=["/nowhere"]):
                pass


# --- ends -------------------------------------------------------------------------------------------------------------


@chromium
async def test_programs_that_are_killed_end_their_own_browsers_alone(tmp_path):
    """The first one had started the server, whose others go on."""
    async with AsyncExitStack() as stack:
        starter = await stack.enter_async_context(Renter(tmp_path, "first"))
        await starter.ready()
        others = [await stack.enter_async_context(Renter(tmp_path, name)) for name in ("work", "")]
        await asyncio.gather(*(each.ready() for each in others))
        server = starter.said["server"]
        assert {each.said["server"] for each in others} == {server}
        folders = browsers_folder(tmp_path)
        starter.kill()
        await until(lambda: not (folders / starter.said["browser"]).exists())
        for each in others:
            await each.works()
        others[0].kill()
        await until(lambda: not (folders / others[0].said["browser"]).exists())
        await others[1].works()
        others[1].kill()
        await until(lambda: not psutil.pid_exists(server))
    assert not browsers(tmp_path)
    assert not list(folders.iterdir()) if folders.exists() else True
    async with local(tmp_path) as client:
        assert {each.name async for each in client.profiles.list()} == {"first", "work"}
        ended = [each async for each in client.browsers.list()]
        assert {(each.status, str(each.end_reason)) for each in ended} == {("stopped", "stopped_by_caller")}


@pytest.mark.slow
@pytest.mark.timeout(600)
@chromium
async def test_programs_killed_at_random_leak_nothing(tmp_path):
    """Four at a time, killed while they join, start, rent and leave; after each kill another one comes."""
    chance = random.Random(20)
    profiles = ["one", "two", "", ""]
    async with AsyncExitStack() as stack:
        running = [await stack.enter_async_context(Renter(tmp_path, profile)) for profile in profiles]
        for _ in range(24):
            index = chance.randrange(4)
            if chance.random() < 0.5:
                await asyncio.wait({asyncio.create_task(running[index].ready())}, timeout=20)
            else:
                await asyncio.sleep(chance.random())
            if chance.random() < 0.2 and (tmp_path / "lock").exists():
                with suppress(ValueError, ProcessLookupError):
                    os.kill(server_of(tmp_path), signal.SIGTERM)
            running[index].kill()
            running[index] = await stack.enter_async_context(Renter(tmp_path, profiles[index]))
    await until(lambda: not browsers(tmp_path), 120)
    async with local(tmp_path) as client:
        assert not [each async for each in client.browsers.list(status="active")]
        for name in ("one", "two"):
            async with cdpbridge.open_browser(client, profile=name) as browser:
                assert await browser.connection.root.send("Browser.getVersion")
        names = [each.name async for each in client.profiles.list()]
        assert sorted(names) == sorted(set(names))


FORKS = """
import asyncio, os, sys, time, warnings
import cdpbridge

async def main():
    async with cdpbridge.local(data_dir=sys.argv[1], browser_build="shell") as client:
        await client.browsers.create()
        warnings.simplefilter("ignore")
        child = os.fork()
        if child == 0:
            time.sleep(600)
            os._exit(0)
        print(child, flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


@chromium
async def test_a_fork_keeps_no_dead_man_switch_open(tmp_path):
    with programs.Program(
        [sys.executable, "-c", FORKS, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as program:
        child = int(await asyncio.to_thread(program.stdout.readline))
        try:
            server = server_of(tmp_path)
            program.kill()
            await until(lambda: not psutil.pid_exists(server))
            assert psutil.pid_exists(child)
        finally:
            os.kill(child, signal.SIGKILL)
    assert not browsers(tmp_path)


async def test_a_program_that_comes_while_the_server_ends_waits_for_it(tmp_path):
    """As one that was killed and is started again at once."""
    async with local(tmp_path) as client:
        first = client.server_pid
        os.kill(first, signal.SIGSTOP)
        os.kill(first, signal.SIGTERM)

        async def again() -> int | None:
            async with local(tmp_path) as other:
                return other.server_pid

        opening = asyncio.create_task(again())
        await asyncio.sleep(0)
        os.kill(first, signal.SIGCONT)
        assert await opening not in {None, first}
        assert client.server_pid is None


async def test_a_server_stays_for_the_next_program(tmp_path):
    grace = {"local_grace_seconds": 300}
    async with local(tmp_path, **grace) as client:
        server = client.server_pid
    for _ in range(2):
        async with local(tmp_path, **grace) as client:
            assert client.server_pid == server
            # The environment of the run gives another one.
            with pytest.raises(ConfigurationError, match="local_grace_seconds is 0"):
                async with local(tmp_path):
                    pass
    # Settings that no program wants any more refuse none.
    async with local(tmp_path, local_grace_seconds=0.2) as client:
        assert client.server_pid != server
        assert not psutil.pid_exists(server)
        server = client.server_pid
    await until(lambda: not psutil.pid_exists(server))
    assert not (tmp_path / "server.sock").exists()


async def test_a_server_whose_starter_dies_before_it_serves_ends(tmp_path):
    code = (
        "import sys, cdpbridge\nwith cdpbridge.sync.local(data_dir=sys.argv[1], browser_build='shell'): pass"
    )
    with programs.Program([sys.executable, "-c", code, str(tmp_path)]) as program:
        await until(lambda: holder_of(tmp_path).kind is Kind.SHARED)
        program.kill()
    # Whatever the moment: it is free again, or there is a server that can be joined.
    async with local(tmp_path) as client:
        assert client.server_pid == server_of(tmp_path)


# --- who may join -----------------------------------------------------------------------------------------------------


@chromium
async def test_another_version_gets_a_server_of_its_own_without_profiles(tmp_path, monkeypatch, caplog):
    async with local(tmp_path) as first:
        with monkeypatch.context() as patch:
            patch.setattr(_hello, "PROTOCOL", 2)
            async with local(tmp_path) as second:
                assert second.server_pid != first.server_pid
                assert "is of another version of cdpbridge" in caplog.text
                async with cdpbridge.open_browser(second) as browser:
                    assert await browser.connection.root.send("Browser.getVersion")
                with pytest.raises(ConflictError, match=r"profiles cannot be used here: .*another version"):
                    await cdpbridge.open_browser(second, profile="work")
        assert not [each async for each in first.profiles.list()]
        assert (await first.billing.account()).active_session_count == 0


def test_every_version_understands_that_it_is_another():
    for line in (Hello({}, {}).line(), Answer(1, "http://127.0.0.1:1", "key").line()):
        other = line.replace(b'"protocol": 1', b'"protocol": 2', 1)
        assert other != line
        for read in (Hello.of, Answer.of):
            with pytest.raises(_hello.OtherProtocol, match="protocol 2, and not 1"):
                read(other)
    for line in (b"GET / HTTP/1.1\r\n", b"[]\n", b"{}\n"):
        with pytest.raises(ValueError, match=r"."):
            Hello.of(line)
    assert "secret" not in repr(Hello({"llm_api_key": "secret"})) + repr(Answer(1, "http://h", "secret"))


AS_ANOTHER_USER = """
import os, socket, sys
connection = socket.socket(socket.AF_UNIX)
os.setuid(65534)
{}
"""
CONNECTS = """
connection.connect(sys.argv[1])
try:
    connection.sendall(b'{"protocol": 1, "settings": {}, "environment": {}}\\n')
    print(connection.recv(1000), flush=True)
except (BrokenPipeError, ConnectionResetError):
    print(b"", flush=True)
"""
LISTENS = """
connection.bind(sys.argv[1])
connection.listen()
print("listening", flush=True)
sys.stdin.read()
"""
ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")


@ROOT
async def test_a_server_takes_no_program_of_another_user(short_folder):
    async with local(short_folder) as client:
        path = socket_path(short_folder)
        for opened in (short_folder, path):
            opened.chmod(0o777)
        command = [sys.executable, "-c", AS_ANOTHER_USER.format(CONNECTS), str(path)]
        done = await asyncio.to_thread(
            subprocess.run, command, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.stdout.strip() == "b''", done.stderr
        assert (await client.billing.account()).active_session_count == 0


@ROOT
async def test_a_program_joins_no_server_of_another_user(short_folder):
    """Root is no exception: who serves gets settings with their secrets."""
    short_folder.chmod(0o777)
    command = [sys.executable, "-c", AS_ANOTHER_USER.format(LISTENS), str(socket_path(short_folder))]
    lock = take(short_folder)
    try:
        note_holder(short_folder, Kind.SHARED)
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
            try:
                assert other.stdout.readline() == "listening\n"
                with pytest.raises(ConfigurationError, match="runs as user 65534, and this program as 0"):
                    async with local(short_folder):
                        pass
            finally:
                other.kill()
    finally:
        os.close(lock)


@pytest.fixture
def short_folder(temporary_dir):
    """A folder that another user can reach, below one that he may pass."""
    folder = temporary_dir / f"j{time.monotonic_ns()}"
    folder.mkdir(mode=0o711)
    return folder


async def test_a_server_of_another_container_is_not_joined(tmp_path, monkeypatch):
    """A folder may be shared between containers, but not the loopback address that the server has."""
    async with local(tmp_path) as client:
        monkeypatch.setattr("cdpbridge._embedded._joined.network_id", lambda: "net:[1]")
        with pytest.raises(ConfigurationError, match="in another container"):
            async with local(tmp_path):
                pass
        assert (await client.billing.account()).active_session_count == 0


async def test_other_servers_say_how_this_one_ends(tmp_path):
    async with local(tmp_path) as client:
        command = [sys.executable, "-m", "cdpbridge.server", "--port", "0", "--data-dir", str(tmp_path)]
        done = await asyncio.to_thread(programs.run, command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 2
        assert f"`kill {client.server_pid}`" in done.stderr
        assert "the embedded server of programs with local()" in done.stderr
        assert client.server_pid is not None


async def test_a_folder_of_a_server_is_refused_at_once(tmp_path, environment):
    """Without a folder that was asked for, the program works without profiles, as before."""
    environment.setenv("XDG_DATA_HOME", str(tmp_path))
    folder = tmp_path / "cdpbridge"
    lock = take(folder)
    try:
        note_holder(folder, Kind.SERVER)
        with pytest.raises(ConfigurationError, match=r"process \d+\): `cdpbridge serve`; share it"):
            async with local(folder):
                pass
        async with cdpbridge.local() as client:
            with pytest.raises(ConflictError, match="`cdpbridge serve`"):
                [each async for each in client.profiles.list()]
    finally:
        os.close(lock)


# --- the server's own -------------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_the_server_keeps_nothing_of_the_program_that_started_it(tmp_path, monkeypatch):
    monkeypatch.setattr("cdpbridge._embedded._spawn.subprocess", subprocess)  # a start as users have it
    async with local(tmp_path) as client:
        server = psutil.Process(client.server_pid)
        assert server.cwd() == "/"
        assert os.getsid(server.pid) == server.pid
        here = Path(f"/proc/{server.pid}/fd")
        assert os.readlink(here / "0") == os.readlink(here / "1") == "/dev/null"
        assert os.readlink(here / "2") == str(tmp_path / "server.log")
        assert "CDPBRIDGE_RUNTIME_DIR" in os.environ
        assert not [name for name in server.environ() if name.startswith("CDPBRIDGE_")]


def test_the_log_of_a_server_is_bounded(tmp_path):
    code = """
import logging, sys
from pathlib import Path
from cdpbridge.server._log import log_to_file
log_to_file(Path(sys.argv[1]))
for number in range(6000):
    logging.getLogger("cdpbridge").warning("%d %s", number, "x" * 1000)
print("not logged, but written", file=sys.stderr, flush=True)
"""
    log = tmp_path / "server.log"
    done = programs.run([sys.executable, "-c", code, str(log)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert {each.name for each in tmp_path.iterdir()} == {"server.log", "server.log.1"}
    assert all(each.stat().st_size <= 2_100_000 for each in tmp_path.iterdir())
    assert log.stat().st_mode & 0o077 == 0
    assert "5999 x" in log.read_text()
    assert log.read_text().endswith("not logged, but written\n")


async def test_a_server_that_does_not_answer_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("cdpbridge._embedded._joined._ANSWER_SECONDS", 0.2)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "server.sock"))
        silent.listen()
        lock = take(tmp_path)
        try:
            with pytest.raises(ConfigurationError, match=r"has not answered within 0\.2 s"):
                async with local(tmp_path):
                    pass
        finally:
            os.close(lock)
