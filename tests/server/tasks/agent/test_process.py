"""Ways in which an agent's process fails; a scripted program stands in for browser-use."""

import asyncio
import json
import sys
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from cdpbridge.errors import AgentStartFailed
from cdpbridge.server import Settings
from cdpbridge.server.hosts._processes import processes_using
from cdpbridge.server.tasks.agent import AgentProcesses, AgentSpec, _process

pytestmark = pytest.mark.programs

_ANSWER = {"python": [3, 11], "browser_use": "9.9.9", "missing": [], "onepassword": False}
_STEP = {
    "event": "step", "number": 1, "memory": "", "evaluation_previous_goal": "", "next_goal": "", "url": "",
    "actions": [], "screenshot": None, "seconds": 0.5,
}  # fmt: skip
_RESULT = {"event": "result", "how": "finished", "output": "fine", "success": True, "answered": True}


@pytest.fixture
def make_agents(tmp_path, environment):
    """Agents whose interpreter answers with `found`, and does `program` instead of browser-use."""

    def make_agents(program="", found=_ANSWER, **settings):
        python = tmp_path / "python"
        (tmp_path / "program.py").write_text(
            f"import json, os, sys, time\ntask = json.loads(input())\n{program}"
        )
        python.write_text(
            f"#!/bin/sh\n[ \"$1\" = -c ] && {{ echo '{json.dumps(found)}'; exit; }}\nexec {sys.executable} {tmp_path}/program.py\n"
        )
        python.chmod(0o755)
        given = {
            "llm_base_url": "http://127.0.0.1:1/v1",
            "agent_python": python,
            "data_dir": tmp_path,
        } | settings
        return AgentProcesses(Settings.load(**given))

    return make_agents


@pytest.fixture
def make_spec(tmp_path):
    def make_spec(**more):
        return AgentSpec(
            uuid4(), "task", "http://127.0.0.1:1/cdp/0123456789abcdef", "o3", tmp_path / "task", **more
        )

    return make_spec


async def ignore(step):
    pass


def said(*events):
    return "".join(f"print({json.dumps(json.dumps(event))}, flush=True)\n" for event in events)


def test_the_models_to_choose_from_begin_with_the_default(make_agents):
    agents = make_agents("", llm_models={"ours": "m", "default": "d", "o3": "x"})
    known = agents.known()
    assert known[:3] == ["browser-use-llm", "ours", "o3"]
    assert len(set(known)) == len(known)
    assert all(agents.knows(model) for model in known)


async def test_a_process_that_ends_without_a_result_has_died_and_its_last_words_say_why(
    make_agents, make_spec
):
    agents = make_agents(
        "os.write(2, b'first\\nNo module named sesame ' + task['llm_api_key'].encode()); sys.exit(3)",
        llm_api_key="key-of-the-model",
    )
    result = await (await agents.start(make_spec(secrets={"word": "sesame"}), ignore)).result()
    assert (result.how, result.success, result.version) == ("died", False, None)
    assert result.output == (
        "the agent's process ended with status 3 before it had an answer: "
        "first; No module named <secret>word</secret> <secret>llm key</secret>"
    )
    assert result.log.read_text() == "first\nNo module named <secret>word</secret> <secret>llm key</secret>\n"
    assert not list(result.log.parent.glob(".agent-*"))
    assert "key-of-the-model" not in repr(agents)


async def test_what_it_has_written_is_handed_over_cut_also_when_it_has_died(make_agents, make_spec):
    agents = make_agents("""
from pathlib import Path
folder = Path(task["folder"])
(folder / "output" / "a.txt").write_text("the sesame")
(folder / "output" / "todo.md").touch()
(folder / "output" / "link").symlink_to("/etc/passwd")
(folder / "downloads" / "b.bin").write_bytes(b"\\xff")
os.kill(os.getpid(), 9)
""")
    result = await (await agents.start(make_spec(secrets={"word": "sesame"}), ignore)).result()
    assert result.how == "died"
    assert [path.name for path in result.files] == ["a.txt", "b.bin"]
    assert result.files[0].read_text() == "the <secret>word</secret>"


async def test_a_step_that_cannot_be_kept_ends_the_agent(make_agents, make_spec, caplog):
    async def fail(step):
        assert step.duration == timedelta(seconds=0.5)
        raise OSError("no space left on device")

    agents = make_agents(said(_STEP) + "time.sleep(60)")
    run = await agents.start(make_spec(), fail)
    result = await run.result()
    assert (result.how, result.output) == ("died", "the server failed it: OSError")
    assert "no space left on device" in caplog.text
    assert not Path(f"/proc/{run.pid}").exists()


async def test_what_is_no_event_ends_the_agent(make_agents, make_spec, monkeypatch):
    result = await (
        await make_agents("print('nonsense', flush=True); time.sleep(60)").start(make_spec(), ignore)
    ).result()
    assert (result.how, result.output) == ("died", "the server failed it: JSONDecodeError")
    monkeypatch.setattr(_process, "_LINE_BYTES", 1000)
    result = await (
        await make_agents("print('x' * 5000, flush=True); time.sleep(60)").start(make_spec(), ignore)
    ).result()
    assert (result.how, result.output) == ("died", "the server failed it: ValueError")


async def test_one_that_does_not_listen_is_killed_with_its_children(
    make_agents, make_spec, monkeypatch, wait_until
):
    monkeypatch.setattr(_process, "_STOP_SECONDS", 0.2)
    agents = make_agents(f"""
import subprocess
child = subprocess.Popen(["sleep", "60"])
open(task["folder"] + "/child", "w").write(str(child.pid))
{said(_STEP)}time.sleep(60)
""")
    steps = []

    async def keep(step):
        steps.append(step)

    run = await agents.start(make_spec(), keep)
    await wait_until(lambda: steps)
    await agents.close()
    result = await run.result()
    assert (result.how, result.output, result.success) == ("stopped", "stopped on request, by force", None)
    child = int((result.log.parent / "child").read_text())
    await wait_until(
        lambda: not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text()
    )
    with pytest.raises(AgentStartFailed, match="the server is closing"):
        await agents.start(make_spec(), ignore)


async def test_one_that_does_not_end_after_its_last_word_is_made_to(make_agents, make_spec, monkeypatch):
    monkeypatch.setattr(_process, "_EXIT_SECONDS", 0.2)
    result = await (await make_agents(said(_RESULT) + "time.sleep(60)").start(make_spec(), ignore)).result()
    assert (result.how, result.output, result.success) == ("finished", "fine", True)


async def test_the_log_is_bounded(make_agents, make_spec, monkeypatch):
    monkeypatch.setattr(_process, "_LOG_BYTES", 1000)
    program = "for i in range(1000): os.write(2, b'x' * 99 + b'\\n')\n" + said(_RESULT)
    result = await (await make_agents(program).start(make_spec(), ignore)).result()
    assert result.how == "finished"
    assert result.log.stat().st_size < 1100
    assert result.log.read_text().endswith("the log ends here: it is too long\n")


async def test_it_sees_nothing_of_the_servers_environment(make_agents, make_spec, environment):
    environment.setenv("BROWSER_USE_API_KEY", "key-of-the-server")
    environment.setenv("OPENAI_API_KEY", "another-key")
    environment.setenv("HTTPS_PROXY", "http://proxy.example:1")
    environment.setenv("NO_PROXY", "example.com")
    agents = make_agents(
        "print(json.dumps({'event': 'result', 'how': 'finished', 'success': True, 'answered': True, 'output': json.dumps(dict(os.environ))}))"
    )
    result = await (await agents.start(make_spec(), ignore)).result()
    seen = json.loads(result.output)
    assert "key" not in result.output.lower().replace("skip_llm_api_key_verification", "")
    assert seen["NO_PROXY"] == "example.com,127.0.0.1"
    assert seen["HTTPS_PROXY"] == "http://proxy.example:1"
    assert (
        seen["ANONYMIZED_TELEMETRY"]
        == seen["BROWSER_USE_CLOUD_SYNC"]
        == seen["BROWSER_USE_VERSION_CHECK"]
        == "false"
    )
    assert seen["HOME"] == seen["TMPDIR"] != str(Path.home())


@pytest.mark.parametrize("turns", [1, 3, 10, 30])
async def test_a_start_that_is_cancelled_leaves_nothing(make_agents, make_spec, tmp_path, turns, wait_until):
    agents = make_agents("time.sleep(60)")
    start = asyncio.create_task(agents.start(make_spec(), ignore))
    for _ in range(turns):
        await asyncio.sleep(0)
    start.cancel()
    try:
        await start
    except asyncio.CancelledError:
        assert not agents._running
    await agents.close()
    await wait_until(lambda: not processes_using(tmp_path / "program.py"))
    assert not list((tmp_path / "task").glob(".agent-*"))


async def test_a_start_that_fails_leaves_nothing(make_agents, make_spec, tmp_path):
    agents = make_agents("time.sleep(60)")
    (tmp_path / "python").unlink()
    with pytest.raises(AgentStartFailed, match="No such file"):
        await agents.start(make_spec(), ignore)
    assert not list((tmp_path / "task").glob(".agent-*"))
    (tmp_path / "file").touch()
    spec = AgentSpec(uuid4(), "x", "http://127.0.0.1:1", "o3", tmp_path / "file" / "task")
    with pytest.raises(AgentStartFailed, match="Not a directory"):
        await agents.start(spec, ignore)


async def test_a_waiter_may_be_cancelled_while_the_agent_goes_on(make_agents, make_spec):
    agents = make_agents("input()\n" + said(_RESULT))
    run = await agents.start(make_spec(), ignore)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(run.result(), 0.05)
    run.pause()
    assert (await run.result()).output == "fine"


async def test_the_interpreter_may_be_named_from_here_or_found_in_the_path(
    make_agents, make_spec, tmp_path, environment
):
    make_agents(said(_RESULT))
    environment.chdir(tmp_path.parent)
    agents = make_agents(said(_RESULT), agent_python=Path(tmp_path.name) / "python")
    assert (await (await agents.start(make_spec(), ignore)).result()).output == "fine"
    (tmp_path / "python").rename(tmp_path / "python-of-agents")
    environment.setenv("PATH", str(tmp_path), prepend=":")
    agents = make_agents(said(_RESULT), agent_python="python-of-agents")
    assert (await (await agents.start(make_spec(), ignore)).result()).output == "fine"


def test_no_task_without_a_model(environment, tmp_path):
    agents = AgentProcesses(Settings.load(data_dir=tmp_path))
    assert "set `llm_base_url`" in agents.refusal()
    assert agents.version is None


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (_ANSWER | {"missing": ["browser_use"]}, "browser_use is not installed in agent_python: "),
        (_ANSWER | {"python": [3, 10]}, "is older than Python 3.11"),
        ("nonsense", "is no Python that works"),
    ],
)
async def test_no_task_in_an_environment_that_is_not_fit(make_agents, make_spec, found, why):
    agents = make_agents(found=found)
    assert why in agents.refusal()
    assert "pip install" in agents.refusal()
    with pytest.raises(AgentStartFailed, match=why):
        await agents.start(make_spec(), ignore)


def test_no_task_with_an_interpreter_that_is_not_there(environment, tmp_path):
    given = {"llm_base_url": "http://127.0.0.1:1", "agent_python": tmp_path / "none", "data_dir": tmp_path}
    refusal = AgentProcesses(Settings.load(**given)).refusal()
    assert str(tmp_path / "none") in refusal
    assert "No such file" in refusal


async def test_no_vault_without_a_service_account_and_its_sdk(make_agents, make_spec):
    agents = make_agents()
    assert agents.refusal() is None
    assert "op_service_account_token" in agents.refusal(op_vault_id="vault")
    with pytest.raises(AgentStartFailed, match="op_service_account_token"):
        await agents.start(make_spec(op_vault_id="vault"), ignore)
    assert "onepassword-sdk" in make_agents(op_service_account_token="t").refusal(op_vault_id="vault")
    found = _ANSWER | {"onepassword": True}
    assert make_agents(found=found, op_service_account_token="t").refusal(op_vault_id="vault") is None


async def test_models_of_the_reference_and_of_the_configuration(make_agents, make_spec):
    program = "print(json.dumps({'event': 'result', 'how': 'finished', 'success': True, 'answered': True, 'output': task['model']}))"

    async def asked(models, model):
        spec = make_spec()
        object.__setattr__(spec, "model", model)
        agents = make_agents(program, llm_models=models)
        assert agents.knows(model)
        return (await (await agents.start(spec, ignore)).result()).output

    assert await asked({}, "o3") == "o3"
    assert await asked({"o3": "mine/o3", "default": "mine/all"}, "o3") == "mine/o3"
    assert await asked({"default": "mine/all"}, "browser-use-llm") == "mine/all"
    assert await asked({"qwen": "qwen3:8b"}, "qwen") == "qwen3:8b"
    # Names of the official SDK, as those of the reference.
    assert await asked({}, "claude-sonnet-5") == "claude-sonnet-5"
    assert await asked({"default": "mine/all"}, "browser-use-2.0") == "mine/all"
    assert await asked({"browser-use-2.0": "mine/bu"}, "browser-use-2.0") == "mine/bu"
    agents = make_agents(llm_models={"default": "x"})
    assert not agents.knows("default")
    assert not agents.knows("gpt-17")
