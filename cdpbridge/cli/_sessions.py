"""`cdpbridge sessions`: agent sessions, their public shares, their end."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

import click

from ._options import Group, argument, json_option, limit_option, provider_option
from ._output import first, instant, print_json, print_list, say, short, with_client

if TYPE_CHECKING:
    from cdpbridge.api import AgentSessionItem

__all__ = ["register"]


sessions = Group(no_args_is_help=True, help="Agent sessions: list, stop, share.")


def register(app: Group) -> None:
    """Add the group."""
    app.add_command(sessions, name="sessions")


@sessions.command("list")
@click.option("--all", "show_all", is_flag=True, help="Also those that are stopped.")
@limit_option
@json_option
@provider_option
def _list(show_all: bool, limit: int, as_json: bool, provider: str | None) -> None:
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
@argument("session_id", type=click.UUID, metavar="SESSION", help="Its id.")
@json_option
@provider_option
def _get(session_id: UUID, as_json: bool, provider: str | None) -> None:
    """Show a session and its tasks."""
    session = with_client(provider, lambda client: client.sessions.get(session_id))
    if as_json:
        print_json(session)
        return
    say(f"session  {session.id} {session.status}")
    if session.live_url is not None:
        say(f"live     {session.live_url}")
    if session.public_share_url is not None:
        say(f"share    {session.public_share_url}")
    for task in session.tasks:
        say(f"task     {task.id} {task.status}  {short(task.task)}")


@sessions.command("stop")
@argument("session_id", type=click.UUID, metavar="SESSION", help="Its id.")
@provider_option
def _stop(session_id: UUID, provider: str | None) -> None:
    """Stop a session, its browser and its running task."""
    session = with_client(provider, lambda client: client.sessions.stop(session_id))
    say(f"{session.id} {session.status}")


@sessions.command("share")
@argument("session_id", type=click.UUID, metavar="SESSION", help="Its id.")
@json_option
@provider_option
def _share(session_id: UUID, as_json: bool, provider: str | None) -> None:
    """Print an address under which all who have it can watch."""
    share = with_client(provider, lambda client: client.sessions.create_share(session_id))
    if as_json:
        print_json(share)
    else:
        say(share.share_url)


@sessions.command("unshare")
@argument("session_id", type=click.UUID, metavar="SESSION", help="Its id.")
@provider_option
def _unshare(session_id: UUID, provider: str | None) -> None:
    """End the public share of a session."""
    with_client(provider, lambda client: client.sessions.delete_share(session_id))
    say(f"{session_id} not shared")


@sessions.command("delete")
@argument("session_id", type=click.UUID, metavar="SESSION", help="Its id.")
@provider_option
def _delete(session_id: UUID, provider: str | None) -> None:
    """Delete a session with all its tasks."""
    with_client(provider, lambda client: client.sessions.delete(session_id))
    say(f"{session_id} deleted")
