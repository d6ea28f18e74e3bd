"""What is public: names, sorted; each can be had; nothing heavy comes along."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import cdpbridge
from cdpbridge.cdp import Connection
from cdpbridge.testing import MemoryTransport
from tests.cases import cases

PUBLIC = [
    "Account",
    "AsyncClient",
    "Browser",
    "BrowserPool",
    "BrowserSession",
    "Budget",
    "CDPBridgeError",
    "Client",
    "Journal",
    "Profile",
    "ReapResult",
    "Receipt",
    "RentalOptions",
    "ServerDefault",
    "Tab",
    "Tariff",
    "__version__",
    "at",
    "cdp",
    "cloud",
    "errors",
    "forecast",
    "local",
    "open_browser",
    "playwright",
    "protocol",
    "reap",
    "server_default",
    "sync",
]
# Public members are for users: what the package's own parts call is in another object.
MEMBERS = {
    cdpbridge.AsyncClient: [
        "aclose",
        "address",
        "base_url",
        "billing",
        "browsers",
        "files",
        "honours_idempotency_keys",
        "is_local",
        "is_open",
        "options",
        "place",
        "profiles",
        "run",
        "send",
        "send_raw",
        "server_pid",
        "sessions",
        "share",
        "start",
        "tasks",
    ],
    cdpbridge.Browser: [
        "cdp_url",
        "connection",
        "cost_now",
        "id",
        "live_url",
        "new_tab",
        "on",
        "profile_id",
        "profile_writable",
        "receipt",
        "receipts",
        "record",
        "refund_now",
        "started_at",
        "stop",
        "tabs",
        "timeout_at",
    ],
    cdpbridge.BrowserPool: ["lease", "map", "receipt", "receipts", "run", "stats", "tab"],
    cdpbridge.Tab: [
        "back",
        "block",
        "click",
        "close",
        "content",
        "cookies",
        "current_url",
        "evaluate",
        "expect_download",
        "expect_downloads",
        "fill",
        "forward",
        "goto",
        "on",
        "pdf",
        "press",
        "reload",
        "route",
        "screenshot",
        "session",
        "set_cookies",
        "set_input_files",
        "set_viewport",
        "storage_state",
        "target_id",
        "title",
        "unroute",
        "wait_for_expression",
        "wait_for_selector",
    ],
}
PACKAGE = Path(cdpbridge.__file__).parent
FOLDERS = sorted(
    ".".join(["cdpbridge", *file.parent.relative_to(PACKAGE).parts])
    for file in PACKAGE.rglob("__init__.py")
    if not {"_tools", "migrations"} & set(file.parts) and file.parent != PACKAGE
)


def test_the_top_level_is_what_it_was() -> None:
    assert cdpbridge.__all__ == PUBLIC
    assert len(PUBLIC) <= 30


def test_every_top_level_name_can_be_had() -> None:
    for name in cdpbridge.__all__:
        assert getattr(cdpbridge, name) is not None
    assert dir(cdpbridge) == sorted(cdpbridge.__all__)
    with pytest.raises(AttributeError, match="nonsense"):
        _ = cdpbridge.nonsense  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", MEMBERS, ids=lambda kind: kind.__name__)
def test_public_members_are_for_users(kind: type) -> None:
    """Of the class, and the attributes that its methods set."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    stores = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    found = {
        node.attr
        for node in stores
        if isinstance(node.ctx, ast.Store) and isinstance(node.value, ast.Name) and node.value.id == "self"
    }
    assert sorted(name for name in {*dir(kind), *found} if not name.startswith("_")) == MEMBERS[kind]


PUBLIC_MODULES = sorted(
    module.name for module in pkgutil.iter_modules(cdpbridge.__path__) if not module.name.startswith("_")
)


@pytest.mark.parametrize("name", [*PUBLIC_MODULES, "api.webhooks"])
def test_fault_e05_public_modules_can_be_had_by_attribute(name: str) -> None:
    """In a fresh interpreter, where nothing else has imported them: README's `cdpbridge.tunnel.open_tunnel`."""
    code = f"import cdpbridge; print(cdpbridge.{name}.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == f"cdpbridge.{name}", done.stderr


# What users see of an object: methods, properties and attributes. Wiring between the package's own parts is not public.
CONNECTION_MEMBERS = [
    "attach",
    "close",
    "close_code",
    "close_reason",
    "closed",
    "create_task",
    "flight_record",
    "is_alive",
    "new_tab",
    "on",
    "reconnecting",
    "report",
    "root",
    "sessions",
    "stats",
    "targets",
    "wait_closed",
]
CDP_SESSION_MEMBERS = [
    "auto_attach",
    "children",
    "closed",
    "connection",
    "describe",
    "detach",
    "events",
    "expect",
    "hint",
    "id",
    "on",
    "parent",
    "send",
    "target_id",
    "target_type",
]


def public_members(thing: object) -> list[str]:
    """Of the class and of the instance."""
    return sorted(name for name in dir(thing) if not name.startswith("_"))


async def test_public_members_of_connection_and_cdp_session() -> None:
    async with Connection(MemoryTransport()) as connection:
        assert public_members(connection) == CONNECTION_MEMBERS
        assert public_members(connection.root) == CDP_SESSION_MEMBERS


@cases("folder", FOLDERS)
def test_folders_export_names_that_exist(folder: str) -> None:
    """Sorted they are by ruff's rule RUF022."""
    module = importlib.import_module(folder)
    assert len(set(module.__all__)) == len(module.__all__)
    for name in module.__all__:
        assert getattr(module, name) is not None


def test_files_say_what_they_offer() -> None:
    """Every file begins by saying what it is for."""
    files = [file for file in PACKAGE.rglob("*.py") if not {"_tools", "versions"} & set(file.parts)]
    assert len(files) > 400
    begin = ('"""', "# Generated by", "#!")
    assert [file for file in files if (text := file.read_text()) and not text.startswith(begin)] == []


@pytest.mark.parametrize(
    ("code", "strangers"),
    [
        (
            "import cdpbridge",
            ["asyncio", "httpx", "pydantic", "msgspec", "websockets", "playwright", "click"],
        ),
        ("import cdpbridge; cdpbridge.cdp.connect", ["httpx", "pydantic", "playwright", "fastapi", "click"]),
        (
            "import cdpbridge; cdpbridge.open_browser, cdpbridge.local",
            [
                "cdpbridge.cdp",
                "cdpbridge.cli",
                "cdpbridge.rental._rental",
                "fastapi",
                "httpx",
                "playwright",
                "sqlalchemy",
                "uvicorn",
            ],
        ),
        ("import cdpbridge.sync", ["httpx", "playwright", "fastapi", "sqlalchemy", "uvicorn", "typer"]),
    ],
)
def test_nothing_heavy_comes_along(code: str, strangers: list[str]) -> None:
    program = f"import sys\n{code}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not set(strangers) & set(done.stdout.split())


def test_the_package_is_typed() -> None:
    assert (PACKAGE / "py.typed").exists()
