"""`cdpbridge run`: an agent does a task, and you watch."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from ._output import JsonOption, ProviderOption, error_console, print_json, progress, short

if TYPE_CHECKING:
    from cdpbridge.api import TaskOptions, TaskResult, TaskStep

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("run")(_run)


def _run(
    task: Annotated[str, typer.Argument(help="What is to be done, in words.", show_default=False)],
    session: Annotated[
        UUID | None,
        typer.Option(help="Session to run in; it stays. Default: one of its own.", show_default=False),
    ] = None,
    llm: Annotated[str | None, typer.Option(help="Model. Default: the server's.", show_default=False)] = None,
    max_steps: Annotated[
        int | None, typer.Option(min=1, help="Steps after which the agent gives up.", show_default=False)
    ] = None,
    start_url: Annotated[
        str | None, typer.Option(help="Where the browser goes first.", show_default=False)
    ] = None,
    schema: Annotated[
        Path | None,
        typer.Option(help="File with a JSON schema that the output must fit.", exists=True, dir_okay=False),
    ] = None,
    timeout: Annotated[
        int | None, typer.Option(min=1, help="Minutes after which the task is stopped.", show_default=False)
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep its session for further tasks; it costs money until stopped.")
    ] = False,
    as_json: JsonOption = False,
    provider: ProviderOption = None,
) -> None:
    """Let an agent do TASK, show its steps, and print its output.

    Steps and the live address go to stderr, the output to stdout. Its own session is stopped with the task, unless --keep;
    Ctrl-C stops both. Ends with 0 when the task is finished and not judged a failure, else with 3.
    """
    options: TaskOptions = {"llm": llm, "max_steps": max_steps, "start_url": start_url}
    if schema is not None:
        options["structured_output"] = schema.read_text(encoding="utf-8")
    limit = None if timeout is None else timedelta(minutes=timeout)
    result = asyncio.run(_watch(task, session, keep, limit, options, provider))
    if as_json:
        print_json(
            {
                "taskId": str(result.id),
                "sessionId": str(result.session_id),
                "status": result.status,
                "isSuccess": result.is_success,
                "judgeLlm": result.task.judge_llm,
                "judgeError": result.task.judge_error,
                "output": _value(result.output, structured=schema is not None),
                "cost": None if result.cost is None else str(result.cost),
                "steps": [step.model_dump(mode="json", by_alias=True) for step in result.steps],
                "outputFiles": [file.model_dump(mode="json", by_alias=True) for file in result.output_files],
            }
        )
    elif result.output is not None:
        print(result.output)
    if result.status != "finished" or result.is_success is False:
        error_console.print(f"task {result.id} {result.status}, success: {_word(result.is_success)}")
        raise typer.Exit(3)
    if result.task.judge_error is not None:
        error_console.print(f"not judged: {result.task.judge_error}", markup=False, soft_wrap=True)


async def _watch(
    task: str,
    session: UUID | None,
    keep: bool,
    timeout: timedelta | None,
    options: TaskOptions,
    where: str | None,
) -> TaskResult[None]:
    from cdpbridge.providers import provider

    async with provider(where) as client:
        with progress("starting") as tell:
            run = await client.start(task, session_id=session, keep_session=keep, **options)
            async with run:
                error_console.print(f"task     {run.id}")
                error_console.print(
                    f"session  {run.session_id} ({_fate(keep=keep, given=session is not None)})"
                )
                if run.live_url is not None:
                    error_console.print(f"live     {run.live_url}", markup=False, soft_wrap=True)
                tell("working")
                async for step in run.steps(timeout=timeout):
                    _show(step)
                    tell(short(step.next_goal) or "working")
                return await run.result(timeout=timeout)


def _fate(*, keep: bool, given: bool) -> str:
    """What becomes of the session."""
    if keep:
        return "stays open and costs money until it is stopped: cdpbridge sessions stop"
    return "yours, stays open" if given else "stopped with the task"


def _show(step: TaskStep) -> None:
    goal = short(step.next_goal) or short(step.memory)
    error_console.print(f"{step.number:>4}  {goal}  {short(step.url)}", markup=False, soft_wrap=True)


def _value(output: str | None, *, structured: bool) -> Any:
    if output is None or not structured:
        return output
    try:
        return json.loads(output)
    except ValueError:  # the agent gave something else; it is shown as it is
        return output


def _word(success: bool | None) -> str:
    return {True: "yes", False: "no", None: "not judged"}[success]
