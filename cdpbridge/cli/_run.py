"""`cdpbridge run`: an agent does a task, and you watch."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ._ids import ID, session_id
from ._options import Group, argument, json_option, provider_option
from ._output import note, print_json, progress, short

if TYPE_CHECKING:
    from cdpbridge.api import Account, AsyncClient, TaskOptions, TaskResult, TaskStep

__all__ = ["register"]


def register(app: Group) -> None:
    """Add the command."""
    app.command("run")(_run)


@argument("task", help="What to do, in words.")
@click.option(
    "--session",
    type=ID,
    help="Session to run in, by its id or the beginning of it; it stays. Default: one of its own.",
)
@click.option("--llm", help="Model. Default: the server's.")
@click.option("--max-steps", type=click.IntRange(min=1), help="Steps after which the agent stops.")
@click.option("--start-url", help="Where the browser goes first.")
@click.option(
    "--schema",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with a JSON schema that the output must fit.",
)
@click.option("--timeout", type=click.IntRange(min=1), help="Minutes after which the task is stopped.")
@click.option(
    "--keep", is_flag=True, help="Keep its session for further tasks; it costs money until stopped."
)
@json_option
@provider_option
def _run(
    task: str,
    session: str | None,
    llm: str | None,
    max_steps: int | None,
    start_url: str | None,
    schema: Path | None,
    timeout: int | None,
    keep: bool,
    as_json: bool,
    provider: str | None,
) -> None:
    """Run TASK with an agent and print its output.

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
        note(f"task {result.id} {result.status}, success: {_word(result.is_success)}")
        raise click.exceptions.Exit(3)
    if result.task.judge_error is not None:
        note(f"not judged: {result.task.judge_error}")


async def _watch(
    task: str,
    session: str | None,
    keep: bool,
    timeout: timedelta | None,
    options: TaskOptions,
    where: str | None,
) -> TaskResult[None]:
    from cdpbridge.providers import provider

    async with provider(where) as client:
        before = await _account(client)
        with progress("starting") as tell:
            chosen = None if session is None else await session_id(client, session)
            run = await client.start(task, session_id=chosen, keep_session=keep, **options)
            async with run:
                note(f"task     {run.id}")
                note(f"session  {run.session_id} ({_fate(keep=keep, given=session is not None)})")
                if run.live_url is not None:
                    note(f"live     {run.live_url}")
                tell("working")
                async for step in run.steps(timeout=timeout):
                    _show(step)
                    tell(short(step.next_goal) or "working")
                result = await run.result(timeout=timeout)
        _tell_cost(result, before, await _account(client), client.place)
        return result


async def _account(client: AsyncClient) -> Account | None:
    from cdpbridge.errors import APIError

    try:
        return await client.billing.account()
    except APIError:  # the task counts, and says what is wrong with the server
        return None


def _tell_cost(result: TaskResult[None], before: Account | None, after: Account | None, place: str) -> None:
    """Say what it cost, by the account: the browser's paid time and the models. Other work on the account moves it too."""
    from cdpbridge.api._place import place_name
    from cdpbridge.billing import money_text

    if result.cost is not None:
        note(f"models   {money_text(result.cost)} USD")
    if before is None or after is None:
        return
    unit = "simulated USD" if after.credits_simulated else "USD"
    fell = before.total_credits_balance_usd - after.total_credits_balance_usd
    if fell < 0:  # it was topped up meanwhile
        return
    note(f"account  fell by {money_text(fell)} ({unit}, {place_name(place)})")


def _fate(*, keep: bool, given: bool) -> str:
    """Return what happens to the session."""
    if keep:
        return "stays open and costs money until it is stopped: cdpbridge sessions stop"
    return "yours, stays open" if given else "stopped with the task"


def _show(step: TaskStep) -> None:
    goal = short(step.next_goal) or short(step.memory)
    note(f"{step.number:>4}  {goal}  {short(step.url)}")


def _value(output: str | None, *, structured: bool) -> Any:
    if output is None or not structured:
        return output
    try:
        return json.loads(output)
    except ValueError:  # the agent gave something else; it is shown as it is
        return output


def _word(success: bool | None) -> str:
    return {True: "yes", False: "no", None: "not judged"}[success]
