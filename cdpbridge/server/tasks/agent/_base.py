"""The seam between a task and the agent that does it. An agent runs in a process of its own, over the browser's `cdpUrl`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Literal, Protocol
from uuid import UUID

__all__ = ["AgentResult", "AgentRun", "AgentSpec", "AgentStep", "Agents", "Judgement"]


@dataclass(frozen=True, slots=True)
class AgentSpec:
    """A task for an agent.

    Attributes:
        task_id: Of the task; an agent works on it once.
        cdp_url: The browser it drives.
        model: Name as the request has it; the agents' configuration says what the endpoint calls it.
        structured_output: A JSON schema as text, checked.
        secrets: As in the request; `split_secrets` says what the keys mean.
        op_vault_id: 1Password vault to take logins from.
        folder: The task's own; screenshots, output files and the log are written below it.
        shared: Where its output and downloads are while it works, because the browser must reach them; None for `folder`.
        collect: Called once it has ended, in a thread: brings what is in `shared` into `folder`.
        uploads: Files the agent may use.
        judge: Whether a judge looks at what was done, and decides.
        earlier: Outputs of the session's earlier tasks, oldest first, when it has a memory.
        on_answer: Called with the result when the agent has answered, and is done with the browser; then a judge may go to work.
    """

    task_id: UUID
    task: str
    cdp_url: str = field(repr=False)
    model: str
    folder: Path
    shared: Path | None = None
    collect: Callable[[], None] = lambda: None
    uploads: tuple[Path, ...] = ()
    start_url: str | None = None
    max_steps: int = 100
    structured_output: str | None = None
    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    allowed_domains: tuple[str, ...] = ()
    op_vault_id: str | None = None
    highlight_elements: bool = False
    flash_mode: bool = False
    thinking: bool = False
    vision: bool | Literal["auto"] = True
    system_prompt_extension: str = ""
    judge: bool = False
    earlier: tuple[str, ...] = ()
    on_answer: Callable[[AgentResult], object] | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class AgentStep:
    """One step, as it happened.

    Attributes:
        number: From 1.
        actions: Each as JSON text, secrets cut.
        screenshot: PNG file in the task's folder.
    """

    number: int
    memory: str
    evaluation_previous_goal: str
    next_goal: str
    url: str
    actions: tuple[str, ...]
    screenshot: Path | None
    duration: timedelta


@dataclass(frozen=True, slots=True)
class Judgement:
    """A judge's verdict on a task.

    Attributes:
        model: Which model judged, as its endpoint calls it.
        independent: Whether it is another one than the agent's.
        verdict: Whether the task was achieved; None when there is no verdict.
        error: Why there is none.
        screenshots: How many it was shown.
    """

    model: str
    independent: bool
    verdict: bool | None
    reasoning: str = ""
    failure_reason: str = ""
    error: str | None = None
    screenshots: int = 0


@dataclass(frozen=True, slots=True)
class AgentResult:
    """The end of an agent.

    Attributes:
        how: `"finished"` by itself (also when it gave up), `"stopped"` when asked, `"died"` when its process ended without a result.
        output: What it answered; else why there is no answer.
        success: The judge's verdict when there was one to judge, else the agent's own word; False when it gave up or died, None
            when stopped.
        files: What it has written, in the task's folder.
        log: Its log file, secrets cut.
        version: Of browser-use.
        answered: Whether `output` is an answer, and not the reason why there is none.
        judgement: What the judge has said; None when none was asked.
    """

    how: Literal["finished", "stopped", "died"]
    output: str | None
    success: bool | None
    files: tuple[Path, ...]
    log: Path
    version: str | None
    answered: bool = True
    judgement: Judgement | None = None


class AgentRun(Protocol):
    """An agent at work."""

    def pause(self) -> None:
        """Rest after the step at hand, until `resume`."""

    def resume(self) -> None: ...

    def stop(self) -> None:
        """End soon: after the step at hand, or by force after a bounded time."""

    async def result(self) -> AgentResult:
        """Return how it ended, once it has; may be awaited often. Never raises for what the agent did."""


class Agents(Protocol):
    """Runs agents."""

    def refusal(self, *, op_vault_id: str | None = None) -> str | None:
        """Return why no task can be taken, as a text for the client: nothing configured, unknown 1Password; None when one can."""

    def knows(self, model: str) -> bool:
        """Return True if a request may name this model."""

    def known(self) -> list[str]:
        """Models to choose from, the default first."""

    async def start(self, spec: AgentSpec, on_step: Callable[[AgentStep], Awaitable[None]]) -> AgentRun:
        """Put an agent to work. `on_step` is awaited for each step, in order, before the next one's is.

        Raises:
            AgentStartFailed: With the cause; nothing is left behind.
        """

    async def close(self) -> None:
        """End every agent that still works."""
