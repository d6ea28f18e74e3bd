"""Waiting for tasks, watching their steps, and `run`: what is asked, when, and what is left running."""

import asyncio
import json
from datetime import timedelta

import httpx
import pytest
from pydantic import BaseModel

from cdpbridge.api import AsyncClient, Client
from cdpbridge.errors import (
    APIConnectionError,
    APIResponseError,
    AuthenticationError,
    ConfigurationError,
    NotFoundError,
    RateLimitError,
    ServerError,
    TaskOutputError,
    TaskTimeout,
)

from .conftest import BASE_URL, KEY
from .task_service import LIVE_URL, SESSION_ID, TASK_ID, Service


@pytest.fixture
def service(monkeypatch):
    service = Service()

    async def sleep(seconds):
        assert seconds > 0
        service.now += seconds
        await asyncio.sleep(0)

    def sleep_sync(seconds):
        service.now += seconds

    for module, pause in (("_async_io", sleep), ("_sync_io", sleep_sync)):
        monkeypatch.setattr(f"cdpbridge.api.{module}.sleep", pause)
        monkeypatch.setattr(f"cdpbridge.api.{module}.monotonic", lambda: service.now)
    return service


@pytest.fixture
async def client(service):
    async with httpx.AsyncClient(transport=httpx.MockTransport(service)) as http:
        yield AsyncClient(KEY, BASE_URL, http_client=http)


# --- wait and steps ---------------------------------------------------------------------------------------------------


async def test_wait(service, client):
    task = await client.tasks.wait(TASK_ID)
    assert (task.status, task.output) == ("finished", "42")
    assert service.log == ["GET /tasks/T/status"] * 3 + ["GET /tasks/T"]


async def test_wait_on_a_server_without_the_newer_operation(service, client):
    service.has_status = False
    await client.tasks.wait(TASK_ID)
    assert service.log == ["GET /tasks/T/status"] + ["GET /tasks/T"] * 3


async def test_wait_for_nothing(service, client):
    service.refuse = {
        ("GET", f"/tasks/{TASK_ID}{end}"): httpx.Response(404, json={"detail": "Task not found"})
        for end in ("", "/status")
    }
    with pytest.raises(NotFoundError, match="Task not found") as caught:
        await client.tasks.wait(TASK_ID, stop_on_cancel=True)
    assert service.patches() == []
    assert not hasattr(caught.value, "__notes__")


async def test_steps(service, client):
    numbers = [step.number async for step in client.tasks.steps(TASK_ID)]
    assert numbers == [1, 2, 3]
    assert service.log == ["GET /tasks/T"] * 3


async def test_steps_from_where_one_was(service, client):
    service.done = 2
    assert [step.number async for step in client.tasks.steps(TASK_ID, after=2)] == [3]


async def test_wait_outlives_a_server_that_restarts(service, client):
    service.failures = [httpx.ConnectError("refused"), httpx.Response(503), httpx.ReadError("reset")]
    assert (await client.tasks.wait(TASK_ID)).status == "finished"


async def test_wait_ends_when_the_server_stays_away(service, client):
    service.failures = [httpx.Response(502)] * 1000
    with pytest.raises(ServerError) as caught:
        await client.tasks.wait(TASK_ID)
    assert 60 <= service.now <= 70
    assert f"cdpbridge tasks stop {TASK_ID}" in caught.value.__notes__[0]


async def test_wait_ends_at_once_when_it_makes_no_sense(service, client):
    service.failures = [httpx.Response(401)]
    with pytest.raises(AuthenticationError):
        await client.tasks.wait(TASK_ID)
    assert service.now == 0


@pytest.mark.parametrize(("stop", "note"), [(False, "may go on and cost money"), (True, "was stopped")])
async def test_a_wait_that_takes_too_long(service, client, stop, note):
    service.steps = 10_000
    with pytest.raises(TaskTimeout, match="within 30 s") as caught:
        await client.tasks.wait(TASK_ID, timeout=timedelta(seconds=30), stop_on_cancel=stop)
    assert 30 <= service.now < 31
    assert note in caught.value.__notes__[0]
    assert service.patches() == (["PATCH /tasks/T"] if stop else [])


@pytest.mark.parametrize(("stop", "note"), [(False, "may go on and cost money"), (True, "was stopped")])
async def test_a_wait_that_is_cancelled(service, client, stop, note):
    service.steps = 10**9
    waiting = asyncio.create_task(client.tasks.wait(TASK_ID, stop_on_cancel=stop))
    while not service.log:
        await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await waiting
    assert note in caught.value.__notes__[0]
    assert service.stopped == ("stop" if stop else None)


async def test_a_stop_that_fails_is_named(service, client):
    service.steps = 10_000
    service.refuse["PATCH", f"/tasks/{TASK_ID}"] = httpx.Response(500, json={"detail": "no"})
    with pytest.raises(TaskTimeout) as caught:
        await client.tasks.wait(TASK_ID, timeout=timedelta(seconds=5), stop_on_cancel=True)
    assert "could not be stopped and may go on and cost money" in caught.value.__notes__[0]


async def test_leaving_the_steps_early_stops_the_task_when_asked(service, client):
    service.steps = 100
    steps = client.tasks.steps(TASK_ID, stop_on_cancel=True)
    async for step in steps:
        if step.number == 2:
            break
    await steps.aclose()
    assert service.stopped == "stop"


# --- run --------------------------------------------------------------------------------------------------------------


class Price(BaseModel):
    amount: float
    currency: str


async def test_run_in_one_call(service, client):
    seen = []
    result = await client.run("Find the price", llm="gpt-4o", on_step=lambda step: seen.append(step.number))
    assert (result.id, result.session_id, result.live_url) == (TASK_ID, SESSION_ID, LIVE_URL)
    assert (result.output, result.parsed, result.status, result.is_success) == ("42", None, "finished", True)
    # A program that is killed leaves no session that costs money: the server ends it with the task.
    settings = {"keepAlive": False}
    assert service.body == {"task": "Find the price", "llm": "gpt-4o", "sessionSettings": settings}
    assert seen == [1, 2, 3] == [step.number for step in reversed(result.steps)]
    assert service.session == "stopped"
    assert LIVE_URL not in repr(result)


async def test_run_with_a_class_for_the_output(service, client):
    service.output = '{"amount": 4.5, "currency": "EUR"}'
    result = await client.run("Find the price", output_model=Price)
    assert result.parsed == Price(amount=4.5, currency="EUR")
    assert json.loads(service.body["structuredOutput"])["properties"].keys() == {"amount", "currency"}


@pytest.mark.parametrize(
    ("output", "words"), [("4.50 EUR", "no Price"), ('{"amount": 1}', "currency"), (None, "no output")]
)
async def test_an_output_that_does_not_fit(service, client, output, words):
    service.output = output
    with pytest.raises(TaskOutputError, match=words) as caught:
        await client.run("Find the price", output_model=Price)
    assert (caught.value.task_id, caught.value.session_id, caught.value.output) == (
        TASK_ID,
        SESSION_ID,
        output,
    )
    assert service.session == "stopped"


async def test_run_in_a_session_that_is_there(service, client):
    service.session = "active"
    await client.run("Go on", session_id=SESSION_ID)
    assert service.body["sessionId"] == str(SESSION_ID)
    assert service.session == "active"


async def test_run_with_a_profile_makes_a_session_and_ends_it(service, client):
    await client.run("Log in", profile_id=TASK_ID, proxy_country="de")
    assert service.session_body == {"profileId": str(TASK_ID), "proxyCountryCode": "de", "keepAlive": False}
    assert service.body["sessionId"] == str(SESSION_ID)
    assert service.session == "stopped"


async def test_run_may_keep_its_session(service, client):
    result = await client.run("Log in", keep_session=True)
    assert service.session_body == {"keepAlive": True}
    assert service.session == "active"
    assert result.session_id == SESSION_ID


async def test_the_settings_of_a_session_that_run_asks_for_are_the_callers_first(service, client):
    more = {"sessionSettings": {"browserScreenWidth": 800, "keepAlive": True}, "thinkingLevel": "low"}
    await client.run("Look", extra_body=more)
    assert service.body == {"task": "Look"} | more
    await client.run("Look", extra_body={"sessionSettings": {"browserScreenWidth": 800}})
    assert service.body["sessionSettings"] == {"browserScreenWidth": 800, "keepAlive": False}
    assert service.session == "stopped"  # it is run's own, whatever it was made with
    await client.run("Look", session_id=SESSION_ID)
    assert "sessionSettings" not in service.body


async def test_a_run_that_takes_too_long_leaves_nothing(service, client):
    service.steps = 10_000
    with pytest.raises(TaskTimeout) as caught:
        await client.run("Find the price", timeout=timedelta(seconds=20))
    assert (service.stopped, service.session) == ("stop_task_and_session", "stopped")
    assert caught.value.__notes__ == [f"task {TASK_ID} was stopped"]


@pytest.mark.parametrize("moment", ["POST /tasks", "GET /sessions/S", "GET /tasks/T/status"])
async def test_a_run_that_is_cancelled_leaves_nothing(service, client, moment):
    service.steps = 10**9
    running = asyncio.create_task(client.run("Find the price"))
    answer = service.answer

    def cancel_then(method, path, body):
        if service.log[-1] == moment:
            running.cancel()
        return answer(method, path, body)

    service.answer = cancel_then
    with pytest.raises(asyncio.CancelledError):
        await running
    assert (service.stopped, service.session) == ("stop_task_and_session", "stopped")


async def test_a_cancelled_run_in_a_foreign_session_stops_only_the_task(service, client):
    service.session, service.steps = "active", 10_000
    with pytest.raises(TaskTimeout):
        await client.run("Go on", session_id=SESSION_ID, timeout=timedelta(seconds=5))
    assert (service.stopped, service.session) == ("stop", "active")


async def test_a_run_that_cannot_be_stopped_says_what_goes_on(service, client):
    service.steps = 10_000
    for path in (f"/tasks/{TASK_ID}", f"/sessions/{SESSION_ID}"):
        service.refuse["PATCH", path] = httpx.Response(500, json={"detail": "no"})
    with pytest.raises(TaskTimeout) as caught:
        await client.run("Find the price", timeout=timedelta(seconds=5))
    notes = "\n".join(caught.value.__notes__)
    assert f"task {TASK_ID} could not be stopped" in notes
    assert f"cdpbridge sessions stop {SESSION_ID}" in notes


async def test_fault_a81_a_task_whose_answer_was_lost_is_not_started_again(service, client):
    service.refuse["POST", "/tasks"] = httpx.ReadTimeout("late")
    with pytest.raises(APIConnectionError) as caught:
        await client.run("Find the price")
    assert service.log == ["POST /tasks"]
    assert "may have been started all the same" in caught.value.__notes__[0]


@pytest.mark.parametrize("options", [{"profile_id": TASK_ID}, {"keep_session": True}], ids=str)
async def test_a_session_made_for_a_task_that_is_refused_ends(service, client, options):
    service.refuse["POST", "/tasks"] = httpx.Response(429, json={"detail": "Too many"})
    with pytest.raises(RateLimitError):
        await client.run("Find the price", **options)
    assert service.session == "stopped"


async def test_a_task_whose_answer_cannot_be_read_is_stopped(service, client):
    service.refuse["POST", "/tasks"] = httpx.Response(202, json={"id": str(TASK_ID)})
    with pytest.raises(APIResponseError, match="sessionId"):
        await client.run("Find the price")
    assert service.stopped == "stop_task_and_session"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"session_id": SESSION_ID, "keep_session": True}, "keep_session"),
        ({"session_id": SESSION_ID, "profile_id": TASK_ID}, "profile_id"),
        ({"output_model": Price, "structured_output": "{}"}, "output_model"),
        ({"structured_output": "[1]"}, "JSON object"),
        ({"structured_output": "{"}, "no JSON"),
        ({"allowed_domains": "example.com"}, "list"),
        ({"metadata": {"a": "x" * 16_384}}, "16384 bytes"),
        ({"metadata": {"a": 1}}, "must be text"),
    ],
)
async def test_arguments_that_make_no_sense(service, client, arguments, words):
    with pytest.raises(ConfigurationError, match=words):
        await client.run("Find the price", **arguments)
    assert service.log == []


async def test_start_and_watch(service, client):
    async with await client.start("Find the price") as run:
        assert (run.id, run.session_id, run.live_url) == (TASK_ID, SESSION_ID, LIVE_URL)
        assert [step.number async for step in run.steps()] == [1, 2, 3]
        result = await run.result()
    assert result.output == "42"
    assert service.patches() == ["PATCH /sessions/S"]


async def test_leaving_the_block_before_the_end_stops_it(service, client):
    async with await client.start("Find the price"):
        pass
    assert (service.stopped, service.session) == ("stop_task_and_session", "stopped")


# --- without an event loop --------------------------------------------------------------------------------------------


@pytest.fixture
def sync_client(service):
    with httpx.Client(transport=httpx.MockTransport(service)) as http:
        yield Client(KEY, BASE_URL, http_client=http)


def test_run_without_a_loop(service, sync_client):
    service.output = '{"amount": 4.5, "currency": "EUR"}'
    seen = []
    result = sync_client.run("Find the price", output_model=Price, on_step=seen.append)
    assert (result.parsed.amount, len(seen), service.session) == (4.5, 3, "stopped")


def test_ctrl_c_in_a_run_without_a_loop_leaves_nothing(service, sync_client):
    def interrupt(step):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        sync_client.run("Find the price", on_step=interrupt)
    assert (service.stopped, service.session) == ("stop_task_and_session", "stopped")
    assert f"task {TASK_ID} was stopped" in caught.value.__notes__


def test_a_wait_without_a_loop_that_takes_too_long(service, sync_client):
    service.steps = 10_000
    with pytest.raises(TaskTimeout):
        sync_client.tasks.wait(TASK_ID, timeout=timedelta(seconds=30), stop_on_cancel=True)
    assert service.stopped == "stop"
    service.stopped = None
    for _ in sync_client.tasks.steps(TASK_ID, stop_on_cancel=True):
        break  # the generator ends with its last reference
    assert service.stopped == "stop"
