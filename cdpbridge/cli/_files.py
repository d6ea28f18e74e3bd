"""`cdpbridge files`: to sessions and browsers, and from tasks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ._ids import ID, browser_id, file_id, session_id, task_id
from ._options import Group, argument, json_option, provider_option
from ._output import print_record, with_client

if TYPE_CHECKING:
    from cdpbridge.api import AsyncClient

__all__ = ["register"]

files = Group(no_args_is_help=True, help="Files for sessions and browsers, and those that tasks wrote.")


def register(app: Group) -> None:
    """Add the group."""
    app.add_command(files, name="files")


@files.command("upload")
@argument("path", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="File to upload.")
@click.option("--session", type=ID, help="Agent session that gets it: its id, or the beginning of it.")
@click.option("--browser", type=ID, help="Browser that gets it: its id, or the beginning of it.")
@click.option("--name", help="Name under which it is found there. Default: its own.")
@click.option("--content-type", help="E.g. `text/csv`. Default: by its name.")
@json_option
@provider_option
def _upload(
    path: Path,
    session: str | None,
    browser: str | None,
    name: str | None,
    content_type: str | None,
    as_json: bool,
    provider: str | None,
) -> None:
    """Upload a file for a session or a browser, and print its name there."""
    if (session is None) == (browser is None):
        raise click.BadParameter("name who gets the file: --session or --browser")

    async def work(client: AsyncClient) -> str:
        return await client.files.upload(
            path,
            session_id=None if session is None else await session_id(client, session),
            browser_id=None if browser is None else await browser_id(client, browser),
            file_name=name,
            content_type=content_type,
        )

    found = with_client(provider, work)
    print_record({"fileName": found}, as_json, found)


@files.command("download")
@argument("task", type=ID, metavar="TASK", help="The task that wrote it: its id, or the beginning of it.")
@argument("file", metavar="FILE", help="Its id, the beginning of that, or its name.")
@argument("path", default=".", help="File or folder (with a slash at its end) to save to.")
@json_option
@provider_option
def _download(task: str, file: str, path: str, as_json: bool, provider: str | None) -> None:
    """Save a file that a task has written; `cdpbridge tasks download` saves them all."""

    async def work(client: AsyncClient) -> Path:
        of = await task_id(client, task)
        return await client.files.download(of, await file_id(client, of, file), path)

    saved = with_client(provider, work)
    print_record({"saved": str(saved)}, as_json, f"saved {saved}")
