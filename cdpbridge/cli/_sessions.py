"""`cdpbridge sessions`: agent sessions, their public shares, their end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ._ids import ID, session_id, whole_session_id
from ._options import Group, argument, json_option, limit_option, provider_option
from ._output import first, instant, print_json, print_list, print_record, say, short, with_client

if TYPE_CHECKING:
    from uuid import UUID

    from cdpbridge.api import AgentSession, AgentSessionItem, AsyncClient, Share

__all__ = ["register"]


sessions = Group(no_args_is_help=True, help="Agent sessions: list, stop, share.")


_session = argument("session", type=ID, metavar="SESSION", help="Its id, or the beginning of it.")


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
@_session
@json_option
@provider_option
def _get(session: str, as_json: bool, provider: str | None) -> None:
    """Show a session and its tasks."""

    async def work(client: AsyncClient) -> AgentSession:
        return await client.sessions.get(await session_id(client, session))

    found = with_client(provider, work)
    if as_json:
        print_json(found)
        return
    say(f"session  {found.id} {found.status}")
    if found.live_url is not None:
        say(f"live     {found.live_url}")
    if found.public_share_url is not None:
        say(f"share    {found.public_share_url}")
    for task in found.tasks:
        say(f"task     {task.id} {task.status}  {short(task.task)}")


@sessions.command("stop")
@_session
@json_option
@provider_option
def _stop(session: str, as_json: bool, provider: str | None) -> None:
    """Stop a session, its browser and its running task."""

    async def work(client: AsyncClient) -> AgentSession:
        return await client.sessions.stop(await session_id(client, session))

    stopped = with_client(provider, work)
    print_record(stopped, as_json, f"{stopped.id} {stopped.status}")


@sessions.command("share")
@_session
@json_option
@provider_option
def _share(session: str, as_json: bool, provider: str | None) -> None:
    """Print an address under which all who have it can watch."""

    async def work(client: AsyncClient) -> Share:
        return await client.sessions.create_share(await session_id(client, session))

    share = with_client(provider, work)
    print_record(share, as_json, share.share_url)


@sessions.command("unshare")
@_session
@json_option
@provider_option
def _unshare(session: str, as_json: bool, provider: str | None) -> None:
    """End the public share of a session."""

    async def work(client: AsyncClient) -> UUID:
        found = await session_id(client, session)
        await client.sessions.delete_share(found)
        return found

    found = with_client(provider, work)
    print_record({"id": str(found), "shared": False}, as_json, f"{found} not shared")


@sessions.command("delete")
@argument("session", metavar="SESSION", help="Its whole id.")
@json_option
@provider_option
def _delete(session: str, as_json: bool, provider: str | None) -> None:
    """Delete a session with all its tasks."""

    async def work(client: AsyncClient) -> UUID:
        found = await whole_session_id(client, session)
        await client.sessions.delete(found)
        return found

    found = with_client(provider, work)
    print_record({"id": str(found), "deleted": True}, as_json, f"{found} deleted")
