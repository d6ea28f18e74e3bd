"""Real agents over real browsers, asked by a scripted model. Everything that an agent's process dials is written down."""

import asyncio
import json
import time
from contextlib import asynccontextmanager
from uuid import uuid4

import httpx
import pytest

from cdpbridge.server import Settings
from cdpbridge.server.tasks.agent import AgentProcesses, AgentSpec
from tests.server.tasks.agent.llm import serve_model

_WATCHED = """
import json, os, runpy, sys
out = os.open({log!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
def hook(event, arguments):
    if event == "socket.connect":
        os.write(out, (json.dumps([event, str(arguments[1])]) + "\\n").encode())
    elif event == "socket.getaddrinfo":
        os.write(out, (json.dumps([event, str(arguments[0])]) + "\\n").encode())
sys.addaudithook(hook)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="session")
def watch(agent_python, tmp_path_factory):
    """The agents' interpreter, with a hook that writes down what is dialled; and that."""
    folder = tmp_path_factory.mktemp("watched")
    log = folder / "dialled"
    (folder / "hook.py").write_text(_WATCHED.format(log=str(log)))
    wrapper = folder / "python"
    wrapper.write_text(
        f'#!/bin/sh\n[ "$1" = -P ] || exec {agent_python} "$@"\nshift\nexec {agent_python} -P {folder}/hook.py "$@"\n'
    )
    wrapper.chmod(0o755)

    def dialled():
        found = [json.loads(line)[1] for line in log.read_text().splitlines()] if log.exists() else []
        for address in found:
            assert "127.0.0.1" in address or address in {"localhost", "None"}, f"an agent dialled {address}"
        return found

    yield wrapper, dialled
    dialled()


@pytest.fixture
def watched_python(watch):
    return watch[0]


@pytest.fixture
def dialled(watch):
    """Addresses that agents have dialled so far, all of them on loopback."""
    return watch[1]


_VAULT = """
import sys, types
from types import SimpleNamespace as N

class Client:
    @classmethod
    async def authenticate(cls, auth, integration_name, integration_version):
        assert auth == "token-of-the-vault"
        self = cls()
        self.items = self
        return self
    async def list(self, vault):
        assert vault == "vault"
        return [N(id="1", websites=[1]), N(id="2", websites=[])]
    async def get(self, vault, item):
        assert item == "1"
        field = N(id="password", title="password", field_type="Concealed", value="lovelace")
        return N(title="Shop", fields=[field], websites=[N(url="http://127.0.0.1/")])
"""


@pytest.fixture
def vault_python(watched_python, tmp_path):
    """The same, with a 1Password that is scripted: the real one cannot be reached."""
    package = tmp_path / "vault" / "onepassword"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "client.py").write_text(_VAULT)
    wrapper = tmp_path / "vault" / "python"
    wrapper.write_text(f'#!/bin/sh\nPYTHONPATH={tmp_path / "vault"} exec {watched_python} "$@"\n')
    wrapper.chmod(0o755)
    return wrapper


@pytest.fixture
def stays():
    """Whether something stays as it is for some seconds."""

    async def stays(condition, seconds):
        until = time.monotonic() + seconds
        while condition() and time.monotonic() < until:
            await asyncio.sleep(0.02)
        return condition()

    return stays


@pytest.fixture
async def model():
    async with serve_model() as model:
        yield model


@pytest.fixture(scope="module")
def rented(server):
    """A browser of the run's server, for all tests of a file; other files expect that none runs."""
    headers = {"X-Browser-Use-API-Key": server.key}
    with httpx.Client(base_url=server.base_url, headers=headers, timeout=60) as http:
        browser = http.post("/browsers", json={"timeout": 60}).raise_for_status().json()
        yield browser
        http.patch(f"/browsers/{browser['id']}", json={"action": "stop"}).raise_for_status()


class Desk:
    """Puts agents to work, and keeps what they say."""

    def __init__(self, agents, cdp_url, folder, python):
        self.agents, self.cdp_url, self.folder, self.python = agents, cdp_url, folder, python
        self.steps = []

    async def start(self, task="Do it.", *, on_step=None, **more):
        spec = AgentSpec(
            task_id=uuid4(),
            task=task,
            cdp_url=self.cdp_url,
            model="gpt-4.1",
            folder=self.folder / uuid4().hex[:8],
            **more,
        )
        self.steps = []

        async def keep(step):
            self.steps.append(step)

        return await self.agents.start(spec, on_step or keep)

    async def do(self, task="Do it.", **more):
        run = await self.start(task, **more)
        return await run.result()


@pytest.fixture
def make_desk(model, rented, watched_python, tmp_path, environment):
    @asynccontextmanager
    async def make_desk(**settings):
        given = {
            "data_dir": tmp_path / "data",
            "llm_base_url": model.base_url,
            "llm_api_key": "key-of-the-model",
            "llm_models": {"gpt-4.1": "scripted"},
            "agent_python": watched_python,
        } | settings
        agents = AgentProcesses(Settings.load(**given))
        try:
            yield Desk(agents, rented["cdpUrl"], tmp_path / "tasks", given["agent_python"])
        finally:
            await agents.close()
        assert not list((tmp_path / "tasks").rglob(".agent-*"))

    return make_desk


@pytest.fixture
async def desk(make_desk):
    async with make_desk() as desk:
        yield desk
