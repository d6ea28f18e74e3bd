"""Real agents over real browsers, asked by a scripted model. Everything that an agent's process dials is written down."""

import json
import os
import shutil
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from cdpbridge.server import Settings
from cdpbridge.server.agent import AgentProcesses, AgentSpec

from tests.server.agent.llm import serve_model

_WATCHED = """
import json, os, runpy, sys
out = os.open({log!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
def hook(event, arguments):
    if event == "socket.connect":
        os.write(out, (json.dumps([event, str(arguments[1])]) + "\\n").encode())
    elif event == "socket.getaddrinfo":
        os.write(out, (json.dumps([event, str(arguments[0])]) + "\\n").encode())
    elif event in ("subprocess.Popen", "os.exec", "os.posix_spawn"):
        os.write(out, (json.dumps([event, str(arguments[0])]) + "\\n").encode())
sys.addaudithook(hook)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="session")
def watched_python(agent_python, tmp_path_factory):
    """The agents' interpreter, with a hook that writes down what is dialled and which programs are run."""
    folder = tmp_path_factory.mktemp("watched")
    log = folder / "dialled"
    (folder / "hook.py").write_text(_WATCHED.format(log=str(log)))
    wrapper = folder / "python"
    wrapper.write_text(
        f'#!/bin/sh\n[ "$1" = -P ] || exec {agent_python} "$@"\nshift\nexec {agent_python} -P {folder}/hook.py "$@"\n'
    )
    wrapper.chmod(0o755)
    yield wrapper
    for line in log.read_text().splitlines() if log.exists() else []:
        event, what = json.loads(line)
        assert event.startswith("socket."), f"an agent ran {what}"
        assert "127.0.0.1" in what or what in {"localhost", "None"}, f"an agent dialled {what}"


@pytest.fixture
async def model():
    async with serve_model() as model:
        yield model


@pytest.fixture(scope="session")
def rented(server):
    """A browser of the run's server, for all tests of this folder."""
    headers = {"X-Browser-Use-API-Key": server.key}
    with httpx.Client(base_url=server.base_url, headers=headers, timeout=60) as http:
        browser = http.post("/browsers", json={"timeout": 60}).raise_for_status().json()
        yield browser
        http.patch(f"/browsers/{browser['id']}", json={"action": "stop"}).raise_for_status()


class Desk:
    """Puts agents to work, and keeps what they say."""

    def __init__(self, agents, cdp_url, folder):
        self.agents, self.cdp_url, self.folder = agents, cdp_url, folder
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
            yield Desk(agents, rented["cdpUrl"], tmp_path / "tasks")
        finally:
            await agents.close()
        left = [path for path in (tmp_path / "tasks").rglob(".agent-*")]
        assert not left

    return make_desk


@pytest.fixture
async def desk(make_desk):
    async with make_desk() as desk:
        yield desk
