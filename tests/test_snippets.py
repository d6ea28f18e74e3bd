"""Every code block of the documentation runs as it is printed: the built wheel, its modules imported by each block, an empty folder, a real browser.

A block is known by its first line. `BLOCKS` says how each is run, or why it is not; a block that is missing there fails the
test, and so does an entry without a block. There is no internet: an HTTP proxy of the test, the server's default proxy country,
leads every site to one on this machine, so the blocks keep their `https://example.com`. Nothing else is replaced but what
`REPLACED` lists.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import shutil
import signal
import ssl
import subprocess
import sys
import sysconfig
import threading
import tomllib
import venv
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
import yaml

import cdpbridge
from cdpbridge.server import Settings

from . import programs
from .conftest import KEY, RunningServer, clean_environment
from .server.tls import certificate, free_port

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

REPLACED = {
    "--port 8700": "--port 0",  # another program may have that port
    "pytest --cdpbridge=local -n 4": "pytest --cdpbridge=local -n 2",  # the machine has two processors
    "--session SESSION": "--session $SESSION_ID",  # placeholders in a list of commands
    "share SESSION": "share $SESSION_ID",
    "LIVE_URL": "$LIVE_URL",
}

pytestmark = [pytest.mark.chromium, pytest.mark.one_build("documentation is for whichever build there is")]


# --- the blocks -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Block:
    """A fenced block of a Markdown file."""

    file: Path
    line: int
    language: str
    text: str

    @property
    def first(self) -> str:
        return next((line for line in self.text.splitlines() if line.strip()), "")

    def __str__(self) -> str:
        return f"{self.file.name}:{self.line}"


def blocks_of(file: Path) -> list[Block]:
    """The fenced blocks of a file, in order."""
    found = []
    begin, language, lines = 0, "", []
    for number, line in enumerate(file.read_text().splitlines(keepends=True), 1):
        fence = re.fullmatch(r"```(\S*)\s*", line)
        if fence and not begin:
            begin, language, lines = number, fence[1], []
        elif fence:
            found.append(Block(file, begin, language, "".join(lines)))
            begin = 0
        elif begin:
            lines.append(line)
    assert not begin, f"{file}:{begin}: a block that does not end"
    return found


def named(blocks: list[Block]) -> dict[str, Block]:
    """Blocks by their first lines; where several begin alike, those behind the first one with page and number, too."""
    found: dict[str, Block] = {}
    for block in blocks:
        name, number = block.first, 0
        while name in found:
            number += 1
            name = f"{block.file.name} {number}: {block.first}"
        found[name] = block
    return found


@dataclass(frozen=True)
class NotRun:
    """Why a block is not run."""

    reason: str


@dataclass(frozen=True)
class IsFile:
    """The block is a file of the project, letter by letter, which another test runs.

    Attributes:
        path: The file, from the project's folder.
        test: The test that runs it.
    """

    path: str
    test: str


@dataclass(frozen=True)
class Run:
    """How a block is run.

    Attributes:
        how: The kind of program; see `PROGRAMS`.
        before: Python that comes before: what the page says the reader has by then.
        after: Python that comes after.
        says: What the output has in it.
        makes: Files that are there afterwards.
        files: Files that the reader has.
        server: Whether the shared server is named in the environment; else there is nothing.
    """

    how: str
    before: str = ""
    after: str = ""
    says: tuple[str, ...] = ()
    makes: tuple[str, ...] = ()
    files: dict[str, str] = field(default_factory=dict)
    server: bool = True


CASES = named([block for file in DOCUMENTS for block in blocks_of(file)])
FIRST = CASES["first-program.md 1: import asyncio"]
# The pages say: the snippets go on from the first program, with its imports, its `browser` and its `tab`.
IMPORTS = "".join(re.findall(r"^(?:import|from) .*\n", FIRST.text, re.MULTILINE))
TAB = (
    IMPORTS + 'browser = await cdpbridge.open_browser()\ntab = await browser.new_tab("https://example.com")\n'
)
STOP = "await browser.stop()\n"
RECEIPT = "charged 0.05, used 1 min, refunded 0.049167, paid 0.000833"

RECIPES = ("async def answer(event):", "async def accept(event):", "async def prepare(session):")

NO_DOCKER = "needs Docker; tests/test_deploy.py builds and tries the image without"

BLOCKS: dict[str, Run | NotRun | IsFile] = {
    "first-program.md 1: import asyncio": Run(
        "program", says=("https://example.com/", "Example Domain", RECEIPT)
    ),
    "blocking.md 1: from datetime import timedelta": Run(
        "program", says=("Example Domain 1\n", "\n2\n", RECEIPT)
    ),
    "from-playwright.md 1: import asyncio": Run("program", says=("The Python Standard Library\n", RECEIPT)),
    '"""Selenium on a rented browser, over a port of this machine: pip install \'cdpbridge[local]\' selenium, and chromedriver"""': IsFile(
        "examples/frameworks/selenium_title.py", "tests/integrations/test_examples.py"
    ),
    "// puppeteer-core on a rented browser. CDPBRIDGE_PROVIDER: the server's base URL; BROWSER_USE_API_KEY: its key.": IsFile(
        "examples/frameworks/puppeteer.cjs", "tests/integrations/test_examples.py"
    ),
    '"""Crawlee on rented browsers: pip install \'cdpbridge[local,crawlee]\'"""': IsFile(
        "examples/frameworks/crawlee_titles.py", "tests/integrations/test_examples.py"
    ),
    "*** Comments ***": IsFile("examples/frameworks/title.robot", "tests/integrations/test_examples.py"),
    '"""browser-use on a rented browser: pip install \'cdpbridge[local]\' browser-use"""': IsFile(
        "examples/frameworks/browser_use_agent.py", "tests/integrations/test_browser_use.py"
    ),
    "browser = await cdpbridge.open_browser(timeout=timedelta(minutes=15), on_progress=print)": Run(
        "notebook", IMPORTS, CASES["await browser.stop()"].text, says=("connecting",)
    ),
    "await browser.stop()": NotRun("the last cell of the notebook before it, which runs it"),
    "cdpbridge keys create --name replacement     # prints the key, this once": Run(
        "shell", says=("cdpb_", "replacement"), server=False
    ),
    "name: browsers": NotRun("needs GitHub; its form is checked below"),
    "FROM python:3.13-slim-bookworm": NotRun("needs Docker and PyPI"),
    'public_url = "https://browsers.example.com"': NotRun("settings; they are read below"),
    'host = "0.0.0.0"': NotRun("settings; they are read below"),
    'storage_url = "s3://my-bucket/browsers"': NotRun("settings; they are read below"),
    'database_url = "postgresql+asyncpg://cdpbridge:password@db.internal/cdpbridge"': NotRun(
        "settings; they are read below"
    ),
    "map $http_upgrade $connection_header { default upgrade; '' close; }": NotRun(
        "nginx, as in tests/server/test_behind_tls.py; checked below where it is installed"
    ),
    "programs ── cdpbridge serve ── one TCP port ── cdpbridge worker ── Chromium": NotRun("a drawing"),
    "export CDPBRIDGE_WORKER_SECRET=at-least-32-characters-that-only-they-know": NotRun(
        "programs in terminals of their own; tests/server/workers/test_cluster.py runs them"
    ),
    'browsers = "workers"': NotRun("settings; they are read below"),
    'openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj "/CN=workers" -keyout ca-key.pem -out ca.pem': NotRun(
        "needs openssl; tests/server/workers/test_tls.py has certificates of such a form"
    ),
    "# on the worker": NotRun("settings; they are read below"),
    "# on every server": NotRun("settings; they are read below"),
    "cdpbridge worker --server https://browsers.example.com --slots 8 --listen 10.0.0.5:8710": NotRun(
        "needs a server of that name and an address; tests/server/workers runs workers"
    ),
    "cdpbridge workers list": NotRun("needs a worker; tests/server/test_operator_commands.py has some"),
    "[Unit]": NotRun("systemd; checked below where it is installed"),
    "ray.md 1: [Unit]": NotRun("systemd; checked below where it is installed"),
    "export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=/etc/ray-token RAY_gcs_rpc_server_reconnect_timeout_s=86400": NotRun(
        "needs a cluster of Ray; tests/server/engine/test_ray.py has one"
    ),
    'engine = "ray"': NotRun("settings; they are read below"),
    "cluster_name: browsers": NotRun("needs a cloud; its form is checked below"),
    "workerGroupSpecs:": NotRun("needs KubeRay"),
    "browsers.example.com {": NotRun("Caddy; checked below where it is installed"),
    "docker compose --file examples/deploy/compose.yaml up --wait": NotRun(NO_DOCKER),
    "docker build --file examples/deploy/Dockerfile --tag cdpbridge .": NotRun(NO_DOCKER),
    "DOMAIN=browsers.example.com docker compose --file examples/deploy/compose.yaml --file examples/deploy/compose.tls.yaml up --wait": NotRun(
        NO_DOCKER
    ),
    "cd examples/deploy": NotRun(f"{NO_DOCKER}, and restores a volume"),
    "docker.md 1: cd examples/deploy": NotRun(f"{NO_DOCKER}, and restores a volume"),
    "docker.md 2: cd examples/deploy": NotRun(f"{NO_DOCKER}; verify.py makes such a backup"),
    "docker.md 3: cd examples/deploy": NotRun(f"{NO_DOCKER}; verify.py restores it"),
    "export POSTGRES_PASSWORD=... STORAGE_PASSWORD=... CDPBRIDGE_API_KEYS=... CDPBRIDGE_SECRET_KEY=... CDPBRIDGE_WORKER_SECRET=...": NotRun(
        NO_DOCKER
    ),
    "kubectl create namespace cdpbridge --dry-run=client --output=yaml | kubectl apply --filename=-": NotRun(
        "needs a cluster; tests/test_deploy.py checks the manifests"
    ),
    "sudo install --mode=0644 examples/deploy/apparmor /etc/apparmor.d/cdpbridge": NotRun("needs AppArmor"),
    "kubectl create namespace cdpbridge": NotRun(
        "needs a cluster; tests/test_deploy.py checks the manifests"
    ),
    "BROWSER_USE_API_KEY=... cdpbridge doctor --attack https://browsers.example.com/api/v2 --path /var/lib/cdpbridge": NotRun(
        "needs a server of that name; tests/server/test_attack.py runs it"
    ),
    "CDPBridgeError": NotRun("a drawing of the tree of errors"),
    "install.md 1: pip install 'cdpbridge[local,playwright]'": NotRun(
        "needs PyPI; tests/cli runs `cdpbridge demo`"
    ),
    "files.md 1: import asyncio": Run("program", says=("a,b",)),
    "files.md 2: import asyncio": Run("program", says=("hello",)),
    "files.md 3: import asyncio": Run("program", says=("hello",)),
    "cdpbridge projects create team-a --plan free --max-browsers 5 --credits 20": Run(
        "shell", says=("cdpb_", "crawler", "32.5"), server=False
    ),
    "import asyncio": Run(
        "program", says=("Example Domain https://example.com/\n", RECEIPT), makes=("page.png",)
    ),
    "pip install 'cdpbridge[local,cluster]'": NotRun("needs PyPI"),
    "pip install 'cdpbridge[local,playwright]'": NotRun("needs PyPI; tests/cli runs `cdpbridge demo`"),
    "cdpbridge reap --dry-run      # what killed programs have left on this server": Run(
        "shell", says=("saved cost.png",), makes=("cost.png",)
    ),
    "budget = cdpbridge.Budget(": Run("notebook", IMPORTS, "print(browser.receipt)", says=(RECEIPT,)),
    "from cdpbridge.protocol import Network, Page, Runtime": Run(
        "notebook",
        IMPORTS + "browser = await cdpbridge.open_browser()\ntab = await browser.new_tab()\n",
        "assert (result.result.value, reply['result']['value']) == (2, 2)\n" + STOP,
        says=("url='https://example.com/'", "https://example.com/\n"),
    ),
    "from cdpbridge.protocol import Fetch, Network, Page": Run(
        "notebook",
        TAB,
        "".join(CASES[name].text for name in RECIPES) + STOP,
        says=(
            "['GET', 'https://example.com/', 200]",
            '{"price": 12.5}',
            "confirm Are you sure?\nTrue\n",
            "\n[]\n",
        ),
    ),
    **dict.fromkeys(RECIPES, NotRun("goes on from the recipe before it, which runs it")),
    'response = await tab.goto("https://example.com/login")': Run(
        "notebook", TAB, STOP, says=("200 True text/html", "<title>Sign in</title>")
    ),
    'await tab.goto("https://example.com/login")': Run("notebook", TAB, STOP, says=("2\n",)),
    "click('#pay') waited 30 s in page 3F2A91C0; check 'receives the click' failed: <div id=\"veil\"> covers <button id=\"pay\">": NotRun(
        "a message, as tests/browser/test_actions.py has it"
    ),
    'await tab.block(types=["image", "font"], urls=["*://ads.example.com/*"])': Run(
        "notebook", TAB, STOP, says=("{'price': 12.5}",)
    ),
    'tab.on("console", lambda message: print(message.type, message.text))': Run(
        "notebook", TAB, STOP, says=("200 https://example.com/\n", "log hello true\n")
    ),
    'await tab.set_cookies([{"name": "theme", "value": "dark", "url": "https://example.com"}])': Run(
        "notebook", TAB, STOP, says=("['theme']",)
    ),
    "async with tab.expect_download() as waiter:": Run(
        "notebook",
        TAB,
        "print(await tab.evaluate('document.querySelector(\"input[type=file]\").files[0].name'))\n" + STOP,
        says=("report.csv",),
        makes=("reports/report.csv",),
    ),
    "from datetime import timedelta": Run("program", says=("Example Domain\n", RECEIPT)),
    "import cdpbridge": Run(
        "notebook", IMPORTS, "print(page, browser.receipt)", says=("about:blank", RECEIPT)
    ),
    "pytest --cdpbridge=local -n 4 --cdpbridge-profile=work --cdpbridge-timeout=15": Run(
        "shell",
        says=("2 passed", "paid 0.00"),
        files={
            "pytest.ini": "[pytest]\nasyncio_mode = auto\naddopts = -p no:cacheprovider -p no:playwright-asyncio -p no:schemathesis\n",
            "test_ours.py": CASES["import pytest"].text,
            "test_theirs.py": "def test_page(page):\n    page.goto('https://example.com')\n    assert page.title() == 'Example Domain'\n",
        },
        server=False,
    ),
    "import pytest": NotRun("a file of its own: the block of the pytest command runs it"),
    "cdpbridge.local(": Run("notebook", IMPORTS),
    "python3 -m venv agents && agents/bin/pip install browser-use jsonschema onepassword-sdk": NotRun(
        "needs PyPI and a model; tests/server/tasks/agent runs agents"
    ),
    'urls = ["https://example.com", "https://example.com/next"]': Run(
        "notebook", IMPORTS, says=("Example Domain\n", "Next\n", "charged")
    ),
    'curl -X POST $BASE/tasks -H "X-Browser-Use-API-Key: $KEY" -H "Content-Type: application/json" -d \'{"task": "Find the top post"}\'': Run(
        "shell", says=('"sessionId"', '"liveUrl"', '"status":"stopped"')
    ),
    "rest.md 1: from datetime import timedelta": Run(
        "program", says=("12.5 ",), makes=("downloads/prices.csv",)
    ),
    '<iframe src="LIVE_URL?theme=dark&ui=false" allow="clipboard-read; clipboard-write"></iframe>': Run(
        "page"
    ),
    "async with cdpbridge.local() as client:": Run("notebook", IMPORTS, makes=("run.webm",), server=False),
    "import scrapy": Run("spider", says=("The Python Standard Library", "finished")),
    "cdpbridge open https://example.com --profile work --proxy-country de --screenshot page.png --eval document.title": Run(
        "commands",
        says=('"Example Domain"', RECEIPT, "12.5", "billing.account"),
        makes=("page.png",),
        files={"prices.csv": "a,b\n", "price.json": '{"type": "object"}'},
    ),
}


def test_fault_e02_every_block_is_run_or_has_a_reason():
    missing = [f"{block} {name!r}" for name, block in CASES.items() if name not in BLOCKS]
    assert not missing, "blocks that BLOCKS does not know: say how they are run, or why they are not"
    assert set(BLOCKS) == set(CASES), "BLOCKS has entries without a block"
    assert sum(isinstance(each, Run) for each in BLOCKS.values()) >= 14


# --- the world of the blocks ------------------------------------------------------------------------------------------

HOME = b"""<!doctype html><title>Example Domain</title><h1>The Python Standard Library</h1>
<a class=report href=/report.csv download>report</a><input type=file>"""


LOGIN = b"""<!doctype html><title>Sign in</title><form onsubmit="event.preventDefault();
document.body.innerHTML = '<p>Welcome, ' + user.value + '<ul><li>a<li>b</ul>'">
<label>Name <input id=user></label><label>Password <input type=password></label><button>Go</button></form>"""


class Site(BaseHTTPRequestHandler):
    """example.com, docs.python.org, and whatever else."""

    def do_GET(self):  # http.server's name
        body, kind = {
            "/report.csv": (b"a,b\n", "text/csv"),
            "/next": (b"<!doctype html><title>Next</title>", "text/html"),
            "/login": (LOGIN, "text/html"),
        }.get(self.path, (HOME, "text/html"))
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@contextmanager
def secure_site(folder: Path) -> Iterator[int]:
    """A site over TLS; its port."""
    trustme.CA().issue_cert("example.com").private_key_and_cert_chain_pem.write_to_path(folder / "cert.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    server.daemon_threads = True
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def leading_to(port: int) -> Iterator[int]:
    """An HTTP proxy that leads every `CONNECT` to `port`, whatever host was asked for; its own port."""

    async def pipe(reader, writer):
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader, writer):
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            there, back = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.gather(pipe(reader, back), pipe(there, writer))

    async def run():
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        told.append((asyncio.get_running_loop(), done := asyncio.Event(), server.sockets[0].getsockname()[1]))
        ready.set()
        await done.wait()
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    told, ready = [], threading.Event()
    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    ready.wait()
    loop, done, own = told[0]
    try:
        yield own
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join()


SERVER = """
import sys
import cdpbridge.server.tasks.agent as agent
from cdpbridge.server.__main__ import main
from tests.server.scripted_agents import ScriptedAgents

async def work(run):
    await run.step()
    if run.spec.task != "Find the top post":
        run.finish('{"amount": 12.5, "currency": "EUR"}', files={"prices.csv": b"12.5"})

agent.AgentProcesses = lambda *_: ScriptedAgents(work)
sys.exit(main(["--port", "0", "--data-dir", sys.argv[1]]))
"""


# What the wheel's modules import; of these themselves, none.
LIBRARIES = (
    *(
        "fastapi",
        "httpx",
        "msgspec",
        "playwright.async_api",
        "pydantic_settings",
        "rich.console",
        "rich.table",
    ),
    *("sqlalchemy.ext.asyncio", "uvicorn", "websockets"),
)


@dataclass
class World:
    """What all blocks share: a server, and the settings that lead browsers to the site."""

    server: RunningServer
    settings: dict[str, str]
    python: Path
    preloaded: programs.Preloaded
    commands: Path

    def fork(self, command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        """As `subprocess.run`; imported are the libraries, nothing of the wheel."""
        return programs.run(command, by=self.preloaded, **options)

    def environment(self, folder: Path, *, server: bool) -> dict[str, str]:
        path = f"{self.python.parent}{os.pathsep}{os.environ['PATH']}"
        homes = {name: str(folder / name) for name in ("HOME", "XDG_DATA_HOME", "XDG_STATE_HOME")}
        ours = {"PATH": path, "COLUMNS": "200", **homes}
        if not server:
            return clean_environment(**ours, **self.settings)
        return self.server.environment(**ours, BASE=self.server.base_url, KEY=KEY)


def installed_wheel(folder: Path) -> Path:
    """Python of a new virtual environment with the built wheel, and what it needs from this environment; as a user installs it."""
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    [wheel] = folder.glob("*.whl")
    venv.create(folder / "venv", symlinks=True)
    python = folder / "venv" / "bin" / "python"
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder / "venv")}))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    # A path in a .pth file is not searched for further .pth files: the editable installation stays unseen.
    (site / "dependencies.pth").write_text(
        f"{sysconfig.get_path('purelib')}\n{sysconfig.get_path('platlib')}\n"
    )
    for name, function in {"cdpbridge": "cdpbridge.cli:main", "pytest": "pytest:console_main"}.items():
        module, _, attribute = function.partition(":")
        script = python.with_name(name)
        script.write_text(
            f"#!{python}\nimport sys\nfrom {module} import {attribute}\nsys.exit({attribute}())\n"
        )
        script.chmod(0o755)
    return python


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("snippets")
    with secure_site(folder) as site, leading_to(site) as proxy:
        settings = {
            "CDPBRIDGE_BROWSER_BUILD": "shell",
            "CDPBRIDGE_BROWSER_ARGS": '["--ignore-certificate-errors"]',
            "CDPBRIDGE_PROXIES": json.dumps({"de": f"http://127.0.0.1:{proxy}"}),
            "CDPBRIDGE_DEFAULT_PROXY_COUNTRY": "de",
        }
        environment = clean_environment(CDPBRIDGE_API_KEYS=KEY, PYTHONPATH=str(ROOT), **settings)
        command = [sys.executable, "-c", SERVER, str(folder / "data")]
        process = programs.Program(command, stdout=subprocess.PIPE, text=True, env=environment)
        try:
            line = process.stdout.readline()
            assert line.startswith("cdpbridge: serving "), line
            server = RunningServer(process, line.split()[-1], folder / "data")
            python = installed_wheel(folder)
            preloaded = programs.Preloaded(python, LIBRARIES)
            (folder / "commands").mkdir()
            preloaded.write_command(folder / "commands" / "cdpbridge", "cdpbridge")
            yield World(server, settings, python, preloaded, folder / "commands")
            preloaded.close()
            process.terminate()
            assert process.wait(100) == 0
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            process.stdout.close()


# --- how they are run -------------------------------------------------------------------------------------------------

NOTEBOOK = """
import ast, asyncio, inspect, sys

async def main():
    names = {"__name__": "__main__"}
    for file in sys.argv[1:]:
        code = compile(open(file).read(), file, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        found = eval(code, names)
        if inspect.iscoroutine(found):
            await found

asyncio.run(main())
"""
"""Cells with `await` in them, as IPython and `python -m asyncio` run them."""


def call(
    command: list[str] | str,
    folder: Path,
    environment: dict[str, str],
    run: Callable[..., subprocess.CompletedProcess[str]] = partial(subprocess.run, check=False),
) -> str:
    done = run(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def as_program(world: World, run: Run, text: str, folder: Path, environment: dict[str, str]) -> str:
    """A file that is run by `python`."""
    (folder / "program.py").write_text(run.before + text + run.after)
    return call([str(world.python), "program.py"], folder, environment, world.fork)


def as_notebook(world: World, run: Run, text: str, folder: Path, environment: dict[str, str]) -> str:
    """Cells, one after the other."""
    for name, part in (("before.py", run.before), ("block.py", text), ("after.py", run.after)):
        (folder / name).write_text(part)
    cells = ["before.py", "block.py", "after.py"]
    return call([str(world.python), "-c", NOTEBOOK, *cells], folder, environment, world.fork)


def as_shell(world: World, run: Run, text: str, folder: Path, environment: dict[str, str]) -> str:
    """Lines of a shell that ends at the first failure. Sessions and tasks that they name are there."""
    variables = {}
    if "$SESSION_ID" in text or "$TASK_ID" in text:
        with cdpbridge.Client(KEY, world.server.base_url) as client:
            task = client.tasks.create("Find the top post")
            variables = {"SESSION_ID": str(task.session_id), "TASK_ID": str(task.id)}
    try:
        path = f"{world.commands}{os.pathsep}{environment['PATH']}"
        return call(text, folder, environment | variables | {"PATH": path}, world.preloaded.shell)
    finally:
        if variables:
            with cdpbridge.Client(
                KEY, world.server.base_url
            ) as client:  # sessions are for further tasks: they stay
                for browser in list(client.browsers.list(status="active")):
                    client.browsers.stop(browser.id)


def as_commands(world: World, run: Run, text: str, folder: Path, environment: dict[str, str]) -> str:
    """Commands, each for itself; a server among them is started, and ended when it serves."""
    lines = text.splitlines(keepends=True)
    [serving] = [line for line in lines if line.startswith("cdpbridge serve")]
    said = ""
    for line in lines:  # they are a list, not a sequence: each finds what it names
        if line != serving:
            said += as_shell(world, run, line, folder, environment)
    alone = world.environment(folder, server=False)
    process = subprocess.Popen(
        serving.split(), cwd=folder, env=alone, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        for line in process.stdout:
            said += line
            if line.startswith("cdpbridge: serving "):
                break
        process.send_signal(signal.SIGTERM)
        assert process.wait(100) == 0, said
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        process.stdout.close()
    return said


def as_spider(world: World, run: Run, text: str, folder: Path, environment: dict[str, str]) -> str:
    """A file for `scrapy runspider`."""
    (folder / "spider.py").write_text(text)
    command = [str(world.python), "-m", "scrapy", "runspider", "spider.py", "-o", "items.json"]
    return call(command, folder, environment) + (folder / "items.json").read_text()


def as_page(world: World, run: Run, text: str, folder: Path, environment: dict[str, str]) -> str:
    """A frame whose page is there, and may be put into a frame."""
    with cdpbridge.Client(KEY, world.server.base_url) as client:
        browser = client.browsers.create()
        try:
            page = text.replace("$LIVE_URL", browser.live_url)
            answer = httpx.get(re.search(r'src="([^"]+)"', page)[1], trust_env=False)
            assert answer.status_code == 200
            assert "x-frame-options" not in answer.headers
            return answer.text
        finally:
            client.browsers.stop(browser.id)


PROGRAMS = {
    "program": as_program,
    "notebook": as_notebook,
    "shell": as_shell,
    "commands": as_commands,
    "spider": as_spider,
    "page": as_page,
}
RUN_HERE = [name for name in CASES if isinstance(BLOCKS.get(name), Run)]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", RUN_HERE, ids=lambda name: str(CASES[name]))
def test_fault_e02_a_block_runs_as_printed(world, name, tmp_path):
    block, run = CASES[name], BLOCKS[name]
    assert isinstance(run, Run)
    for file, content in run.files.items():
        (tmp_path / file).write_text(content)
    text = block.text
    for printed, ours in REPLACED.items():
        text = text.replace(printed, ours)
    said = PROGRAMS[run.how](world, run, text, tmp_path, world.environment(tmp_path, server=run.server))
    for words in run.says:
        assert words in said, said
    for file in run.makes:
        assert (tmp_path / file).stat().st_size, file
    with cdpbridge.Client(KEY, world.server.base_url) as client:
        assert list(client.browsers.list(status="active")) == []


def test_the_blocks_run_on_the_wheel(world, tmp_path):
    text = "import cdpbridge, importlib.util; print(cdpbridge.__file__, importlib.util.find_spec('cdpbridge._tools'))"
    found = call([str(world.python), "-c", text], tmp_path, world.environment(tmp_path, server=False)).split()
    assert Path(found[0]).is_relative_to(world.python.parents[1])
    assert found[1] == "None"  # tools are not shipped


def test_the_description_of_the_wheel_has_whole_addresses(world):
    """PyPI shows README without the files beside it."""
    [file] = world.python.parents[1].rglob("cdpbridge-*.dist-info/METADATA")
    links = re.findall(r"\]\(([^)]+)\)", file.read_text())
    assert len(links) > 30
    assert [link for link in links if not link.startswith("https://")] == []
    assert any(link.startswith("https://raw.githubusercontent.com/") for link in links)


def test_the_agents_block_names_settings_that_exist():
    """It is not run, so at least its variables are looked at."""
    from cdpbridge.server import settings_table

    [block] = [block for name, block in CASES.items() if name.startswith("python3 -m venv agents")]
    names = re.findall(r"\bCDPBRIDGE_\w+", block.text)
    assert len(names) == 4
    for name in names:
        assert f"`{name}`" in settings_table()


def blocks_in(language: str) -> list[Block]:
    return [block for block in CASES.values() if block.language == language]


def test_blocks_that_are_files_of_the_project_are_those_files():
    for name, how in BLOCKS.items():
        if isinstance(how, IsFile):
            assert CASES[name].text == (ROOT / how.path).read_text(), f"{CASES[name]} differs from {how.path}"
            assert Path(how.path).name in (ROOT / how.test).read_text()


def test_settings_in_the_documentation_are_read(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith("CDPBRIDGE_")]:
        monkeypatch.delenv(name)
    blocks = blocks_in("toml")
    assert len(blocks) == 8
    for block in blocks:
        file = tmp_path / "settings.toml"
        file.write_text(block.text)
        loaded = Settings.load(file)
        assert loaded.model_fields_set == set(tomllib.loads(block.text))
        assert loaded.public_url in {None, "https://browsers.example.com"}


def test_yaml_in_the_documentation_is_what_it_says():
    workflow, cluster, group = blocks_in("yaml")
    [job] = yaml.safe_load(workflow.text)["jobs"].values()
    assert all({"run", "uses"} & step.keys() for step in job["steps"])
    nodes = yaml.safe_load(cluster.text)["available_node_types"].values()
    assert [each["resources"].get("browser") for each in nodes] == [None, 16]
    [workers] = yaml.safe_load(group.text)["workerGroupSpecs"]
    # As KubeRay passes it on to the shell.
    assert json.loads(shlex.split(workers["rayStartParams"]["resources"])[0]) == {"browser": 8}


@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed; pip install ray")
def test_the_cluster_of_the_documentation_is_one_for_ray():
    import jsonschema

    found = find_spec("ray")
    assert found is not None
    assert found.origin is not None
    schema = Path(found.origin).parent / "autoscaler" / "ray-schema.json"
    block = blocks_in("yaml")[1]
    jsonschema.validate(yaml.safe_load(block.text), json.loads(schema.read_text()))


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd on this machine")
def test_the_units_of_the_documentation_are_units(tmp_path):
    files = []
    for number, block in enumerate(blocks_in("ini")):
        # The program, the user and the file of variables are the reader's.
        text = re.sub("ExecStart=.*", "ExecStart=/bin/true", block.text).replace("User=cdpbridge\n", "")
        files.append(tmp_path / f"cdpbridge-{number}.service")
        files[-1].write_text(text)
    command = ["systemd-analyze", "verify", "--man=no", "--generators=no", *files]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert not re.search(r"cdpbridge-\d\.service", done.stderr), done.stderr


@pytest.mark.skipif(shutil.which("caddy") is None, reason="no Caddy on this machine")
def test_the_caddy_configuration_of_the_documentation_is_one(tmp_path):
    [block] = blocks_in("caddyfile")
    (tmp_path / "Caddyfile").write_text(block.text)
    command = ["caddy", "adapt", "--adapter", "caddyfile", "--validate", "--config", tmp_path / "Caddyfile"]
    environment = os.environ | {"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False, env=environment)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(shutil.which("nginx") is None, reason="no nginx on this machine")
def test_the_nginx_configuration_of_the_documentation_is_one(tmp_path):
    [block] = blocks_in("nginx")
    file = certificate(tmp_path)
    text = re.sub("/etc/ssl/[^;]*", str(file), block.text).replace(
        "listen 443", f"listen 127.0.0.1:{free_port()}"
    )
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    folders = "".join(f"{kind}_temp_path {tmp_path};" for kind in kinds)
    frame = f"pid {tmp_path}/pid; error_log {tmp_path}/error.log; events {{}}"
    (tmp_path / "nginx.conf").write_text(f"{frame} http {{ access_log off; {folders}\n{text} }}\n")
    command = ["nginx", "-t", "-c", tmp_path / "nginx.conf"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a\n```\nx\n```\nb\n", [("", "x\n")]),
        ("```python\nx\n\ny\n```\n```sh\nz\n```\n", [("python", "x\n\ny\n"), ("sh", "z\n")]),
        ("no `code` block\n", []),
    ],
)
def test_the_extractor(tmp_path, text, found):
    (tmp_path / "page.md").write_text(text)
    assert [(block.language, block.text) for block in blocks_of(tmp_path / "page.md")] == found


def test_tools_of_the_blocks_are_here():
    assert shutil.which("curl")
