"""One trial of `leaks.py`: what its seed decides, who takes part, what is struck, and what must be true afterwards."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self

from _forked import CONTEXT, Forked
from _network import FAULTS, Relay

import cdpbridge
from cdpbridge.api import BrowserSessionStatus
from cdpbridge.billing import Tariff, cost
from cdpbridge.rental import _reap
from cdpbridge.rental.journal import Entry, Journal
from cdpbridge.server import Settings, serve
from cdpbridge.server.hosts._folders import scratch_folder
from cdpbridge.server.hosts._processes import processes_using

KEY = "key-of-the-benchmark"
VICTIMS = ("client", "server", "chromium", "network")
LONGEST_OUTAGE = 1.0  # seconds
LONGEST_DELAY = 0.3  # seconds; a start or a stop of a browser, during which no bytes pass, is shorter
GRACE_SECONDS = 60.0
QUIET_SECONDS = 30.0
MICRO = Decimal(1_000_000)


@dataclass
class Trial:
    """What its seed decides.

    Attributes:
        point: When the blow falls, as a share of the messages of a client that nothing happens to.
        delay: Seconds after that point.
        outage: Seconds that the server or the network is down.
        how: The signal, the fault of the network, or the share of Chromium's processes.
    """

    seed: int
    victim: str = field(init=False)
    point: float = field(init=False)
    delay: float = field(init=False)
    outage: float = field(init=False)
    how: Any = field(init=False)

    def __post_init__(self) -> None:
        chance = random.Random(self.seed)
        self.victim = chance.choice(VICTIMS)
        self.point = chance.uniform(0, 1)
        self.delay = chance.choice([0, chance.uniform(0, LONGEST_DELAY)])
        self.outage = chance.uniform(0, LONGEST_OUTAGE)
        self.how = {
            "client": chance.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT]),
            "server": chance.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM]),
            "chromium": chance.uniform(0, 1),
            "network": chance.choice(FAULTS),
        }[self.victim]

    def __str__(self) -> str:
        how = self.how.name if isinstance(self.how, signal.Signals) else self.how
        how = f"{how:.0%} of it" if isinstance(how, float) else how
        return f"{self.victim} ({how}) at {self.point:.0%}"

    def row(self, **found: Any) -> dict[str, Any]:
        """For the table."""
        return {"seed": self.seed, "victim": self.victim, "what": str(self), **found}

    def broken(self, why: str) -> dict[str, Any]:
        """A row that counts as a leak: nobody knows what is left."""
        counts = dict.fromkeys(("orders", "rentals", "left_to_reap", "left_for_ten_minutes", "too_late"), 0)
        return self.row(**counts, seconds=0.0, leaks=["the trial itself broke"], log=why)


# --- who takes part, each in a process of its own -----------------------------------------------------------------------


def run_server(data_dir: Path, ready: Connection, owner: Connection) -> None:
    """The server, until a signal, or until the benchmark itself has died."""
    settings = Settings.load(
        data_dir=data_dir,
        port=0,
        api_keys=KEY,
        browser_build="shell",
        credits_usd=10**6,
        # What runs and is no rental would count as left.
        warm_browsers=0,
    )
    serve(settings, ready=ready.send, dead_man_fd=owner.fileno())


def run_client(address: str, journal: Path) -> None:
    """A program that rents two browsers at once, one of them with a profile."""

    async def rent(client: cdpbridge.AsyncClient, profile: str | None) -> None:
        async with cdpbridge.open_browser(
            client,
            profile=profile,
            timeout=timedelta(minutes=5),
            connect_timeout=timedelta(seconds=5),
            stop_timeout=timedelta(seconds=5),
            journal=journal,
        ) as browser:
            tab = await browser.new_tab()
            for _ in range(3):
                await tab.evaluate("1 + 1")

    async def main() -> None:
        async with cdpbridge.at(address, KEY) as client:
            done = await asyncio.gather(rent(client, None), rent(client, "work"), return_exceptions=True)
        for error in done:
            if isinstance(error, BaseException):
                print(f"client: {type(error).__name__}: {error}", *getattr(error, "__notes__", ()), sep="\n")

    asyncio.run(main())


def run_reap(address: str, journal: Path, ten_minutes_later: bool) -> None:
    """`cdpbridge reap`."""
    if ten_minutes_later:
        _reap._MAY_STILL_COME = timedelta(0)  # type: ignore[misc]  # nobody waits so long a thousand times
    os.environ |= {
        "CDPBRIDGE_PROVIDER": address,
        "BROWSER_USE_API_KEY": KEY,
        "CDPBRIDGE_JOURNAL": str(journal),
        "COLUMNS": "400",
    }
    sys.argv = ["cdpbridge", "reap"]
    from cdpbridge.cli import main

    main()


# --- where it happens ---------------------------------------------------------------------------------------------------


class World:
    """A server with its data folder, and the network before it; trials follow each other in it. An async context manager."""

    quiet_seconds = QUIET_SECONDS

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="cdpbridge-leaks-"))
        self._relay = Relay()
        self._port = 0
        self._whole = 0  # messages of a client that nothing happens to
        self._known: set[str] = set()  # browsers of earlier trials
        self._server: Forked | None = None
        self._owner: Connection | None = None
        self._stack = AsyncExitStack()

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    @property
    def _browsers(self) -> list[Path]:
        """Folders with one per running browser."""
        return [Settings.load(data_dir=self._data).runtime_folder / "browsers"]

    def _alive(self) -> list[int]:
        return [pid for folder in self._browsers for pid in processes_using(folder)]

    async def __aenter__(self) -> Self:
        self._stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        try:
            await self._begin()
        except BaseException:  # Ctrl-C, too
            await self._stack.aclose()
            raise
        return self

    async def _begin(self) -> None:
        self._port = await self._stack.enter_async_context(self._relay.serving())
        self._stack.push_async_callback(self._end_server)
        await self._start_server()
        # The first client meets cold caches and makes the profile; the second is like those of the trials.
        for name in ("first", "second"):
            self._relay.messages = 0
            status = await self._client(self.folder / f"{name}.sqlite3", self.folder / name).ended()
            if status:
                raise RuntimeError((self.folder / name).read_text())
        self._whole = self._relay.messages
        self._known = set(await self._quiet())

    async def __aexit__(self, *exc_info: object) -> None:
        await self._stack.aclose()

    async def _start_server(self) -> None:
        ready, told = CONTEXT.Pipe(duplex=False)
        watched, self._owner = CONTEXT.Pipe(duplex=False)
        with ready, told, watched:
            self._server = Forked(run_server, self._data, told, watched, log=self.folder / "server.log")
            told.close()
            try:
                address = await asyncio.to_thread(ready.recv)
            except EOFError:
                raise RuntimeError((self.folder / "server.log").read_text()) from None
        self._relay.target = int(address.rpartition(":")[2].partition("/")[0])

    async def _end_server(self) -> None:
        if self._server is not None:
            await self._server.end(signal.SIGTERM)

    @property
    def _address(self) -> str:
        return f"http://127.0.0.1:{self._port}/api/v2"

    @property
    def _behind(self) -> str:
        """The server's own address."""
        return f"http://127.0.0.1:{self._relay.target}/api/v2"

    def _client(self, journal: Path, log: Path) -> Forked:
        return Forked(run_client, self._address, journal, log=log)

    async def run(self, trial: Trial) -> dict[str, Any]:
        """What came of it; `leaks` says what was wrong, in words."""
        folder = self.folder / str(trial.seed)
        folder.mkdir()
        journal = folder / "journal.sqlite3"
        log = folder / "log"
        began = time.monotonic()
        self._relay.messages = 0
        # Emptied, not removed: those that run go on writing to it.
        (self.folder / "server.log").write_text("")
        client = self._client(journal, log)
        leaks = []
        try:
            early = await self._strike(trial, client)
            try:
                async with asyncio.timeout(GRACE_SECONDS):
                    await client.ended()
            except TimeoutError:
                leaks.append(f"the client was not over {GRACE_SECONDS:g} s after the blow")
        finally:
            await client.end()
        open_before = len(await asyncio.to_thread(_open, journal))
        await Forked(run_reap, self._address, journal, False, log=log).ended()
        open_then = len(await asyncio.to_thread(_open, journal))
        browsers = await self._quiet()
        if open_then:
            await Forked(run_reap, self._address, journal, True, log=log).ended()
            browsers = await self._quiet()
        ids = set(browsers) - self._known
        leaks += await self._left(ids, browsers, journal)
        self._known |= ids
        row = trial.row(
            orders=len(await asyncio.to_thread(Journal(journal).entries)),
            rentals=sum(browsers[each]["started_at"] is not None for each in ids),
            left_to_reap=open_before,
            left_for_ten_minutes=open_then,
            too_late=not early,
            seconds=round(time.monotonic() - began, 3),
            leaks=leaks,
        )
        if leaks:
            server_log = self.folder / "server.log"
            row["log"] = log.read_text() + (server_log.read_text() if server_log.exists() else "")
        shutil.rmtree(folder)
        return row

    # --- the blow -----------------------------------------------------------------------------------------------------

    async def _strike(self, trial: Trial, client: Forked) -> bool:
        """Wait for the moment, then strike; whether the client was still at work."""
        early = await self._moment(trial, client)
        match trial.victim:
            case "client":
                client.send(trial.how)
            case "server":
                assert self._server is not None  # it was started
                await self._server.end(trial.how)
                await asyncio.sleep(trial.outage)
                await self._start_server()
            case "chromium":
                await self._kill_chromium(trial)
            case _:
                await self._relay.fail(trial.how, trial.outage)
        return early

    async def _moment(self, trial: Trial, client: Forked) -> bool:
        """Wait for the moment of a trial; whether the client is still at work."""
        over = asyncio.create_task(client.ended())
        moment = asyncio.create_task(self._relay.passed(round(trial.point * self._whole)))
        await asyncio.wait({over, moment}, return_when=asyncio.FIRST_COMPLETED)
        if not over.done():
            await asyncio.wait({over}, timeout=trial.delay)
        early = not over.done()
        for task in (over, moment):
            task.cancel()
        await asyncio.wait({over, moment})
        return early

    async def _kill_chromium(self, trial: Trial) -> None:
        pids = await asyncio.to_thread(self._alive)
        random.Random(trial.seed).shuffle(pids)
        for pid in pids[: max(1, round(trial.how * len(pids)))]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    # --- what must be true ----------------------------------------------------------------------------------------------

    async def _quiet(self) -> dict[str, dict[str, Any]]:
        """All browsers of the books, once none is on its way any more and nothing of theirs is left, or after a long wait."""
        deadline = time.monotonic() + self.quiet_seconds
        while True:
            browsers = {row["id"]: row for row in await asyncio.to_thread(self._rows, "browsers")}
            ended = all(row["state"] == "stopped" for row in browsers.values())
            # Folders are removed after the answer to a stop.
            if ended and not await asyncio.to_thread(self._remains, set(browsers) - self._known):
                return browsers
            if time.monotonic() > deadline:
                return browsers
            await asyncio.sleep(0.02)

    def _remains(self, ids: set[str]) -> bool:
        return bool(self._alive() or self._folders() or _scratch(ids))

    def _folders(self) -> list[str]:
        return [each.name for folder in self._browsers for each in folder.glob("*")]

    def _rows(self, table: str) -> list[dict[str, Any]]:
        books = sqlite3.connect(self._data / "cdpbridge.sqlite3")
        books.row_factory = sqlite3.Row
        try:
            return [dict(row) for row in books.execute(f"SELECT * FROM {table}")]
        finally:
            books.close()

    async def _left(self, ids: set[str], browsers: dict[str, dict[str, Any]], journal: Path) -> list[str]:
        """What has leaked."""
        leaks = []
        if alive := await asyncio.to_thread(self._alive):
            leaks.append(f"{len(alive)} processes of Chromium are alive")
        if folders := self._folders():
            leaks.append(f"folders of browsers are left: {', '.join(folders)}")
        leaks += [f"the scratch folder of {each} is left" for each in _scratch(ids)]
        async with cdpbridge.at(self._behind, KEY) as client:
            account = await client.billing.account()
            active = [each.id async for each in client.browsers.list(status=BrowserSessionStatus.ACTIVE)]
        if active:
            leaks.append(f"{len(active)} browsers are active")
        leaks += [
            f"browser {each} is {row['state']}" for each, row in browsers.items() if row["state"] != "stopped"
        ]
        entries = await asyncio.to_thread(Journal(journal).entries)
        leaks += [f"the journal still has {each}" for each in entries if each.is_open]
        ledger = await asyncio.to_thread(self._rows, "ledger")
        leaks += _wrong_money(browsers, ids, ledger, entries, account.total_credits_balance_usd)
        keys = {
            row["browser_id"]: row["key"] for row in await asyncio.to_thread(self._rows, "idempotency_keys")
        }
        return leaks + _doubled({each: browsers[each] for each in ids}, keys, entries)


def _scratch(ids: set[str]) -> list[str]:
    """Browsers whose scratch folders are there, also renamed."""
    places = {each: scratch_folder(each) for each in ids}
    return [each for each, path in places.items() if list(path.parent.glob(f"{path.name}*"))]


def _open(journal: Path) -> list[Entry]:
    return Journal(journal).open_entries()


def _paid(browser: dict[str, Any]) -> int:
    return int(browser["charged_micro_usd"] - browser["refunded_micro_usd"])


def _wrong_money(
    browsers: dict[str, dict[str, Any]],
    ids: set[str],
    ledger: list[dict[str, Any]],
    entries: list[Entry],
    balance: Decimal,
) -> list[str]:
    wrong = []
    booked: Counter[str | None] = Counter()
    for row in ledger:
        booked[row["browser_id"]] += row["amount_micro_usd"]
    if balance * MICRO != booked.total():
        wrong.append(f"the balance is {balance} USD, the ledger's sum {booked.total()} millionths")
    if booked.total() != booked[None] - sum(map(_paid, browsers.values())):
        wrong.append("the ledger's sum is not the grant less what the browsers cost")
    for each in ids:
        browser, paid = browsers[each], -booked[each]
        if paid != _paid(browser):
            wrong.append(f"browser {each} cost {_paid(browser)} millionths, the ledger says {paid}")
        if browser["started_at"] is None or browser["finished_at"] is None:
            due = 0
        else:
            used = _instant(browser["finished_at"]) - _instant(browser["started_at"])
            due = int(cost(Tariff(), max(used, timedelta(0))) * MICRO)
        if paid not in {due, 0}:  # 0: no client learnt of it
            wrong.append(f"browser {each} cost {paid} millionths instead of {due}")
    for entry in entries:
        browser_id = entry.browser_id.hex if entry.browser_id is not None else ""
        if entry.receipt is not None and entry.receipt.paid * MICRO != _paid(browsers[browser_id]):
            wrong.append(f"the receipt of browser {browser_id} says {entry.receipt.paid} USD")
    return wrong


def _doubled(browsers: dict[str, dict[str, Any]], keys: dict[str, str], entries: list[Entry]) -> list[str]:
    """Browsers that were paid without an order, or twice for one."""
    orders = {entry.browser_id.hex: str(entry.rental) for entry in entries if entry.browser_id is not None}
    known = {str(entry.rental) for entry in entries}
    paid = Counter(
        orders.get(each) or keys.get(each, "") for each, browser in browsers.items() if _paid(browser)
    )
    wrong = [
        f"{count} browsers were paid for the order {order}" for order, count in paid.items() if count > 1
    ]
    return wrong + [
        f"nobody ordered a browser that was paid ({order})" for order in paid if order not in known
    ]


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text)
