"""`cdpbridge sessions`: agent sessions, their public shares, their end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from ._output import (
    JsonOption,
    LimitOption,
    ProviderOption,
    console,
    first,
    instant,
    print_json,
    print_list,
    short,
    with_client,
)

if TYPE_CHECKING:
    from cdpbridge.api import AgentSessionItem

__all__ = ["register"]

SessionId = Annotated[UUID, typer.Argument(metavar="SESSION", help="Its id.", show_default=False)]

sessions = typer.Typer(no_args_is_help=True, help="Agent sessions: list, stop, share.")


def register(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(sessions, name="sessions")


@sessions.command("list")
def _list(
    show_all: Annotated[bool, typer.Option("--all", help="Also those that are stopped.")] = False,
    limit: LimitOption = 100,
    as_json: JsonOption = False,
    provider: ProviderOption = None,
) -> None:
    """List agent sessions."""

    def row(session: AgentSessionItem) -> list[str]:
        return [str(session.id), session.status, instant(session.started_at), instant(session.finished_at)]

    status = None if show_all else "active"
    found = with_client(
        provider,
        lambda client: first(limit, client.sessions.list(status=status, page_size=min(limit, 100))),
    )
    print_list(found, as_json, ["id", "status", "started", "ended"], row, nothing="no sessions")


@sessions.command("get")
def _get(session_id: SessionId, as_json: JsonOption = False, provider: ProviderOption = None) -> None:
    """Show a session and its tasks."""
    session = with_client(provider, lambda client: client.sessions.get(session_id))
    if as_json:
        print_json(session)
        return
    console.print(f"session  {session.id} {session.status}", markup=False)
    if session.live_url is not None:
        console.print(f"live     {session.live_url}", markup=False, soft_wrap=True)
    if session.public_share_url is not None:
        console.print(f"share    {session.public_share_url}", markup=False, soft_wrap=True)
    for task in session.tasks:
        console.print(f"task     {task.id} {task.status}  {short(task.task)}", markup=False)


@sessions.command("stop")
def _stop(session_id: SessionId, provider: ProviderOption = None) -> None:
    """Stop a session, its browser and its running task."""
    session = with_client(provider, lambda client: client.sessions.stop(session_id))
    console.print(f"{session.id} {session.status}")


@sessions.command("share")
def _share(session_id: SessionId, as_json: JsonOption = False, provider: ProviderOption = None) -> None:
    """Print an address under which anybody may watch."""
    share = with_client(provider, lambda client: client.sessions.create_share(session_id))
    if as_json:
        print_json(share)
    else:
        console.print(share.share_url, markup=False, soft_wrap=True)


@sessions.command("unshare")
def _unshare(session_id: SessionId, provider: ProviderOption = None) -> None:
    """End the public share of a session."""
    with_client(provider, lambda client: client.sessions.delete_share(session_id))
    console.print(f"{session_id} not shared")


@sessions.command("delete")
def _delete(session_id: SessionId, provider: ProviderOption = None) -> None:
    """Delete a session with all its tasks."""
    with_client(provider, lambda client: client.sessions.delete(session_id))
    console.print(f"{session_id} deleted")
