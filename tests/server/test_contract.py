"""The server as strangers see it: a fuzzer that knows the reference, and the cloud's quickstart with another host."""

import asyncio
import json
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml

from tests.server.scripted_agents import agents_for_a_server

pytestmark = pytest.mark.programs

SPEC = Path(__file__).parents[1] / "data" / "browser-use-cloud-v2.openapi.yaml"
KEY = "key-of-tests"
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "use_after_free",
    "ensure_resource_availability",
)


# What a create answers with, and which operations take it: the reference has no links of its own.
LINKS = {
    ("/tasks", "202", "task_id", "id"): ("get-task-tasks", "update-task-tasks", "get-task-logs"),
    ("/tasks", "202", "session_id", "sessionId"): ("get-session-sessions", "update-session-sessions"),
    ("/sessions", "201", "session_id", "id"): (
        *("get-session", "update-session", "create-session-public", "delete-session-public"),
        "user-upload-file-presigned-url-files-sessions",
    ),
    ("/browsers", "201", "session_id", "id"): (
        *("get-browser-session", "update-browser-session"),
        "user-upload-file-presigned-url-browser",
    ),
    ("/profiles", "201", "profile_id", "id"): ("get-profile", "update-profile", "delete-browser-profile"),
}


def complete(document):
    """Say what the reference leaves out: 401, links from creates, and bounds without which hardly a request is valid."""
    ids = [each["operationId"] for methods in document["paths"].values() for each in methods.values()]
    for methods in document["paths"].values():
        for operation in methods.values():
            operation["responses"]["401"] = {"description": "No key, or an unknown one"}
    for (path, status, parameter, field), beginnings in LINKS.items():
        links = document["paths"][path]["post"]["responses"][status].setdefault("links", {})
        for name in [each for each in ids if each.startswith(beginnings)]:
            links[name] = {"operationId": name, "parameters": {parameter: f"$response.body#/{field}"}}
    schemas = document["components"]["schemas"]
    schemas["CreateTaskRequest"]["properties"] |= {
        "task": {"type": "string", "minLength": 1},
        "llm": {"enum": ["browser-use-llm", "gpt-4.1"]},
        "maxSteps": {"type": "integer", "minimum": 1, "maximum": 10_000},
        "startUrl": {"enum": [None, "https://example.com/"]},
        "structuredOutput": {"enum": [None, "{}"]},
        "sessionId": {"type": "null"},
        "opVaultId": {"type": "null"},
        "metadata": {
            "type": "object",
            "maxProperties": 10,
            "additionalProperties": {"type": "string"},
        },
    }
    schemas["CreateSessionRequest"]["properties"] |= {
        "profileId": {"type": "null"},
        "startUrl": {"enum": [None, "https://example.com/"]},
        "proxyCountryCode": {"enum": [None, "de"]},
    }
    schemas["CreateBrowserSessionRequest"]["properties"] |= {
        "profileId": {"type": "null"},
        "proxyCountryCode": {"enum": [None, "de"]},
        "timeout": {"type": "integer", "minimum": 1, "maximum": 240},
    }
    schemas["UploadFileRequest"]["properties"] |= {
        "fileName": {"type": "string", "minLength": 1, "maxLength": 255},
        "sizeBytes": {"type": "integer", "minimum": 1, "maximum": 10_485_760},
    }


@pytest.fixture
def serve(tmp_path, scripted_hosts):
    """A server on a real socket over scripted browsers and agents, as a block; its base URL."""

    @asynccontextmanager
    async def serve(**settings):
        from cdpbridge.server import Settings, serving

        given = {"port": 0, "data_dir": tmp_path / "data", "api_keys": KEY, "browser_build": "shell"}
        loaded = Settings.load(**(given | settings))
        hosts = scripted_hosts()
        async with serving(loaded, hosts=lambda *_: hosts, agents=agents_for_a_server) as (_, base_url):
            yield base_url

    return serve


async def run(*command, timeout=110, cwd=None):
    """Exit status and output of a command."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=cwd
    )
    try:
        out, _ = await asyncio.wait_for(process.communicate(), timeout)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, out.decode()


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "phases", ["examples,coverage", pytest.param("fuzzing,stateful", marks=pytest.mark.slow)]
)
async def test_a_fuzzer_finds_only_what_the_reference_documents(serve, tmp_path, phases):
    config = tmp_path / "schemathesis.toml"
    config.write_text("")
    document = yaml.safe_load(SPEC.read_text())
    complete(document)
    spec = tmp_path / "spec.json"
    spec.write_text(json.dumps(document, default=str))
    async with serve(max_browsers=5, proxies={"de": "direct"}) as base_url:
        status, output = await run(
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", config, "run", spec),
            *("--url", base_url, "--header", f"X-Browser-Use-API-Key: {KEY}"),
            *("--checks", ",".join(CHECKS), "--phases", phases, "--mode", "all"),
            *("--max-examples", 10, "--seed", 1, "--no-color", "--suppress-health-check", "all"),
            cwd=tmp_path,
        )
    assert status == 0, output[-6000:]
    assert "Tested: 25" in output


async def test_the_quickstart_of_the_cloud_with_another_host(serve):
    """As a person types it: create a task, get its session, look at the live URL, stop."""
    async with serve() as base_url:

        async def curl(*arguments):
            status, output = await run("curl", "--silent", "--show-error", "--fail-with-body", *arguments)
            assert status == 0, output
            return json.loads(output)

        headers = ("-H", f"X-Browser-Use-API-Key: {KEY}", "-H", "Content-Type: application/json")
        body = json.dumps({"task": "Wait for the top Hacker News post"})
        created = await curl("-X", "POST", f"{base_url}/tasks", *headers, "-d", body)
        assert set(created) == {"id", "sessionId"}
        session = await curl(f"{base_url}/sessions/{created['sessionId']}", *headers)
        assert session["status"] == "active"
        assert "liveUrl" in session
        assert [task["status"] for task in session["tasks"]] == ["started"]
        task = await curl(f"{base_url}/tasks/{created['id']}", *headers)
        assert task["task"] == "Wait for the top Hacker News post"
        stop = ("-X", "PATCH", *headers, "-d", '{"action": "stop"}')
        task = await curl(*stop, f"{base_url}/tasks/{created['id']}")
        assert task["status"] == "stopped"
        session = await curl(*stop, f"{base_url}/sessions/{created['sessionId']}")
        assert session["status"] == "stopped"
