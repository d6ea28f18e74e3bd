"""Runs agents: one child process each, configured by the server's settings."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cdpbridge.api._task_models import SDK_LLMS, SUPPORTED_LLMS
from cdpbridge.errors import AgentStartFailed
from cdpbridge.server.settings import Settings

from ._base import AgentResult, AgentRun, AgentSpec, AgentStep, Judgement
from ._environment import AgentEnvironment, look_at
from ._process import AgentProcess
from ._requests import check_schema, split_secrets
from ._trajectory import Trajectory

if TYPE_CHECKING:
    from ._judge import Judge
    from ._placement import AgentPlaces

__all__ = ["AgentProcesses"]

logger = logging.getLogger("cdpbridge.server.tasks.agent")

_DEFAULT: Final = "default"
"""In the table of models: stands for every name of the reference and of the official SDK that is not there."""

_STOPPED: Final = "the task was stopped before the judge had a verdict"


class AgentProcesses:
    """browser-use, each agent in a process of its own. Implements `Agents`.

    Making it asks the configured interpreter once, for some 0.1 s, whether browser-use is there.

    Args:
        places: Gives each of them a place of its own; None for none.
    """

    def __init__(self, settings: Settings, places: AgentPlaces | None = None) -> None:
        self._settings = settings
        self._places = places
        self._running: set[_Run] = set()
        self._closed = False
        self._environment: AgentEnvironment | None = None
        if settings.llm_base_url is not None:
            self._environment = look_at(settings.agent_python)
            if self._environment.refusal is not None:
                logger.warning("no tasks: %s", self._environment.refusal)

    @property
    def version(self) -> str | None:
        """The version of browser-use, when it is installed."""
        return self._environment.version if self._environment else None

    def refusal(self, *, op_vault_id: str | None = None) -> str | None:
        """Return why no task can be taken, as a text for the client; None when one can."""
        if self._environment is None:
            return "no tasks here: this server has no model for agents; set `llm_base_url`"
        if self._environment.refusal is not None:
            return f"no tasks here: {self._environment.refusal}"
        if op_vault_id is None:
            return None
        if self._settings.op_service_account_token is None:
            return "no 1Password here: opVaultId needs a service account; set `op_service_account_token`"
        if not self._environment.onepassword:
            return f"no 1Password here: {self._environment.python} -m pip install onepassword-sdk"
        return None

    def knows(self, model: str) -> bool:
        """Return True if a request may name this model: the reference's names, the official SDK's, and the configuration's."""
        if model in SUPPORTED_LLMS or model in SDK_LLMS:
            return True
        return model in self._settings.llm_models and model != _DEFAULT

    def known(self) -> list[str]:
        """Models to choose from: the request's default, the configuration's, the reference's, the official SDK's."""
        ours = [model for model in self._settings.llm_models if model != _DEFAULT]
        return list(dict.fromkeys([SUPPORTED_LLMS[0], *ours, *SUPPORTED_LLMS, *SDK_LLMS]))

    async def start(self, spec: AgentSpec, on_step: Callable[[AgentStep], Awaitable[None]]) -> AgentRun:
        """Put an agent to work. See `Agents.start`."""
        why = "the server is closing" if self._closed else self.refusal(op_vault_id=spec.op_vault_id)
        if why is not None:
            raise AgentStartFailed(f"the agent was not started: {why}")
        assert self._environment is not None
        models = self._settings.llm_models
        key, token = self._settings.llm_api_key, self._settings.op_service_account_token
        try:
            schema = check_schema(spec.structured_output) if spec.structured_output else None
            secrets = split_secrets(spec.secrets, spec.allowed_domains)
        except ValueError as error:
            raise AgentStartFailed(f"the agent was not started: {error}") from error
        model = models.get(spec.model) or models.get(_DEFAULT) or spec.model
        trajectory = Trajectory()

        async def keep(step: AgentStep) -> None:
            trajectory.add(step)
            await on_step(step)

        process = await AgentProcess.start(
            self._environment,
            spec,
            keep,
            places=self._places,
            schema=schema,
            secrets=secrets,
            llm={
                "model": model,
                "llm_base_url": self._settings.llm_base_url,
                "llm_api_key": key.get_secret_value() if key else None,
            },
            op_token=token.get_secret_value() if token and spec.op_vault_id else None,
            confine=self._settings.isolation,
        )
        run = _Run(process, spec, trajectory, self._judge(model) if spec.judge else None)
        self._running.add(run)
        run.on_end(self._running.discard)
        if self._closed:  # meanwhile
            run.stop()
        return run

    def _judge(self, agents_model: str) -> Judge:
        """Return the model that judges a task of this model: another one when there is one."""
        # Here, not above: it needs httpx, which would take 70 ms of each server's start.
        from ._judge import Judge, JudgeModel  # noqa: PLC0415

        settings = self._settings
        assert settings.llm_base_url is not None
        name = settings.judge_llm
        name = agents_model if name is None else settings.llm_models.get(name, name)
        base_url = settings.judge_llm_base_url or settings.llm_base_url
        key = settings.judge_llm_api_key
        # A key belongs to its endpoint.
        if key is None and base_url == settings.llm_base_url:
            key = settings.llm_api_key
        model = JudgeModel(
            base_url,
            key.get_secret_value() if key else None,
            name,
            independent=(name, base_url) != (agents_model, settings.llm_base_url),
        )
        return Judge(model, seconds=settings.judge_timeout_seconds)

    async def close(self) -> None:
        """End every agent that still works, and wait for it: some seconds at most."""
        self._closed = True
        running = list(self._running)
        for run in running:
            run.stop()
        await asyncio.gather(*(run.result() for run in running))


class _Run:
    """An agent at work, and after it its judge. Implements `AgentRun`."""

    def __init__(
        self, process: AgentProcess, spec: AgentSpec, trajectory: Trajectory, judge: Judge | None
    ) -> None:
        self._process = process
        self._spec = spec
        self._trajectory = trajectory
        self._judge = judge
        self._judging: asyncio.Task[Judgement] | None = None
        self._stopping = False
        self._over = asyncio.create_task(self._live(), name=f"task {spec.task_id}")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._process!r}>"

    @property
    def pid(self) -> int:
        """The agent's process."""
        return self._process.pid

    def pause(self) -> None:
        """Rest after the step at hand, until `resume`; a judge does not rest."""
        self._process.pause()

    def resume(self) -> None:
        """Go on."""
        self._process.resume()

    def stop(self) -> None:
        """End soon; see `AgentProcess.stop`. A judge is left without a verdict, at once."""
        self._stopping = True
        self._process.stop()
        if self._judging is not None:
            self._judging.cancel()

    async def result(self) -> AgentResult:
        """Return how it ended, once it has and was judged."""
        return await asyncio.shield(self._over)

    def on_end(self, call: Callable[[_Run], object]) -> None:
        """Call when it is over."""
        self._over.add_done_callback(lambda _: call(self))

    async def _live(self) -> AgentResult:
        result = await self._process.result()
        if result.how != "finished" or not result.answered:
            return result
        if self._spec.on_answer is not None:
            self._spec.on_answer(result)
        if self._judge is None:
            return result
        cutter = self._process.cutter
        if self._stopping:
            judgement = self._judge.judgement(None, _STOPPED, cutter)
        else:
            judging = self._judge.judge(self._spec, result, self._trajectory.steps, cutter)
            self._judging = asyncio.create_task(judging)
            try:
                judgement = await self._judging
            except asyncio.CancelledError:
                if self._over.cancelling():  # it is we who are cancelled
                    raise
                judgement = self._judge.judgement(None, _STOPPED, cutter)
        await asyncio.to_thread(_note, result.log, judgement)
        return replace(result, success=judgement.verdict, judgement=judgement)


def _note(log: Path, judgement: Judgement) -> None:
    """Add the judge's word to the task's log."""
    who = f"judge {judgement.model}{'' if judgement.independent else ', the model of the agent itself'}"
    if judgement.error is not None:
        words = f"no verdict: {judgement.error}"
    else:
        words = f"verdict {str(judgement.verdict).lower()}: {judgement.failure_reason or judgement.reasoning}"
    try:
        with log.open("a", encoding="utf-8", errors="replace") as file:
            file.write(f"{who}: {words}\n")
    except OSError as error:
        logger.warning("the log of a task cannot be written: %s", error)
