"""An agent's place: what code in its process reaches, and what is left of it when something is killed.

The environment of these agents has a `browser_use` of a hostile author: its code runs where the real one's would.
"""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psutil
import pytest

from cdpbridge.chromium import UidPool, uses_browser_uids
from tests.conftest import until
from tests.isolation.kernel import needs_isolation, python_of_all_users

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.one_build("the agent does not see the build"),
    needs_isolation,
]

# What is in the environment of the agents; it runs when the agent's program imports browser-use.
HOSTILE = """
import ctypes, json, os, signal, socket, sys, time

given = json.load(open(os.path.dirname(__file__) + "/given.json"))
if given["lingers"]:
    for _ in range(2):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                for number in (1, 2, 15):
                    signal.signal(number, signal.SIG_IGN)
    sys.stderr.write("lingers\\n")
    time.sleep(600)

def attempt(work):
    try:
        found = work()
    except Exception as error:
        return type(error).__name__
    return "done" if found is None else found

def connect(address, family=socket.AF_INET):
    with socket.socket(family) as made:
        made.settimeout(5)
        made.connect(address)

def ask(address, path):
    with socket.create_connection(address, 5) as made:
        made.sendall(f"GET {path} HTTP/1.1\\r\\nHost: {address[0]}:{address[1]}\\r\\nConnection: close\\r\\n\\r\\n".encode())
        return made.makefile().readline().split()[1]

libc = ctypes.CDLL(None, use_errno=True)
def call(function, *arguments):
    if function(*arguments) < 0:
        raise OSError(ctypes.get_errno(), "refused")

found = {}
for name, path in given["files"].items():
    found["read " + name] = attempt(lambda: open(path, "rb").read(1) and None)
    found["write " + name] = attempt(lambda: open(path, "ab").close())
for name, address in given["services"].items():
    found["connect " + name] = attempt(lambda: connect(tuple(address)))
found["page of another tenant"] = attempt(lambda: ask(tuple(given["gateway"]), "/cdp/" + given["other"] + "/json"))
found["rest without a key"] = attempt(lambda: ask(tuple(given["gateway"]), "/api/v2/browsers"))
for who, pid in given["processes"].items():
    found["signal " + who] = attempt(lambda: os.kill(pid, 0))
    found["memory of " + who] = attempt(lambda: open(f"/proc/{pid}/mem", "rb").read(1) and None)
    found["environment of " + who] = attempt(lambda: open(f"/proc/{pid}/environ", "rb").read(1) and None)
    found["network of " + who] = attempt(lambda: call(libc.setns, os.open(f"/proc/{pid}/ns/net", os.O_RDONLY), 0))
found["name"] = attempt(lambda: socket.getaddrinfo("example.com", 443) and None)
found["datagram"] = attempt(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("192.0.2.1", 53)) and None)
found["abstract socket"] = attempt(lambda: connect("\\0" + given["abstract"], socket.AF_UNIX))
found["execute"] = attempt(lambda: os.posix_spawn("/bin/sh", ["sh"], {}) and None)
found["become root"] = attempt(lambda: os.setuid(0))
found["mount"] = attempt(lambda: call(libc.mount, b"none", b"/tmp", b"tmpfs", 0, None))
found["new user namespace"] = attempt(lambda: open("/proc/self/uid_map", "w").write("0 0 1") and None)
found["list of homes"] = attempt(lambda: os.listdir("/home") and None)
found["list of processes"] = attempt(lambda: os.listdir("/proc") and None)
sys.stderr.write("found " + json.dumps({"found": found, "user": [os.getuid(), os.getgid()]}) + "\\n")
sys.stderr.flush()
os._exit(3)
"""

# A server, a task in it, and a browser of another tenant; commands come in by the first lines of standard input.
SERVER = """
import asyncio, json, os, socket, sys
from pathlib import Path

import httpx
from cdpbridge.server import Settings, serving

async def main():
    folder, python, lingers = Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "lingers"
    data = folder / "data"
    model, service = (socket.create_server(("127.0.0.1", 0)) for _ in range(2))
    abstract = socket.socket(socket.AF_UNIX)
    abstract.bind(f"\\0cdpb-test-{os.getpid()}")
    abstract.listen()
    settings = Settings.load(
        port=0, data_dir=data, api_keys={"one": "key-of-one", "other": "key-of-other"}, browser_build="shell", isolation="require",
        llm_base_url=f"http://127.0.0.1:{model.getsockname()[1]}/v1", llm_api_key="key-of-the-model", agent_python=python,
    )
    async with serving(settings) as (app, base_url):
        url = httpx.URL(base_url)
        api = f"{url.scheme}://{url.host}:{url.port}/api/v2"
        async with httpx.AsyncClient(timeout=60) as http:
            other = (await http.post(f"{api}/browsers", json={}, headers={"X-Browser-Use-API-Key": "key-of-other"})).raise_for_status().json()
            port = int(Path(data).exists() and url.port)
            given = {
                "lingers": lingers,
                "files": {
                    "the database": str(data / "cdpbridge.sqlite3"),
                    "a key": str(data / "signing.key"),
                    "users": "/etc/passwd",
                    "shadow": "/etc/shadow",
                    "another task": str(data / "files" / "tasks" / "other.txt"),
                    "what all may read": str(folder / "all.txt"),
                },
                "services": {
                    "its model": ["127.0.0.1", model.getsockname()[1]],
                    "its browser": ["127.0.0.1", port],
                    "a service": ["127.0.0.1", service.getsockname()[1]],
                    "the machine": ["192.0.2.1", 80],
                    "metadata": ["169.254.169.254", 80],
                },
                "gateway": ["127.0.0.1", port],
                "other": other["id"],
                "processes": {"the server": os.getpid(), "its parent": os.getppid()},
                "abstract": f"cdpb-test-{os.getpid()}",
            }
            (folder / "environment" / "browser_use" / "given.json").write_text(json.dumps(given))
            headers = {"X-Browser-Use-API-Key": "key-of-one"}
            task = (await http.post(f"{api}/tasks", json={"task": "x"}, headers=headers)).raise_for_status().json()
            print(json.dumps({"pid": os.getpid()}), flush=True)
            while True:
                now = (await http.get(f"{api}/tasks/{task['id']}", headers=headers)).json()
                if now["finishedAt"]:
                    break
                await asyncio.sleep(0.05)
            log = data / "files" / "tasks" / task["id"] / "agent.log"
            print(json.dumps({"output": now["output"], "log": log.read_text()}), flush=True)

asyncio.run(main())
"""

USERS = pytest.mark.parametrize(
    "ordinary",
    [
        pytest.param(False, id="own-user" if not uses_browser_uids() else "root"),
        pytest.param(
            True,
            marks=pytest.mark.skipif(
                not uses_browser_uids() or python_of_all_users() is None,
                reason="only root may become another user, who needs a Python of this version",
            ),
            id="ordinary",
        ),
    ],
)


@pytest.fixture
def serve():
    """A server as a process, its standard output, and its folder."""

    @asynccontextmanager
    async def serve(*, ordinary, lingers=False):
        python = python_of_all_users() if ordinary else sys.executable
        with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as name:
            folder = Path(name)
            package = folder / "environment" / "browser_use"
            package.mkdir(parents=True)
            (package / "__init__.py").write_text(HOSTILE)
            for library in ("browser_use", "jsonschema"):
                about = folder / "environment" / f"{library}-1.0.dist-info"
                about.mkdir()
                (about / "METADATA").write_text(
                    f"Metadata-Version: 2.1\nName: {library.replace('_', '-')}\nVersion: 1.0\n"
                )
            (folder / "environment" / "jsonschema.py").touch()
            (folder / "all.txt").write_text("for all users of the machine")
            wrapper = folder / "python"
            # As a version manager's: the interpreter says what it is.
            wrapper.write_text(f'#!/bin/sh\nPYTHONPATH={folder}/environment exec {python} "$@"\n')
            wrapper.chmod(0o755)
            if ordinary:
                for path in (folder, *folder.rglob("*")):
                    os.chown(path, 65533, 65533)
            folder.chmod(0o711)
            user = ["setpriv", "--reuid=65533", "--regid=65533", "--clear-groups"] if ordinary else []
            environment = {
                "HOME": name,
                "TMPDIR": name,
                "PATH": os.environ["PATH"],
                "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            }
            command = [*user, python, "-c", SERVER, name, str(wrapper)]
            options = {"stdout": subprocess.PIPE, "text": True, "env": environment, "cwd": folder}
            with subprocess.Popen([*command, "lingers" if lingers else "attacks"], **options) as server:
                try:
                    yield server, folder
                finally:
                    server.kill()
                    server.wait()
                    await until(lambda: not agents_of(folder))
                    if server.returncode:  # its successor takes what it has left
                        with subprocess.Popen([*command, "attacks"], **options) as successor:
                            assert await asyncio.to_thread(successor.wait, 90) == 0

    return serve


async def said(server):
    """The next line of a server."""
    line = await asyncio.wait_for(asyncio.to_thread(server.stdout.readline), 90)
    assert line, "the server has ended"
    return json.loads(line)


def agents_of(folder):
    """Every process of an agent of this server: by the address of its task's folder in its command line or environment."""
    found = []
    for each in psutil.process_iter():
        with suppress(psutil.Error):
            if each.environ().get("TMPDIR", "").startswith(f"{folder}/data/files/tasks"):
                found.append(each)
    return found


def lives(process):
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def uids_of(folder):
    """Uids that are taken by something in this folder."""
    locks = Path("/var/lib/cdpbridge/uids")
    found = set()
    for each in locks.iterdir() if uses_browser_uids() and locks.is_dir() else ():
        with suppress(OSError):
            if os.fsencode(folder) in each.read_bytes():
                found.add(int(each.name))
    return found


def mounts():
    return Path("/proc/self/mountinfo").read_text().count("\n")


@USERS
async def test_fault_d17_what_code_in_an_agent_reaches_of_the_machine(serve, ordinary):
    """Its own files, its browser's gateway and its model; no key, database, process, service, or page of another tenant."""
    async with serve(ordinary=ordinary) as (server, folder):
        await said(server)
        end = await said(server)
        assert "status 3" in end["output"], end["log"]
        log = end["log"]
        assert re.match(r"confinement of the agent: .*; place: (uid \d+, )?a network of its own", log), log
        report = json.loads(re.search(r"^found (.*)$", log, re.MULTILINE)[1])
        found = report["found"]
        reached = {name for name, how in found.items() if how == "done"}
        assert reached == {"connect its model", "connect its browser"}, found
        assert found["page of another tenant"] in {"401", "403", "404"}
        assert found["rest without a key"] == "401"
        assert len(found) >= 30
        uid, gid = report["user"]
        if ordinary or not uses_browser_uids():
            assert uid == (65533 if ordinary else os.geteuid())
        else:
            assert uid >= 65536
            assert gid != uid  # its browser's
        task = next((folder / "data" / "files" / "tasks").glob("*/screenshots"))
        assert task.stat().st_uid == (65533 if ordinary else os.geteuid())
        assert not list((folder / "data").rglob(".agent-*"))
        assert uid not in uids_of(folder)
        assert await asyncio.to_thread(server.wait, 60) == 0


@USERS
@pytest.mark.parametrize("victim", ["agent", pytest.param("attendant", marks=pytest.mark.slow), "server"])
async def test_fault_d17_a_killed_agent_leaves_no_process_mount_or_uid(serve, ordinary, victim):
    mounted = mounts()
    async with serve(ordinary=ordinary, lingers=True) as (server, folder):
        await said(server)
        # The agent, and two that it has left to themselves.
        await until(lambda: len(agents_of(folder)) >= 3)
        processes = agents_of(folder)
        [agent] = [
            each
            for each in processes
            if any(part.endswith("_child.py") for part in each.cmdline())
            and each.parent().parent().pid == server.pid
        ]
        attendant = agent.parent()
        {"agent": agent, "attendant": attendant, "server": psutil.Process(server.pid)}[victim].send_signal(
            signal.SIGKILL
        )
        await until(lambda: not agents_of(folder))
        await until(lambda: not lives(attendant))
        if victim != "server":
            end = await said(server)
            assert "killed" in end["output"], end
            assert await asyncio.to_thread(server.wait, 60) == 0
    if uses_browser_uids():
        await until(lambda: UidPool().sweep() or not uids_of(folder))
    assert mounts() == mounted
