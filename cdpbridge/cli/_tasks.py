"""`cdpbridge tasks`: what agents do and did."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from ._output import (
    JsonOption,
    LimitOption,
    ProviderOption,
    console,
    error_console,
    first,
    instant,
    print_json,
    print_list,
    short,
    with_client,
)

if TYPE_CHECKING:
    from cdpbridge.api import AsyncClient, Task, TaskItem

__all__ = ["print_task", "register"]

TaskId = Annotated[UUID, typer.Argument(metavar="TASK", help="Its id.", show_default=False)]

tasks = typer.Typer(
    no_args_is_help=True, help="Tasks of agents: list, watch, stop, and fetch what they wrote."
)


def register(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(tasks, name="tasks")


@tasks.command("list")
def _list(
    status: Annotated[
        str | None, typer.Option(help="Only these, e.g. `started`.", show_default=False)
    ] = None,
    session: Annotated[UUID | None, typer.Option(help="Only of this session.", show_default=False)] = None,
    limit: LimitOption = 100,
    as_json: JsonOption = False,
    provider: ProviderOption = None,
) -> None:
    """List tasks."""

    def row(task: TaskItem) -> list[str]:
        return [str(task.id), task.status, instant(task.started_at), short(task.task)]

    async def collect(client: AsyncClient) -> list[TaskItem]:
        tasks = client.tasks.list(status=status, session_id=session, page_size=min(limit, 100))
        return await first(limit, tasks)

    found = with_client(provider, collect)
    print_list(found, as_json, ["id", "status", "started", "task"], row, nothing="no tasks")


@tasks.command("get")
def _get(task_id: TaskId, as_json: JsonOption = False, provider: ProviderOption = None) -> None:
    """Show a task: its steps, output and files."""
    _show(with_client(provider, lambda client: client.tasks.get(task_id)), as_json)


@tasks.command("stop")
def _stop(
    task_id: TaskId,
    session: Annotated[bool, typer.Option("--session", help="Stop its session too.")] = False,
    provider: ProviderOption = None,
) -> None:
    """Stop a task; its session stays and costs money, unless --session."""
    if session:
        _tell(with_client(provider, lambda client: client.tasks.stop_task_and_session(task_id)))
    else:
        _tell(with_client(provider, lambda client: client.tasks.stop(task_id)))


@tasks.command("pause")
def _pause(task_id: TaskId, provider: ProviderOption = None) -> None:
    """Let the agent wait; the session goes on and costs money."""
    _tell(with_client(provider, lambda client: client.tasks.pause(task_id)))


@tasks.command("resume")
def _resume(task_id: TaskId, provider: ProviderOption = None) -> None:
    """Let a paused agent go on."""
    _tell(with_client(provider, lambda client: client.tasks.resume(task_id)))


@tasks.command("logs")
def _logs(
    task_id: TaskId,
    path: Annotated[str, typer.Argument(help="File or folder (with a slash at its end) to save to.")] = ".",
    provider: ProviderOption = None,
) -> None:
    """Save the log of a task."""
    saved = with_client(provider, lambda client: client.tasks.download_logs(task_id, path))
    console.print(f"saved {saved}", markup=False, soft_wrap=True)


@tasks.command("download")
def _download(
    task_id: TaskId,
    folder: Annotated[Path, typer.Argument(help="Folder to save to; made if missing.")] = Path(),
    provider: ProviderOption = None,
) -> None:
    """Save every file that a task has written."""

    async def save(client: AsyncClient) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        task = await client.tasks.get(task_id)
        if not task.output_files:
            error_console.print("no files")
        for file in task.output_files:
            saved = await client.files.download(task_id, file.id, folder)
            console.print(f"saved {saved}", markup=False, soft_wrap=True)

    with_client(provider, save)


def _tell(task: Task) -> None:
    console.print(f"{task.id} {task.status}", markup=False)


def _show(task: Task, as_json: bool) -> None:
    if as_json:
        print_json(task)
        return
    print_task(task)
    for step in task.steps:
        console.print(f"  {step.number:>3}  {short(step.next_goal)}  {short(step.url)}", markup=False)


def print_task(task: Task) -> None:
    """A task in a few lines."""
    console.print(f"task     {task.id} {task.status}", markup=False)
    console.print(f"session  {task.session_id}", markup=False)
    if task.is_success is not None:
        console.print(f"success  {'yes' if task.is_success else 'no'}")
    if task.cost is not None:
        console.print(f"cost     {task.cost} USD")
    if task.output is not None:
        console.print(f"output   {task.output}", markup=False, soft_wrap=True)
    for file in task.output_files:
        console.print(f"file     {file.id} {file.file_name}", markup=False)
