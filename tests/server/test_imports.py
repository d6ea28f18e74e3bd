"""What a server imports: at its start what rents browsers, everything else with its first request."""

import json
import subprocess
import sys

import pytest

from cdpbridge.server._route_groups import RouteGroup, RouteGroups
from tests.conftest import clean_environment

PROGRAM = """
import asyncio, json, sys
from cdpbridge.server import Settings, serving
print(json.dumps(sorted(sys.modules)))

async def main():
    settings = Settings.load(port=0, data_dir=sys.argv[1], api_keys="key-of-tests")
    async with serving(settings):
        print(json.dumps(sorted(sys.modules)))

asyncio.run(main())
"""
# Half of a start's imports: the first browser of an embedded server starts before them.
AFTER_THE_FIRST_BROWSER = {"fastapi", "sqlalchemy", "starlette", "uvicorn"}
# Large, or of parts that most servers never need.
LATER = {
    "alembic",
    "av",
    "cdpbridge.api._task_models",
    "cdpbridge.api.admin",
    "cdpbridge.api.calls",
    "cdpbridge.server.console._routes",
    "cdpbridge.server.console._snapshot",
    "cdpbridge.server.live._live",
    "cdpbridge.server.live._messages",
    "cdpbridge.server.recording._recorder",
    "cdpbridge.server.routes._admin",
    "cdpbridge.server.routes._files",
    "cdpbridge.server.routes._sessions",
    "cdpbridge.server.routes._tasks",
    "cdpbridge.server.tasks._tasks",
    "cdpbridge.server.tasks.agent",
    "httpx",
    "jsonschema",
    "prometheus_client",
    "rich",
    "sqlalchemy.dialects.postgresql",
    "typer",
}
ROOT = "http://test"
# A part of the server: a request for it, and a module that the request loads.
PARTS = {
    "console": (f"{ROOT}/", "/console/events"),
    "console files": (f"{ROOT}/console/static/app.js", "/console/events"),
    "live view": (f"{ROOT}/live/none", "/live/socket"),
    "shares": (f"{ROOT}/share/none", "/share/socket"),
    "metrics": (f"{ROOT}/metrics", "/healthz"),
    "files": (f"{ROOT}/files/none", "/files/{path:path}"),
    "script": (f"{ROOT}/profile.sh", "/profile.sh"),
    "operator": (f"{ROOT}/admin/v1/keys", "/admin/v1/projects"),
    "tasks": ("/tasks", "/api/v2/tasks/{task_id}"),
    "sessions": ("/sessions", "/api/v2/sessions/{session_id}"),
    "profiles": ("/profiles/none", "/api/v2/profiles"),
    "account": ("/billing/account", "/api/v2/billing/account"),
    "absent": ("/skills/any/where", "/api/v2/marketplace"),
}


@pytest.mark.chromium
@pytest.mark.one_build("no browser is started")
def test_a_started_server_has_imported_what_rents_browsers_and_no_more(tmp_path):
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "data")]
    ran = subprocess.run(
        command, env=clean_environment(), capture_output=True, text=True, timeout=280, check=True
    )
    first, loaded = (set(json.loads(line)) for line in ran.stdout.splitlines())
    assert "cdpbridge.server.hosts._local" in first
    assert not AFTER_THE_FIRST_BROWSER & first
    assert {"cdpbridge.server.routes._browsers", "cdpbridge.server.rentals._rentals"} <= loaded
    assert not LATER & loaded


def loaded_paths(app):
    return {getattr(route, "path", None) for route in app.router.routes}


async def test_the_first_request_for_a_part_loads_its_routes(api):
    assert "/api/v2/browsers" in loaded_paths(api.app)
    for part, (address, path) in PARTS.items():
        known = loaded_paths(api.app)
        assert (await api.client.get(address)).status_code != 500, part
        assert path in loaded_paths(api.app), part
        assert known <= loaded_paths(api.app), part


async def test_a_request_for_nothing_loads_nothing(api):
    before = loaded_paths(api.app)
    for path in (
        "/tasksandmore",
        "/task",
        f"{ROOT}/consoles",
        f"{ROOT}/livelike/x",
        f"{ROOT}/admin/v10/keys",
    ):
        assert (
            await api.client.get(path, headers={"X-Browser-Use-API-Key": "key-of-tests"})
        ).status_code in {
            401,
            404,
        }, path
    assert loaded_paths(api.app) == before


async def test_the_openapi_document_has_every_part_in_its_order(api):
    paths = list(api.app.openapi()["paths"])
    parts = list(dict.fromkeys(path.split("/")[3] for path in paths))
    assert parts == ["billing", "tasks", "sessions", "files", "profiles", "browsers"]


@pytest.mark.parametrize("order", [("/a", "/b/1", "/c"), ("/c", "/b", "/a"), ("/b/1", "/c", "/a")])
def test_routes_match_in_the_same_order_whatever_was_loaded_first(order):
    groups = RouteGroups(
        [
            RouteGroup(lambda: ["a"], ("/a", "/also/a")),
            RouteGroup(lambda: ["b", "b too"], ("/b",)),
            RouteGroup(lambda: ["always"]),
            RouteGroup(lambda: ["c"], ("/c",)),
        ]
    )
    assert groups.routes == ["always"]
    assert not groups.load_for("/bb")
    assert [groups.load_for(path) for path in order] == [True] * 3
    assert groups.routes == ["a", "b", "b too", "always", "c"]
    assert not groups.load_for(order[0])
    assert not groups.load_all()
