"""The cloud's own SDK, unmodified from PyPI, does every v2 method against this server, over real browsers."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cdpbridge.api._task_models import SDK_LLMS, SUPPORTED_LLMS
from tests.server.scripted_agents import ScriptedAgents, two_steps

ROOT = Path(__file__).parents[3]
HERE = Path(__file__).parent

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.one_build("the SDK talks to the REST API and does not see the build"),
]


@pytest.fixture(scope="session")
def sdk():
    """Folder of a version, installed when it is not there."""

    def sdk(version):
        subprocess.run(["sh", str(ROOT / ".ci" / "install-sdk"), sys.executable, version], check=True)
        return ROOT / ".cache" / "sdk" / version

    return sdk


def agents(_settings):
    """Agents that know every model that real ones do."""
    made = ScriptedAgents(two_steps)
    made.models = {*SUPPORTED_LLMS, *SDK_LLMS}
    return made


async def drive(folder, script, *arguments):
    """What a script printed, in a process that knows the SDK of `folder`."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BROWSER_USE_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(HERE / script),
        *arguments,
        env=environment | {"PYTHONPATH": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), 90)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, err.decode()
    return json.loads(out.decode().splitlines()[-1])


@pytest.mark.parametrize("kind", [pytest.param("sync", marks=pytest.mark.slow), "async"])
async def test_the_newest_sdk(make_server, sdk, kind):
    async with make_server(agents=agents, proxies="simulate") as server:
        base_url = str(server.http.base_url).rstrip("/")
        told = await drive(sdk("newest"), "drive_newest.py", kind, base_url, "key-of-tests")
    assert told["missing"] == []
    assert told["called"] >= 30
    assert told["seen"] == {
        "account": [10, 0],
        "profiles": ["Other of SDK"],
        "browsers": [True],
        "downloads": [],
        "upload": 204,
        "stopped browser": ["stopped", "stopped"],
        "session": ["active", True, True],
        "task": ["finished", True, 2, "did 'Look around'"],
        "screenshot": "image/png",
        "output file": ["answer.txt", 206, "234"],
        "log": 200,
        "tasks": [1, True],
        "busy": 400,
        "stopped task": "stopped",
        "updated task": "stopped",
        "stopped both": ["stopped", "stopped"],
        "stopped session": ["stopped", "stopped"],
        "sessions": [True],
        "deleted": 404,
        "newer fields": ["active", "0"],
        "models": 33,
        "streamed": [1, 2],
        "run": "did 'Run'",
        "missing": 404,
        "elsewhere": [501],
    }


@pytest.mark.parametrize("kind", ["sync", pytest.param("async", marks=pytest.mark.slow)])
async def test_sdk_2_0_15(make_server, sdk, kind):
    async with make_server(agents=agents, proxies="simulate") as server:
        base_url = str(server.http.base_url).rstrip("/")
        told = await drive(sdk("2.0.15"), "drive_2_0_15.py", kind, base_url, "key-of-tests")
    assert told["missing"] == []
    assert told["called"] >= 30
    assert told["seen"] == {
        "account": 100.0,
        "profile": "Newer",
        "upload": 204,
        "stopped browser": "stopped",
        "session": "active",
        "task": ["finished", True, 2, "gpt-4.1", "did 'Look around'"],
        "output file": ["answer.txt", "0123456789"],
        "log": 200,
        "models": 19,
        "complete": "finished",
        "steered": ["paused", "started", "stopped"],
        "stopped session": ["stopped", "stopped"],
        "deleted": 404,
        "missing": 404,
        "elsewhere": [501],
    }
