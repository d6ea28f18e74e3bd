"""Runs agents: one child process each, configured by the server's settings."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from cdpbridge.api._task_models import SUPPORTED_LLMS
from cdpbridge.errors import AgentStartFailed
from cdpbridge.server._settings import Settings

from ._base import AgentRun, AgentSpec, AgentStep
from ._environment import AgentEnvironment, look_at
from ._process import AgentProcess
from ._requests import check_schema, split_secrets

__all__ = ["AgentProcesses"]

logger = logging.getLogger("cdpbridge.server.agent")

_DEFAULT: Final = "default"
"""In the table of models: stands for every name of the reference that is not there."""


class AgentProcesses:
    """browser-use, each agent in a process of its own. Implements `Agents`.

    Making it asks the configured interpreter once, for some 0.1 s, whether browser-use is there.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._running: set[AgentProcess] = set()
        self._closed = False
        self._environment: AgentEnvironment | None = None
        if settings.llm_base_url is not None:
            self._environment = look_at(settings.agent_python)
            if self._environment.refusal is not None:
                logger.warning("no tasks: %s", self._environment.refusal)

    @property
    def version(self) -> str | None:
        """Of browser-use, when it is there."""
        return self._environment.version if self._environment else None

    def refusal(self, *, op_vault_id: str | None = None) -> str | None:
        """Why no task can be taken, as a text for the client; None when one can."""
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
        """Whether a request may name this model: the reference's names, and the configuration's."""
        return model in SUPPORTED_LLMS or (model in self._settings.llm_models and model != _DEFAULT)

    def known(self) -> list[str]:
        """Models to choose from: the request's default, the configuration's, then the reference's."""
        ours = [model for model in self._settings.llm_models if model != _DEFAULT]
        return list(dict.fromkeys([SUPPORTED_LLMS[0], *ours, *SUPPORTED_LLMS]))

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
        process = await AgentProcess.start(
            self._environment.python,
            spec,
            on_step,
            schema=schema,
            secrets=secrets,
            llm={
                "model": models.get(spec.model) or models.get(_DEFAULT) or spec.model,
                "llm_base_url": self._settings.llm_base_url,
                "llm_api_key": key.get_secret_value() if key else None,
            },
            op_token=token.get_secret_value() if token and spec.op_vault_id else None,
        )
        self._running.add(process)
        process.on_end(self._running.discard)
        if self._closed:  # meanwhile
            process.stop()
        return process

    async def close(self) -> None:
        """End every agent that still works, and wait for it: some seconds at most."""
        self._closed = True
        running = list(self._running)
        for process in running:
            process.stop()
        await asyncio.gather(*(process.result() for process in running))
