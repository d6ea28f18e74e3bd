"""`cdpbridge profiles`: saved browser state."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

import click

from ._options import Group, argument, json_option, limit_option, provider_option
from ._output import first, instant, print_json, print_list, say, short, with_client

if TYPE_CHECKING:
    from cdpbridge.api import Profile

__all__ = ["profiles", "register"]


profiles = Group(no_args_is_help=True, help="Profiles: browser state that is kept between rentals.")


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
        cookies = short(", ".join(profile.cookie_domains or ()))
        return [str(profile.id), profile.name or "", instant(profile.last_used_at), cookies]

    found = with_client(
        provider,
        lambda client: first(limit, client.profiles.list(query=query, page_size=min(limit, 100))),
    )
    print_list(found, as_json, ["id", "name", "last used", "cookies of"], row, nothing="no profiles")


@profiles.command("get")
@argument("profile_id", type=click.UUID, metavar="PROFILE", help="Its id.")
@json_option
@provider_option
def _get(profile_id: UUID, as_json: bool, provider: str | None) -> None:
    """Show a profile."""
    profile = with_client(provider, lambda client: client.profiles.get(profile_id))
    if as_json:
        print_json(profile)
        return
    say(f"profile   {profile.id} {profile.name or '(no name)'}")
    say(f"made      {instant(profile.created_at)}")
    say(f"last used {instant(profile.last_used_at) or 'never'}")
    say(f"cookies   {', '.join(profile.cookie_domains or ()) or 'none'}")


@profiles.command("create")
@argument("name", required=False, help="Its name.")
@json_option
@provider_option
def _create(name: str | None, as_json: bool, provider: str | None) -> None:
    """Create an empty profile and print its id."""
    profile = with_client(provider, lambda client: client.profiles.create(name=name))
    if as_json:
        print_json(profile)
    else:
        say(str(profile.id))


@profiles.command("rename")
@argument("profile_id", type=click.UUID, metavar="PROFILE", help="Its id.")
@argument("name", help="Its new name.")
@provider_option
def _rename(profile_id: UUID, name: str, provider: str | None) -> None:
    """Rename a profile."""
    profile = with_client(provider, lambda client: client.profiles.update(profile_id, name=name))
    say(f"{profile.id} {profile.name}")


@profiles.command("delete")
@argument("profile_id", type=click.UUID, metavar="PROFILE", help="Its id.")
@provider_option
def _delete(profile_id: UUID, provider: str | None) -> None:
    """Delete a profile and its content."""
    with_client(provider, lambda client: client.profiles.delete(profile_id))
    say(f"{profile_id} deleted")
