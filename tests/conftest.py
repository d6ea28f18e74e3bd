"""A running server, as a user starts it, and a small site: for tests of what stands on top."""

from __future__ import annotations

import asyncio
import fcntl
import gc
import inspect
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import pytest

from tests import builds, programs
from tests.folders import GRACE, OF_THE_RUN, RUNTIME_DIR, WARM_BROWSERS, browsers_folder
from tests.own_user import open_way

# How long an example takes says how busy the machine is, and nothing of the code.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")

KEY = "key-of-tests"
OWN_BASETEMP = pytest.StashKey[Path]()
SETTINGS = ("CDPBRIDGE_", "BROWSER_USE_")
LOGGERS = ("", "cdpbridge", "asyncio", "httpx", "websockets")


def clean_environment(**more: str) -> dict[str, str]:
    """The environment without settings of ours, and with `more`."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(SETTINGS) or name in OF_THE_RUN
    }
    return kept | more


@contextmanager
def only_one_installs():
    """Workers share what they install below `.cache`: one at a time, and the others find it there."""
    folder = Path(__file__).parents[1] / ".cache" / "node"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def pytest_addoption(parser):
    parser.addoption(
        "--loop",
        choices=["asyncio", "uvloop"],
        default="asyncio",
        help="event loop of the asynchronous tests",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    """What workers and programs of tests find when they start.

    As root, browsers have uids of their own, and every pytest that starts closes the folder that all share by default.
    """
    # Without bytecode, hundreds of programs would each compile the package, and each pytest rewrite its plugins.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    # The same for Node: each Playwright has a driver of its own, which takes a quarter less then.
    os.environ["NODE_COMPILE_CACHE"] = str(Path(__file__).parents[1] / ".cache" / "node-compiled")
    gc.disable()  # until all is collected, and stays
    # pytest-xdist hands out files in the order below, not by how many tests they have.
    config.option.loadscopereorder = False
    if os.geteuid() == 0 and not config.option.basetemp and not hasattr(config, "workerinput"):
        config.option.basetemp = tempfile.mkdtemp(prefix="pytest-cdpbridge-")
        config.stash[OWN_BASETEMP] = Path(config.option.basetemp)


def pytest_sessionfinish(session, exitstatus):
    """What a failed run has left stays, for whoever looks for the reason."""
    folder = session.config.stash.get(OWN_BASETEMP, None)
    if folder is not None and exitstatus == pytest.ExitCode.OK:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def tmp_path(tmp_path):
    """Reachable for every user who knows its name."""
    open_way(tmp_path / "any")
    return tmp_path


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config):
    """One more than processors: a test also waits for programs that it has started. With more, programs start slower than they may."""
    return (os.process_cpu_count() if hasattr(os, "process_cpu_count") else len(os.sched_getaffinity(0))) + 1


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Files that start browsers come first: what is quick fills the gaps at the end of a run on several workers."""
    builds.pytest_collection_modifyitems(config, items)
    heavy = {item.path for item in items if item.get_closest_marker("chromium")}
    items.sort(key=lambda item: item.path not in heavy)


# Fixtures that start a server: in a process of its own, or here with its database.
SERVERS = {"api", "local_server", "make_api", "make_server", "server", "server_process", "spawn_server"}


def pytest_itemcollected(item):
    """`make test-fast` leaves out what starts a server; so does a test that asks for one."""
    if SERVERS & set(getattr(item, "fixturenames", ())):
        item.add_marker("programs")


def pytest_collection_finish():
    """With the usual thresholds, the collector took a third of the time of the tests that make a server in their process."""
    gc.set_threshold(10_000, 20, 10)
    gc.enable()


@pytest.fixture(scope="module", autouse=True)
def what_was_imported_stays():
    """Collected tests and imported modules stay to the end: the collector, which many tests call, need not look at them each time."""
    gc.collect()
    gc.freeze()


def pytest_asyncio_loop_factories(config, item):
    if config.getoption("--loop") == "asyncio":
        return {"asyncio": asyncio.new_event_loop}
    import uvloop

    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session", autouse=True)
def interruptible():
    """A shell starts what runs in its background with SIGINT ignored, nohup with SIGHUP: the tests' programs would inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def remove_to_the_last(folder):
    """Remove a folder into which a program that was killed a moment ago may still write."""
    deadline = time.monotonic() + 10
    while folder.exists():
        try:
            shutil.rmtree(folder)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


@pytest.fixture(scope="session", autouse=True)
def temporary_dir(tmp_path_factory):
    """The system's folder of temporary files, for the tests and the programs they start; what these leave goes with the run.

    Frameworks make folders of their own there and leave them, and so does whatever a test kills.
    """
    tmp_path_factory.getbasetemp()  # made where it always is: pytest keeps the last runs for whoever looks for a failure
    folder = Path(tempfile.mkdtemp(prefix="t"))  # short, for the sockets in it
    folder.chmod(0o711)  # browsers of a root process have uids of their own
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(folder))
        for name in ("TMPDIR", "TMP", "TEMP"):
            patch.setenv(name, str(folder))
        patch.setenv(RUNTIME_DIR, str(folder / "run"))
        patch.setenv(GRACE, "0")
        patch.setenv(WARM_BROWSERS, "0")
        # `local()` without a folder: its programs would share a server with those of other workers.
        patch.setenv("XDG_DATA_HOME", str(folder / "data"))
        yield folder
    remove_to_the_last(folder)


@pytest.fixture(scope="session", autouse=True)
def state_dir(tmp_path_factory):
    """The platform's state folder of all tests, and of the programs they start: no test writes into a user's journal."""
    folder = tmp_path_factory.mktemp("state")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(folder))
        yield folder


@dataclass
class RunningServer:
    """A server process of the test run."""

    process: programs.Program
    base_url: str
    data_dir: Path
    key: str = KEY

    def folder(self, browser_id: object) -> Path:
        """Of one of its browsers, while that runs."""
        return browsers_folder(self.data_dir) / str(browser_id)

    def environment(self, **more: str) -> dict[str, str]:
        """For a program that rents from it."""
        ours = {"CDPBRIDGE_PROVIDER": self.base_url, "BROWSER_USE_API_KEY": self.key}
        return clean_environment(**(ours | more))


def umask():
    """Of this process; `os.umask` would change it for an instant. None where the kernel does not say."""
    if not Path("/proc/self/status").exists():
        return None
    with open("/proc/self/status") as status:
        return next((int(line.split()[1], 8) for line in status if line.startswith("Umask:")), None)


HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def own_process_state(temporary_dir):
    """What a test changes in this process, and does not set back, ends with it: others on this worker begin as it did."""
    mask, folder = umask(), os.getcwd()
    levels = {name: logging.getLogger(name).level for name in LOGGERS}
    handlers = {number: signal.getsignal(number) for number in HANDLED}
    yield
    if mask is not None and umask() != mask:
        os.umask(mask)
    if os.getcwd() != folder:
        os.chdir(folder)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    if (journal := sys.modules.get("cdpbridge.rental.journal._journal")) is not None:
        journal._journals.clear()  # one in memory keeps entries for all that come later
    left = {number: found for number in HANDLED if (found := signal.getsignal(number)) != handlers[number]}
    for number in left:
        signal.signal(number, handlers[number])
    assert not left, f"signal handlers that are not reset: {left}"


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """A server for all tests of the run; each rents for itself."""
    data_dir = tmp_path_factory.mktemp("server")
    environment = clean_environment(
        CDPBRIDGE_BROWSER_BUILD="shell", CDPBRIDGE_API_KEYS=KEY, CDPBRIDGE_PROXIES='{"de": "direct"}'
    )
    command = [sys.executable, "-m", "cdpbridge.server", "--port", "0", "--data-dir", str(data_dir)]
    process = programs.Program(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        line = process.stdout.readline()
        assert line.startswith("cdpbridge: serving "), line
        yield RunningServer(process, line.split()[-1], data_dir)
        process.terminate()
        assert process.wait(100) == 0
        folders = browsers_folder(data_dir)
        assert not folders.exists() or not list(folders.iterdir())
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        process.stdout.close()


@pytest.fixture
def quick_local(monkeypatch):
    """`local()` without the start of a Python and its imports."""
    programs.fork_local_servers(monkeypatch)


@pytest.fixture(scope="session")
def agent_python():
    """Interpreter of the environment that browser-use is in; made when it is missing."""
    root = Path(__file__).parents[1]
    folder = root / ".cache" / "agent-venv"
    subprocess.run(["sh", root / ".ci" / "install-agent-environment", sys.executable, folder], check=True)
    return folder / "bin" / "python"


@pytest.fixture
def environment(monkeypatch):
    """The environment of a user who has set nothing."""
    for name in list(os.environ):
        if name.startswith(SETTINGS) and name not in OF_THE_RUN:
            monkeypatch.delenv(name)
    return monkeypatch


@pytest.fixture
def nobody():
    """An address where nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # so that nobody else takes it
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


@pytest.fixture
def site():
    """Address of the demo's site: a login form, cookies, several requests."""
    from cdpbridge.cli._demo_site import serve_demo_site

    with serve_demo_site() as address:
        yield address


def pauses():
    """Seconds between two looks, longer and longer: what is waited for for long needs the processor that looking takes."""
    seconds = 0.01
    while True:
        yield seconds
        seconds = min(seconds * 1.2, 0.1)


async def until(condition, timeout=60):
    """Poll for what only the outside world can bring about; returns what `condition`, a coroutine function or not, found.

    The timeout says that it will not happen, not how fast it has to: a loaded machine takes its time.
    """
    async with asyncio.timeout(timeout):
        for pause in pauses():
            found = condition()
            if inspect.isawaitable(found):
                found = await found
            if found:
                return found
            await asyncio.sleep(pause)
