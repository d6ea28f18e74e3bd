"""What a program inside one place can do to a program inside another, and to the machine: nothing.

A browser's client has no such program unless it has broken Chromium; here it is a Python, which the place is made for.
"""

import asyncio
import json
import os
import platform
import socket
import subprocess
import sys
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from cdpbridge.chromium import Launcher, UidPool, give, uses_browser_uids
from cdpbridge.chromium._isolation import look
from cdpbridge.isolation import Folders, Launch, Means, Mount, make_plan
from tests.isolation.kernel import needs_isolation, python_of_all_users
from tests.own_user import open_way

pytestmark = needs_isolation

PYTHON = python_of_all_users() if sys.platform == "linux" else None

# Says what it is and has, then waits until its owner closes the pipe.
VICTIM = """
import ctypes, json, os, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
name = sys.argv[1]
abstract = socket.socket(socket.AF_UNIX)
abstract.bind("\\0" + name)
abstract.listen()
port = socket.create_server(("127.0.0.1", 0))
open(f"/dev/shm/{name}", "w").write("its own")
shared = libc.shmget(4711, 4096, 0o1666)
os.write(4, json.dumps({"port": port.getsockname()[1], "shared": shared >= 0, "uid": os.getuid()}).encode() + b"\\n")
os.read(3, 1)
"""
ATTACKER = """
import ctypes, json, os, signal, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
name, port, pids = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])

def attempt(work):
    try:
        return "done" if work() is not False else "refused"
    except OSError as error:
        return type(error).__name__

def call(function, *arguments):
    ctypes.set_errno(0)
    return function(*arguments) != -1

def connect(family, address):
    with socket.socket(family) as made:
        made.settimeout(5)
        made.connect(address)

found = {}
for who, pid in pids.items():
    found[f"signal {who}"] = attempt(lambda: os.kill(pid, 0))
    found[f"trace {who}"] = attempt(lambda: call(libc.ptrace, 16, pid, 0, 0))  # PTRACE_ATTACH
    found[f"memory of {who}"] = attempt(lambda: open(f"/proc/{pid}/mem", "rb").read(1))
    found[f"environment of {who}"] = attempt(lambda: open(f"/proc/{pid}/environ", "rb").read(1))
    found[f"pidfd of {who}"] = attempt(lambda: signal.pidfd_send_signal(os.pidfd_open(pid), 0))
    found[f"network of {who}"] = attempt(lambda: call(libc.setns, os.open(f"/proc/{pid}/ns/net", os.O_RDONLY), 0))
found["abstract socket"] = attempt(lambda: connect(socket.AF_UNIX, "\\0" + name))
found["port"] = attempt(lambda: connect(socket.AF_INET, ("127.0.0.1", port)))
found["file in /dev/shm"] = attempt(lambda: open(f"/dev/shm/{name}").read())
found["System V memory"] = attempt(lambda: call(libc.shmget, 4711, 4096, 0))
found["mount"] = attempt(lambda: call(libc.mount, b"none", b"/tmp", b"tmpfs", 0, None))
found["become root"] = attempt(lambda: os.setuid(0))
found["execute"] = attempt(lambda: os.posix_spawn("/usr/bin/env", ["env"], {}))
found["device"] = attempt(lambda: os.mknod("/tmp/device", 0o60666, os.makedev(8, 0)))
found["own file"] = attempt(lambda: open(f"/tmp/own-{name}", "w").write("x"))
os.write(4, json.dumps(found).encode() + b"\\n")
os.read(3, 1)
"""


def place(folder, means):
    """Of a Python instead of a Chromium."""
    plan = make_plan(Folders(PYTHON, writable=[str(folder)]), means, look, platform.machine())
    asked = "import sys, sysconfig; print(sys.base_prefix, sysconfig.get_path('stdlib'))"
    found = subprocess.run(
        [PYTHON, "-I", "-c", asked], capture_output=True, text=True, check=True
    ).stdout.split()
    shown = found[1] if found[0] == "/usr" else found[0]
    library = os.path.realpath(shown)
    return replace(plan, mounts=(*plan.mounts, Mount("bind", library, library, code=True)))


@asynccontextmanager
async def running(launcher, plan, uid, program, *arguments, **order):
    """A program in a place: the process, and what it has said first. Sockets of an `order` are accepted on, once each."""
    null = os.open(os.devnull, os.O_RDONLY)
    command = [PYTHON, "-I", "-S", "-c", program, *arguments]
    launched = await launcher.launch(Launch(plan, uid, command, {}, **order), lock=null)
    try:
        for listener in launched.listeners if order else ():
            listener.settimeout(30)
            (await asyncio.to_thread(listener.accept))[0].close()
        with open(launched.from_child) as answers:
            line = await asyncio.wait_for(asyncio.to_thread(answers.readline), 30)
            assert line, os.read(launched.stderr, 4096).decode()
            yield launched.pid, json.loads(line)
    finally:
        await launched.attendant.abandon()
        for listener in launched.listeners:
            listener.close()
        for fd in (launched.stderr, launched.to_child, null):
            os.close(fd)


@pytest.mark.skipif(PYTHON is None, reason="an ordinary user can execute no Python of this version here")
@pytest.mark.parametrize("means", [Means(), Means(processes=False), Means(landlock=False)], ids=str)
async def test_fault_d08_programs_of_two_places_do_not_reach_each_other(tmp_path, means):
    name = f"cdpb-test-{os.getpid()}"
    async with AsyncExitStack() as ends:
        launcher = Launcher()
        ends.push_async_callback(launcher.close)
        uids, plans = [], []
        for number in range(2):
            folder = tmp_path / str(number)
            folder.mkdir()
            uid = UidPool().take() if uses_browser_uids() else None
            if uid is not None:
                open_way(folder)
                give(folder, uid.number)
                ends.callback(uid.release)
            uids.append(uid and uid.number)
            plans.append(place(folder, means))
        victim_pid, victim = await ends.enter_async_context(
            running(launcher, plans[0], uids[0], VICTIM, name)
        )
        assert victim["shared"]
        [inner] = Path(f"/proc/{victim_pid}/task/{victim_pid}/children").read_text().split()
        pids = {"the victim": int(inner), "its attendant": victim_pid, "the server": os.getpid()}
        given = [name, str(victim["port"]), json.dumps(pids)]
        _, found = await ends.enter_async_context(running(launcher, plans[1], uids[1], ATTACKER, *given))
        # The control: the machine's own programs reach what can be reached.
        os.kill(int(inner), 0)
    reached = {what for what, how in found.items() if how == "done"}
    expected = {"own file"}
    if (
        not means.landlock
    ):  # what a place does not show cannot be executed, either; but it may change its own mounts
        expected |= reached & {"mount"}
    if not means.processes:
        # The processes of the machine are seen there. One of the same user would be signalled without Landlock 6.
        expected |= {
            what for what in reached if what.startswith(("environment", "pidfd")) and uids[0] is None
        }
    assert reached == expected, found
    assert not Path("/dev/shm", name).exists()
    with suppress(OSError), socket.create_connection(("127.0.0.1", victim["port"]), 1):
        pytest.fail("a port of a place is on the machine")


DIALS = """
import json, os, socket, sys
found = []
for address, port in json.loads(sys.argv[1]):
    try:
        socket.create_connection((address, port), 5).close()
    except OSError as error:
        found.append(type(error).__name__)
    else:
        found.append("connected")
os.write(4, json.dumps(found).encode() + b"\\n")
os.read(3, 1)
"""


@pytest.mark.skipif(PYTHON is None, reason="an ordinary user can execute no Python of this version here")
async def test_a_place_has_the_addresses_at_which_the_server_accepts_and_no_others(tmp_path):
    given = [("127.0.1.1", 443), ("192.0.2.7", 8080), *([("2001:db8::7", 80)] if socket.has_ipv6 else [])]
    async with AsyncExitStack() as ends:
        launcher = Launcher()
        ends.push_async_callback(launcher.close)
        uid = UidPool().take() if uses_browser_uids() else None
        if uid is not None:
            open_way(tmp_path)
            give(tmp_path, uid.number)
            ends.callback(uid.release)
        others = [("192.0.2.8", 8080), ("127.0.1.1", 444)]
        program = running(
            launcher,
            place(tmp_path, Means()),
            uid and uid.number,
            DIALS,
            json.dumps([*given, *others]),
            listeners=tuple(given),
            pages=False,
        )
        _, found = await ends.enter_async_context(program)
    assert found[: len(given)] == ["connected"] * len(given)
    assert "connected" not in found[len(given) :]
