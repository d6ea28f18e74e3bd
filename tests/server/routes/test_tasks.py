"""Tasks: every documented status, the life of an agent's work, and every way it can end."""

import asyncio
import dataclasses
import json
import uuid
from datetime import timedelta

import pytest
from sqlalchemy.exc import OperationalError

from cdpbridge.server.tasks.agent import Judgement
from tests.cases import cases
from tests.server.conftest import KEY
from tests.server.scripted_agents import ScriptedAgents

UNKNOWN = "00000000-0000-4000-8000-000000000000"
TASK = "/tasks/{task_id}"
BUSY = "Agent session already has a running task. Please wait for it to finish or stop it manually."


async def test_a_task_without_a_session_makes_one_that_stays_open(api, checked, contract):
    answer = await api.post(
        "/tasks", {"task": "look", "metadata": {"who": "me"}, "startUrl": "https://a.test/"}
    )
    contract.check("POST", "/tasks", answer)
    created = answer.json()
    run = await api.agents.started()
    assert (run.spec.task, run.spec.start_url, run.spec.max_steps) == ("look", "https://a.test/", 100)
    assert run.spec.cdp_url.startswith("http://test/cdp/token-")
    session = (
        await checked(api, "GET", f"/sessions/{created['sessionId']}", "/sessions/{session_id}")
    ).json()
    assert (session["status"], session["keepAlive"]) == ("active", True)
    assert [task["id"] for task in session["tasks"]] == [created["id"]]
    task = (await checked(api, "GET", f"/tasks/{created['id']}", TASK)).json()
    assert (task["status"], task["metadata"], task["output"], task["isSuccess"]) == (
        "started",
        {"who": "me"},
        None,
        None,
    )
    assert (await api.account())["activeSessionCount"] == 1
    await run.step()
    run.finish("42", files={"out.txt": b"x"})
    task = await api.over(created)
    assert (task["status"], task["output"], task["isSuccess"]) == ("finished", "42", True)
    assert task["browserUseVersion"] == "0.9.9"
    assert [file["fileName"] for file in task["outputFiles"]] == ["out.txt"]
    session = (await api.get(f"/sessions/{created['sessionId']}")).json()
    assert (session["status"], session["liveUrl"] is not None) == ("active", True)
    assert (await api.account())["activeSessionCount"] == 1
    stopped = await checked(
        api, "PATCH", f"/sessions/{session['id']}", "/sessions/{session_id}", json={"action": "stop"}
    )
    assert stopped.json()["status"] == "stopped"
    assert (await api.account())["activeSessionCount"] == 0


async def test_a_session_left_open_by_its_task_is_charged_and_refunded_as_any(api):
    created, run = await api.give()
    session = {"id": created["sessionId"]}
    run.finish("42")
    await api.over(created)
    api.clock.advance(30 * 60)
    assert (await api.session(session))["status"] == "active"
    await api.patch(f"/sessions/{session['id']}", {"action": "stop"})
    charge, refund = [amount for kind, _, amount in await api.entries() if kind in {"charge", "refund"}]
    assert (charge, refund) == (-50_000, 25_000)  # half an hour of one
    # It goes on for more than an hour, and the hours are charged as they begin.
    created, run = await api.give()
    run.finish("42")
    await api.over(created)
    before = len(await api.entries())
    for hours in (1, 2, 3):
        api.clock.advance(3601)
        async with asyncio.timeout(60):
            while len(await api.entries()) < before + hours:
                await asyncio.sleep(0.005)
    more = (await api.entries())[before:]
    assert [(kind, amount) for kind, _, amount in more] == [("charge", -50_000)] * 3


async def test_a_session_left_open_ends_at_its_time_and_keeps_no_slot(make_api):
    async with make_api(plan="free", max_browsers=1) as api:
        created, run = await api.give()
        session = {"id": created["sessionId"]}
        run.finish("42")
        await api.over(created)
        assert (await api.post("/tasks", {"task": "more"})).status_code == 429
        # The next task goes into the session that is open.
        again, run = await api.give(sessionId=session["id"])
        run.finish("43")
        await api.over(again)
        api.clock.advance(15 * 60 + 1)
        async with asyncio.timeout(60):
            while (await api.session(session))["status"] != "stopped":
                await asyncio.sleep(0.005)
        assert (await api.session(session))["endReason"] == "expired"
        assert (await api.task(created))["status"] == "finished"
        assert (await api.account())["activeSessionCount"] == 0
        _, run = await api.give()  # the slot is free
        run.finish()


@pytest.mark.parametrize(
    ("setting", "keep_alive", "status"),
    [
        ("keep", None, "active"),
        ("keep", True, "active"),
        ("keep", False, "stopped"),
        ("stop", None, "stopped"),
        ("stop", True, "active"),
        ("stop", False, "stopped"),
    ],
)
async def test_what_becomes_of_a_session_after_its_task(make_api, setting, keep_alive, status):
    async with make_api(sessions_after_task=setting) as api:
        settings = {} if keep_alive is None else {"sessionSettings": {"keepAlive": keep_alive}}
        created, run = await api.give(**settings)
        session = {"id": created["sessionId"]}
        assert (await api.session(session))["keepAlive"] is (status == "active")
        run.finish("42")
        await api.over(created)
        assert (await api.session(session))["status"] == status
        # A session that was made by itself stays, whatever becomes of those of tasks.
        own = await api.open_session()
        created, run = await api.give(sessionId=own["id"])
        run.finish("42")
        await api.over(created)
        assert (await api.session(own))["status"] == "active"


async def test_a_judge_is_asked_unless_the_request_says_no(api):
    for body, judged in (({}, True), ({"judge": True}, True), ({"judge": False}, False)):
        _, run = await api.give(**body)
        assert run.spec.judge is judged
        run.finish()


async def test_what_the_judge_has_said_is_in_the_record(api, checked):
    said = Judgement(
        "strict", independent=True, verdict=False, reasoning="r", failure_reason="f", screenshots=2
    )
    created, run = await api.give()
    run.finish("42", success=False, judgement=said)
    task = await api.over(created)
    assert (task["isSuccess"], task["judgeVerdict"], task["judgeLlm"], task["judgeError"]) == (
        False,
        False,
        "strict",
        None,
    )
    report = {
        "model": "strict",
        "independent": True,
        "verdict": False,
        "reasoning": "r",
        "failureReason": "f",
        "error": None,
        "screenshots": 2,
    }
    assert json.loads(task["judgement"]) == report
    listed = (await checked(api, "GET", "/tasks")).json()["items"][0]
    assert listed["judgement"] == task["judgement"]
    # Without a verdict there is none, and the reason is told.
    created, run = await api.give()
    run.finish(
        "42",
        success=None,
        judgement=Judgement("strict", independent=True, verdict=None, error="it took too long"),
    )
    task = await api.over(created)
    assert (task["status"], task["output"], task["isSuccess"], task["judgeError"]) == (
        "finished",
        "42",
        None,
        "it took too long",
    )
    # It goes with the rest of what was seen.
    await api.post(f"/sessions/{created['sessionId']}/purge")
    assert (await api.task(created))["judgement"] is None


@pytest.mark.parametrize("way", ["expire", "crash"])
async def test_a_session_that_ends_under_a_judge_does_not_end_its_task(make_api, way):
    async with make_api(plan="free") as api:
        session = await api.open_session()
        created, run = await api.give(sessionId=session["id"])
        run.answer("42")
        if way == "expire":
            api.clock.advance(15 * 60 + 1)
        else:
            api.hosts.crash(next(iter(api.hosts.running)))
        async with asyncio.timeout(60):
            while (await api.session(session))["status"] != "stopped":
                await asyncio.sleep(0.005)
        assert run.calls == []
        run.finish("42", judgement=Judgement("strict", independent=True, verdict=True))
        task = await api.over(created)
        assert (task["status"], task["output"], task["isSuccess"]) == ("finished", "42", True)


async def test_a_session_that_ends_with_its_task_is_not_paid_for_while_it_is_judged(api):
    created, run = await api.give(sessionSettings={"keepAlive": False})
    session = {"id": created["sessionId"]}
    run.answer("42")
    async with asyncio.timeout(60):
        while (await api.session(session))["status"] != "stopped":
            await asyncio.sleep(0.005)
    assert (await api.task(created))["status"] == "started"
    assert run.calls == []
    run.finish("42")
    assert (await api.over(created))["status"] == "finished"


async def test_domains_limit_the_browser_for_the_time_of_the_task(api):
    created, run = await api.give(allowedDomains=["Example.com", "*.shop.test:8443"])
    [browser_id] = api.hosts.running
    limited = browser_id, ["example.com", "www.example.com", "*.shop.test:8443"], ()
    assert api.hosts.limits == [limited]
    run.answer("42")
    async with asyncio.timeout(60):
        while len(api.hosts.limits) < 2:
            await asyncio.sleep(0.005)
    assert api.hosts.limits[1] == (browser_id, None, ())
    run.finish()
    await api.over(created)
    assert len(api.hosts.limits) == 2  # once, although the task has ended, too
    # An agent that dies or is stopped leaves no limits either.
    created, run = await api.give(sessionId=created["sessionId"], allowedDomains=["a.test"])
    run.die()
    await api.over(created)
    assert [allowed for _, allowed, _ in api.hosts.limits[2:]] == [["a.test", "www.a.test"], None]
    created, run = await api.give(sessionId=created["sessionId"])
    assert len(api.hosts.limits) == 4
    run.finish()


async def test_domains_that_cannot_be_kept_are_no_task(api, checked):
    for domain, words in (
        ("https://a.test/shop", "names a path"),
        ("a*.test", "at the start"),
        ("", "empty"),
    ):
        refused = await checked(api, "POST", "/tasks", json={"task": "look", "allowedDomains": [domain]})
        assert refused.status_code == 422
        assert words in refused.text
    assert not api.hosts.running
    # Nor is a session whose browser has no proxy of its own.
    session = await api.open_session()
    [browser_id] = api.hosts.running
    placement, spec = api.hosts.running[browser_id]
    api.hosts.running[browser_id] = placement, dataclasses.replace(spec, agent=False)
    answer = await api.post(
        "/tasks", {"task": "look", "sessionId": session["id"], "allowedDomains": ["a.test"]}
    )
    task = await api.over(answer.json())
    assert task["status"] == "stopped"
    assert "allowedDomains cannot be kept" in task["output"]
    assert not api.agents.runs


async def test_steps_are_there_as_they_happen(api, contract):
    created, run = await api.give()
    for number in (1, 2):
        await run.step()
        answer = await api.get(f"/tasks/{created['id']}")
        contract.check("GET", TASK, answer)
        steps = answer.json()["steps"]
        assert [step["number"] for step in steps] == list(range(1, number + 1))
    assert steps[0] == {
        "number": 1,
        "memory": "memory 1",
        "evaluationPreviousGoal": "good",
        "nextGoal": "go on",
        "url": "https://example.com/",
        "screenshotUrl": steps[0]["screenshotUrl"],
        "actions": ['{"click": 1}'],
        "duration": 1.5,
    }
    picture = await api.client.get(steps[1]["screenshotUrl"])  # without a key
    assert picture.headers["content-type"] == "image/png"
    assert picture.content.startswith(b"\x89PNG")
    log = await api.get(f"/tasks/{created['id']}/logs")
    assert (log.status_code, log.json()) == (404, {"detail": "Task log not found"})
    run.finish(log="line\n")
    await api.over(created)
    answer = await api.get(f"/tasks/{created['id']}/logs")
    contract.check("GET", f"{TASK}/logs", answer)
    assert (await api.client.get(answer.json()["downloadUrl"])).text == "line\n"


async def test_a_screenshot_from_elsewhere_is_not_shown(api, tmp_path):
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"secret")
    created, run = await api.give()
    await run.step(screenshot=secret)
    link = run.spec.folder / "link.png"
    link.symlink_to(secret)
    await run.step(screenshot=link)
    run.finish(files={})
    task = await api.over(created)
    assert [step["screenshotUrl"] for step in task["steps"]] == [None, None]


async def test_a_session_works_on_one_task_at_a_time(api, checked):
    session = await api.open_session()
    first, run = await api.give(sessionId=session["id"])
    second = await checked(api, "POST", "/tasks", json={"task": "more", "sessionId": session["id"]})
    assert (second.status_code, second.json()) == (400, {"detail": BUSY})
    run.finish("one")
    await api.over(first)
    _, run = await api.give(sessionId=session["id"])
    assert run.spec.earlier == ("one",)
    assert (await api.session(session))["status"] == "active"  # keepAlive is the default
    await api.patch(f"/sessions/{session['id']}", {"action": "stop"})
    stopped = await checked(api, "POST", "/tasks", json={"task": "more", "sessionId": session["id"]})
    assert (stopped.status_code, stopped.json()["detail"]) == (
        400,
        "Browser session is stopped. Please start a new session and try again.",
    )


async def test_many_at_once_in_one_session_are_one(api):
    session = await api.open_session()
    answers = await asyncio.gather(
        *(api.post("/tasks", {"task": "x", "sessionId": session["id"]}) for _ in range(8))
    )
    assert sorted(answer.status_code for answer in answers) == [202] + [400] * 7
    assert len(api.agents.runs) <= 1


async def test_a_session_without_memory(api):
    session = await api.open_session(persistMemory=False)
    first, run = await api.give(sessionId=session["id"])
    run.finish("one")
    await api.over(first)
    _, run = await api.give(sessionId=session["id"])
    assert run.spec.earlier == ()


@pytest.mark.parametrize(("settings", "status"), [({"keepAlive": False}, "stopped"), ({}, "active")])
async def test_settings_of_the_session_that_a_task_makes(api, settings, status):
    size = {"browserScreenWidth": 800, "browserScreenHeight": 600}
    created, run = await api.give(sessionSettings=settings | size)
    assert api.hosts.specs[-1].screen == (800, 600)
    run.finish()
    await api.over(created)
    assert (await api.get(f"/sessions/{created['sessionId']}")).json()["status"] == status


async def test_stop_pause_and_resume_reach_the_agent(api, checked):
    created, run = await api.give()

    async def act(action):
        return (await checked(api, "PATCH", f"/tasks/{created['id']}", TASK, json={"action": action})).json()

    assert (await act("pause"))["status"] == "paused"
    assert (await act("pause"))["status"] == "paused"
    assert (await api.get("/tasks?filterBy=paused")).json()["totalItems"] == 1
    assert (await act("resume"))["status"] == "started"
    stopped = await act("stop")
    assert run.calls == ["pause", "resume", "stop"]
    assert (stopped["status"], stopped["isSuccess"], stopped["endReason"]) == (
        "stopped",
        False,
        "stopped_by_caller",
    )
    assert stopped["output"] == "The task was stopped before it was done."
    for action in ("stop", "pause", "resume"):  # it is over
        assert (await act(action)) == stopped
    assert run.calls == ["pause", "resume", "stop"]


async def test_stop_in_a_session_that_is_kept(api):
    session = await api.open_session()
    created, _ = await api.give(sessionId=session["id"])
    await api.steer(created, "stop")
    assert (await api.session(session))["status"] == "active"
    created, run = await api.give(sessionId=session["id"])
    stopped = await api.steer(created, "stop_task_and_session")
    assert stopped["status"] == "stopped"
    assert run.calls == ["stop"]
    assert (await api.session(session))["status"] == "stopped"
    assert (await api.account())["activeSessionCount"] == 0


async def test_a_stop_while_the_agent_starts(api):
    api.agents.may_start.clear()
    session = await api.open_session()
    answer = await api.post("/tasks", {"task": "x", "sessionId": session["id"]})
    stopping = asyncio.create_task(api.steer(answer.json(), "stop"))
    async with asyncio.timeout(60):
        while (await api.task(answer.json()))["status"] != "stopped":
            await asyncio.sleep(0.005)
    api.agents.may_start.set()
    assert (await stopping)["endReason"] == "stopped_by_caller"
    assert api.agents.run.calls == ["stop"]


async def test_a_stubborn_agent_is_not_waited_for_for_ever(api, monkeypatch):
    from cdpbridge.server.tasks import _tasks

    monkeypatch.setattr(_tasks, "_STOP_WAIT_SECONDS", 0.05)
    created, run = await api.give()
    run.stubborn = True
    stopped = await api.steer(created, "stop")
    assert (stopped["status"], stopped["finishedAt"]) == ("stopped", None)
    busy = await api.post("/tasks", {"task": "x", "sessionId": created["sessionId"]})
    assert busy.json()["detail"] == BUSY
    run.finish(how="stopped")
    assert (await api.over(created))["finishedAt"] is not None


async def test_an_agent_that_dies_leaves_its_session_usable(api):
    session = await api.open_session()
    created, run = await api.give(sessionId=session["id"])
    await run.step()
    run.die("the agent's process was killed by signal 9")
    task = await api.over(created)
    assert (task["status"], task["isSuccess"], task["endReason"]) == ("stopped", False, "agent_died")
    assert task["output"] == "the agent's process was killed by signal 9"
    assert len(task["steps"]) == 1
    log = (await api.get(f"/tasks/{created['id']}/logs")).json()["downloadUrl"]
    assert "signal 9" in (await api.client.get(log)).text
    again, run = await api.give(sessionId=session["id"])
    run.finish("fine")
    assert (await api.over(again))["output"] == "fine"


async def test_an_agent_that_cannot_be_started(api):
    api.agents.failure = "no memory"
    created = (await api.post("/tasks", {"task": "x"})).json()
    task = await api.over(created)
    assert (task["status"], task["isSuccess"]) == ("stopped", False)
    assert "no memory" in task["output"]
    # There was no agent, so there is nothing to look at in the session that was made for it.
    assert (await api.get(f"/sessions/{created['sessionId']}")).json()["status"] == "stopped"
    session = await api.open_session()
    created = (await api.post("/tasks", {"task": "x", "sessionId": session["id"]})).json()
    await api.over(created)
    assert (await api.session(session))["status"] == "active"


async def test_an_agent_that_gives_up(api):
    created, run = await api.give()
    run.finish("there is no such page", success=False)
    task = await api.over(created)
    assert (task["status"], task["isSuccess"], task["output"]) == ("finished", False, "there is no such page")


async def test_a_browser_that_dies_under_a_task(api):
    session = await api.open_session()
    created, run = await api.give(sessionId=session["id"])
    [browser_id] = api.hosts.running
    api.hosts.crash(browser_id)
    task = await api.over(created)
    assert run.calls == ["stop"]
    assert (task["status"], task["endReason"], task["isSuccess"]) == ("stopped", "browser_exited", False)
    assert "browser ended unexpectedly" in task["output"]
    shown = await api.session(session)
    assert (shown["status"], shown["endReason"]) == ("stopped", "browser_exited")
    assert (await api.account())["activeSessionCount"] == 0


async def test_a_session_that_expires_under_a_task(make_api):
    async with make_api(plan="free") as api:
        session = await api.open_session()
        created, _ = await api.give(sessionId=session["id"])
        api.clock.advance(15 * 60 - 1)
        assert (await api.task(created))["status"] == "started"
        api.clock.advance(2)
        task = await api.over(created)
        assert (task["endReason"], "time was over" in task["output"]) == ("session_expired", True)
        assert (await api.session(session))["status"] == "stopped"


async def test_a_task_of_a_server_that_was_stopped(make_api):
    async with make_api() as api:
        created, run = await api.give()
        await run.step()
    assert run.calls == ["stop"]
    assert api.agents.closed
    async with make_api() as api:
        task = await api.task(created)
        assert (task["status"], task["isSuccess"], task["endReason"]) == ("stopped", False, "server_stopped")
        assert task["output"] == "The server was stopped before the task was done."
        assert len(task["steps"]) == 1


async def test_the_answer_of_a_task_is_not_lost_with_its_judge(api):
    """What a server finds that was killed while a judge was at work."""
    created, run = await api.give()
    run.answer("42")
    async with asyncio.timeout(60):
        while (await api.services.store.tasks_of_session(uuid.UUID(created["sessionId"])))[0].output is None:
            await asyncio.sleep(0.005)
    task = await api.task(created)
    assert (task["status"], task["output"], task["isSuccess"]) == ("started", None, None)
    assert (await api.get(f"/tasks/{created['id']}/status")).json()["output"] is None
    store = api.services.store
    assert await store.lose_tasks(store.server_id, now=api.wall()) == 1
    task = await api.task(created)
    assert (task["status"], task["output"], task["isSuccess"]) == ("finished", "42", None)
    assert "before the judge had a verdict" in task["judgeError"]
    assert task["judgeLlm"] is None
    run.finish("too late")
    assert (await api.over(created))["output"] == "42"


async def test_fault_b05_tasks_of_a_server_that_was_killed(make_api, monkeypatch):
    from cdpbridge.server.store import Store
    from cdpbridge.server.tasks._tasks import Tasks

    async def nothing(*_arguments, **_options):
        return False

    with monkeypatch.context() as killed:  # nothing is written any more
        async with make_api() as api:
            created, _ = await api.give()
            killed.setattr(Store, "finish_task", nothing)
            killed.setattr(Store, "move_task", nothing)
            killed.setattr(Tasks, "_signal", lambda *_: False)
            killed.setattr("cdpbridge.server.tasks._tasks._STOP_WAIT_SECONDS", 0.01)
            killed.setattr(api.services.store.__class__, "settle", nothing)
        # What was on its way went on behind the end, and has opened the database again.
        while left := set(api.services.tasks._background):
            await asyncio.wait(left)
        await api.services.store.close()
    async with make_api() as api:
        task = await api.task(created)
        assert (task["status"], task["isSuccess"], task["endReason"]) == ("stopped", False, "server_lost")
        assert task["output"] == "The server ended unexpectedly before the task was done."
        assert task["finishedAt"] is not None


async def test_without_agents_nothing_is_started_or_charged(api, checked):
    api.agents.refused = "no LLM; set `llm_base_url`"
    answer = await checked(api, "POST", "/tasks", json={"task": "look"})
    assert (answer.status_code, answer.json()) == (400, {"detail": "no LLM; set `llm_base_url`"})
    assert api.hosts.starts == 0
    assert (await api.account())["totalCreditsBalanceUsd"] == 100


async def test_a_server_without_configuration_says_what_is_missing(make_api):
    from cdpbridge.server import Settings
    from cdpbridge.server.tasks.agent import AgentProcesses

    async with make_api(agents=AgentProcesses(Settings.load(browser_build="shell"))) as api:
        answer = await api.post("/tasks", {"task": "look"})
        assert answer.status_code == 400
        assert "`llm_base_url`" in answer.json()["detail"]
        assert (await api.open_session())["status"] == "active"  # browsers need no model


@cases(
    "body",
    [
        {},
        {"task": ""},
        {"task": "x" * 50_001},
        {"task": "x", "llm": "gpt-99"},
        {"task": "x", "maxSteps": 0},
        {"task": "x", "maxSteps": 10_001},
        {"task": "x", "startUrl": "file:///etc/passwd"},
        {"task": "x", "startUrl": "https://[::1"},
        {"task": "x", "startUrl": "javascript:alert(1)"},
        {"task": "x", "structuredOutput": "no json"},
        {"task": "x", "structuredOutput": "[1]"},
        {"task": "x", "structuredOutput": "[" * 100_000},
        {"task": "x", "sessionId": "x"},
        {"task": "  \n\t "},
        {"task": "x", "startUrl": "file:/etc/passwd"},
        {"task": "x", "highlightElements": "yes"},
        {"task": "x", "maxSteps": 1.5},
        {"task": "x", "maxSteps": "5"},
        {"task": "x", "maxSteps": True},
        {"task": "x", "metadata": {"a": "x" * 16_384}},
        {"task": "x", "metadata": {"a": 1}},
        {"task": "x", "vision": "always"},
        {"task": "x", "opVaultId": "vault"},
        {"task": "x", "sessionSettings": {"startUrl": "file:///etc/passwd"}},
        {"task": "x", "sessionSettings": {"browserScreenWidth": 1}},
        {"task": "x", "systemPromptExtension": "x" * 10_001},
    ],
)
async def test_invalid_tasks(api, checked, body):
    answer = await checked(api, "POST", "/tasks", json=body)
    assert answer.status_code == 422
    assert api.hosts.starts == 0


async def test_what_cannot_be_found(api, checked):
    for method, path, template, body in (
        ("GET", f"/tasks/{UNKNOWN}", TASK, None),
        ("PATCH", f"/tasks/{UNKNOWN}", TASK, {"action": "stop"}),
        ("GET", f"/tasks/{UNKNOWN}/logs", f"{TASK}/logs", None),
    ):
        answer = await checked(api, method, path, template, json=body)
        assert (answer.status_code, answer.json()) == (404, {"detail": "Task not found"})
    answer = await checked(api, "POST", "/tasks", json={"task": "x", "sessionId": UNKNOWN})
    assert (answer.status_code, answer.json()) == (404, {"detail": "Session not found"})
    answer = await checked(
        api, "POST", "/tasks", json={"task": "x", "sessionSettings": {"profileId": UNKNOWN}}
    )
    assert (answer.status_code, answer.json()) == (404, {"detail": "Profile not found"})
    for path in ("/tasks/x", "/tasks?filterBy=asleep", "/tasks?after=yesterday", "/tasks?pageSize=0"):
        answer = await api.get(path)
        assert answer.status_code == 422


async def test_fault_b09_tasks_count_against_the_limit(make_api, checked):
    async with make_api(max_browsers=1) as api:
        created, run = await api.give(sessionSettings={"keepAlive": False})
        answer = await checked(api, "POST", "/tasks", json={"task": "x"})
        assert answer.status_code == 429
        assert answer.json()["detail"].count("(limit: 1; ") == 1
        assert (await checked(api, "POST", "/sessions")).status_code == 429
        run.finish()
        await api.over(created)
        await api.give()  # the slot is free


async def test_lists_and_filters(api, checked):
    session = await api.open_session()
    ids = []
    for number in range(3):
        created, run = await api.give(f"task {number}", sessionId=session["id"])
        ids.append(created["id"])
        run.finish(str(number))
        await api.over(created)
        api.clock.advance(60)
    await api.give()
    page = (await checked(api, "GET", f"/tasks?sessionId={session['id']}&pageSize=2")).json()
    assert ([task["id"] for task in page["items"]], page["totalItems"]) == (ids[:0:-1], 3)
    assert (await api.get("/tasks?filterBy=started")).json()["totalItems"] == 1
    assert (await api.get("/tasks?filterBy=finished")).json()["totalItems"] == 3
    assert (await api.get("/tasks?filterBy=failed")).json()["totalItems"] == 0
    middle = (await api.get(f"/tasks/{ids[1]}")).json()["createdAt"].replace("+00:00", "Z")
    assert (await api.get(f"/tasks?after={middle}")).json()["totalItems"] == 2
    assert (await api.get("/tasks", params={"before": middle.rstrip("Z")})).json()["totalItems"] == 1
    for end in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"):
        assert (await api.get("/tasks", params={"after": end})).status_code == 422


async def test_status_alone(api):
    created, run = await api.give()
    status = (await api.get(f"/tasks/{created['id']}/status")).json()
    assert (status["status"], status["output"], status["finishedAt"]) == ("started", None, None)
    run.finish("42")
    await api.over(created)
    status = (await api.get(f"/tasks/{created['id']}/status")).json()
    assert (status["status"], status["output"], status["isSuccess"]) == ("finished", "42", True)
    assert (await api.get(f"/tasks/{UNKNOWN}/status")).status_code == 404


async def test_secrets_are_nowhere_but_with_the_agent(api, tmp_path, caplog):
    caplog.set_level("DEBUG")
    created, run = await api.give(secrets={"x_password": "hunter2-in-clear"})
    assert run.spec.secrets == {"x_password": "hunter2-in-clear"}
    assert "hunter2" not in repr(run.spec)
    await run.step()
    run.finish("ok")
    await api.over(created)
    project = await api.project()
    row = await api.services.store.task(project, __import__("uuid").UUID(created["id"]))
    assert row.secret_names == ["x_password"]
    files = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert len(files) > 3
    assert not [path for path in files if b"hunter2" in path.read_bytes()]
    assert "hunter2" not in caplog.text
    assert "hunter2" not in str(await api.task(created))


async def test_an_idempotency_key_makes_one_task(api):
    key = {"Idempotency-Key": "once"}
    answers = await asyncio.gather(*(api.post("/tasks", {"task": "x"}, headers=key) for _ in range(5)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.text for answer in answers}) == 1
    assert api.hosts.starts == 1
    run = await api.agents.started()
    run.finish()
    await api.over(answers[0].json())
    later = await api.post("/tasks", {"task": "x"}, headers=key)
    assert later.json() == answers[0].json()
    other = await api.post("/tasks", {"task": "y"}, headers=key)
    assert other.status_code == 409
    assert (await api.post("/tasks", {"task": "y"}, headers=key, key="key-of-others")).status_code == 202
    first = (await api.post("/sessions", {}, headers={"Idempotency-Key": "s"})).json()
    assert (await api.post("/sessions", {}, headers={"Idempotency-Key": "s"})).json() == first
    assert (await api.post("/browsers", {}, headers={"Idempotency-Key": "s"})).status_code == 409


async def test_uploads_are_the_agents(api):
    session = await api.open_session()
    browser_id = __import__("uuid").UUID(session["browserSessionId"])
    folder = api.services.files.make(api.services.files.uploads(browser_id))
    (folder / "list.csv").write_text("a,b")
    (folder / ".half.upload").write_text("a")
    _, run = await api.give(sessionId=session["id"])
    assert [path.name for path in run.spec.uploads] == ["list.csv"]


async def test_a_step_that_cannot_be_stored_does_not_end_the_task(api, monkeypatch):
    created, run = await api.give()

    async def broken(*_arguments):
        raise OperationalError("insert", {}, Exception("disk full"))

    with monkeypatch.context() as full:
        full.setattr(api.services.store, "add_step", broken)
        await run.step()
    await run.step()
    run.finish("fine")
    task = await api.over(created)
    assert [step["number"] for step in task["steps"]] == [2]
    assert task["output"] == "fine"


async def test_an_end_that_cannot_be_stored_is_stored_later(api, monkeypatch):
    created, run = await api.give()
    real, failures = api.services.store.finish_task, []

    async def broken(*arguments, **options):
        if len(failures) < 2:
            failures.append(1)
            raise OperationalError("update", {}, Exception("database is locked"))
        return await real(*arguments, **options)

    monkeypatch.setattr("cdpbridge.server.tasks._tasks._RETRY_SECONDS", 0.01)
    monkeypatch.setattr(api.services.store, "finish_task", broken)
    run.finish("42")
    assert (await api.over(created))["output"] == "42"
    assert len(failures) == 2


async def test_a_client_that_leaves_while_its_browser_starts_gets_no_task(api):
    api.hosts.may_start.clear()
    request = asyncio.create_task(api.post("/tasks", {"task": "x"}))
    async with asyncio.timeout(60):
        while not api.hosts.starting:
            await asyncio.sleep(0.005)
    request.cancel()
    await asyncio.gather(request, return_exceptions=True)
    api.hosts.may_start.set()
    async with asyncio.timeout(60):
        while (await api.account())["activeSessionCount"]:
            await asyncio.sleep(0.005)
    assert api.agents.runs == []
    assert (await api.get("/tasks")).json()["totalItems"] == 0


async def test_the_paid_plan_gives_a_session_four_hours(api):
    from datetime import datetime

    session = await api.open_session()
    lasts = datetime.fromisoformat(session["timeoutAt"]) - datetime.fromisoformat(session["startedAt"])
    assert lasts == timedelta(hours=4)


async def test_a_browser_that_ends_in_the_moment_a_task_begins(api, monkeypatch):
    session = await api.open_session()
    monkeypatch.setattr(api.services.rentals, "running", lambda _browser_id: False)
    created, run = await api.give(sessionId=session["id"])
    task = await api.over(created)
    assert run.calls == ["stop"]
    assert (task["status"], task["endReason"]) == ("stopped", "session_stopped")


async def test_nothing_begins_while_the_server_stops(api):
    session = await api.open_session()
    await api.services.tasks.close()
    answer = await api.post("/tasks", {"task": "x", "sessionId": session["id"]})
    assert (answer.status_code, answer.json()) == (503, {"detail": "the server is stopping"})
    answer = await api.post("/tasks", {"task": "x"})
    assert answer.status_code == 503
    assert (await api.account())["activeSessionCount"] == 1  # the session's; none is left of the other


class WithVaults(ScriptedAgents):
    def refusal(self, *, op_vault_id=None):
        return None


VAULTS = [
    # several projects, op_vaults, vault -> accepted or why not
    (False, None, "any", None),
    (False, {"default": ["ours"]}, "ours", None),
    (False, {"default": ["ours"]}, "theirs", "no such vault"),
    (False, {}, "ours", "no such vault"),
    (True, None, "any", "set `op_vaults`"),
    (True, {"tests": ["ours"], "others": ["theirs"]}, "ours", None),
    (True, {"tests": ["ours"], "others": ["theirs"]}, "theirs", "no such vault"),
    (True, {"tests": ["ours"], "others": ["theirs"]}, "unknown", "no such vault"),
    (True, {"others": ["theirs"]}, "theirs", "no such vault"),
]


@pytest.mark.parametrize("row", VAULTS)
async def test_vaults_belong_to_projects(make_api, checked, row):
    several, vaults, vault, why = row
    settings = {"op_vaults": vaults} | ({} if several else {"api_keys": KEY})
    async with make_api(agents=WithVaults(), **settings) as api:
        answer = await checked(api, "POST", "/tasks", json={"task": "x", "opVaultId": vault})
        if why is None:
            assert answer.status_code == 202, answer.text
            assert (await api.agents.started()).spec.op_vault_id == vault
        else:
            assert answer.status_code == 422
            [problem] = answer.json()["detail"]
            assert problem["loc"] == ["body", "opVaultId"]
            assert why in problem["msg"]
            assert api.hosts.starts == 0
