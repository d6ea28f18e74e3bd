"""`cdpbridge tasks`: what agents do and did."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ._ids import ID, session_id, task_id
from ._options import Group, argument, json_option, limit_option, provider_option
from ._output import first, instant, note, print_json, print_list, print_record, say, short, with_client

if TYPE_CHECKING:
    from cdpbridge.api import AsyncClient, Task, TaskItem

__all__ = ["print_task", "register"]


tasks = Group(no_args_is_help=True, help="Tasks of agents: list, watch, stop, and fetch what they wrote.")


_task = argument("task", type=ID, metavar="TASK", help="Its id, or the beginning of it.")


def register(app: Group) -> None:
    """Add the group."""
    app.add_command(tasks, name="tasks")


@tasks.command("list")
@click.option("--status", help="Only these, e.g. `started`.")
@click.option("--session", type=ID, help="Only of this session: its id, or the beginning of it.")
@limit_option
@json_option
@provider_option
def _list(status: str | None, session: str | None, limit: int, as_json: bool, provider: str | None) -> None:
    """List tasks."""

    def row(task: TaskItem) -> list[str]:
        return [str(task.id), task.status, instant(task.started_at), task.task]

    async def collect(client: AsyncClient) -> list[TaskItem]:
        of = None if session is None else await session_id(client, session)
        return await first(limit, client.tasks.list(status=status, session_id=of, page_size=min(limit, 100)))

    found = with_client(provider, collect)
    head = ["id", "status", "started", "task"]
    print_list(found, as_json, head, row, nothing="no tasks", cut=("task",))


@tasks.command("get")
@_task
@json_option
@provider_option
def _get(task: str, as_json: bool, provider: str | None) -> None:
    """Show a task: its steps, output and files."""

    async def work(client: AsyncClient) -> Task:
        return await client.tasks.get(await task_id(client, task))

    _show(with_client(provider, work), as_json)


@tasks.command("stop")
@_task
@click.option("--session", is_flag=True, help="Stop its session too.")
@json_option
@provider_option
def _stop(task: str, session: bool, as_json: bool, provider: str | None) -> None:
    """Stop a task; its session stays and costs money, unless --session."""

    async def work(client: AsyncClient) -> Task:
        found = await task_id(client, task)
        return await (client.tasks.stop_task_and_session if session else client.tasks.stop)(found)

    _tell(with_client(provider, work), as_json)


@tasks.command("pause")
@_task
@json_option
@provider_option
def _pause(task: str, as_json: bool, provider: str | None) -> None:
    """Pause the agent; the session goes on and costs money."""

    async def work(client: AsyncClient) -> Task:
        return await client.tasks.pause(await task_id(client, task))

    _tell(with_client(provider, work), as_json)


@tasks.command("resume")
@_task
@json_option
@provider_option
def _resume(task: str, as_json: bool, provider: str | None) -> None:
    """Resume a paused agent."""

    async def work(client: AsyncClient) -> Task:
        return await client.tasks.resume(await task_id(client, task))

    _tell(with_client(provider, work), as_json)


@tasks.command("logs")
@_task
@argument("path", default=".", help="File or folder (with a slash at its end) to save to.")
@json_option
@provider_option
def _logs(task: str, path: str, as_json: bool, provider: str | None) -> None:
    """Save the log of a task."""

    async def work(client: AsyncClient) -> Path:
        return await client.tasks.download_logs(await task_id(client, task), path)

    saved = with_client(provider, work)
    print_record({"saved": str(saved)}, as_json, f"saved {saved}")


@tasks.command("download")
@_task
@argument(
    "folder", type=click.Path(path_type=Path), default=Path(), help="Folder to save to; made if missing."
)
@json_option
@provider_option
def _download(task: str, folder: Path, as_json: bool, provider: str | None) -> None:
    """Save every file that a task has written."""

    async def save(client: AsyncClient) -> list[Path]:
        await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
        found = await client.tasks.get(await task_id(client, task))
        saved = []
        for file in found.output_files:
            saved.append(await client.files.download(found.id, file.id, folder))
            if not as_json:
                say(f"saved {saved[-1]}")
        return saved

    saved = with_client(provider, save)
    if as_json:
        print_json({"saved": [str(path) for path in saved]})
    elif not saved:
        note("no files")


def _tell(task: Task, as_json: bool) -> None:
    print_record(task, as_json, f"{task.id} {task.status}")


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
