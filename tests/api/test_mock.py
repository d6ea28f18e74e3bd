"""Every call of ours against a mock that a third-party tool (Prism) makes from the specification: it checks each request."""

import os
import shutil
import socket
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import httpx
import pytest
import yaml

from cdpbridge.api import AsyncClient, Client, CustomProxy
from cdpbridge.errors import (
    APIStatusError,
    BadRequestError,
    NotFoundError,
    RateLimitError,
    ServerError,
    UnprocessableEntityError,
)
from tests.conftest import only_one_installs

from .conftest import KEY, SPEC

pytestmark = pytest.mark.programs

FOLDER = Path(__file__).parents[2] / ".cache" / "node"
PACKAGE = "@stoplight/prism-cli@5.14.2"
ID = UUID("11111111-2222-4333-8444-555555555555")


@pytest.fixture(scope="module")
def mock():
    """Base URL of the mock; Prism is installed on first use."""
    if shutil.which("npm") is None:
        pytest.skip("no Node on this machine")
    program = FOLDER / "node_modules" / ".bin" / "prism"
    with only_one_installs():
        if not program.exists():
            command = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(FOLDER), PACKAGE]
            installed = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
            if installed.returncode:
                pytest.skip(f"Prism cannot be installed: {installed.stderr[-300:]}")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [str(program), "mock", "-h", "127.0.0.1", "-p", str(port), "--errors", str(SPEC)]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ | {"NO_COLOR": "1"}
    )
    base_url = f"http://127.0.0.1:{port}"
    try:
        wait_ready(base_url, process)
        yield base_url
    finally:
        process.terminate()
        process.wait(100)


def wait_ready(base_url, process):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None
        try:
            httpx.get(base_url, timeout=5, trust_env=False)
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            return
    pytest.fail("Prism did not start")


# Name in the reference -> how our client calls it, with every argument that the reference has.
CALLS = {
    "get-account-billing-billing-account-get": lambda client: client.billing.account(),
    "list-tasks-tasks-get": lambda client: client.tasks.list(
        status="finished",
        session_id=ID,
        after=datetime(2026, 11, 1, tzinfo=UTC),
        before=datetime(2026, 11, 2, tzinfo=UTC),
        page_size=5,
    ).page(2),
    "create-task-tasks-post": lambda client: client.tasks.create(
        "Find the price",
        session_id=ID,
        llm="gpt-4o",
        start_url="https://example.com",
        max_steps=5,
        structured_output={"type": "object"},
        metadata={"team": "a"},
        secrets={"x_user": "ada"},
        allowed_domains=["example.com"],
        op_vault_id="v",
        highlight_elements=True,
        flash_mode=False,
        thinking=True,
        vision="auto",
        system_prompt_extension="Be short.",
    ),
    "get-task-tasks-task-id-get": lambda client: client.tasks.get(ID),
    "update-task-tasks-task-id-patch": lambda client: client.tasks.stop_task_and_session(ID),
    "get-task-logs-tasks-task-id-logs-get": lambda client: client.tasks.logs(ID),
    "list-sessions-sessions-get": lambda client: client.sessions.list(status="active", page_size=5).page(),
    "create-session-sessions-post": lambda client: client.sessions.create(
        profile_id=ID, proxy_country="GB", start_url="https://example.com"
    ),
    "get-session-sessions-session-id-get": lambda client: client.sessions.get(ID),
    "update-session-sessions-session-id-patch": lambda client: client.sessions.stop(ID),
    "get-session-public-share-sessions-session-id-public-share-get": lambda client: client.sessions.get_share(
        ID
    ),
    "create-session-public-share-sessions-session-id-public-share-post": lambda client: (
        client.sessions.create_share(ID)
    ),
    "delete-session-public-share-sessions-session-id-public-share-delete": lambda client: (
        client.sessions.delete_share(ID)
    ),
    "user-upload-file-presigned-url-files-sessions-session-id-presigned-url-post": (
        lambda client: client.files.create_session_upload(
            ID, file_name="a.csv", content_type="text/csv", size_bytes=3
        )
    ),
    "user-upload-file-presigned-url-browser-files-browsers-session-id-presigned-url-post": (
        lambda client: client.files.create_browser_upload(
            ID, file_name="a.csv", content_type="text/csv", size_bytes=3
        )
    ),
    "get-task-output-file-presigned-url-files-tasks-task-id-output-files-file-id-get": (
        lambda client: client.files.get_output_file(ID, ID)
    ),
    "list-profiles-profiles-get": lambda client: client.profiles.list(page_size=5).page(),
    "create-profile-profiles-post": lambda client: client.profiles.create(name="work"),
    "get-profile-profiles-profile-id-get": lambda client: client.profiles.get(ID),
    "update-profile-profiles-profile-id-patch": lambda client: client.profiles.update(ID, name="home"),
    "delete-browser-profile-profiles-profile-id-delete": lambda client: client.profiles.delete(ID),
    "list-browser-sessions-browsers-get": lambda client: client.browsers.list(
        status="active", page_size=5
    ).page(),
    "create-browser-session-browsers-post": lambda client: client.browsers.create(
        profile_id=ID, proxy_country="de", timeout=timedelta(minutes=15), idempotency_key="k"
    ),
    "get-browser-session-browsers-session-id-get": lambda client: client.browsers.get(ID),
    "update-browser-session-browsers-session-id-patch": lambda client: client.browsers.stop(ID),
}


def operations():
    """Of the specification: name, path, documented statuses."""
    for methods in yaml.safe_load(SPEC.read_text())["paths"].values():
        for operation in methods.values():
            yield operation["operationId"], sorted(int(status) for status in operation["responses"])


OPERATIONS = dict(operations())


def test_there_is_a_call_for_each_operation():
    assert len(OPERATIONS) == 25
    assert CALLS.keys() == OPERATIONS.keys()


@pytest.mark.parametrize("operation", CALLS)
async def test_the_mock_accepts_every_call(mock, operation):
    documented = [status for status in OPERATIONS[operation] if status < 300]
    statuses = []

    async def note(response):
        statuses.append(response.status_code)

    async with (
        httpx.AsyncClient(event_hooks={"response": [note]}, trust_env=False) as http,
        AsyncClient(KEY, mock, max_retries=0, http_client=http) as client,
    ):
        answer = await CALLS[operation](client)
    assert statuses == documented
    assert (answer is None) == (statuses == [204])
    with Client(KEY, mock, max_retries=0) as client:
        assert type(CALLS[operation](client)) is type(answer)


@pytest.mark.parametrize("action", ["stop", "pause", "resume"])
async def test_the_mock_accepts_every_action(mock, action):
    async with AsyncClient(KEY, mock, max_retries=0) as client:
        assert (await getattr(client.tasks, action)(ID)).steps is not None


async def test_what_is_newer_than_the_reference_is_accepted_too(mock):
    proxy = CustomProxy(host="proxy.example.com", port=8080, username="u", password="p")
    async with AsyncClient(KEY, mock, max_retries=0) as client:
        await client.browsers.create(
            browser_screen_width=1280,
            browser_screen_height=800,
            custom_proxy=proxy,
            metadata={"team": "a"},
            enable_recording=False,
            extra_body={"solveCaptchas": False},
        )
        await client.sessions.create(keep_alive=True, persist_memory=False, custom_proxy=proxy)
        await client.tasks.create("Find the price", judge=True)


ERRORS = {
    400: BadRequestError,
    404: NotFoundError,
    422: UnprocessableEntityError,
    429: RateLimitError,
    500: ServerError,
}


@pytest.mark.parametrize(
    ("operation", "status"),
    [(name, status) for name, statuses in OPERATIONS.items() for status in statuses if status >= 400],
)
async def test_fault_a85_each_documented_refusal_has_its_class(mock, operation, status):
    async with (
        httpx.AsyncClient(headers={"Prefer": f"code={status}"}, trust_env=False) as http,
        AsyncClient(KEY, mock, max_retries=0, http_client=http) as client,
    ):
        with pytest.raises(APIStatusError) as caught:
            await CALLS[operation](client)
    assert caught.value.status == status
    if status in ERRORS:
        assert type(caught.value) is ERRORS[status]
