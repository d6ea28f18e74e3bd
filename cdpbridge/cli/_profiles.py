"""`cdpbridge profiles`: saved browser state."""

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
    from cdpbridge.api import Profile

__all__ = ["profiles", "register"]

ProfileId = Annotated[UUID, typer.Argument(metavar="PROFILE", help="Its id.", show_default=False)]

profiles = typer.Typer(no_args_is_help=True, help="Profiles: browser state that is kept between rentals.")


def register(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(profiles, name="profiles")


@profiles.command("list")
def _list(
    query: Annotated[str | None, typer.Option(help="Words of the name.", show_default=False)] = None,
    limit: LimitOption = 100,
    as_json: JsonOption = False,
    provider: ProviderOption = None,
) -> None:
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
def _get(profile_id: ProfileId, as_json: JsonOption = False, provider: ProviderOption = None) -> None:
    """Show a profile."""
    profile = with_client(provider, lambda client: client.profiles.get(profile_id))
    if as_json:
        print_json(profile)
        return
    console.print(f"profile   {profile.id} {profile.name or '(no name)'}", markup=False)
    console.print(f"made      {instant(profile.created_at)}")
    console.print(f"last used {instant(profile.last_used_at) or 'never'}")
    console.print(
        f"cookies   {', '.join(profile.cookie_domains or ()) or 'none'}", markup=False, soft_wrap=True
    )


@profiles.command("create")
def _create(
    name: Annotated[str | None, typer.Argument(help="Its name.", show_default=False)] = None,
    as_json: JsonOption = False,
    provider: ProviderOption = None,
) -> None:
    """Make an empty profile and print its id."""
    profile = with_client(provider, lambda client: client.profiles.create(name=name))
    if as_json:
        print_json(profile)
    else:
        console.print(str(profile.id))


@profiles.command("rename")
def _rename(
    profile_id: ProfileId,
    name: Annotated[str, typer.Argument(help="Its new name.", show_default=False)],
    provider: ProviderOption = None,
) -> None:
    """Give a profile another name."""
    profile = with_client(provider, lambda client: client.profiles.update(profile_id, name=name))
    console.print(f"{profile.id} {profile.name}", markup=False)


@profiles.command("delete")
def _delete(profile_id: ProfileId, provider: ProviderOption = None) -> None:
    """Delete a profile and all that it holds."""
    with_client(provider, lambda client: client.profiles.delete(profile_id))
    console.print(f"{profile_id} deleted")
