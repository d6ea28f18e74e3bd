"""A browser in a place of its own: its life and every end of it, in both builds."""

import asyncio
import fcntl
import os
import random
import select
import signal
import socket
import subprocess
import sys
import tempfile
import termios
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from cdpbridge.cdp import connect_pipe
from cdpbridge.chromium import Build, Chromium, Isolation, Launcher, UidPool, uses_browser_uids
from cdpbridge.chromium._launcher import Attendant
from cdpbridge.errors import BrowserStartFailed
from cdpbridge.isolation import PROXY_PORT, Means, Report
from cdpbridge.server.hosts._processes import processes_using
from tests.isolation.kernel import needs_isolation, python_of_all_users

HERE = os.path.dirname(__file__)
ONE_BUILD = pytest.mark.one_build("no Chromium of a certain build is started")

pytestmark = [pytest.mark.chromium, needs_isolation]


@pytest.fixture
async def launcher():
    made = Launcher()
    yield made
    await made.close()


@pytest.fixture
def start(launcher, build):
    def start(*, means=None, **options):
        isolation = Isolation(launcher, means or Means(), **options.pop("shown", {}))
        return Chromium.start(**{"build": build, "isolation": isolation} | options)

    return start


def left_in_temp():
    return set(os.listdir(tempfile.gettempdir()))


def descriptors():
    return set(os.listdir("/proc/self/fd"))


def attendants():
    """Processes of any place, of any owner."""
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with suppress(OSError), open(f"/proc/{name}/comm") as file:
            if file.read().strip() in {"cdpb-attendant", "cdpb-zygote"}:
                found.append(int(name))
    return found


def main_process(chromium):
    """The browser itself. Others that have lost their parents are children of its attendant too."""
    with open(f"/proc/{chromium.pid}/task/{chromium.pid}/children") as file:
        children = [int(each) for each in file.read().split()]
    commands = {pid: Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0") for pid in children}
    [found] = [pid for pid, words in commands.items() if b"--remote-debugging-pipe" in words]
    return found


async def set_cookie(connection, name):
    cookie = {"name": name, "value": "1", "domain": "a.example", "expires": 4_000_000_000}
    await connection.root.send("Storage.setCookies", {"cookies": [cookie]})


async def cookies_in(start, profile):
    async with (
        await start(user_data_dir=profile) as chromium,
        connect_pipe(*chromium.take_pipe()) as connection,
    ):
        reply = await connection.root.send("Storage.getCookies")
        return {cookie["name"] for cookie in reply["cookies"]}


@pytest.mark.parametrize("means", [Means(), Means(processes=False), Means(landlock=False)], ids=str)
async def test_it_works_stops_in_order_and_leaves_nothing(start, members, means):
    before = left_in_temp()
    async with (
        await start(means=means) as chromium,
        connect_pipe(*chromium.take_pipe()) as connection,
    ):
        profile = chromium.user_data_dir
        tab = await connection.new_tab()
        await tab.send("Page.navigate", {"url": "data:text/html,<title>well</title>"})
        asked = await tab.send("Runtime.evaluate", {"expression": "navigator.userAgent"})
        assert "Chrome" in asked["result"]["value"]
        assert set(members(chromium.pid)) > {chromium.pid}
    assert await chromium.stop() == "exited"
    assert (chromium.returncode, members(chromium.pid), profile.exists()) == (0, [], False)
    assert left_in_temp() == before


async def test_fault_b25_a_cookie_set_just_before_the_stop_is_kept(start, tmp_path):
    profile = tmp_path / "profile"
    chromium = await start(user_data_dir=profile)
    async with connect_pipe(*chromium.take_pipe()) as connection:
        await set_cookie(connection, "late")
        await asyncio.sleep(1)  # its age is the fault's
    assert await chromium.stop() in {"closed", "exited"}
    assert chromium.returncode == 0
    assert await cookies_in(start, profile) == {"late"}


async def test_fault_d04_its_port_is_in_no_network_but_its_own(start):
    async with await start() as chromium:
        with pytest.raises(OSError):
            await asyncio.open_connection("127.0.0.1", chromium.port)
        with await chromium.connect() as made:
            reader, writer = await asyncio.open_connection(sock=made)
            writer.write(b"GET /json/version HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert b"200 OK" in await reader.readline()
            writer.close()


async def test_its_pages_reach_the_network_by_the_listener_only(start):
    asked = asyncio.Event()

    async def serve(reader, writer):
        if (await reader.readline()).startswith(b"GET http://a.example/"):
            asked.set()
        writer.close()

    async with (
        await start(proxy_server=f"127.0.0.1:{PROXY_PORT}") as chromium,
        await asyncio.start_server(serve, sock=await chromium.listen()),
        connect_pipe(*chromium.take_pipe()) as connection,
    ):
        tab = await connection.new_tab()
        reply = await tab.send("Page.navigate", {"url": "http://a.example/"})
        assert "errorText" in reply
        assert asked.is_set()


async def test_fault_b13_the_end_of_the_browser_is_seen_with_its_status(start, members):
    chromium = await start()
    os.kill(main_process(chromium), signal.SIGKILL)
    async with asyncio.timeout(60):
        assert await chromium.wait() == -signal.SIGKILL
    assert await chromium.stop() == "exited"
    assert members(chromium.pid) == []


@pytest.mark.parametrize("means", [Means(), Means(processes=False)], ids=str)
async def test_the_end_of_the_attendant_is_the_end_of_all(start, members, means):
    chromium = await start(means=means)
    os.kill(chromium.pid, signal.SIGKILL)
    async with asyncio.timeout(60):
        assert await chromium.wait() == -signal.SIGKILL
    await chromium.stop()
    assert members(chromium.pid) == []
    with pytest.raises(OSError):
        await chromium.connect()


async def test_a_browser_that_does_not_leave_is_killed(start, members):
    chromium = await start()
    for pid in members(chromium.pid):
        if pid != chromium.pid:
            os.kill(pid, signal.SIGSTOP)
    assert await chromium.stop(timeout=timedelta(seconds=0.2)) == "killed"
    assert members(chromium.pid) == []


async def test_the_end_of_the_zygote_ends_no_browser_and_the_next_one_starts(start, launcher):
    async with await start() as first:
        os.kill(launcher._pid, signal.SIGKILL)
        async with await start() as second:
            for each in (first, second):
                (await each.connect()).close()
        assert first.returncode is None


def unread(channel):
    """How many bytes the other side of a socket has not read (SIOCOUTQ, unix(7))."""
    return int.from_bytes(fcntl.ioctl(channel, termios.TIOCOUTQ, bytes(4)), sys.byteorder)


async def test_a_zygote_that_is_killed_with_an_order_is_replaced_and_asked_again(start, launcher, wait_until):
    await launcher.prepare()
    os.kill(launcher._pid, signal.SIGSTOP)  # so that it has the order, and does nothing with it
    starting = asyncio.create_task(start())
    await wait_until(lambda: unread(launcher._channel))
    os.kill(launcher._pid, signal.SIGKILL)
    async with await starting as browser:
        (await browser.connect()).close()


OWNER = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from test_isolation import set_cookie
from cdpbridge.cdp import connect_pipe
from cdpbridge.chromium import Chromium, Isolation, Launcher, find

async def main():
    isolation = Isolation(Launcher())
    chromium = await Chromium.start(build=find(sys.argv[1]), user_data_dir=Path(sys.argv[2]), isolation=isolation)
    connection = await connect_pipe(*chromium.take_pipe())
    await set_cookie(connection, "late")
    await asyncio.sleep(1)  # its age is the fault's
    print(chromium.pid, isolation.launcher._pid, flush=True)
    await chromium.wait()

asyncio.run(main())
"""


async def test_fault_b05_a_killed_owner_takes_its_browser_along_and_no_cookie_is_lost(
    start, build, tmp_path, wait_until
):
    profile = tmp_path / "profile"
    command = [sys.executable, "-c", OWNER, build.kind, str(profile), HERE]
    # Its scratch folder stays: keep that out of the machine's own.
    with tempfile.TemporaryDirectory(prefix="t") as scratch:
        Path(scratch).chmod(0o711)
        environment = os.environ | {"TMPDIR": scratch, "PYTHONPATH": os.pathsep.join(sys.path)}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as owner:
            pids = (await asyncio.to_thread(owner.stdout.readline)).split()
            owner.kill()
            await wait_until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids))
    assert await cookies_in(start, profile) == {"late"}


@ONE_BUILD
async def test_fault_b08_a_binary_that_cannot_be_executed(launcher, tmp_path):
    before = descriptors(), left_in_temp()
    binary = Path(tempfile.gettempdir(), "b", "chromium")
    binary.parent.mkdir()
    binary.write_text("#!/bin/sh\nexit 7\n")
    binary.chmod(0o755)
    for _ in range(2):
        with pytest.raises(BrowserStartFailed, match=r"execute: .*(No such file|Permission denied)"):
            await Chromium.start(build=Build(binary, "full"), isolation=Isolation(launcher))
    await launcher.close()
    assert descriptors() <= before[0]
    assert left_in_temp() == before[1] | {"b"}


@ONE_BUILD
async def test_fault_b08_a_browser_that_has_ended_before_its_launch_returns(launcher, monkeypatch):
    """Its attendant was killed, or the binary ended at once: the pipe is closed by then."""
    launch = Chromium._launch

    async def launch_and_end(chromium, *arguments):
        await launch(chromium, *arguments)
        await chromium.wait()

    monkeypatch.setattr(Chromium, "_launch", launch_and_end)
    await launcher.prepare()
    before = left_in_temp(), descriptors()
    with pytest.raises(BrowserStartFailed, match="ended with status 1 instead of starting"):
        await Chromium.start(build=Build(Path("/bin/false"), "full"), isolation=Isolation(launcher))
    assert (left_in_temp(), descriptors()) == before


async def test_fault_b26_a_profile_in_use_is_left_to_its_browser(start, build, tmp_path):
    async with await start(user_data_dir=tmp_path) as first:
        with pytest.raises(BrowserStartFailed, match="in use by another browser"):
            await start(user_data_dir=tmp_path)
        with pytest.raises(BrowserStartFailed, match="in use by another browser"):
            await Chromium.start(build=build, user_data_dir=tmp_path)
        assert first.returncode is None
    assert await cookies_in(start, tmp_path) == set()


async def test_fault_b27_a_lock_of_a_place_that_has_ended_is_no_lock(start, tmp_path):
    """Its process number is that of another process here."""
    (tmp_path / "SingletonLock").symlink_to("isolated-2")
    (tmp_path / "SingletonSocket").symlink_to("/nowhere/SingletonSocket")
    assert await cookies_in(start, tmp_path) == set()


async def test_fault_b18_starts_that_are_cancelled_leave_nothing(start, launcher, children, members):
    async with await start():
        pass  # what is opened once is open now
    before = left_in_temp(), descriptors(), children()
    seed = random.randrange(2**32)
    moments = random.Random(seed)
    for _ in range(12):
        starting = asyncio.create_task(start())
        await asyncio.sleep(moments.uniform(0, 0.15))
        starting.cancel()
        try:
            chromium = await starting
        except asyncio.CancelledError:
            continue
        await chromium.kill()
    assert (left_in_temp(), children()) == (before[0], before[2]), seed
    assert descriptors() <= before[1], seed
    await launcher.close()
    assert not set(attendants()) & set(children())


# --- an ordinary user -------------------------------------------------------------------------------------------------

ORDINARY = """
import asyncio, os, sys, tempfile
from pathlib import Path
from cdpbridge.cdp import connect_pipe
from cdpbridge.chromium import Chromium, Isolation, Launcher, find

async def main():
    launcher = Launcher()
    async with (
        await Chromium.start(build=find(sys.argv[1]), isolation=Isolation(launcher)) as chromium,
        connect_pipe(*chromium.take_pipe()) as connection,
    ):
        tab = await connection.new_tab()
        (chromium.user_data_dir / "own.txt").write_text("x")
        for url in ("file:///etc/passwd", f"file://{os.environ['HOME']}/own.txt", f"file://{chromium.user_data_dir}/own.txt"):
            print((await tab.send("Page.navigate", {"url": url})).get("errorText", "opened"))
        (await chromium.connect()).close()
    print(chromium.returncode, chromium.uid, os.listdir(tempfile.gettempdir()))
    await launcher.close()

asyncio.run(main())
"""


@pytest.mark.skipif(not uses_browser_uids(), reason="only root may become another user")
async def test_fault_d01_an_ordinary_user_isolates_its_browsers_too(build, tmp_path):
    python = python_of_all_users()
    if python is None:
        pytest.skip("an ordinary user can execute no Python of this version here")
    with tempfile.TemporaryDirectory(prefix="t") as home:
        os.chown(home, 65533, 65533)
        Path(home, "own.txt").write_text("its own")
        Path(home, "own.txt").chmod(0o644)
        Path(home, "tmp").mkdir()
        os.chown(Path(home, "tmp"), 65533, 65533)
        Path(home).parent.chmod(0o711)
        environment = {
            "HOME": home,
            "TMPDIR": f"{home}/tmp",
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        }
        command = [
            "setpriv",
            "--reuid=65533",
            "--regid=65533",
            "--clear-groups",
            python,
            "-c",
            ORDINARY,
            build.kind,
        ]
        done = await asyncio.to_thread(
            subprocess.run,
            command,
            capture_output=True,
            text=True,
            env=environment,
            cwd="/",
            check=False,
            timeout=280,
        )
    assert done.stdout.splitlines() == [
        "net::ERR_FILE_NOT_FOUND",
        "net::ERR_FILE_NOT_FOUND",
        "opened",
        "0 None []",
    ], done.stderr[-2000:]


# --- killed at any moment ---------------------------------------------------------------------------------------------

RESTLESS = """
import asyncio, sys
from cdpbridge.chromium import Chromium, Isolation, Launcher, find
from cdpbridge.errors import BrowserExited, BrowserStartFailed

async def main():
    launcher = Launcher()

    async def again():
        while True:
            try:
                async with await Chromium.start(build=find(sys.argv[1]), isolation=Isolation(launcher)):
                    print("started", flush=True)
            except (BrowserExited, BrowserStartFailed):  # its attendant or the zygote was killed
                print("failed", flush=True)

    await asyncio.gather(again(), again())

asyncio.run(main())
"""
OWNERS, STRIKES = 30, 4


def started_by(owner):
    """Zygote, attendants and browsers of an owner."""
    parents = {}
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with suppress(OSError), open(f"/proc/{name}/stat") as file:
            parents[int(name)] = int(file.read().rpartition(")")[2].split()[1])
    children = [pid for pid, parent in parents.items() if parent == owner]
    return children + [pid for pid, parent in parents.items() if parent in children]


def holding(folder):
    """Attendants that hold a file in this folder open: the lock of their browser's profile."""
    needle, found = str(folder), []
    for pid in attendants():
        with suppress(OSError):
            links = [os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")]
            if any(each.startswith(needle) for each in links):
                found.append(pid)
    return found


def uids_with_notes_of(folder):
    """Uids that are taken, or held by something in this folder."""
    locks = Path("/var/lib/cdpbridge/uids")
    needle, found = os.fsencode(folder), []
    for each in locks.iterdir() if uses_browser_uids() and locks.is_dir() else ():
        with suppress(OSError):  # it was given back
            if needle in each.read_bytes():
                found.append(each.name)
    return found


def mounts():
    return Path("/proc/self/mountinfo").read_text().count("\n")


@pytest.mark.slow
@pytest.mark.timeout(1800)
async def test_fault_b05_whatever_is_killed_at_any_moment_nothing_is_left(build, wait_until):
    """150 kills a build: of the zygote, of attendants and of browsers while they start and stop, then of their owner."""
    mounted = mounts()
    seed = random.randrange(2**32)
    moments = random.Random(seed)
    killed = []

    async def is_over(what, left):
        try:
            await wait_until(lambda: not left())
        except TimeoutError:
            pytest.fail(f"{what}: {left()}; seed {seed}, killed before: {killed}")

    for _ in range(OWNERS):
        killed.clear()
        with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as scratch:
            Path(scratch).chmod(0o711)
            environment = os.environ | {"TMPDIR": scratch, "PYTHONPATH": os.pathsep.join(sys.path)}
            command = [sys.executable, "-c", RESTLESS, build.kind]
            with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as owner:
                await asyncio.to_thread(owner.stdout.read1)
                for _ in range(STRIKES):
                    await asyncio.sleep(moments.uniform(0, 0.3))  # the moment is the fault's
                    if victims := sorted(started_by(owner.pid)):
                        victim = moments.choice(victims)
                        with suppress(OSError):  # it has ended by itself
                            killed.append(Path(f"/proc/{victim}/comm").read_text().strip())
                            os.kill(victim, signal.SIGKILL)
                    # It goes on.
                    await is_over(
                        "silence of the owner", lambda: not select.select([owner.stdout], [], [], 0)[0]
                    )
                    assert owner.stdout.read1(), (seed, killed, owner.poll())
                await asyncio.sleep(moments.uniform(0, 1))
                ours = started_by(owner.pid)
                owner.kill()
            await is_over("processes", lambda: [pid for pid in ours if os.path.exists(f"/proc/{pid}")])
            await is_over("places", lambda: holding(scratch) + processes_using(Path(scratch)))
            if uses_browser_uids():  # other servers of this machine may sweep at the same time
                await is_over("folders", lambda: UidPool().sweep() or os.listdir(scratch))
            assert uids_with_notes_of(scratch) == [], seed
    assert mounts() == mounted, seed


@ONE_BUILD
async def test_an_attendant_that_is_killed_before_its_first_word_is_reaped():
    """It stayed a zombie until this process ended: only the zygote knew its number."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    ours.setblocking(False)
    killed = os.posix_spawn("/bin/true", ["true"], {})
    attendant = Attendant(ours)
    theirs.send(Report("forked", status=killed).encode())
    theirs.close()
    with pytest.raises(BrowserStartFailed, match="it was killed"):
        await attendant.started(30)
    await attendant.abandon()
    with pytest.raises(ChildProcessError):
        os.waitpid(killed, os.WNOHANG)
