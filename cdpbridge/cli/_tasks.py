"""`cdpbridge tasks`: what agents do and did."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import click

from ._options import Group, argument, json_option, limit_option, provider_option
from ._output import first, instant, note, print_json, print_list, say, short, with_client

if TYPE_CHECKING:
    from cdpbridge.api import AsyncClient, Task, TaskItem

__all__ = ["print_task", "register"]


tasks = Group(no_args_is_help=True, help="Tasks of agents: list, watch, stop, and fetch what they wrote.")


def register(app: Group) -> None:
    """Add the group."""
    app.add_command(tasks, name="tasks")


@tasks.command("list")
@click.option("--status", help="Only these, e.g. `started`.")
@click.option("--session", type=click.UUID, help="Only of this session.")
@limit_option
@json_option
@provider_option
def _list(status: str | None, session: UUID | None, limit: int, as_json: bool, provider: str | None) -> None:
    """List tasks."""

    def row(task: TaskItem) -> list[str]:
        return [str(task.id), task.status, instant(task.started_at), short(task.task)]

    async def collect(client: AsyncClient) -> list[TaskItem]:
        tasks = client.tasks.list(status=status, session_id=session, page_size=min(limit, 100))
        return await first(limit, tasks)

    found = with_client(provider, collect)
    print_list(found, as_json, ["id", "status", "started", "task"], row, nothing="no tasks")


@tasks.command("get")
@argument("task_id", type=click.UUID, metavar="TASK", help="Its id.")
@json_option
@provider_option
def _get(task_id: UUID, as_json: bool, provider: str | None) -> None:
    """Show a task: its steps, output and files."""
    _show(with_client(provider, lambda client: client.tasks.get(task_id)), as_json)


@tasks.command("stop")
@argument("task_id", type=click.UUID, metavar="TASK", help="Its id.")
@click.option("--session", is_flag=True, help="Stop its session too.")
@provider_option
def _stop(task_id: UUID, session: bool, provider: str | None) -> None:
    """Stop a task; its session stays and costs money, unless --session."""
    if session:
        _tell(with_client(provider, lambda client: client.tasks.stop_task_and_session(task_id)))
    else:
        _tell(with_client(provider, lambda client: client.tasks.stop(task_id)))


@tasks.command("pause")
@argument("task_id", type=click.UUID, metavar="TASK", help="Its id.")
@provider_option
def _pause(task_id: UUID, provider: str | None) -> None:
    """Pause the agent; the session goes on and costs money."""
    _tell(with_client(provider, lambda client: client.tasks.pause(task_id)))


@tasks.command("resume")
@argument("task_id", type=click.UUID, metavar="TASK", help="Its id.")
@provider_option
def _resume(task_id: UUID, provider: str | None) -> None:
    """Resume a paused agent."""
    _tell(with_client(provider, lambda client: client.tasks.resume(task_id)))


@tasks.command("logs")
@argument("task_id", type=click.UUID, metavar="TASK", help="Its id.")
@argument("path", default=".", help="File or folder (with a slash at its end) to save to.")
@provider_option
def _logs(task_id: UUID, path: str, provider: str | None) -> None:
    """Save the log of a task."""
    saved = with_client(provider, lambda client: client.tasks.download_logs(task_id, path))
    say(f"saved {saved}")


@tasks.command("download")
@argument("task_id", type=click.UUID, metavar="TASK", help="Its id.")
@argument(
    "folder", type=click.Path(path_type=Path), default=Path(), help="Folder to save to; made if missing."
)
@provider_option
def _download(task_id: UUID, folder: Path, provider: str | None) -> None:
    """Save every file that a task has written."""

    async def save(client: AsyncClient) -> None:
        await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
        task = await client.tasks.get(task_id)
        if not task.output_files:
            note("no files")
        for file in task.output_files:
            saved = await client.files.download(task_id, file.id, folder)
            say(f"saved {saved}")

    with_client(provider, save)


def _tell(task: Task) -> None:
    say(f"{task.id} {task.status}")


def _show(task: Task, as_json: bool) -> None:
    if as_json:
        print_json(task)
        return
    print_task(task)
    for step in task.steps:
        say(f"  {step.number:>3}  {short(step.next_goal)}  {short(step.url)}")


def print_task(task: Task) -> None:
    """Print a task in a few lines."""
    say(f"task     {task.id} {task.status}")
    say(f"session  {task.session_id}")
    if task.is_success is not None:
        say(f"success  {'yes' if task.is_success else 'no'}")
    if task.cost is not None:
        say(f"cost     {task.cost} USD")
    if task.output is not None:
        say(f"output   {task.output}")
    for file in task.output_files:
        say(f"file     {file.id} {file.file_name}")
