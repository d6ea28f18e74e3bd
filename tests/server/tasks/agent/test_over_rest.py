"""Agents as a client meets them: our own client, the whole server, real browser-use, real Chromium, a scripted model."""

import asyncio
import json
import os
from contextlib import suppress

import httpx
import psutil
import pytest
from pydantic import BaseModel

from cdpbridge.api import AsyncClient
from tests.server.tasks.agent.llm import act, done, go, serve_model, typed

pytestmark = [
    pytest.mark.one_build("the agent's process and its task; it does not see the build"),
    pytest.mark.chromium,
    pytest.mark.timeout(300),
]
KEY = "key-of-tests"


class Title(BaseModel):
    title: str
    steps: int


@pytest.fixture
async def model():
    async with serve_model() as model:
        model.verdict = True
        yield model


@pytest.fixture
async def client(make_server, model, agent_python):
    settings = {
        "llm_base_url": model.base_url,
        "llm_api_key": "key-of-the-model",
        "agent_python": agent_python,
    }
    async with make_server(**settings) as server, AsyncClient(KEY, str(server.http.base_url)) as client:
        yield client


def agents():
    """The processes of agents that this server has started."""
    children = psutil.Process(os.getpid()).children(recursive=True)
    found = []
    for each in children:
        with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
            if any(word.endswith("_child.py") for word in each.cmdline()):
                found.append(each)
    return found


async def test_a_task_of_twelve_steps_is_stored_step_by_step(client, model, site):
    def answer(_request, number):
        if number == 1:
            return go(f"{site}/")
        if number == 12:
            return act({"done": {"data": {"title": "Sign in", "steps": 12}, "success": True}})
        return act(
            {"evaluate": {"code": f"document.title + {number}"}}, memory=f"m{number}", goal=f"g{number}"
        )

    model.answer = answer
    seen = []
    result = await client.run(
        "Read the title twelve times",
        output_model=Title,
        max_steps=40,
        on_step=lambda step: seen.append(step.number),
    )
    task = result.task
    assert (task.status, task.is_success) == ("finished", True)
    # Nothing else is configured, so the agent's own model has judged, and the record says so.
    assert (task.judge_verdict, task.judge_llm) == (True, "browser-use-llm")
    assert json.loads(task.judgement)["independent"] is False
    assert model.judged[0].pictures == 8  # of twelve
    assert result.parsed == Title(title="Sign in", steps=12)
    assert [step.number for step in task.steps] == list(range(1, 13)) == seen
    assert task.steps[4].url == f"{site}/"
    async with httpx.AsyncClient() as anybody:  # the addresses are signed, no key is needed
        pictures = [await anybody.get(step.screenshot_url) for step in task.steps]
    assert all(picture.content.startswith(b"\x89PNG") for picture in pictures)
    assert len(pictures) == 12
    session = await client.sessions.get(task.session_id)
    assert session.status == "stopped"  # it was made for the task
    assert not agents()


async def test_a_killed_agent_leaves_a_session_that_can_be_used(client, model, site, tmp_path):
    session = await client.sessions.create()
    note = tmp_path / "note.txt"
    note.write_text("hello")
    await client.files.upload(note, session_id=session.id)
    hangs = asyncio.Event()

    async def hang():
        await hangs.wait()

    model.answer = lambda _request, number: go(f"{site}/") if number == 1 else hang()
    killed = await client.tasks.create(
        "wait", session_id=session.id, secrets={"http://127.0.0.1": "very-secret-word"}
    )
    async with asyncio.timeout(120):
        while len(model.requests) < 2:
            await asyncio.sleep(0.05)
    [agent] = agents()
    agent.kill()
    task = await client.tasks.wait(killed.id, timeout=None)
    assert (task.status, task.is_success) in {("stopped", False), ("finished", False)}
    full = await client.tasks.get(killed.id)
    assert "agent" in full.output
    assert len(full.steps) >= 1
    assert "very-secret-word" not in json.dumps(full.model_dump(mode="json"))
    hangs.set()
    again = await client.sessions.get(session.id)
    assert again.status == "active"
    model.requests.clear()
    model.answer = lambda _request, _number: done("still here")
    result = await client.run("and now?", session_id=session.id)
    assert result.output == "still here"
    stopped = await client.sessions.stop(session.id)
    assert stopped.status == "stopped"
    assert [each.id for each in stopped.tasks].count(killed.id) == 1


async def test_pause_stop_and_what_is_left_of_a_task(client, model, site, tmp_path):
    model.answer = lambda _request, number: (
        act({"write_file": {"file_name": "report.txt", "content": "42"}})
        if number == 1
        else go(f"{site}/?{number}")
    )
    async with await client.start("write, then wander", max_steps=200) as run:
        seen = 0
        async for step in run.steps():
            seen = step.number
            if seen == 2:
                break
        await client.tasks.pause(run.id)
        assert (await client.tasks.get(run.id)).status == "paused"
        await client.tasks.resume(run.id)
        await client.tasks.stop_task_and_session(run.id)
        task = await client.tasks.wait(run.id)
        assert (task.status, task.is_success) == ("stopped", False)
        [report] = (await client.tasks.get(run.id)).output_files
        path = await client.files.download(run.id, report.id, tmp_path)
        assert path.read_text().strip() == "42"
        log = await client.tasks.download_logs(run.id, tmp_path / "log.txt")
        assert log.stat().st_size
        assert (await client.sessions.get(run.session_id)).status == "stopped"
    assert not agents()


async def test_the_judge_has_the_last_word_and_short_secrets_harm_nothing(
    make_server, model, agent_python, wait_until, site
):
    """The keys of agent and judge are a letter and the name of a field."""
    script = [
        go(f"{site}/"),
        act({"evaluate": {"code": "'a step of x'"}}, memory="step x"),
        done("next: step x"),
    ]
    model.answer = lambda _request, number: script[(number - 1) % 3]
    hangs = asyncio.Event()
    model.judge = lambda _request, _number: hangs.wait()
    settings = {
        "llm_base_url": model.base_url,
        "llm_api_key": "x",
        "judge_llm": "strict",
        "judge_llm_api_key": "output",
        "agent_python": agent_python,
    }
    async with make_server(**settings) as server, AsyncClient(KEY, str(server.http.base_url)) as client:
        created = await client.tasks.create("look", secrets={"pin": "step", "digit": "1"})
        await wait_until(lambda: model.judged, 120)
        assert (await client.tasks.get(created.id)).status == "started"
        stopped = await client.tasks.stop(created.id)
        # What the agent has answered stays; what nobody has judged is not judged.
        assert (stopped.status, stopped.is_success) == ("stopped", None)
        assert stopped.output == "next: <secret>pin</secret> <secret>llm key</secret>"
        assert stopped.judge_error == "the task was stopped before the judge had a verdict"
        assert [step.number for step in stopped.steps] == [1, 2, 3]
        assert stopped.steps[1].memory == "<secret>pin</secret> <secret>llm key</secret>"
        assert json.loads(stopped.steps[1].actions[0]) == {
            "evaluate": {"code": "'a <secret>pin</secret> of <secret>llm key</secret>'"}
        }
        assert all(step.screenshot_url for step in stopped.steps)
        # The numbers by which a model names elements are no secrets, and neither are parts of words.
        assert typed(model.requests[1], "user") > 0
        assert "<secret>pin</secret> <secret>" not in model.requests[0].text
        assert (await client.sessions.get(created.session_id)).status == "active"

        model.judge, model.verdict = None, False
        result = await client.run("once more", session_id=created.session_id)
        assert (result.status, result.is_success) == ("finished", False)
        assert (result.task.judge_verdict, result.task.judge_llm) == (False, "strict")
        assert json.loads(result.task.judgement)["independent"] is True
        asked = model.judged[-1]
        assert (asked.body["model"], asked.key) == ("strict", "bearer output")
        log = await client.tasks.download_logs(result.id, server.data_dir / "log.txt")
        assert "judge strict: verdict false: seen" in log.read_text()
        await client.sessions.stop(created.session_id)
