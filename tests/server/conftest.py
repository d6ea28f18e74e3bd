"""A server for the tests: in this process over scripted machines and a clock that stands still, or as a real process."""

import asyncio
import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import jsonschema
import pytest
import yaml

from cdpbridge.cdp import connect
from cdpbridge.errors import BrowserStartFailed
from cdpbridge.testing import ManualClock
from tests import postgres, programs
from tests.conftest import clean_environment, pauses, until
from tests.folders import browsers_folder

# Parts of the server are imported where they are used: the tests of its proxy need no web framework.

SPEC = Path(__file__).parents[1] / "data" / "browser-use-cloud-v2.openapi.yaml"
KEY, OTHER_KEY = "key-of-tests", "key-of-others"
HEADER = "X-Browser-Use-API-Key"


class Wall:
    """A wall clock that runs with the manual clock, and that can be set to anything."""

    def __init__(self, clock):
        self.clock = clock
        self.offset = timedelta(0)

    def __call__(self):
        seconds = timedelta(seconds=self.clock.time() - 1000)
        return datetime(2026, 11, 2, 12, tzinfo=UTC) + seconds + self.offset


class ScriptedRest:
    """What is left of a browser of `ScriptedHosts`."""

    def __init__(self, hosts, browser_id, leased, saved):
        self.hosts, self.id, self.leased, self.saved = hosts, browser_id, leased, saved

    async def save(self, note):
        if self.leased is not None:
            await self.hosts.may_save.wait()
            if self.saved is not None:
                await note(self.saved)
            self.hosts.leases.pop(self.leased)

    async def remove(self):
        await self.hosts.may_remove.wait()
        self.hosts.removed.append(self.id)


class ScriptedHosts:
    """Machines on which everything that can go wrong goes wrong when told."""

    def __init__(self):
        self.on_exit = {}
        self.running = {}
        self.stopped = []
        self.starts = 0
        self.starting = 0
        self.left = None
        self.may_start = asyncio.Event()
        self.may_start.set()
        self.may_stop = asyncio.Event()
        self.may_stop.set()
        self.may_save, self.may_remove = asyncio.Event(), asyncio.Event()
        self.may_save.set()
        self.may_remove.set()
        self.removed = []
        self.rests = 0
        self.failure = None
        self.bytes = 0
        self.by_host = ()
        self.leases = {}
        self.specs = []
        self.limits = []
        self.ready = 0
        self.waiting = 0
        self.heard = []

    def lost(self, browser_id):
        return False

    def answered(self):
        return self.heard

    async def start(self, spec, *, on_exit, on_limit):
        from cdpbridge.server.hosts import Placement

        self.starts += 1
        self.starting += 1
        self.specs.append(spec)
        try:
            await self.may_start.wait()
            if self.failure is not None:
                raise self.failure
        finally:
            self.starting -= 1
        writable = None
        if spec.profile_id is not None:
            writable = self.leases.setdefault(spec.profile_id, spec.id) == spec.id
        self.on_exit[spec.id] = on_exit
        self.running[spec.id] = Placement(f"token-{spec.id.hex}", writable), spec
        return self.running[spec.id][0]

    def placement(self, browser_id):
        return self.running[browser_id][0] if browser_id in self.running else None

    async def adopt(self, spec, *, on_exit, on_limit):
        return None  # what runs here ends with its server

    async def release(self, browser_id):
        return False

    async def attach(self, browser_id):
        return self.placement(browser_id)

    async def connection(self, browser_id):
        return None  # there is no browser behind it

    async def limit_hosts(self, browser_id, *, allowed, denied=()):
        if browser_id not in self.running or not self.running[browser_id][1].agent:
            return False
        self.limits.append((browser_id, allowed, denied))
        return True

    def blocked_requests(self, browser_id):
        return None

    def traffic(self, browser_id):
        return self.by_host

    def proxy_bytes(self, browser_id):
        return self.bytes

    async def stop(self, browser_id, goodbye, *, save):
        from cdpbridge.server.hosts import SavedState, UnfinishedStop

        if browser_id not in self.running:
            return None
        placement, spec = self.running.pop(browser_id)
        await self.may_stop.wait()
        self.stopped.append((browser_id, goodbye, save))
        leased = spec.profile_id if placement.profile_writable else None
        saved = SavedState(1, ["example.com"]) if save and leased else None
        rest = ScriptedRest(self, browser_id, leased, saved)
        self.rests += 1
        return UnfinishedStop("closed", None, self.bytes, traffic=self.by_host, rest=rest)

    def downloads_folder(self, browser_id):
        return None

    async def take_downloads(self, browser_id):
        """They are where they are."""

    async def give_upload(self, browser_id, file):
        """It is there."""

    def upload_path(self, browser_id, file):
        return file

    def remains(self):
        return []

    async def recover(self, left):
        from cdpbridge.server.hosts import SavedState

        self.left = list(left)
        return {item.id: SavedState(2, ["left.example"]) for item in left if item.profile_writable}

    def fits_ready(self, spec):
        return False

    def start_ahead(self, _readable):
        """No order is guessed here."""

    async def release_ready(self):
        had, self.ready = self.ready, 0
        return bool(had)

    async def close(self):
        assert not self.running
        assert len(self.removed) == self.rests

    def crash(self, browser_id):
        self.on_exit[browser_id](browser_id)


@pytest.fixture(scope="session")
def s3():
    """S3, by moto's server on loopback; one for all tests of this process."""
    from tests.object_stores import s3_server

    with s3_server() as server:
        yield server


@dataclass
class StoragePlace:
    """Where an object storage of a test is. One of `folder` and `bucket` is None."""

    url: str
    options: dict
    folder: Path | None = None
    bucket: str | None = None


@pytest.fixture(params=["file", "s3"])
def storage_place(request, tmp_path):
    if request.param == "file":
        folder = tmp_path / "object storage"
        return StoragePlace(folder.as_uri(), {}, folder=folder)
    s3 = request.getfixturevalue("s3")
    bucket = s3.bucket()
    return StoragePlace(f"s3://{bucket}/of/tests", s3.options, bucket=bucket)


@pytest.fixture
def storage(storage_place):
    from cdpbridge.server.objects import ObjectStorage

    return ObjectStorage(storage_place.url, storage_place.options)


@pytest.fixture
def start_failure():
    return BrowserStartFailed("the browser could not be started: [Errno 28] No space left on device")


class Api:
    """A server in this process: its clock, its machines, and a client."""

    def __init__(self, app, client, *, hosts, agents, clock, wall):
        self.app, self.client, self.hosts, self.agents = app, client, hosts, agents
        self.clock, self.wall = clock, wall

    @property
    def services(self):
        return self.app.state.services

    async def request(self, method, path, *, key=KEY, **options):
        headers = {HEADER: key} | options.pop("headers", {})
        return await self.client.request(method, path, headers=headers, **options)

    async def get(self, path, **options):
        return await self.request("GET", path, **options)

    async def post(self, path, body=None, **options):
        return await self.request("POST", path, json=body, **options)

    async def patch(self, path, body, **options):
        return await self.request("PATCH", path, json=body, **options)

    async def rent(self, *, headers=None, key=KEY, **body):
        answer = await self.post("/browsers", body, headers=headers or {}, key=key)
        assert answer.status_code == 201, answer.text
        return answer.json()

    async def open_session(self, *, key=KEY, **body):
        answer = await self.post("/sessions", body, key=key)
        assert answer.status_code == 201, answer.text
        return answer.json()

    async def give(self, task="look", *, key=KEY, headers=None, **body):
        """A task, and its agent."""
        count = len(self.agents.runs)
        answer = await self.post("/tasks", {"task": task} | body, headers=headers or {}, key=key)
        assert answer.status_code == 202, answer.text
        return answer.json(), await self.agents.started(count + 1)

    async def task(self, task):
        return (await self.get(f"/tasks/{task['id']}")).json()

    async def session(self, session):
        return (await self.get(f"/sessions/{session['id']}")).json()

    async def steer(self, task, action):
        answer = await self.patch(f"/tasks/{task['id']}", {"action": action})
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def over(self, task):
        """The task, when it is over and its agent put away."""
        async with asyncio.timeout(60):
            while (await self.task(task))["finishedAt"] is None or self.services.tasks._background:
                await asyncio.sleep(0.005)
        return await self.task(task)

    async def project(self, key=KEY):
        return await self.services.store.project_of(key)

    def path(self, url):
        """An address of this server, for the client."""
        assert url.startswith("http://test/"), url
        return url

    async def stop(self, browser):
        answer = await self.patch(f"/browsers/{browser['id']}", {"action": "stop"})
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def browser(self, browser):
        return (await self.get(f"/browsers/{browser['id']}")).json()

    async def account(self):
        return (await self.get("/billing/account")).json()

    async def entries(self):
        project = await self.services.store.project_of(KEY)
        rows = await self.services.store.ledger(project)
        return [(row.kind, row.entry, row.amount_micro_usd) for row in rows]

    async def settled(self, browser):
        """Wait until a browser's end is over."""
        async with asyncio.timeout(60):
            while (await self.browser(browser))["status"] != "stopped" or self.services.rentals._rentals:
                await asyncio.sleep(0.005)
        return await self.browser(browser)


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture(scope="session", autouse=True)
def no_shared_chrome_left(temporary_dir):
    from tests.server.shared_chrome import stop_shared_chrome

    yield
    stop_shared_chrome()


@pytest.fixture(scope="session", autouse=True)
def no_postgresql_left(temporary_dir):
    yield
    postgres.close_instance()


@pytest.fixture
def new_postgresql():
    """Gives addresses of databases in PostgreSQL without rows, for this test alone."""
    made = []

    def new_postgresql(*, empty=False):
        made.append((postgres.instance().new_database(empty=empty), empty))
        return made[-1][0]

    yield new_postgresql
    for url, empty in made:
        (postgres.instance().drop if empty else postgres.instance().give_back)(url)


@pytest.fixture(scope="session")
def seeded(tmp_path_factory):
    """Gives a new server its tables, empty: a copy of a database that was migrated once. One that is there stays."""
    template = tmp_path_factory.mktemp("database") / "template.sqlite3"

    def make():
        from cdpbridge.server.store import Store

        async def migrate():
            await (await Store.open(f"sqlite+aiosqlite:///{template}")).close()

        asyncio.run(migrate())

    def seeded(settings):
        from sqlalchemy.engine import make_url

        url = make_url(settings.database())
        if url.drivername.startswith("sqlite") and url.database and not Path(url.database).exists():
            if not template.exists():
                thread = threading.Thread(target=make)  # the test's own loop runs here
                thread.start()
                thread.join()
            Path(url.database).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            shutil.copy(template, url.database)

    return seeded


@pytest.fixture
def make_api(tmp_path, seeded):
    """A server in this process, as a block."""

    @asynccontextmanager
    async def make_api(*, hosts=None, agents=None, clock=None, offset=timedelta(0), **settings):
        from cdpbridge.server import Settings, create_app
        from tests.server.scripted_agents import ScriptedAgents

        hosts, clock = hosts or ScriptedHosts(), clock or ManualClock()
        agents = agents or ScriptedAgents()
        wall = Wall(clock)
        wall.offset = offset
        given = {
            "data_dir": tmp_path / "data",
            "api_keys": {"tests": KEY, "others": OTHER_KEY},
            "browser_build": "shell",
            "allowed_hosts": ["test"],
        } | settings
        loaded = Settings.load(**given)
        seeded(loaded)
        app = create_app(
            loaded, hosts=lambda *_: hosts, agents=lambda _settings: agents, clock=clock, wall=wall
        )
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://test/api/v2") as client,
        ):
            yield Api(app, client, hosts=hosts, agents=agents, clock=clock, wall=wall)

    return make_api


@pytest.fixture
async def api(make_api):
    async with make_api() as api:
        yield api


@pytest.fixture
def scripted_hosts():
    return ScriptedHosts


@pytest.fixture
def wait_until():
    """Poll for something that only the outside world can bring about."""
    return until


class Contract:
    """The reference's OpenAPI document: is an answer what it says?"""

    def __init__(self, document):
        self.document = document
        self.operations = {
            (method.upper(), path): operation
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
        }

    def check(self, method, path, answer):
        """Raise unless `answer` has a documented status and a body valid against its schema."""
        responses = self.operations[method, path]["responses"]
        documented = responses.get(str(answer.status_code))
        assert documented is not None, (
            f"{method} {path} does not document {answer.status_code}: {answer.text}"
        )
        content = documented.get("content")
        if content is None:
            if answer.status_code >= 400:
                self.check_problem(answer)
            else:
                assert answer.content == b""
            return
        schema = content["application/json"]["schema"] | {"components": self.document["components"]}
        jsonschema.validate(
            answer.json(),
            schema,
            cls=jsonschema.Draft202012Validator,
            format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER,
        )
        for name, value in _strings(answer.json()):
            if name.endswith("At") and value is not None:
                assert datetime.fromisoformat(value).tzinfo is not None, f"{name} without a zone: {value}"

    def check_problem(self, answer):
        detail = answer.json()["detail"]
        if answer.status_code == 422:
            assert isinstance(detail, list)
            for item in detail:
                assert set(item) == {"loc", "msg", "type"}
        else:
            assert isinstance(detail, str)
            assert detail


def _strings(value):
    if isinstance(value, dict):
        for name, inner in value.items():
            if isinstance(inner, dict | list):
                yield from _strings(inner)
            else:
                yield name, inner
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)


@pytest.fixture(scope="session")
def contract():
    return Contract(json.loads(json.dumps(yaml.safe_load(SPEC.read_text()), default=str)))


@pytest.fixture
def checked(contract):
    """Send a request, check the answer against the reference, return it."""

    async def checked(api, method, path, template=None, **options):
        answer = await api.request(method, path, **options)
        contract.check(method, template or path.split("?")[0], answer)
        return answer

    return checked


# --- real servers and browsers ----------------------------------------------------------------------------------------


class Server:
    """A client of a running server, whichever process it runs in."""

    def __init__(self, base_url, data_dir):
        self.data_dir = data_dir
        self.http = httpx.AsyncClient(base_url=base_url, headers={HEADER: KEY}, timeout=60, verify=False)

    async def rent(self, **body):
        answer = await self.http.post("/browsers", json=body)
        assert answer.status_code == 201, answer.text
        return answer.json()

    async def stop(self, browser):
        answer = await self.http.patch(f"/browsers/{browser['id']}", json={"action": "stop"})
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def browser(self, browser):
        return (await self.http.get(f"/browsers/{browser['id']}")).json()

    async def profile(self, name="tests"):
        return (await self.http.post("/profiles", json={"name": name})).json()["id"]

    async def account(self):
        return (await self.http.get("/billing/account")).json()

    async def stopped(self, browser, timeout=60):
        """Wait until the server says that it is stopped and put away."""
        async with asyncio.timeout(timeout):
            for pause in pauses():
                found = await self.browser(browser)
                if found["status"] == "stopped" and not self.folders():
                    break
                await asyncio.sleep(pause)
        return await self.browser(browser)

    def folder(self, browser):
        return browsers_folder(self.data_dir) / browser["id"]

    def folders(self):
        root = browsers_folder(self.data_dir)
        return sorted(root.iterdir()) if root.is_dir() else []

    def processes(self, browser=None):
        """Every process of a browser, or of all of them."""
        from cdpbridge.server.hosts._processes import processes_using

        return processes_using(self.folder(browser) if browser else browsers_folder(self.data_dir))

    def main_process(self, browser):
        """The browser process itself: the one whose parent is none of them."""
        pids = self.processes(browser)
        [pid] = [pid for pid in pids if parent(pid) not in pids]
        return pid

    async def set_cookies(self, browser, *names, domain="example.com", session=False):
        lifetime = {} if session else {"expires": time.time() + 86_400}
        cookies = [{"name": name, "value": "1", "domain": domain, "path": "/", **lifetime} for name in names]
        async with connect(browser["cdpUrl"]) as connection:
            await connection.root.send("Storage.setCookies", {"cookies": cookies})

    async def cookies(self, browser):
        async with connect(browser["cdpUrl"]) as connection:
            reply = await connection.root.send("Storage.getCookies")
        return {cookie["name"] for cookie in reply["cookies"]}

    async def cookies_of_profile(self, profile):
        """What the next browser with this profile knows."""
        browser = await self.rent(profileId=profile)
        try:
            return await self.cookies(browser)
        finally:
            await self.stop(browser)


def parent(pid):
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


@pytest.fixture
def make_server(tmp_path, seeded):
    """A server in this process on a real socket, over real browsers, as a block."""

    @asynccontextmanager
    async def make_server(*, clock=None, agents=None, **settings):
        from cdpbridge.server import Settings, serving

        data_dir = tmp_path / "data"
        given = {"port": 0, "data_dir": data_dir, "api_keys": KEY, "browser_build": "shell"} | settings
        loaded = Settings.load(**given)
        seeded(loaded)
        async with serving(loaded, clock=clock, agents=agents) as (app, base_url):
            server = Server(base_url, data_dir)
            server.app = app
            async with server.http:
                yield server
        assert not server.processes()
        assert not server.folders()

    return make_server


class ServerProcess(Server):
    """A server in a process of its own."""

    def __init__(self, process, base_url, data_dir):
        super().__init__(base_url, data_dir)
        self.process = process

    async def end(self, number=signal.SIGTERM, timeout=90):
        """Send a signal and wait; what it printed after the ready line."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return await asyncio.to_thread(self.process.communicate, timeout=timeout)


@pytest.fixture
def spawn_server(tmp_path, seeded):
    """A server as a real process, as a block; asked to end there if it still runs.

    With `start=subprocess.Popen`, everything of its start is as for a user: the imports, the new database.
    """

    @asynccontextmanager
    async def spawn_server(
        *arguments,
        key=KEY,
        pass_fds=(),
        env=None,
        limits=None,
        descriptors=None,
        folder="data",
        start=programs.Program,
        **settings,
    ):
        data_dir = tmp_path / folder
        environment = clean_environment()
        environment |= {"CDPBRIDGE_BROWSER_BUILD": "shell"} | (env or {})
        environment |= {f"CDPBRIDGE_{name.upper()}": str(value) for name, value in settings.items()}
        if key:
            environment["CDPBRIDGE_API_KEYS"] = key
        command = [
            sys.executable,
            "-m",
            "cdpbridge.server",
            "--port",
            "0",
            "--data-dir",
            str(data_dir),
            *arguments,
        ]
        if limits is not None:
            program = Path(__file__).parent / "limited_server.py"
            command = [sys.executable, str(program), json.dumps(limits), str(data_dir)]
        if descriptors is not None:
            start = subprocess.Popen
            command = ["sh", "-c", f'ulimit -n {descriptors} && exec "$@"', "sh", *command]
        if start is programs.Program and "database_url" not in settings:
            from cdpbridge.server import Settings

            seeded(Settings.load(data_dir=data_dir))
        process = start(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            pass_fds=pass_fds,
        )
        try:
            line = await asyncio.wait_for(asyncio.to_thread(process.stdout.readline), 30)
            assert line.startswith("cdpbridge: serving "), (line, process.stderr.read() if not line else "")
            server = ServerProcess(process, line.split()[-1], data_dir)
            async with server.http:
                yield server
            if process.poll() is None:
                await server.end()
        finally:
            if process.poll() is None:
                process.kill()
            process.communicate()

    return spawn_server


@pytest.fixture
async def attack():
    """Turns a server into a target of hand-written peers, which are closed at the end."""
    from tests.server.peers import Target

    targets = []

    def attack(server):
        targets.append(Target(server))
        return targets[-1]

    yield attack
    for target in targets:
        target.close()
