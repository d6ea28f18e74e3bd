"""`cdpbridge profiles`: saved browser state."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ._ids import profile_id, whole_profile_id
from ._options import Group, argument, json_option, limit_option, provider_option
from ._output import first, instant, note, print_json, print_list, print_record, say, with_client

if TYPE_CHECKING:
    from cdpbridge.api import AsyncClient, Profile

__all__ = ["profiles", "register"]


profiles = Group(no_args_is_help=True, help="Profiles: browser state kept between rentals.")


_profile = argument("profile", metavar="PROFILE", help="Its name, its id, or the beginning of the id.")


def register(app: Group) -> None:
    """Add the group."""
    app.add_command(profiles, name="profiles")


@profiles.command("list")
@click.option("--query", help="Words of the name.")
@limit_option
@json_option
@provider_option
def _list(query: str | None, limit: int, as_json: bool, provider: str | None) -> None:
    """List profiles."""

    def row(profile: Profile) -> list[str]:
        cookies = ", ".join(profile.cookie_domains or ())
        return [str(profile.id), profile.name or "", instant(profile.last_used_at), cookies]

    found = with_client(
        provider,
        lambda client: first(limit, client.profiles.list(query=query, page_size=min(limit, 100))),
    )
    head = ["id", "name", "last used", "cookies of"]
    print_list(found, as_json, head, row, nothing="no profiles", cut=("name", "cookies of"))


@profiles.command("get")
@_profile
@json_option
@provider_option
def _get(profile: str, as_json: bool, provider: str | None) -> None:
    """Show a profile."""

    async def work(client: AsyncClient) -> Profile:
        return await client.profiles.get(await profile_id(client, profile))

    found = with_client(provider, work)
    if as_json:
        print_json(found)
        return
    say(f"profile   {found.id} {found.name or '(no name)'}")
    say(f"made      {instant(found.created_at)}")
    say(f"last used {instant(found.last_used_at) or 'never'}")
    say(f"cookies   {', '.join(found.cookie_domains or ()) or 'none'}")


@profiles.command("create")
@argument("name", required=False, help="Its name.")
@json_option
@provider_option
def _create(name: str | None, as_json: bool, provider: str | None) -> None:
    """Create an empty profile and print its id."""

    async def work(client: AsyncClient) -> Profile:
        if name is not None:
            twins = [each.id async for each in client.profiles.list() if each.name == name]
            if twins:
                note(f"there is a profile {name!r} already ({twins[0]}); by that name the oldest is used")
        return await client.profiles.create(name=name)

    made = with_client(provider, work)
    print_record(made, as_json, str(made.id))


@profiles.command("rename")
@_profile
@argument("name", help="Its new name.")
@json_option
@provider_option
def _rename(profile: str, name: str, as_json: bool, provider: str | None) -> None:
    """Rename a profile."""

    async def work(client: AsyncClient) -> Profile:
        return await client.profiles.update(await profile_id(client, profile), name=name)

    renamed = with_client(provider, work)
    print_record(renamed, as_json, f"{renamed.id} {renamed.name}")


@profiles.command("delete")
@argument("profile", metavar="PROFILE", help="Its name, or its whole id.")
@json_option
@provider_option
def _delete(profile: str, as_json: bool, provider: str | None) -> None:
    """Delete a profile and its content."""

    async def work(client: AsyncClient) -> Profile:
        # The API deletes what is not there without a word; who mistypes an id wants to know.
        found = await client.profiles.get(await whole_profile_id(client, profile))
        await client.profiles.delete(found.id)
        return found

    deleted = with_client(provider, work)
    name = f" ({deleted.name})" if deleted.name else ""
    print_record({"id": str(deleted.id), "deleted": True}, as_json, f"{deleted.id}{name} deleted")
