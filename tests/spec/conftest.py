"""One server for all tests of the specification: a real socket, real SQLite, scripted machines and agents, in a thread."""

import asyncio
import json
import threading
import time
from dataclasses import dataclass, field

import httpx
import pytest
import yaml

from cdpbridge.api._task_models import SDK_LLMS, SUPPORTED_LLMS
from tests.server.conftest import SPEC, Contract, ScriptedHosts
from tests.server.scripted_agents import ScriptedAgents, two_steps

HEADER = "X-Browser-Use-API-Key"
PAID, FREE, ADMIN = "key-of-the-paid", "key-of-the-free", "key-of-the-operator"
UNKNOWN = "00000000-0000-4000-8000-000000000000"


class SpecAgents(ScriptedAgents):
    """Agents that know the models that real ones do."""

    def knows(self, model):
        return model in SUPPORTED_LLMS or model in SDK_LLMS

    def known(self):
        return [*SUPPORTED_LLMS, *SDK_LLMS]


class Background:
    """The server's own thread and event loop."""

    def __init__(self, data_dir):
        self.ready = threading.Event()
        self.failure = None
        self.data_dir = data_dir
        self.thread = threading.Thread(target=self._run, name="spec-server")

    def _run(self):
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self.failure = error
            raise
        finally:
            self.ready.set()

    async def _serve(self):
        from cdpbridge.server import Settings, serving

        settings = Settings.load(
            port=0,
            data_dir=self.data_dir,
            api_keys={"paid": PAID, "free": FREE},
            plans={"free": "free"},
            admin_keys=[ADMIN],
            proxies="simulate",
            browser_build="shell",
            max_browsers=100,
        )
        hosts, agents = ScriptedHosts(), SpecAgents(two_steps)
        self.hosts, self.agents = hosts, agents
        self.loop, self.stop = asyncio.get_running_loop(), asyncio.Event()
        async with serving(settings, hosts=lambda *_: hosts, agents=lambda _settings: agents) as (
            app,
            base_url,
        ):
            self.app, self.base_url = app, base_url
            self.ready.set()
            await self.stop.wait()


@dataclass
class Api:
    """The server with one key; every answer is checked against the document."""

    background: Background
    contract: Contract
    key: str = PAID
    http: httpx.Client = field(init=False)
    small: list["Api"] = field(default_factory=list)

    def __post_init__(self):
        self.http = httpx.Client(base_url=self.background.base_url, headers={HEADER: self.key}, timeout=60)

    @property
    def base_url(self):
        return self.background.base_url

    def call(self, method, template, body=None, *, status, params=None, content=None, **ids):
        """Send a request of an operation of the document; the answer's JSON."""
        headers = {"Content-Type": "application/json"} if content is not None else {}
        path = template.format(**ids)
        answer = self.http.request(method, path, json=body, params=params, content=content, headers=headers)
        assert answer.status_code == status, f"{method} {path} {body}: {answer.status_code} {answer.text}"
        self.contract.check(method, template, answer)
        return answer.json() if answer.content else None

    def refused(self, method, template, body, field_name, **options):
        """422 that names a field."""
        detail = self.call(method, template, body, status=422, **options)["detail"]
        assert field_name in {part for item in detail for part in item["loc"]}, detail

    def over(self, task_id):
        """A task when it has ended."""
        deadline = time.monotonic() + 60
        while (task := self.call("GET", "/tasks/{task_id}", status=200, task_id=task_id))[
            "finishedAt"
        ] is None:
            assert time.monotonic() < deadline, task
            time.sleep(0.02)
        return task

    def done(self, text="Look around", **fields):
        """A task that was given and has ended."""
        created = self.call("POST", "/tasks", {"task": text} | fields, status=202)
        return self.over(created["id"])

    def session(self, **body):
        return self.call("POST", "/sessions", body, status=201)

    def browser(self, **body):
        return self.call("POST", "/browsers", body, status=201)

    def stop_session(self, session):
        return self.call(
            "PATCH", "/sessions/{session_id}", {"action": "stop"}, status=200, session_id=session["id"]
        )

    def stop_browser(self, browser):
        return self.call(
            "PATCH", "/browsers/{session_id}", {"action": "stop"}, status=200, session_id=browser["id"]
        )

    def with_key(self, key):
        return Api(self.background, self.contract, key)

    def small_project(self, name, **terms):
        """A project of its own, made while the server runs."""
        root = self.base_url.removesuffix("/api/v2")
        with httpx.Client(base_url=f"{root}/admin/v1", headers={HEADER: ADMIN}, timeout=60) as admin:
            name = f"{name} {len(self.small)}"
            made = admin.post("/projects", json={"name": name} | terms)
            assert made.status_code == 201, made.text
            key = admin.post("/keys", json={"project": name}).json()["key"]
        self.small.append(self.with_key(key))
        return self.small[-1]


@pytest.fixture(scope="session")
def spec_document():
    return json.loads(json.dumps(yaml.safe_load(SPEC.read_text()), default=str))


@pytest.fixture(scope="session")
def spec_api(tmp_path_factory, spec_document):
    background = Background(tmp_path_factory.mktemp("spec"))
    background.thread.start()
    assert background.ready.wait(100)
    assert background.failure is None
    api = Api(background, Contract(spec_document))
    yield api
    for each in (api, *api.small):
        each.http.close()
    background.loop.call_soon_threadsafe(background.stop.set)
    background.thread.join(60)
    assert not background.thread.is_alive()
    assert background.failure is None


@pytest.fixture
def api(spec_api):
    """The paid project; what a test leaves running is stopped."""
    yield spec_api
    for item in spec_api.call("GET", "/browsers", status=200, params={"filterBy": "active", "pageSize": 100})[
        "items"
    ]:
        spec_api.stop_browser(item)


@pytest.fixture
def free(spec_api):
    """The free project."""
    api = spec_api.with_key(FREE)
    yield api
    for item in api.call("GET", "/browsers", status=200, params={"filterBy": "active"})["items"]:
        api.stop_browser(item)
    api.http.close()
