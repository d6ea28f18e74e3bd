"""Agents that do what a test tells them, in this process."""

import asyncio
from datetime import timedelta
from urllib.parse import urlsplit

from cdpbridge.errors import CDPBridgeError
from cdpbridge.server.tasks.agent import AgentResult, AgentStep

# The smallest PNG there is: one pixel.
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489"
    "0000000a49444154789c6360000002000100ffff03000006000557bfabd40000000049454e44ae426082"
)


class ScriptedRun:
    """One agent: `step`, `finish` and `die` are the test's, the rest is the protocol's."""

    def __init__(self, spec, on_step):
        self.spec = spec
        self.calls = []
        self.steps = 0
        self.stubborn = False
        self._on_step = on_step
        self._result = asyncio.get_running_loop().create_future()

    async def step(self, **more):
        self.steps += 1
        screenshot = self.spec.folder / f"step-{self.steps}.png"
        screenshot.write_bytes(PNG)
        given = {
            "memory": f"memory {self.steps}",
            "evaluation_previous_goal": "good",
            "next_goal": "go on",
            "url": "https://example.com/",
            "actions": ('{"click": 1}',),
            "screenshot": screenshot,
            "duration": timedelta(seconds=1.5),
        }
        await self._on_step(AgentStep(number=self.steps, **(given | more)))

    def finish(
        self, output="done", *, success=True, files=(), how="finished", log="all went well\n", judgement=None
    ):
        if self._result.done():
            return
        path = self.spec.folder / "agent.log"
        if log is not None:
            path.write_text(log)
        written = []
        for name, content in dict(files).items():
            written.append(self.spec.folder / name)
            written[-1].write_bytes(content)
        self._result.set_result(
            AgentResult(how, output, success, tuple(written), path, "0.9.9", judgement=judgement)
        )

    def answer(self, output):
        """The agent is done; its judge is not."""
        log = self.spec.folder / "agent.log"
        self.spec.on_answer(AgentResult("finished", output, True, (), log, "0.9.9"))

    def die(self, why="the agent's process was killed by signal 9"):
        self.finish(why, success=False, how="died", log=None)

    def pause(self):
        self.calls.append("pause")

    def resume(self):
        self.calls.append("resume")

    def stop(self):
        self.calls.append("stop")
        if not self.stubborn:
            self.finish("stopped by request", success=None, how="stopped")

    async def result(self):
        return await asyncio.shield(self._result)


class ScriptedAgents:
    """Implements `Agents`. `script` is run for each agent, when there is one."""

    def __init__(self, script=None):
        self.runs = []
        self.refused = None
        self.models = {"browser-use-llm", "gpt-4.1"}
        self.failure = None
        self.may_start = asyncio.Event()
        self.may_start.set()
        self.closed = False
        self._script = script
        self._tasks = []

    @property
    def run(self):
        return self.runs[-1]

    async def started(self, count=1):
        async with asyncio.timeout(60):
            while len(self.runs) < count:
                await asyncio.sleep(0.005)
        return self.runs[count - 1]

    def refusal(self, *, op_vault_id=None):
        if self.refused is None and op_vault_id is not None:
            return "no 1Password here; set `op_service_account_token`"
        return self.refused

    def knows(self, model):
        return model in self.models

    def known(self):
        return sorted(self.models)

    async def start(self, spec, on_step):
        await self.may_start.wait()
        if self.failure is not None:
            raise CDPBridgeError(self.failure)
        run = ScriptedRun(spec, on_step)
        self.runs.append(run)
        if self._script is not None:
            self._tasks.append(asyncio.create_task(self._script(run)))
        return run

    async def close(self):
        self.closed = True
        for run in self.runs:
            run.finish("the server ended it", success=None, how="stopped")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def two_steps(run):
    """An agent that works for two steps, says what it was told, and leaves a file. "Wait" makes it wait for its stop."""
    await run.step()
    await run.step()
    if not run.spec.task.startswith("Wait"):
        name = urlsplit(run.spec.cdp_url).scheme
        run.finish(f"did {run.spec.task!r} over {name}", files={"answer.txt": b"0123456789"})


def agents_for_a_server(_settings):
    """For `create_app(agents=...)`."""
    return ScriptedAgents(two_steps)
