"""Other systems, as far as Linux can show them: what they lack is hidden from a program that then uses a real server."""

import os
import signal
import subprocess
import sys

import pytest

from cdpbridge import _ps
from cdpbridge.rental.journal import _owner

ONE_BUILD = pytest.mark.one_build("other platforms are pretended; it does not see the build")

# What Windows' Python does not have. Other packages are loaded before, because they ask for the system by its name.
BARE = """
import asyncio, os, signal, subprocess, sys
import click, httpx, msgspec, platformdirs, playwright.async_api, playwright.sync_api, pydantic, pyee.asyncio, websockets
import email, multiprocessing, sqlite3, ssl, tempfile, pytest, xdist, _pytest.config
for name in ("fcntl", "grp", "pwd", "resource", "termios", "tty", "pty"):
    sys.modules[name] = None
for module, names in (
    (os, "pidfd_open register_at_fork geteuid getuid fork killpg waitid fchmod fchown getpgid setsid O_CLOEXEC O_NOFOLLOW O_DIRECTORY O_NONBLOCK sched_getaffinity getloadavg posix_spawn statvfs mkfifo"),
    (signal, "SIGHUP SIGKILL SIGXFSZ pidfd_send_signal pthread_sigmask"),
):
    for name in names.split():
        delattr(module, name)
"""

IMPORTS = """
import importlib, pkgutil
import cdpbridge
SERVER = ("cdpbridge.server", "cdpbridge.isolation", "cdpbridge._tools", "cdpbridge.integrations")
count = 0
def walk(path, prefix):
    global count
    for module in pkgutil.iter_modules(path, prefix):
        if not module.name.startswith(SERVER) and not module.name.endswith("__main__"):
            imported = importlib.import_module(module.name)
            count += 1
            if module.ispkg:
                walk(imported.__path__, module.name + ".")
walk(cdpbridge.__path__, "cdpbridge.")
print("cdpbridge.pytest_plugin" in sys.modules, "cdpbridge.chromium" in sys.modules, count > 150)
"""

USE = """
import cdpbridge
from cdpbridge import playwright, sync
from cdpbridge.cli import main

async def work():
    async with cdpbridge.open_browser() as browser, playwright.connect(browser) as joined:
        tab = await browser.new_tab("data:text/html,<title>Here</title>")
        print(await tab.title(), joined.contexts != [])
        (await tab.screenshot("picture.png"))
        async with cdpbridge.BrowserPool(size=1) as pool:
            print(await pool.run(lambda tab: tab.evaluate("6 * 7")))
    print(await status_of(browser.id))

async def status_of(browser_id):
    async with cdpbridge.AsyncClient() as client:
        return (await client.browsers.get(browser_id)).status

asyncio.run(work())
with sync.open_browser() as browser:
    print(browser.new_tab().evaluate("1 + 1"))
print(cdpbridge.Journal().open_entries())
sys.argv = ["cdpbridge", "account"]
sys.exit(main())
"""


LOCAL = """
import cdpbridge
try:
    with cdpbridge.sync.local():
        pass
except cdpbridge.errors.ConfigurationError as error:
    sys.exit(str(error))
"""


def run(program, environment, cwd):
    return subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def test_every_module_of_the_client_is_imported_where_there_is_no_posix(tmp_path):
    done = run(BARE + IMPORTS, os.environ, tmp_path)
    assert done.stdout.split() == ["True"] * 3, done.stderr


@ONE_BUILD
@pytest.mark.chromium
def test_the_client_works_where_there_is_no_posix(server, tmp_path):
    environment = server.environment() | {"CDPBRIDGE_JOURNAL": str(tmp_path / "journal.sqlite3")}
    done = run(BARE + USE, environment, tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:5] == ["Here True", "42", "stopped", "2", "[]"]
    assert len(lines) > 5  # of the account
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


@ONE_BUILD
@pytest.mark.chromium
def test_the_pytest_plugin_works_where_there_is_no_posix(server, tmp_path):
    (tmp_path / "test_it.py").write_text(
        "def test_it(page):\n    page.goto('data:text/html,<title>Here</title>')\n    assert page.title() == 'Here'\n"
    )
    others = [f"no:{plugin}" for plugin in ("playwright-asyncio", "asyncio", "timeout")]
    options = [
        f"--cdpbridge={server.base_url}",
        "-q",
        *(word for plugin in others for word in ("-p", plugin)),
    ]
    program = f"{BARE}\nsys.exit(pytest.main({options}))"
    done = run(program, server.environment(), tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


@pytest.mark.parametrize(
    "program",
    [
        "sys.argv = ['cdpbridge', 'serve']\nfrom cdpbridge.cli import main\nsys.exit(main())",
        "from cdpbridge.server.__main__ import main\nsys.exit(main([]))",
        LOCAL,
    ],
    ids=["serve", "server", "local"],
)
def test_windows_runs_no_browsers_and_says_so_in_a_sentence(program, tmp_path):
    before = "sys.platform = 'win32'\n"
    done = run(BARE + "import cdpbridge.cli, platformdirs.windows\n" + before + program, os.environ, tmp_path)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    [line] = [line for line in done.stderr.splitlines() if line]
    assert "on Windows, run the server in WSL, or use one elsewhere" in line


# --- processes, without /proc -----------------------------------------------------------------------------------------


@pytest.fixture
def no_proc(monkeypatch, tmp_path):
    monkeypatch.setattr(_owner, "_PROC", tmp_path)
    monkeypatch.setattr(_owner, "_BOOT_ID", tmp_path / "boot_id")
    _owner._boot.cache_clear()
    yield
    _owner._boot.cache_clear()


def test_an_owner_is_told_from_a_later_process_of_its_number(no_proc):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        started = _ps.start_of(process.pid)
        assert started
        us = _owner.Owner.this_process()
        them = _owner.Owner(process.pid, started, us.boot, us.host, us.namespace)
        earlier = _owner.Owner(process.pid, "Mon Jan 1 00:00:00 2024", us.boot, us.host, us.namespace)
        assert (us.fate, them.fate, earlier.fate) == (
            _owner.Fate.ALIVE,
            _owner.Fate.ALIVE,
            _owner.Fate.DEAD,
        )
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert them.fate is _owner.Fate.DEAD  # a zombie does nothing any more
    assert them.fate is _owner.Fate.DEAD
    assert us.started


def test_where_ps_is_missing_a_number_in_use_is_believed(no_proc, monkeypatch):
    monkeypatch.setattr(_ps, "_PS", "/no/such/ps")
    us = _owner.Owner.this_process()
    assert (us.started, us.fate) == ("", _owner.Fate.ALIVE)
    assert _ps.command_lines() == {}


def test_processes_that_use_a_folder_are_found_by_ps(monkeypatch, tmp_path):
    from cdpbridge.server.hosts import _processes

    monkeypatch.setattr(_processes, "_PROC", tmp_path)
    program = "import sys; print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program, f"--user-data-dir={tmp_path}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        process.stdout.readline()
        assert _processes.processes_using(tmp_path) == [process.pid]
        process.send_signal(signal.SIGKILL)
    assert _processes.processes_using(tmp_path) == []


def test_a_machine_without_proc_has_its_memory(monkeypatch, tmp_path):
    from cdpbridge.server.limits import _machine

    monkeypatch.setattr(_machine, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.delattr(os, "sched_getaffinity")
    machine = _machine.read_machine(tmp_path, cgroup=tmp_path)
    assert machine.memory_total == machine.memory_available > 1 << 28
    assert machine.cpus >= 1
