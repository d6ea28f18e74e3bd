"""`cdpbridge workers`: the workers of a server, while it runs."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Final
from uuid import UUID

import click

from ._ids import one_of
from ._operator import Place, config_option, data_dir_option, server_option, with_server
from ._options import Group, argument, json_option
from ._output import instant, print_json, print_list, say

if TYPE_CHECKING:
    from cdpbridge.api import AsyncClient
    from cdpbridge.api.admin import Worker

__all__ = ["register"]

_LOOK_SECONDS: Final = 1.0

workers = Group(no_args_is_help=True, help="Workers, which run browsers for a server.")


def register(app: Group) -> None:
    """Add the group."""
    app.add_command(workers, name="workers")


@workers.command("list")
@json_option
@server_option
@data_dir_option
@config_option
def _list(as_json: bool, server: str | None, data_dir: Path | None, config: Path | None) -> None:
    """List workers by name, with their slots."""
    from cdpbridge.api import admin

    def row(worker: Worker) -> list[str]:
        return [
            worker.name,
            worker.address,
            "draining" if worker.draining else "accepting" if worker.accepting else "not reached",
            f"{worker.running} of {worker.slots}",
            str(worker.starting),
            instant(worker.joined_at),
            str(worker.id),
        ]

    found = with_server(Place(server, data_dir, config), lambda client: client.send(admin.list_workers()))
    head = ["name", "address", "state", "browsers", "starting", "since", "id"]
    print_list(found.items, as_json, head, row, nothing="no workers")
    for worker in () if as_json else found.items:
        if worker.problem:
            say(f"{worker.name}: {worker.problem}")
    if not as_json and found.waiting_orders:
        say(f"{found.waiting_orders} order{'' if found.waiting_orders == 1 else 's'} wait for a slot")


@workers.command("drain")
@argument("worker", help="Its whole id, or its name.")
@click.option("--wait", is_flag=True, help="Return when its last browser has ended.")
@json_option
@server_option
@data_dir_option
@config_option
def _drain(
    worker: str, wait: bool, as_json: bool, server: str | None, data_dir: Path | None, config: Path | None
) -> None:
    """Give a worker no further browser. Those that it has go on; then it can be ended without a loss."""
    from cdpbridge.api import admin

    async def work(client: AsyncClient) -> Worker:
        found: dict[UUID, str | None] = {
            each.id: each.name for each in (await client.send(admin.list_workers())).items
        }
        chosen = one_of("worker", worker, found, hint="cdpbridge workers list", named=True, whole=True)
        drained = await client.send(admin.drain_worker(chosen))
        while wait and drained.running:
            await asyncio.sleep(_LOOK_SECONDS)
            left = [each for each in (await client.send(admin.list_workers())).items if each.id == chosen]
            if not left:  # it has ended
                return drained.model_copy(update={"running": 0, "starting": 0})
            drained = left[0]
        return drained

    drained = with_server(Place(server, data_dir, config), work)
    if as_json:
        print_json(drained)
        return
    running = f"{drained.running} browser{'' if drained.running == 1 else 's'}" if drained.running else "none"
    say(f"worker {drained.name!r} gets no further browser; it runs {running}")
