"""Agents at work: real processes, real browser-use, real Chromium; the model is scripted."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from cdpbridge.cdp import connect
from tests import programs
from tests.server.tasks.agent.llm import act, done, go, typed

# Bounds for a machine on which much else goes on: 30 steps take 10 s on an idle one.
pytestmark = [
    pytest.mark.one_build("the agent's process and its task; it does not see the build"),
    pytest.mark.chromium,
    pytest.mark.timeout(300),
]
SECRETS = {"http://127.0.0.1": json.dumps({"user_name": "ada"})}
SCHEMA = {
    "type": "object",
    "properties": {"orders": {"type": "array", "items": {"$ref": "#/$defs/Order"}}},
    "required": ["orders"],
    "$defs": {"Order": {"type": "object", "properties": {"count": {"type": "integer", "minimum": 1}}}},
}


def files(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


async def usable(desk):
    """Whether the browser still does what it is told."""
    async with connect(desk.cdp_url) as connection:
        reply = await connection.root.send("Target.createTarget", {"url": "about:blank"})
        await connection.root.send("Target.closeTarget", {"targetId": reply["targetId"]})
    return True


@pytest.mark.slow  # test_over_rest.py has another one in every run
async def test_a_task_of_thirty_steps_has_thirty_steps_with_screenshots(desk, model, site, dialled):
    def answer(request, number):
        if number in {1, 30}:
            return go(f"{site}/") if number == 1 else done("thirty")
        return act(
            {"evaluate": {"code": f"document.title + {number}"}}, memory=f"m{number}", goal=f"g{number}"
        )

    model.answer = answer
    seen_when = []
    result = await desk.do(max_steps=40, on_step=lambda step: kept(step, seen_when, desk, model))
    assert (result.how, result.output, result.success) == ("finished", "thirty", True), result.log.read_text()
    assert re.fullmatch(r"\d+\.\d+\.\d+", result.version)
    assert result.version == desk.agents.version
    assert [step.number for step in desk.steps] == list(range(1, 31))
    assert len({step.screenshot for step in desk.steps}) == 30
    for step in desk.steps:
        assert step.screenshot.read_bytes().startswith(b"\x89PNG")
        assert step.duration.total_seconds() > 0
    assert [step.memory for step in desk.steps[1:29]] == [f"m{i}" for i in range(2, 30)]
    assert desk.steps[5].next_goal == "g6"
    assert desk.steps[5].evaluation_previous_goal == "fine"
    assert desk.steps[5].url == f"{site}/"
    assert [json.loads(text) for text in desk.steps[0].actions] == [
        {"navigate": {"url": f"{site}/", "new_tab": False}}
    ]
    # As they happened: when a step was told, no model had been asked for the one after the next.
    assert all(asked <= number + 1 for number, asked in seen_when)
    # Of everything that could have called home, nothing did.
    assert any("127.0.0.1" in address for address in dialled())
    assert model.requests[0].key == "bearer key-of-the-model"
    assert model.requests[0].body["model"] == "scripted"


async def kept(step, seen_when, desk, model):
    seen_when.append((step.number, len(model.requests)))
    desk.steps.append(step)


async def test_every_option_of_a_task_has_its_effect(make_desk, model, site, rented, vault_python):
    """A login with a secret of the request and one of a vault, an upload, files, a judge, a schema."""
    # Where the browser finds what was uploaded for it: it sees no other file of the tests.
    own = httpx.get(f"{rented['cdpUrl']}/files").raise_for_status().json()
    upload = Path(own["uploads"], "upload.txt")
    upload.parent.mkdir(exist_ok=True)
    upload.write_text("what the user has uploaded")
    upload.chmod(0o644)
    files_of_page = "[...document.querySelector('input').files].map(f => f.name + ':' + f.size).join()"
    script = [
        lambda r: act(
            {"input": {"index": typed(r, "user"), "text": "<secret>user_name</secret>", "clear": True}}
        ),
        lambda r: act({"input": {"index": typed(r, "password"), "text": "<secret>shop_password</secret>"}}),
        lambda r: act({"send_keys": {"keys": "Enter"}}),
        lambda r: go(site.replace("127.0.0.1", "localhost")),
        lambda r: go(f"{site}/account"),
        lambda r: act(
            {"write_file": {"file_name": "notes.md", "content": "it is <secret>shop_password</secret>"}}
        ),
        lambda r: act(
            {"evaluate": {"code": "document.body.innerHTML = '<input type=file name=upload>'; 'ok'"}}
        ),
        lambda r: act({"upload_file": {"index": typed(r, "upload"), "path": str(upload)}}),
        lambda r: act({"read_file": {"file_name": str(upload)}}, {"evaluate": {"code": files_of_page}}),
        # The page says the password itself; so a model may, too.
        lambda r: act({"write_file": {"file_name": "found.txt", "content": "lovelace, love%6Cace, ada"}}),
        lambda r: act({"done": {"success": True, "data": {"orders": [{"count": 0}]}}}),
        lambda r: act({"done": {"success": True, "data": {"orders": [{"count": 4000}]}}}),
    ]
    model.answer = lambda request, number: script[number - 1](request)
    model.verdict = False
    async with make_desk(agent_python=vault_python, op_service_account_token="token-of-the-vault") as desk:
        result = await desk.do(
            "Sign in.",
            start_url=f"{site}/",
            secrets=SECRETS,
            op_vault_id="vault",
            allowed_domains=("127.0.0.1",),
            uploads=(upload,),
            structured_output=json.dumps(SCHEMA),
            judge=True,
            vision=False,
            thinking=True,
            highlight_elements=True,
            system_prompt_extension="Mind the gap.",
            earlier=("the output of an earlier task",),
        )
    log = result.log.read_text()
    assert result.how == "finished", log
    # Whoever has signed in has the password; the model has never seen it.
    assert any(step.url == f"{site}/account" for step in desk.steps), log
    shown = "\n".join(request.text for request in model.requests)
    assert "lovelace" not in shown
    assert "what the user has uploaded" in shown
    assert f"upload.txt:{upload.stat().st_size}" in shown, log
    assert "Mind the gap." in shown
    assert "the output of an earlier task" in shown
    assert not any("localhost" in step.url for step in desk.steps)
    assert "blocked by security policy" in model.requests[4].text
    assert sum(request.pictures for request in model.requests) == 0
    assert "thinking" in json.dumps(model.requests[0].body["response_format"])
    # An output that does not fit the schema is asked for again.
    assert json.loads(result.output) == {"orders": [{"count": 4000}]}
    assert "minimum" in model.requests[11].text
    # The judge has seen what was done, and has the last word.
    assert "4000" in model.judged[0].text
    assert "write_file" in model.judged[0].text
    assert result.success is False
    assert [path.name for path in result.files] == ["found.txt", "notes.md"]
    assert "it is <secret>shop_password</secret>" in result.files[1].read_text()
    assert "<secret>shop_password</secret>" in result.files[0].read_text()
    for path in files(desk.folder):
        for secret in (b"lovelace", b"token-of-the-vault", b"key-of-the-model", desk.cdp_url.encode()):
            assert secret not in path.read_bytes(), path
    told = json.dumps([[step.actions, step.memory, step.url] for step in desk.steps])
    assert "lovelace" not in told
    assert "<secret>shop_password</secret>" in told


async def test_a_model_that_answers_nonsense_is_asked_again_and_given_up_in_the_end(desk, model, site):
    script = ["no JSON", act(), act({"fly": {}}), json.dumps({"nonsense": 1}), done("at last", success=False)]
    model.answer = lambda request, number: script[min(number, len(script)) - 1]
    result = await desk.do(flash_mode=True, vision="auto")
    # An empty action is asked for again within its step.
    assert (result.how, result.output, result.success) == ("finished", "at last", False)
    assert "evaluation_previous_goal" not in json.dumps(model.requests[0].body["response_format"])
    failed = [step for step in desk.steps if not step.actions]
    assert failed
    assert all(step.evaluation_previous_goal and step.screenshot for step in failed)

    model.requests.clear()
    model.answer = lambda request, number: 500
    result = await desk.do(max_steps=2, start_url=f"{site}/")
    assert (result.how, result.success, len(desk.steps)) == ("finished", False, 2)
    assert result.output.startswith("no answer after 2 steps: ")
    assert "broken" in result.output
    assert "the model took" in result.log.read_text()
    assert await usable(desk)


async def test_a_task_that_needs_more_steps_than_allowed_ends_with_what_the_model_has(desk, model, site):
    model.answer = lambda request, number: (
        done("so far") if request.actions == {"done"} else act({"evaluate": {"code": "1"}})
    )
    result = await desk.do(max_steps=3, start_url=f"{site}/", vision=True)
    assert (result.how, result.output, len(desk.steps)) == ("finished", "so far", 3)
    assert model.requests[0].pictures == 1


async def test_pause_lets_the_model_rest_and_stop_ends_a_hanging_one(desk, model, site, wait_until, stays):
    answers = [asyncio.Event() for _ in range(3)]

    async def answer(request, number):
        if number > 1:
            await answers[min(number - 2, 2)].wait()
        return act({"evaluate": {"code": f"'answer {number}'"}})

    model.answer = answer
    run = await desk.start(start_url=f"{site}/")
    await wait_until(lambda: len(model.requests) == 2, 90)
    run.pause()
    log = next(iter(desk.folder.glob("*/agent.log")))
    await wait_until(lambda: "asked to pause" in log.read_text(), 60)
    answers[0].set()
    await wait_until(lambda: "interrupted" in log.read_text(), 60)
    assert await stays(lambda: len(model.requests) == 2, 1.5)
    assert len(desk.steps) == 1  # the one in which it was paused is done again
    answers[1].set()
    run.resume()
    await wait_until(lambda: len(desk.steps) == 2 and len(model.requests) == 4, 90)
    assert "answer 3" in desk.steps[1].actions[0]

    run.stop()  # the model hangs
    run.stop()
    async with asyncio.timeout(60):
        result = await run.result()
    assert (result.how, result.success) == ("stopped", None)
    assert result.output == "stopped on request, before there was an answer"
    assert not Path(f"/proc/{run.pid}").exists()
    run.resume()  # too late, and harmless
    assert await run.result() is result
    assert await usable(desk)


async def test_an_agent_killed_in_the_middle_says_why_and_leaves_the_browser_usable(
    desk, model, site, wait_until
):
    hang = asyncio.Event()
    model.answer = lambda request, number: go(f"{site}/") if number == 1 else hang.wait()
    run = await desk.start(secrets={"word": "very-secret-word"})
    await wait_until(lambda: len(model.requests) == 2, 90)
    os.kill(run.pid, signal.SIGKILL)
    result = await run.result()
    assert (result.how, result.success, len(desk.steps)) == ("died", False, 1)
    assert "killed by SIGKILL" in result.output
    assert result.version
    assert result.log.stat().st_size
    assert not any(b"very-secret-word" in path.read_bytes() for path in files(desk.folder))
    assert await usable(desk)


async def test_an_agent_dies_with_its_server(desk, model, site, wait_until, tmp_path):
    hang = asyncio.Event()
    note = act({"write_file": {"file_name": "note.txt", "content": "sesame"}})
    model.answer = lambda request, number: note if number == 1 else hang.wait()
    program = f"""
import asyncio, pathlib, uuid
from cdpbridge.server import Settings
from cdpbridge.server.tasks.agent import AgentProcesses, AgentSpec
async def main():
    settings = Settings.load(llm_base_url={model.base_url!r}, agent_python={str(desk.python)!r}, data_dir={str(tmp_path)!r})
    folder = pathlib.Path({str(tmp_path / "orphan")!r})
    spec = AgentSpec(uuid.uuid4(), "x", {desk.cdp_url!r}, "o3", folder, secrets={{"word": "sesame"}})
    async def ignore(step):
        pass
    run = await AgentProcesses(settings).start(spec, ignore)
    print(run.pid, flush=True)
    await run.result()
asyncio.run(main())
"""
    owner = programs.Program([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    try:
        pid = int(await asyncio.to_thread(owner.stdout.readline))
        await wait_until(lambda: len(model.requests) == 2, 90)
    finally:
        owner.kill()
        owner.wait()
        owner.stdout.close()
    await wait_until(lambda: not Path(f"/proc/{pid}").exists() or b"Z" in stat(pid), 30)
    assert not list((tmp_path / "orphan").glob(".agent-*"))
    [note] = (tmp_path / "orphan").rglob("note.txt")
    assert note.read_text().strip() == "<secret>word</secret>"
    assert await usable(desk)


def stat(pid):
    return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2][:3]


async def test_a_browser_that_is_gone_is_said(desk, nobody, model):
    model.answer = lambda request, number: done()
    desk.cdp_url = f"{nobody}/cdp/0123456789abcdef0123456789abcdef"
    result = await desk.do()
    assert (result.how, result.success) == ("finished", False)
    assert result.output.startswith("no answer after 0 steps: ")
    assert "0123456789abcdef" not in result.output
    assert "0123456789abcdef" not in result.log.read_text()


@pytest.mark.parametrize("spec", [{"structured_output": "{"}, {"secrets": {"https://a.*": "x"}}])
async def test_what_cannot_be_asked_for_starts_nothing(desk, spec):
    from cdpbridge.errors import AgentStartFailed

    with pytest.raises(AgentStartFailed, match=r"JSON|a\.\*"):
        await desk.start(**spec)
    assert not desk.folder.exists()
