"""`cdpbridge files`: to sessions and browsers, and from tasks."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import click

from ._options import Group, argument, provider_option
from ._output import say, with_client

__all__ = ["register"]

files = Group(no_args_is_help=True, help="Files for sessions and browsers, and those that tasks wrote.")


def register(app: Group) -> None:
    """Add the group."""
    app.add_command(files, name="files")


@files.command("upload")
@argument("path", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="File to upload.")
@click.option("--session", type=click.UUID, help="Agent session that gets it.")
@click.option("--browser", type=click.UUID, help="Browser that gets it.")
@click.option("--name", help="Name under which it is found there. Default: its own.")
@click.option("--content-type", help="E.g. `text/csv`. Default: by its name.")
@provider_option
def _upload(
    path: Path,
    session: UUID | None,
    browser: UUID | None,
    name: str | None,
    content_type: str | None,
    provider: str | None,
) -> None:
    """Upload a file for a session or a browser, and print its name there."""
    if (session is None) == (browser is None):
        raise click.BadParameter("name who gets the file: --session or --browser")
    found = with_client(
        provider,
        lambda client: client.files.upload(
            path, session_id=session, browser_id=browser, file_name=name, content_type=content_type
        ),
    )
    say(found)


@files.command("download")
@argument("task_id", type=click.UUID, metavar="TASK", help="The task that wrote it.")
@argument("file_id", type=click.UUID, metavar="FILE", help="Its id.")
@argument("path", default=".", help="File or folder (with a slash at its end) to save to.")
@provider_option
def _download(task_id: UUID, file_id: UUID, path: str, provider: str | None) -> None:
    """Save a file that a task has written; `cdpbridge tasks download` saves them all."""
    saved = with_client(provider, lambda client: client.files.download(task_id, file_id, path))
    say(f"saved {saved}")
