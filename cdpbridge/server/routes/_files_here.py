"""Whether this server has the files that a request is about: without object storage, each server has those of its own browsers and tasks."""

from __future__ import annotations

import asyncio
from uuid import UUID

from cdpbridge.server.store import Browser

from ._services import Services

__all__ = ["check_files_here", "check_path_here"]


async def check_files_here(services: Services, browser: Browser, *, recorded: bool = False) -> None:
    """Refuse when the files of a browser are with another server; an empty list would say that there are none.

    Args:
        services: The open parts of the server.
        browser: Whose files.
        recorded: They are those of its recording, which its server has, wherever it runs.

    Raises:
        NotReachable: They are.
    """
    if browser.kept_bytes is not None:
        return
    if not (recorded or browser.over) and await services.hosts.attach(browser.id) is not None:
        return
    folders = services.files.browser_folders(browser.id)
    if not await asyncio.to_thread(lambda: any(folder.is_dir() for folder in folders)):
        await services.resolver.check_files(browser.owner)


async def check_path_here(services: Services, path: str) -> None:
    """Refuse when a file that is not here is of a browser or a task of another server.

    Args:
        services: The open parts of the server.
        path: In the store of files.

    Raises:
        NotReachable: It is.
    """
    kind, _, rest = path.partition("/")
    try:
        owner_id = UUID(rest.partition("/")[0])
    except ValueError:
        return
    if kind == "browsers":
        browser = await services.store.rental(owner_id)
        if browser is not None:
            await check_files_here(services, browser)
    elif kind == "tasks":
        await services.resolver.check_files(await services.store.task_owner(owner_id))
