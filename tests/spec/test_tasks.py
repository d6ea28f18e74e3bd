"""The operations on tasks."""

from datetime import UTC, datetime

import httpx
import pytest

from cdpbridge.api import SUPPORTED_LLMS
from cdpbridge.api._task_models import SDK_LLMS
from tests.cases import cases

from .conftest import UNKNOWN


@pytest.fixture(scope="module")
def tasks(spec_api):
    """A finished, a stopped and a running task, each in a session of its own."""
    finished = spec_api.done("Look around", metadata={"kind": "finished"})
    stopped = spec_api.call("POST", "/tasks", {"task": "Wait for a stop"}, status=202)
    spec_api.call("PATCH", "/tasks/{task_id}", {"action": "stop"}, status=200, task_id=stopped["id"])
    return {"finished": finished["id"], "stopped": stopped["id"]}


def test_pages(api, tasks):
    """Lines 183-192: tasks in pages of 1 to 100."""
    page = api.call("GET", "/tasks", status=200, params={"pageSize": 1, "pageNumber": 2})
    assert (len(page["items"]), page["pageSize"], page["pageNumber"]) == (1, 1, 2)
    past = api.call("GET", "/tasks", status=200, params={"pageNumber": 1000})
    assert (past["items"], past["totalItems"]) == ([], page["totalItems"])
    for params in ({"pageSize": 0}, {"pageSize": 101}, {"pageNumber": 0}, {"pageSize": "x"}):
        api.refused("GET", "/tasks", None, next(iter(params)), params=params)


def test_filter_by_session(api, tasks):
    """Lines 193-200: the tasks of one session."""
    task = api.call("GET", "/tasks/{task_id}", status=200, task_id=tasks["finished"])
    page = api.call("GET", "/tasks", status=200, params={"sessionId": task["sessionId"]})
    assert [item["id"] for item in page["items"]] == [task["id"]]
    assert api.call("GET", "/tasks", status=200, params={"sessionId": UNKNOWN})["items"] == []
    api.refused("GET", "/tasks", None, "sessionId", params={"sessionId": "nonsense"})


@pytest.mark.parametrize("status", ["started", "paused", "finished", "stopped"])
def test_filter_by_status(api, tasks, status):
    """Lines 201-207: the tasks with one status."""
    if status in {"started", "paused"}:
        task = api.call("POST", "/tasks", {"task": "Wait"}, status=202)["id"]
        if status == "paused":
            api.call("PATCH", "/tasks/{task_id}", {"action": "pause"}, status=200, task_id=task)
    else:
        task = tasks[status]
    items = api.call("GET", "/tasks", status=200, params={"filterBy": status, "pageSize": 100})["items"]
    assert task in {item["id"] for item in items}
    assert {item["status"] for item in items} == {status}


def test_unknown_status(api):
    """Lines 201-207: another word is refused."""
    api.refused("GET", "/tasks", None, "filterBy", params={"filterBy": "asleep"})


def test_after_and_before(api, tasks):
    """Lines 208-223: the tasks of a time."""
    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    everything = api.call("GET", "/tasks", status=200)["totalItems"]
    assert api.call("GET", "/tasks", status=200, params={"before": now})["totalItems"] == everything
    assert api.call("GET", "/tasks", status=200, params={"after": now})["totalItems"] == 0
    api.refused("GET", "/tasks", None, "after", params={"after": "yesterday"})


def test_new_and_existing_session(api):
    """Lines 318-320: a task has a session of its own, or runs in one that is there."""
    alone = api.done()
    session = api.session()
    inside = api.done(sessionId=session["id"])
    assert inside["sessionId"] == session["id"] != alone["sessionId"]


def test_stopped_session(api):
    """Lines 355-357: 400 in a session that is stopped."""
    session = api.session()
    api.stop_session(session)
    refused = api.call("POST", "/tasks", {"task": "x", "sessionId": session["id"]}, status=400)
    assert "stopped" in refused["detail"]


def test_unknown_session(api):
    """Lines 358-360: 404 in a session that is not there."""
    answer = api.call("POST", "/tasks", {"task": "x", "sessionId": UNKNOWN}, status=404)
    assert answer["detail"] == "Session not found"


def test_too_many_sessions(api):
    """Lines 364-366: 429 above the limit."""
    small = api.small_project("one task", maxBrowsers=1)
    waiting = small.call("POST", "/tasks", {"task": "Wait"}, status=202)
    small.call("POST", "/tasks", {"task": "More"}, status=429)
    small.call(
        "PATCH", "/tasks/{task_id}", {"action": "stop_task_and_session"}, status=200, task_id=waiting["id"]
    )


@cases("llm", [*SUPPORTED_LLMS, *SDK_LLMS])
def test_models(api, llm):
    """Lines 374-390: each model's name is taken as it is, those of the official SDK too."""
    task = api.done(llm=llm)
    assert task["llm"] == llm
    assert api.background.agents.run.spec.model == llm


@cases("llm", ["gpt-99", "", None, 1])
def test_other_models(api, llm):
    """Lines 374-390: another name is refused, with those that would do."""
    answer = api.http.post("/tasks", json={"task": "x", "llm": llm})
    assert answer.status_code == 422
    if llm == "gpt-99":
        assert "browser-use-llm, gpt-4.1" in answer.json()["detail"][0]["msg"]


@pytest.mark.parametrize(
    ("given", "opened"),
    [
        ("https://example.com/a", "https://example.com/a"),
        ("example.com", "https://example.com"),
        ("about:blank",) * 2,
    ],
)
def test_start_url(api, given, opened):
    """Lines 405-408: the page that the task begins on, with or without a scheme."""
    api.done(startUrl=given)
    assert api.background.agents.run.spec.start_url == opened
    api.refused("POST", "/tasks", {"task": "x", "startUrl": "file:///etc/passwd"}, "startUrl")


def test_max_steps(api):
    """Lines 409-410: how many steps there may be."""
    for steps in (7, 7.0):
        api.done(maxSteps=steps)
        assert api.background.agents.run.spec.max_steps == 7
    for steps in (0, 10_001, "7", 7.5, True, None):
        api.refused("POST", "/tasks", {"task": "x", "maxSteps": steps}, "maxSteps")


def test_structured_output(api):
    """Lines 411-414: a JSON schema, as text."""
    schema = '{"type": "object", "properties": {"price": {"type": "number"}}}'
    api.done(structuredOutput=schema)
    assert api.background.agents.run.spec.structured_output == schema
    for wrong in ("no json", "[]", {"type": "object"}):
        api.refused("POST", "/tasks", {"task": "x", "structuredOutput": wrong}, "structuredOutput")


def test_metadata(api):
    """Lines 420-425: texts by name, as many as fit into 16 KiB."""
    metadata = {f"name {number}": "value" for number in range(200)}
    task = api.done(metadata=metadata)
    assert task["metadata"] == metadata
    api.refused("POST", "/tasks", {"task": "x", "metadata": {"a": 1}}, "metadata")
    api.refused("POST", "/tasks", {"task": "x", "metadata": {"a": "x" * 20_000}}, "metadata")


def test_secrets(api):
    """Lines 426-431: secrets are for the agent, and in no answer."""
    task = api.done(secrets={"password": "hunter2hunter"})
    assert api.background.agents.run.spec.secrets == {"password": "hunter2hunter"}
    assert "hunter2hunter" not in str(task)
    api.refused("POST", "/tasks", {"task": "x", "secrets": {"password": 1}}, "secrets")


def test_allowed_domains(api):
    """Lines 432-437: the hosts that the agent may reach."""
    api.done(allowedDomains=["example.com", "*.example.org"])
    assert api.background.agents.run.spec.allowed_domains == ("example.com", "*.example.org")
    api.refused("POST", "/tasks", {"task": "x", "allowedDomains": "example.com"}, "allowedDomains")


def test_vault(api):
    """Lines 438-441: a 1Password vault needs a service account."""
    api.refused("POST", "/tasks", {"task": "x", "opVaultId": "vault"}, "opVaultId")
    api.done(opVaultId=None)


@pytest.mark.parametrize(
    ("name", "attribute"),
    [("highlightElements", "highlight_elements"), ("flashMode", "flash_mode"), ("thinking", "thinking")],
)
def test_switches(api, name, attribute):
    """Lines 442-447: three switches of the agent, true or false and nothing else."""
    for value in (True, False):
        api.done(**{name: value})
        assert getattr(api.background.agents.run.spec, attribute) is value
    for value in ("yes", 1, None):
        api.refused("POST", "/tasks", {"task": "x", name: value}, name)


@pytest.mark.parametrize("vision", [True, False, "auto"])
def test_vision(api, vision):
    """Lines 448-449: pictures always, never, or when the agent asks."""
    api.done(vision=vision)
    assert api.background.agents.run.spec.vision == vision
    for wrong in ("always", 1, None):
        api.refused("POST", "/tasks", {"task": "x", "vision": wrong}, "vision")


def test_system_prompt_extension(api):
    """Lines 450-451: more words for the model."""
    api.done(systemPromptExtension="Be brief.")
    assert api.background.agents.run.spec.system_prompt_extension == "Be brief."


@cases("task", ["", "   ", "\n\t", None, 1])
def test_a_task_says_something(api, task):
    """Lines 452-453: the text of the task is needed, and is not blank."""
    api.refused("POST", "/tasks", {"task": task}, "task")
    api.refused("POST", "/tasks", {}, "task")


def test_nulls(api):
    """Lines 398-451: seven fields may be null."""
    names = (
        "startUrl",
        "structuredOutput",
        "sessionId",
        "metadata",
        "secrets",
        "allowedDomains",
        "opVaultId",
    )
    assert api.done(**dict.fromkeys(names))["status"] == "finished"


def test_get_task(api, tasks):
    """Lines 480-617: a task with steps and files."""
    task = api.call("GET", "/tasks/{task_id}", status=200, task_id=tasks["finished"])
    assert (task["status"], task["metadata"], len(task["steps"])) == ("finished", {"kind": "finished"}, 2)
    running = api.call("POST", "/tasks", {"task": "Wait"}, status=202)
    seen = api.call("GET", "/tasks/{task_id}", status=200, task_id=running["id"])
    assert (seen["status"], seen["output"], seen["isSuccess"], seen["finishedAt"]) == (
        "started",
        None,
        None,
        None,
    )
    api.call("GET", "/tasks/{task_id}", status=404, task_id=UNKNOWN)
    api.call("GET", "/tasks/{task_id}", status=422, task_id="nonsense")


def test_update_task(api, tasks):
    """Lines 660-679: pause, resume, stop, stop with the session."""
    created = api.call("POST", "/tasks", {"task": "Wait"}, status=202)

    def act(action):
        return api.call("PATCH", "/tasks/{task_id}", {"action": action}, status=200, task_id=created["id"])[
            "status"
        ]

    def session():
        return api.call("GET", "/sessions/{session_id}", status=200, session_id=created["sessionId"])[
            "status"
        ]

    assert [act("pause"), act("resume")] == ["paused", "started"]
    assert act("stop_task_and_session") == "stopped"
    assert session() == "stopped"
    kept = api.session()
    created = api.call("POST", "/tasks", {"task": "Wait", "sessionId": kept["id"]}, status=202)
    assert (act("stop"), session()) == ("stopped", "active")
    assert act("resume") == "stopped"
    for wrong in ({"action": "sleep"}, {"action": None}, {}):
        api.call("PATCH", "/tasks/{task_id}", wrong, status=422, task_id=created["id"])
    api.call("PATCH", "/tasks/{task_id}", {"action": "stop"}, status=404, task_id=UNKNOWN)


def test_logs(api, tasks):
    """Lines 791-848: the log of a task, by a signed address."""
    found = api.call("GET", "/tasks/{task_id}/logs", status=200, task_id=tasks["finished"])
    assert httpx.get(found["downloadUrl"]).text == "all went well\n"
    api.call("GET", "/tasks/{task_id}/logs", status=404, task_id=UNKNOWN)
    api.call("GET", "/tasks/{task_id}/logs", status=422, task_id="nonsense")
