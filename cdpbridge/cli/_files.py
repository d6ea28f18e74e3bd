"""`cdpbridge files`: to sessions and browsers, and from tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer

from ._output import ProviderOption, console, with_client

__all__ = ["register"]

files = typer.Typer(no_args_is_help=True, help="Files for sessions and browsers, and those that tasks wrote.")


def register(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(files, name="files")


@files.command("upload")
def _upload(
    path: Annotated[Path, typer.Argument(help="File to upload.", exists=True, dir_okay=False)],
    session: Annotated[
        UUID | None, typer.Option(help="Agent session that gets it.", show_default=False)
    ] = None,
    browser: Annotated[UUID | None, typer.Option(help="Browser that gets it.", show_default=False)] = None,
    name: Annotated[
        str | None,
        typer.Option(help="Name under which it is found there. Default: its own.", show_default=False),
    ] = None,
    content_type: Annotated[
        str | None, typer.Option(help="E.g. `text/csv`. Default: by its name.", show_default=False)
    ] = None,
    provider: ProviderOption = None,
) -> None:
    """Give a file to a session or a browser; prints the name under which it is found there."""
    if (session is None) == (browser is None):
        raise typer.BadParameter("say who gets the file: --session or --browser")
    found = with_client(
        provider,
        lambda client: client.files.upload(
            path, session_id=session, browser_id=browser, file_name=name, content_type=content_type
        ),
    )
    console.print(found, markup=False, soft_wrap=True)


@files.command("download")
def _download(
    task_id: Annotated[
        UUID, typer.Argument(metavar="TASK", help="The task that wrote it.", show_default=False)
    ],
    file_id: Annotated[UUID, typer.Argument(metavar="FILE", help="Its id.", show_default=False)],
    path: Annotated[str, typer.Argument(help="File or folder (with a slash at its end) to save to.")] = ".",
    provider: ProviderOption = None,
) -> None:
    """Save a file that a task has written; `cdpbridge tasks download` saves them all."""
    saved = with_client(provider, lambda client: client.files.download(task_id, file_id, path))
    console.print(f"saved {saved}", markup=False, soft_wrap=True)
