"""How `keys`, `projects`, `credits` and `workers` reach a server: its admin API, or its data folder while it does not run."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from uuid import UUID

import click

from ._ids import one_of

if TYPE_CHECKING:
    from cdpbridge.api import AsyncClient, admin

__all__ = [
    "Operator",
    "Place",
    "body_of",
    "config_option",
    "data_dir_option",
    "project_id",
    "server_option",
    "with_operator",
    "with_server",
]

T = TypeVar("T")
BodyT = TypeVar("BodyT")

server_option = click.option(
    "--server",
    envvar="CDPBRIDGE_ADMIN_SERVER",
    help="Address of the server, e.g. https://browsers.example.com; its admin key in CDPBRIDGE_ADMIN_KEY. Default: the server of the data folder on this machine, or the folder itself while none runs.",
)
data_dir_option = click.option(
    "--data-dir", type=click.Path(path_type=Path), help="Data folder of the server. Default: the setting's."
)
config_option = click.option(
    "--config", type=click.Path(path_type=Path), help="The server's TOML file with settings."
)


class Operator(Protocol):
    """The operations, over the admin API or in the data folder."""

    async def list_keys(self) -> admin.Keys: ...
    async def create_key(self, body: admin.CreateKeyRequest) -> admin.NewKey: ...
    async def revoke_key(self, key_id: UUID, *, all_browsers: bool = False) -> admin.RevokedKey: ...
    async def list_projects(self) -> admin.Projects: ...
    async def create_project(self, body: admin.CreateProjectRequest) -> admin.Project: ...
    async def change_project(self, project_id: UUID, body: admin.ChangeProjectRequest) -> admin.Project: ...
    async def grant_credits(self, project_id: UUID, body: admin.GrantRequest) -> admin.Credits: ...


@dataclass(frozen=True, slots=True)
class Place:
    """Where: a server's address, or a data folder."""

    server: str | None
    data_dir: Path | None
    config: Path | None


class _Remote:
    """Over the admin API."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def list_keys(self) -> admin.Keys:
        from cdpbridge.api import admin

        return await self._client.send(admin.list_keys())

    async def create_key(self, body: admin.CreateKeyRequest) -> admin.NewKey:
        from cdpbridge.api import admin

        return await self._client.send(admin.create_key(body.project, name=body.name, admin=body.admin))

    async def revoke_key(self, key_id: UUID, *, all_browsers: bool = False) -> admin.RevokedKey:
        from cdpbridge.api import admin

        return await self._client.send(admin.revoke_key(key_id, all_browsers=all_browsers))

    async def list_projects(self) -> admin.Projects:
        from cdpbridge.api import admin

        return await self._client.send(admin.list_projects())

    async def create_project(self, body: admin.CreateProjectRequest) -> admin.Project:
        from cdpbridge.api import admin

        return await self._client.send(admin.create_project(body))

    async def change_project(self, project_id: UUID, body: admin.ChangeProjectRequest) -> admin.Project:
        from cdpbridge.api import admin

        return await self._client.send(admin.change_project(project_id, body))

    async def grant_credits(self, project_id: UUID, body: admin.GrantRequest) -> admin.Credits:
        from cdpbridge.api import admin

        return await self._client.send(admin.grant_credits(project_id, body))


def with_operator(place: Place, work: Callable[[Operator], Awaitable[T]]) -> T:
    """Return the result of `work`.

    Raises:
        ConfigurationError: There is no admin key, or the server of the data folder cannot be reached.
        APIError: The server refused.
    """

    async def run() -> T:
        async with _operator(place) as operator:
            return await work(operator)

    return asyncio.run(run())


def with_server(place: Place, work: Callable[[AsyncClient], Awaitable[T]]) -> T:
    """Return the result of `work` with a client of the admin API of a server that runs.

    Raises:
        ConfigurationError: There is no admin key, or no server that runs.
        APIError: The server refused.
    """

    async def run() -> T:
        async with _client(place) as client:
            return await work(client)

    return asyncio.run(run())


@asynccontextmanager
async def _operator(place: Place) -> AsyncIterator[Operator]:
    if place.server is None:
        from cdpbridge._embedded import check_installed

        check_installed()
        from cdpbridge.server import ServerRuns, Settings, offline_accounts

        settings = Settings.load(place.config, data_dir=place.data_dir)
        with suppress(ServerRuns):
            async with offline_accounts(settings) as accounts:
                yield accounts
            return
    async with _client(place) as client:
        yield _Remote(client)


@asynccontextmanager
async def _client(place: Place) -> AsyncIterator[AsyncClient]:
    from cdpbridge.api import AsyncClient
    from cdpbridge.api.admin import ADMIN_PATH

    address, key = _address(place)
    base = address.rstrip("/").removesuffix("/api/v2")
    async with AsyncClient(key, f"{base}{ADMIN_PATH}") as client:
        yield client


def _address(place: Place) -> tuple[str, str]:
    """Return the address of a server and its admin key."""
    from cdpbridge.errors import ConfigurationError

    if place.server is not None:
        key = os.environ.get("CDPBRIDGE_ADMIN_KEY")
        if not key:
            raise ConfigurationError("no admin key: set CDPBRIDGE_ADMIN_KEY to one of the server's")
        return place.server, key
    from cdpbridge._embedded import check_installed

    check_installed()
    from cdpbridge.server import Settings, read_operator_file

    settings = Settings.load(place.config, data_dir=place.data_dir)
    found = read_operator_file(settings.data_dir)
    if found is None:
        raise ConfigurationError(
            f"no server in {settings.data_dir} has said how it is reached: start it, or give --server of one that runs, and its "
            "admin key in CDPBRIDGE_ADMIN_KEY"
        )
    return found.address, found.key


def body_of(kind: type[BodyT], **given: object) -> BodyT:
    """Return a request's body with what was given; None is left out.

    Raises:
        click.BadParameter: A value is out of its bounds.
    """
    try:
        return kind(**{name: value for name, value in given.items() if value is not None})
    except ValueError as error:  # pydantic's
        found: list[dict[str, Any]] = getattr(error, "errors", list)()
        text = "; ".join(f"{item['loc'][-1]}: {item['msg']}" for item in found) or str(error)
        raise click.BadParameter(text) from None


async def project_id(operator: Operator, name: str) -> UUID:
    """Return the id of a project, by its name or its whole id.

    Raises:
        ConfigurationError: There is no such project, or several.
    """
    found: dict[UUID, str | None] = {each.id: each.name for each in (await operator.list_projects()).items}
    return one_of("project", name, found, hint="cdpbridge projects list", named=True, whole=True)
