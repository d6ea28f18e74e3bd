"""Imports point down only, and each foreign library has its rooms. Read from the syntax trees, so lazy imports count too."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from tests.cases import cases

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "cdpbridge"

# Longest prefix wins. 0 leaves, 1 logic, 2 shells, 3 composition, 4 surfaces.
FLOORS = {
    "cdpbridge._clock": 0,
    "cdpbridge._durations": 0,
    "cdpbridge._environment": 0,
    "cdpbridge._file_names": 0,
    "cdpbridge._folders": 0,
    "cdpbridge._loopback": 0,
    "cdpbridge._on_use": 0,
    "cdpbridge._version": 0,
    "cdpbridge.errors": 0,
    "cdpbridge.protocol": 0,
    "cdpbridge._lifecycle": 1,
    "cdpbridge.api.calls": 1,
    "cdpbridge.api._drift": 1,
    "cdpbridge.api._file_rules": 1,
    "cdpbridge.api._models": 1,
    "cdpbridge.api._place": 1,
    "cdpbridge.api._problems": 1,
    "cdpbridge.api._results": 1,
    "cdpbridge.api._retry": 1,
    "cdpbridge.api._run_options": 1,
    "cdpbridge.api._server_default": 1,
    "cdpbridge.api._start_page": 1,
    "cdpbridge.api._task_models": 1,
    "cdpbridge.api._waiting": 1,
    "cdpbridge.attack._findings": 1,
    "cdpbridge.attack._targets": 1,
    "cdpbridge.billing": 1,
    "cdpbridge.isolation._explain": 1,
    "cdpbridge.isolation._links": 1,
    "cdpbridge.isolation._plan": 1,
    "cdpbridge.isolation._protocol": 1,
    "cdpbridge.isolation._steps": 1,
    "cdpbridge.isolation._system": 1,
    "cdpbridge.cdp._backoff": 1,
    "cdpbridge.cdp._domains": 1,
    "cdpbridge.cdp._frame_reader": 1,
    "cdpbridge.cdp._frames": 1,
    "cdpbridge.cdp._http_credentials": 1,
    "cdpbridge.cdp._intake": 1,
    "cdpbridge.cdp._keepalive": 1,
    "cdpbridge.cdp._multiplexer": 1,
    "cdpbridge.cdp._payload": 1,
    "cdpbridge.cdp._recorder": 1,
    "cdpbridge.cdp._routing": 1,
    "cdpbridge.cdp._state": 1,
    "cdpbridge.cdp._switches": 1,
    "cdpbridge.cdp._targets": 1,
    "cdpbridge.cdp._transport": 1,
    "cdpbridge.pool._schedule": 1,
    "cdpbridge.rental._budget": 1,
    "cdpbridge.server.engine._nodes": 1,
    "cdpbridge.server.engine._scaling": 1,
    "cdpbridge.server.gateway._closing": 1,
    "cdpbridge.server.store._recording_states": 1,
    "cdpbridge.server.tasks._task_states": 1,
    "cdpbridge.tunnel._messages": 1,
    "cdpbridge._concurrency": 2,
    "cdpbridge._streams": 2,
    "cdpbridge._disk": 2,
    "cdpbridge._embedded": 2,
    "cdpbridge._ps": 2,
    "cdpbridge.api": 2,
    "cdpbridge.cdp": 2,
    "cdpbridge.chromium": 2,
    "cdpbridge.isolation": 2,
    "cdpbridge.pool._map": 2,
    "cdpbridge.rental._shutdown": 2,
    "cdpbridge.rental.journal": 2,
    "cdpbridge.rental.journal._owner": 2,
    "cdpbridge.attack": 3,
    "cdpbridge.browser": 3,
    "cdpbridge.pool": 3,
    "cdpbridge.profile_sync": 3,
    "cdpbridge.providers": 3,
    "cdpbridge.rental": 3,
    "cdpbridge.server": 3,
    "cdpbridge.testing": 3,
    "cdpbridge.tunnel": 3,
    "cdpbridge": 4,  # the public names; it loads them on first use
    "cdpbridge.__main__": 4,
    "cdpbridge._pytest": 4,
    "cdpbridge.cli": 4,
    "cdpbridge.integrations": 4,
    "cdpbridge.playwright": 4,
    "cdpbridge.pytest_plugin": 4,
    "cdpbridge.sync": 4,
}
# Rooms of floor 2 that do not know each other.
STRANGERS = ("cdpbridge.api", "cdpbridge.cdp", "cdpbridge.chromium")
# Who may import what; everybody else may not.
ROOMS = {
    "asyncio": None,  # checked by floor below
    "httpx": ("cdpbridge.api", "cdpbridge.server.tasks.agent._judge"),
    "pydantic": ("cdpbridge.api", "cdpbridge.server"),
    "msgspec": ("cdpbridge.protocol", "cdpbridge.cdp"),
    "h11": ("cdpbridge.api._loopback_http", "cdpbridge.cdp._http", "cdpbridge.server"),
    "websockets": (
        "cdpbridge.cdp._websocket",
        "cdpbridge.cdp._upgrade",
        "cdpbridge.server.gateway",
        "cdpbridge.testing",
        "cdpbridge.cdp._frames",  # the C helper that masks
        "cdpbridge.tunnel._opening",  # the key of a handshake
    ),
    # a worker on a node of Ray; `local()`'s child; the question to the environment of agents; `doctor` asks a binary for its version
    "subprocess": (
        "cdpbridge.chromium",
        "cdpbridge.cli._doctor_machine",
        "cdpbridge._embedded._own",
        "cdpbridge._embedded._spawn",
        "cdpbridge._ps",
        "cdpbridge.server.engine._actor",
        "cdpbridge.server.tasks.agent._environment",
    ),
    "browser_use": (
        "cdpbridge.server.tasks.agent._child_agent",
        "cdpbridge.server.tasks.agent._child_files",
        "cdpbridge.server.tasks.agent._child_model",
        "cdpbridge.integrations.browser_use",
    ),
    "PIL": ("cdpbridge.server.tasks.agent._child_files",),
    "pypdf": ("cdpbridge.server.tasks.agent._child_documents",),
    "onepassword": ("cdpbridge.server.tasks.agent._child",),
    "jsonschema": ("cdpbridge.server.tasks.agent",),
    "playwright": ("cdpbridge.playwright", "cdpbridge.integrations.scrapy_playwright"),
    "pytest": ("cdpbridge.pytest_plugin", "cdpbridge._pytest"),
    "crawlee": ("cdpbridge.integrations.crawlee",),
    "scrapy": ("cdpbridge.integrations",),
    "robot": ("cdpbridge.integrations.robot",),
    "Browser": ("cdpbridge.integrations.robot",),
    "scrapy_playwright": ("cdpbridge.integrations.scrapy_playwright",),
    "fastapi": ("cdpbridge.server",),
    "starlette": ("cdpbridge.server",),
    "uvicorn": ("cdpbridge.server",),
    "sqlalchemy": ("cdpbridge.server",),
    "alembic": ("cdpbridge.server",),
    "ray": ("cdpbridge.server.engine._actor", "cdpbridge.server.engine._driver"),
    "obstore": ("cdpbridge.server.objects._storage",),
    "zstandard": ("cdpbridge.server.profiles._archive",),
    "av": ("cdpbridge.server.recording._video",),
    "prometheus_client": ("cdpbridge.server._metrics",),
    "typer": ("cdpbridge.cli",),
    "rich": ("cdpbridge.cli", "cdpbridge.pool._progress"),
    "matplotlib": ("cdpbridge.cli",),
}
NOT_SHIPPED = "cdpbridge._tools"


def module_name(file: Path) -> str:
    parts = list(file.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {
    module_name(file): file
    for file in sorted(PACKAGE.rglob("*.py"))
    if not module_name(file).startswith(NOT_SHIPPED)
}


def within(name: str, room: str) -> bool:
    return name == room or name.startswith(f"{room}.")


@cache
def floor(name: str) -> int:
    fitting = [room for room in FLOORS if within(name, room) and (room != "cdpbridge" or name == "cdpbridge")]
    assert fitting, f"{name} stands on no floor: give it one in tests/test_layers.py"
    return FLOORS[max(fitting, key=len)]


@cache
def imports(name: str) -> tuple[str, ...]:
    """Every module that `name` imports when it runs, however deep in a function; not what only type checkers read."""
    file = MODULES[name]
    tree = ast.parse(file.read_text())
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    return tuple(found for node in walk(tree) for found in targets(node, package))


def walk(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for other in node.orelse:
                yield from walk(other)
            continue
        yield node
        yield from walk(node)


def targets(node: ast.AST, package: str) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            parts = package.split(".")
            kept = parts[: len(parts) - node.level + 1]
            base = ".".join([*kept, *([node.module] if node.module else [])])
        for alias in node.names:
            inner = f"{base}.{alias.name}"
            yield inner if inner in MODULES else base


# One test for all modules: 1,800 cases of their own cost each worker more than what they look at.
def breaches(rule: Callable[[str, str], str | None]) -> list[str]:
    """What `rule` says of each module and each of its imports."""
    return [said for name in MODULES for found in imports(name) if (said := rule(name, found)) is not None]


def test_imports_point_down() -> None:
    def rule(name: str, found: str) -> str | None:
        if not within(found, "cdpbridge") or found.startswith(NOT_SHIPPED) or floor(found) <= floor(name):
            return None
        return f"{name} (floor {floor(name)}) imports {found} (floor {floor(found)})"

    assert breaches(rule) == []
    for name in MODULES:
        floor(name)  # also of one that imports nothing


def test_rooms_of_the_second_floor_are_strangers() -> None:
    def rule(name: str, found: str) -> str | None:
        rooms = [[room for room in STRANGERS if within(each, room)] for each in (name, found)]
        return f"{name} imports {found}" if all(rooms) and rooms[0] != rooms[1] else None

    assert breaches(rule) == []


def test_logic_knows_no_event_loop() -> None:
    def rule(name: str, found: str) -> str | None:
        return name if floor(name) <= 1 and within(found, "asyncio") else None

    assert breaches(rule) == []


def test_foreign_libraries_have_their_rooms() -> None:
    def rule(name: str, found: str) -> str | None:
        rooms = ROOMS.get(found.split(".", 1)[0])
        if rooms is None or any(within(name, room) for room in rooms):
            return None
        return f"{name} imports {found}; only {rooms} may"

    assert breaches(rule) == []


def test_every_room_exists() -> None:
    named = {room for room in FLOORS if room not in MODULES}
    named |= {room for rooms in ROOMS.values() if rooms for room in rooms if room not in MODULES}
    assert not named


@cases(
    ("source", "package", "expected"),
    [
        ("import a.b, c", "cdpbridge.cdp", {"a.b", "c"}),
        ("from . import _pipe", "cdpbridge.cdp", {"cdpbridge.cdp._pipe"}),
        ("from .._clock import Clock", "cdpbridge.cdp", {"cdpbridge._clock"}),
        ("def f():\n    import httpx", "cdpbridge.cdp", {"httpx"}),
        ("if TYPE_CHECKING:\n    import httpx", "cdpbridge.cdp", set()),
        ("if TYPE_CHECKING:\n    import httpx\nelse:\n    import json", "cdpbridge.cdp", set()),
    ],
)
def test_the_reader_itself(source: str, package: str, expected: set[str]) -> None:
    found = {name for node in walk(ast.parse(source)) for name in targets(node, package)}
    assert found - {"json"} == expected
