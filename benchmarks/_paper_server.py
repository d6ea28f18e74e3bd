"""A server whose browsers are on paper: all of it runs but Chromium, so that thousands of rentals take minutes."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from uuid import UUID

from cdpbridge._concurrency import loop_factory
from cdpbridge.cdp import Connection
from cdpbridge.server import Settings
from cdpbridge.server._serve import print_ready, serving
from cdpbridge.server.hosts import BrowserSpec, CloseFrame, Leftover, Limit, Placement, SavedState, StopReport
from cdpbridge.server.proxy import HostTraffic


class PaperHosts:
    """Machines that run nothing."""

    def __init__(self) -> None:
        self.running: dict[UUID, Placement] = {}
        self.ready = 0
        self.waiting = 0

    async def start(
        self,
        spec: BrowserSpec,
        *,
        on_exit: Callable[[UUID], object],
        on_limit: Callable[[UUID, Limit], object],
    ) -> Placement:
        self.running[spec.id] = Placement(f"token-{spec.id.hex}", None, spec.id)
        return self.running[spec.id]

    async def adopt(
        self,
        spec: BrowserSpec,
        *,
        on_exit: Callable[[UUID], object],
        on_limit: Callable[[UUID, Limit], object],
    ) -> Placement | None:
        return None

    async def release(self, browser_id: UUID) -> bool:
        return False

    async def attach(self, browser_id: UUID) -> Placement | None:
        return None

    def placement(self, browser_id: UUID) -> Placement | None:
        return self.running.get(browser_id)

    async def connection(self, browser_id: UUID) -> Connection | None:
        return None

    def proxy_bytes(self, browser_id: UUID) -> int:
        return 0

    def traffic(self, browser_id: UUID) -> Sequence[HostTraffic]:
        return ()

    def blocked_requests(self, browser_id: UUID) -> int | None:
        return None

    async def limit_hosts(
        self, browser_id: UUID, *, allowed: Sequence[str] | None, denied: Sequence[str] = ()
    ) -> bool:
        return browser_id in self.running

    def downloads_folder(self, browser_id: UUID) -> Path | None:
        return None

    async def take_downloads(self, browser_id: UUID) -> None:
        """Nothing is downloaded."""

    async def give_upload(self, browser_id: UUID, file: Path) -> None:
        """No browser reads it."""

    def upload_path(self, browser_id: UUID, file: Path) -> Path:
        return file

    async def stop(self, browser_id: UUID, frame: CloseFrame, *, save: bool) -> StopReport | None:
        return StopReport("closed", None, 0) if self.running.pop(browser_id, None) else None

    def remains(self) -> Collection[UUID]:
        return ()

    async def recover(self, left: Collection[Leftover]) -> Mapping[UUID, SavedState]:
        return {}

    def start_ahead(self, readable: tuple[Path, ...]) -> None:
        """Nothing is started."""

    def lost(self, browser_id: UUID) -> bool:
        return False

    def answered(self) -> Collection[UUID]:
        return ()

    def fits_ready(self, spec: BrowserSpec) -> bool:
        return False

    async def release_ready(self) -> bool:
        return False

    async def close(self) -> None:
        assert not self.running


async def run(folder: str) -> None:
    settings = Settings.load(data_dir=Path(folder), port=0)
    async with serving(settings, hosts=lambda *_: PaperHosts()) as (_, base_url):
        print_ready(base_url)
        # The parent's end of the pipe closes with the parent.
        await asyncio.get_running_loop().run_in_executor(None, os.read, sys.stdin.fileno(), 1)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(run(sys.argv[1]))
