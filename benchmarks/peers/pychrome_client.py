"""pychrome: the page's own socket and two threads for it. Its calls block, so each gets a thread here."""

from __future__ import annotations

import asyncio
import functools
import inspect
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from peers._page import new_page
from pychrome.tab import Tab

warnings.simplefilter("ignore")

_THREADS = 256  # more than the scenarios have calls at a time


class Session:
    def __init__(self, tab: Tab, threads: ThreadPoolExecutor) -> None:
        self.tab = tab
        self.threads = threads

    async def send(
        self, method: str, params: dict[str, Any] | None = None, seconds: float | None = None
    ) -> Any:
        call = functools.partial(self.tab.call_method, method, **params or {}, _timeout=seconds)
        return await asyncio.get_running_loop().run_in_executor(self.threads, call)


class Client:
    cancels = False  # a thread that waits cannot be cancelled

    def __init__(self, variant: str) -> None:
        self.variant = variant
        self.threads = ThreadPoolExecutor(_THREADS)

    async def open(self, url: str) -> None:
        self.url = url

    async def attach(self, url: str | None = None) -> Session:
        tab = Tab(id="PAGE", type="page", webSocketDebuggerUrl=url or self.url)
        await asyncio.to_thread(tab.start)
        return Session(tab, self.threads)

    async def new_tab(self) -> Session:
        return await self.attach(await new_page(self.url))

    def on(self, session: Session, method: str, handler: Callable[[Any], object]) -> None:
        """pychrome calls in its thread for events, which waits for the handler, as it would for a blocking one."""
        loop = asyncio.get_running_loop()

        async def run(event: dict[str, Any]) -> None:
            result = handler(event)
            if inspect.isawaitable(result):
                await result

        def call(**event: Any) -> None:
            asyncio.run_coroutine_threadsafe(run(event), loop).result()

        session.tab.set_listener(method, call)

    async def send_within(self, session: Session, method: str, seconds: float) -> object:
        return await session.send(method, seconds=seconds)
