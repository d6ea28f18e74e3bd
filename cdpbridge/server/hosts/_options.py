"""`BrowserOptions`: options of all browsers of a host."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final
from uuid import UUID

from cdpbridge.chromium import UidPool
from cdpbridge.server.files import FileStore
from cdpbridge.server.proxy import BlockList, Rules

from ._builds import Builds
from ._cgroups import CgroupPool
from ._folders import Removals
from ._isolation import Isolator
from ._usage import UsageReader

__all__ = ["BrowserOptions"]

_TOKEN_BYTES: Final = 32


def _random_token(_browser_id: UUID) -> str:
    """Return a token that no other server can make."""
    return secrets.token_urlsafe(_TOKEN_BYTES)


@dataclass(frozen=True, slots=True)
class BrowserOptions:
    """Options of all browsers of a host.

    Attributes:
        files: Where their downloads go, and where they find uploads.
        sandbox: Chromium's own, around its renderers.
        uids: Where uids come from, in a root process. Default: the range of all root processes.
        isolation: Gives each browser a place of its own; None for none.
        certificates: Browsers trust what the user of this process has added to Chromium's certificates.
        rules: What browsers may reach.
        block_list: Hosts of advertisements, for browsers that want none of them.
        own_ports: Ports of this server and of its browsers, which browsers may not reach. Each
            browser adds its own while it runs.
        max_disk_bytes: Of a browser's folders and downloads; None for no limit.
        max_memory_bytes: Of what belongs to one of a browser's processes alone; None for no limit.
        max_processes: Of a browser; None for no limit.
        max_renderers: Above this, a browser lets pages of one site share a process; None for Chromium's own choice.
        usage: Reads what browsers use.
        removals: Of places of browsers that have ended.
        token_of: Makes the token of a browser's address, by the id of its rental.
        cgroups: Where control groups of isolated browsers are made; None where none can be.
        processors: Of the machine, that the projects share.
        starts_first: A start goes before browsers that run.
    """

    builds: Builds
    args: tuple[str, ...]
    start_timeout: timedelta
    stop_timeout: timedelta
    export_every: timedelta
    health_every: timedelta
    health_timeout: timedelta
    files: FileStore | None = None
    sandbox: bool = True
    uids: UidPool | None = None
    isolation: Isolator | None = None
    certificates: bool = False
    rules: Rules = field(default_factory=Rules)
    block_list: BlockList = field(default_factory=BlockList)
    own_ports: set[int] = field(default_factory=set)
    max_disk_bytes: int | None = None
    max_memory_bytes: int | None = None
    max_processes: int | None = None
    max_renderers: int | None = None
    usage: UsageReader = field(default_factory=UsageReader)
    removals: Removals = field(default_factory=Removals)
    token_of: Callable[[UUID], str] = _random_token
    cgroups: CgroupPool | None = None
    processors: float = 1.0
    starts_first: bool = True
