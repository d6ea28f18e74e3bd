"""The browsers that one pytest process has rented. Nothing of pytest in here."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Coroutine, Iterable
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, TypedDict
from uuid import UUID

from cdpbridge._concurrency import LoopThread
from cdpbridge.api import AsyncClient
from cdpbridge.billing import Receipt
from cdpbridge.browser import Browser, open_browser
from cdpbridge.cdp._http_credentials import checked_credentials_list
from cdpbridge.rental._options import RentalOptions
from cdpbridge.rental._price import price_of
from cdpbridge.rental._rental import stop_noting
from cdpbridge.rental._stop import confirmed_stop, receipt_of
from cdpbridge.tunnel._address import Place, local_address

__all__ = ["Ending", "Ledger", "Rentals"]

logger = logging.getLogger("cdpbridge")

_STOP_TIMEOUT: Final = timedelta(seconds=30)


class Ending(TypedDict):
    """How one rental ended, in a form that travels between processes.

    Attributes:
        browser: Its id.
        paid: USD, as text; None when it is not known.
        simulated: Whether the server's money is simulated.
        text: The receipt, or why it was not stopped.
        failed: Whether it may still be running.
    """

    browser: str
    paid: str | None
    simulated: bool
    text: str
    failed: bool


class Ledger:
    """What each process has rented and how it ended, in a file for each: the process itself may not live to tell.

    Attributes:
        folder: Where the files are.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def begun(self, owner: str, browser_id: UUID) -> None:
        """Write that `owner` has rented a browser."""
        self._write(owner, {"rented": str(browser_id)})

    def ended(self, owner: str, ending: Ending) -> None:
        """Write that a browser is stopped, or could not be."""
        self._write(owner, {"ending": ending})

    def _write(self, owner: str, entry: dict[str, Any]) -> None:
        with (self.folder / f"{owner}.jsonl").open("a") as file:
            file.write(json.dumps(entry) + "\n")

    def owners(self) -> list[str]:
        """List the processes that have rented."""
        return sorted(file.stem for file in self.folder.glob("*.jsonl"))

    def endings(self, owner: str) -> list[Ending]:
        """List the rentals of `owner` that have ended."""
        return [entry["ending"] for entry in self._read(owner) if "ending" in entry]

    def left(self, owner: str) -> list[UUID]:
        """List the rentals of `owner` that have not ended."""
        ended = {ending["browser"] for ending in self.endings(owner)}
        rented = (entry["rented"] for entry in self._read(owner) if "rented" in entry)
        return [UUID(each) for each in rented if each not in ended]

    def _read(self, owner: str) -> list[dict[str, Any]]:
        lines = (self.folder / f"{owner}.jsonl").read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]  # killed in the middle of a line


class Rentals:
    """Rents one browser for each set of options, from a thread with an event loop of its own: Playwright's needs the caller's.

    Args:
        client: Where; it is opened with the first rental.
        owner: Name of this process in the ledger.
        ledger: Where rentals are noted as they begin and end.
        timeout: Of each rental.
    """

    def __init__(self, client: AsyncClient, *, owner: str, ledger: Ledger, timeout: timedelta | None) -> None:
        self._client = client
        self._owner = owner
        self._ledger = ledger
        self._timeout = timeout
        self._rented: dict[frozenset[tuple[str, object]], Browser] = {}
        self._places: dict[UUID, tuple[Place, AsyncExitStack]] = {}
        self._lock = threading.Lock()
        self._loop: LoopThread | None = None
        self._resources = AsyncExitStack()

    def open(self) -> AsyncClient:
        """Open the client and return it: with `local()`, its server runs from now on."""
        with self._lock:
            self._opened()
        return self._client

    def _opened(self) -> LoopThread:
        if self._loop is None:
            loop = LoopThread().__enter__()
            try:
                loop.run(self._resources.enter_async_context(self._client))
            except BaseException:
                loop.__exit__()
                raise
            self._loop = loop
        return self._loop

    def rent(self, options: RentalOptions) -> Browser:
        """Return the browser with `options`; rent one when there is none yet, or when it has ended.

        Raises:
            CDPBridgeError: As of `open_browser`.
        """
        logins = checked_credentials_list(options.get("http_credentials"))
        key = frozenset({**options, "http_credentials": logins}.items())
        with self._lock:
            loop = self._opened()
            browser = self._rented.get(key)
            if browser is not None and browser.connection.closed:
                self._stop(loop, [self._rented.pop(key)])
                browser = None
            if browser is None:
                browser = self._rented[key] = loop.run(self._rent(options))
            return browser

    def place(self, options: RentalOptions) -> Place:
        """Return where Playwright finds that browser: at a tunnel's address, if it does not see this process's files.

        Raises:
            CDPBridgeError: As of `open_browser`.
        """
        browser = self.rent(options)
        with self._lock:
            if browser.id not in self._places:
                self._places[browser.id] = self._opened().run(_placed(browser))
            return self._places[browser.id][0]

    async def _rent(self, options: RentalOptions) -> Browser:
        rental: RentalOptions = {**options, "timeout": self._timeout, "stop_timeout": _STOP_TIMEOUT}
        browser = await open_browser(self._client, **rental)
        try:
            self._ledger.begun(self._owner, browser.id)
        except BaseException as error:
            await stop_noting(browser, error)
            raise
        return browser

    def stop_left(self, owner: str) -> None:
        """Stop what another process has rented and not stopped: it has ended, or it has to end now."""
        left = self._ledger.left(owner)
        if left:
            with self._lock:
                loop = self._opened()
                loop.run(_gather(self._stop_other(owner, each) for each in left))

    async def _stop_other(self, owner: str, browser_id: UUID) -> None:
        try:
            record = await confirmed_stop(self._client, browser_id, _STOP_TIMEOUT)
        except Exception as error:  # noqa: BLE001  # the others are stopped all the same
            self._ledger.ended(owner, _failure(browser_id, error))
            return
        receipt = None
        if record is not None and record.finished_at is not None:
            receipt = receipt_of(record, await price_of(self._client))
        self._ledger.ended(owner, _ending(browser_id, receipt, f"{receipt or 'stopped'} (left by {owner})"))

    def close(self) -> None:
        """Stop everything, and the server if it is ours. The ledger has what could not be stopped."""
        with self._lock:
            if self._loop is None:
                return
            rented = list(self._rented.values())
            self._rented.clear()
            try:
                try:
                    self._stop(self._loop, rented)
                finally:
                    self._loop.run(self._resources.aclose())
            finally:
                self._loop.__exit__()
                self._loop = None

    def _stop(self, loop: LoopThread, browsers: list[Browser]) -> None:
        loop.run(_gather(self._end(browser) for browser in browsers))

    async def _end(self, browser: Browser) -> None:
        _, tunnel = self._places.pop(browser.id, (None, AsyncExitStack()))
        try:
            async with tunnel:
                pass
            receipt = await browser.stop()
        except Exception as error:  # noqa: BLE001  # as above
            ending = _failure(browser.id, error)
        else:
            ending = _ending(browser.id, receipt, str(receipt))
        self._ledger.ended(self._owner, ending)


async def _placed(browser: Browser) -> tuple[Place, AsyncExitStack]:
    async with AsyncExitStack() as opened:
        place = await opened.enter_async_context(local_address(browser))
        return place, opened.pop_all()


async def _gather(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Do all of it; then raise what the first one that failed has raised."""
    failures = [each for each in await asyncio.gather(*work, return_exceptions=True) if each is not None]
    for failed in failures[1:]:
        logger.error("%s", failed)
    if failures:
        raise failures[0]


def _ending(browser_id: UUID, receipt: Receipt | None, text: str) -> Ending:
    paid = None if receipt is None else str(receipt.paid)
    simulated = receipt is not None and receipt.simulated
    return Ending(browser=str(browser_id), paid=paid, simulated=simulated, text=text, failed=False)


def _failure(browser_id: UUID, error: Exception) -> Ending:
    return Ending(
        browser=str(browser_id), paid=None, simulated=False, text=f"not stopped: {error}", failed=True
    )
