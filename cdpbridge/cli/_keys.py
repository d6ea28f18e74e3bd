"""`cdpbridge keys`: API keys of a server, while it runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ._ids import one_of
from ._operator import (
    Operator,
    Place,
    body_of,
    config_option,
    data_dir_option,
    server_option,
    with_operator,
)
from ._options import Group, argument, json_option
from ._output import instant, note, print_json, print_list, say

if TYPE_CHECKING:
    from cdpbridge.api.admin import Key, RevokedKey

__all__ = ["register"]

keys = Group(no_args_is_help=True, help="API keys of a cdpbridge server, also while it runs.")


def register(app: Group) -> None:
    """Add the group."""
    app.add_command(keys, name="keys")


@keys.command("create")
@click.option("--project", default="default", help="The project that it belongs to.")
@click.option("--name", help="What it is for.")
@click.option("--admin", is_flag=True, help="May manage keys, projects and credits too.")
@json_option
@server_option
@data_dir_option
@config_option
def _create(
    project: str,
    name: str | None,
    admin: bool,
    as_json: bool,
    server: str | None,
    data_dir: Path | None,
    config: Path | None,
) -> None:
    """Make a key and print it. It is shown this once: the server keeps only its hash."""
    from cdpbridge.api.admin import CreateKeyRequest

    body = body_of(CreateKeyRequest, project=project, name=name, admin=admin)
    made = with_operator(Place(server, data_dir, config), lambda operator: operator.create_key(body))
    if as_json:
        print_json(made)
        return
    note(f"key {made.id} of project {made.project!r}; it is shown this once:")
    print(made.key)


@keys.command("list")
@click.option("--project", help="Only its keys.")
@click.option("--all", "show_all", is_flag=True, help="Revoked ones too.")
@json_option
@server_option
@data_dir_option
@config_option
def _list(
    project: str | None,
    show_all: bool,
    as_json: bool,
    server: str | None,
    data_dir: Path | None,
    config: Path | None,
) -> None:
    """List keys, oldest first."""

    def row(key: Key) -> list[str]:
        kind = "admin" if key.admin else "configured" if key.configured else ""
        state = (
            f"revoked {instant(key.revoked_at)}" if key.revoked_at else instant(key.last_used_at) or "never"
        )
        return [
            str(key.id),
            key.project,
            key.name or "",
            key.hint or "",
            kind,
            instant(key.created_at),
            state,
        ]

    found = with_operator(Place(server, data_dir, config), lambda operator: operator.list_keys())
    items = [
        key
        for key in found.items
        if (show_all or key.revoked_at is None) and project in {None, key.project, str(key.project_id)}
    ]
    head = ["id", "project", "name", "key", "kind", "made", "last used"]
    print_list(items, as_json, head, row, nothing="no keys")


@keys.command("revoke")
@argument("key", help="Its whole id, or its name.")
@click.option(
    "--all-browsers",
    is_flag=True,
    help="Stop every browser of its project: who had the key may know their addresses.",
)
@json_option
@server_option
@data_dir_option
@config_option
def _revoke(
    key: str,
    all_browsers: bool,
    as_json: bool,
    server: str | None,
    data_dir: Path | None,
    config: Path | None,
) -> None:
    """Revoke a key. What was rented with it is stopped and refunded; its console sign-ins end."""

    async def work(operator: Operator) -> RevokedKey:
        found = {each.id: each.name for each in (await operator.list_keys()).items}
        chosen = one_of("key", key, found, hint="cdpbridge keys list", named=True, whole=True)
        return await operator.revoke_key(chosen, all_browsers=all_browsers)

    revoked = with_operator(Place(server, data_dir, config), work)
    if as_json:
        print_json(revoked)
        return
    count = len(revoked.stopped_browsers)
    stopped = f"; {count} browser{'' if count == 1 else 's'} stopped" if count else ""
    say(f"key {revoked.id} of project {revoked.project!r} is revoked{stopped}")
