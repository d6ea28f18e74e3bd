"""`cdpbridge keys`: API keys of a server, while it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ._operator import ConfigOption, DataDirOption, Operator, Place, ServerOption, body_of, with_operator
from ._output import JsonOption, console, error_console, instant, print_json, print_list

if TYPE_CHECKING:
    from cdpbridge.api.admin import Key, RevokedKey

__all__ = ["register"]

keys = typer.Typer(
    no_args_is_help=True, help="API keys of a cdpbridge server, for its operator; also while it runs."
)


def register(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(keys, name="keys")


@keys.command("create")
def _create(
    project: Annotated[str, typer.Option(help="The project that it belongs to.")] = "default",
    name: Annotated[str | None, typer.Option(help="What it is for.", show_default=False)] = None,
    admin: Annotated[
        bool, typer.Option("--admin", help="May manage keys, projects and credits too.")
    ] = False,
    as_json: JsonOption = False,
    server: ServerOption = None,
    data_dir: DataDirOption = None,
    config: ConfigOption = None,
) -> None:
    """Make a key and print it. It is shown this once: the server keeps only its hash."""
    from cdpbridge.api.admin import CreateKeyRequest

    body = body_of(CreateKeyRequest, project=project, name=name, admin=admin)
    made = with_operator(Place(server, data_dir, config), lambda operator: operator.create_key(body))
    if as_json:
        print_json(made)
        return
    error_console.print(f"key {made.id} of project {made.project!r}; it is shown this once:", markup=False)
    print(made.key)


@keys.command("list")
def _list(
    project: Annotated[str | None, typer.Option(help="Only its keys.", show_default=False)] = None,
    show_all: Annotated[bool, typer.Option("--all", help="Revoked ones too.")] = False,
    as_json: JsonOption = False,
    server: ServerOption = None,
    data_dir: DataDirOption = None,
    config: ConfigOption = None,
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
def _revoke(
    key: Annotated[str, typer.Argument(help="Its id, or its name if only one has it.", show_default=False)],
    all_browsers: Annotated[
        bool,
        typer.Option(
            "--all-browsers",
            help="Stop every browser of its project: who had the key may know their addresses.",
        ),
    ] = False,
    as_json: JsonOption = False,
    server: ServerOption = None,
    data_dir: DataDirOption = None,
    config: ConfigOption = None,
) -> None:
    """Revoke a key. What was rented with it is stopped and refunded; its console sign-ins end."""

    async def work(operator: Operator) -> RevokedKey:
        from cdpbridge.errors import ConfigurationError

        found = [each for each in (await operator.list_keys()).items if key in {str(each.id), each.name}]
        if len(found) != 1:
            many = f"{len(found)} keys are named {key!r}" if found else f"there is no key {key!r}"
            raise ConfigurationError(f"{many}; see `cdpbridge keys list` and give its id")
        return await operator.revoke_key(found[0].id, all_browsers=all_browsers)

    revoked = with_operator(Place(server, data_dir, config), work)
    if as_json:
        print_json(revoked)
        return
    count = len(revoked.stopped_browsers)
    stopped = f"; {count} browser{'' if count == 1 else 's'} stopped" if count else ""
    console.print(f"key {revoked.id} of project {revoked.project!r} is revoked{stopped}", markup=False)
