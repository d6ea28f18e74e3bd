"""Money through everything that can happen: no sequence books wrongly, no crash loses or doubles a cent."""

import asyncio
import random
import shutil
import signal
import sqlite3
import tempfile
from collections import defaultdict
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction
from math import ceil
from pathlib import Path
from uuid import UUID

import httpx
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from cdpbridge._lifecycle import EndReason
from cdpbridge.billing import Receipt, Tariff, cost
from cdpbridge.errors import BrowserStartFailed
from cdpbridge.server import Settings
from cdpbridge.server._metrics import Metrics
from cdpbridge.server.limits import Border
from cdpbridge.server.rentals import ClientLeft, Rentals, StartWithdrawn
from cdpbridge.server.rentals._order import Order
from cdpbridge.server.rentals._pressure import Pressure
from cdpbridge.server.rentals._recovery import Recovery
from cdpbridge.server.store import AdmissionRefused, Store
from cdpbridge.testing import ManualClock
from tests import postgres
from tests.server.conftest import ScriptedHosts, Wall

MINUTE = 60.0
MICRO = Decimal("0.000001")
LIMIT = 3
SECONDS = st.sampled_from([0.0, 1.0, 59.9, 60.0, 61.0, 300.0, 3600.0, 3601.0, 9000.0])


def micro(amount):
    return int(amount / MICRO)


class Books:
    """What the database says, read past the server.

    Args:
        url: Of the database.
    """

    def __init__(self, url):
        self._url = url
        self.browsers = {UUID(str(row["id"])): row for row in self._rows("SELECT * FROM browsers")}
        self.ledger = self._rows("SELECT * FROM ledger ORDER BY id")
        self.balances = {
            row["id"]: row["balance_micro_usd"]
            for row in self._rows("SELECT id, balance_micro_usd FROM projects")
        }
        self.of = defaultdict(list)
        for entry in self.ledger:
            self.of[entry["browser_id"] and UUID(str(entry["browser_id"]))].append(entry)

    def _rows(self, statement):
        if not self._url.startswith("sqlite"):
            return postgres.instance().rows(self._url, statement)
        with sqlite3.connect(self._url.partition("///")[2]) as connection:
            connection.row_factory = sqlite3.Row
            rows = [dict(row) for row in connection.execute(statement)]
        connection.close()
        return rows

    @property
    def sum(self):
        return sum(entry["amount_micro_usd"] for entry in self.ledger)

    def used(self, browser):
        """Start to end, None while it runs."""
        if browser["finished_at"] is None or browser["started_at"] is None:
            return None
        started, finished = (
            each if isinstance(each, datetime) else datetime.fromisoformat(each)
            for each in (browser["started_at"], browser["finished_at"])
        )
        return finished - started

    def check(self):
        """What holds at every moment."""
        for entry in self.ledger:
            sign = {"grant": 1, "refund": 1, "charge": -1}[entry["kind"]]
            assert entry["amount_micro_usd"] * sign > 0, entry
        assert {None, *self.browsers} >= set(self.of)
        assert all(entry["kind"] == "grant" for entry in self.of[None])
        for project, balance in self.balances.items():
            assert balance == sum(
                each["amount_micro_usd"] for each in self.ledger if each["project_id"] == project
            )
        for browser_id, browser in self.browsers.items():
            self.check_browser(browser, self.of[browser_id])

    def check_browser(self, browser, entries):
        amounts = [(entry["kind"], entry["amount_micro_usd"]) for entry in entries]
        charged = -sum(amount for kind, amount in amounts if kind == "charge")
        refunds = [amount for kind, amount in amounts if kind == "refund"]
        assert len(refunds) <= 1, "refunded twice"
        assert sum(refunds) <= charged, "more was given back than taken"
        assert (browser["charged_micro_usd"], browser["refunded_micro_usd"]) == (charged, sum(refunds))
        tariff = Tariff(Decimal(browser["usd_per_hour"]), browser["minimum_minutes"])
        if browser["started_at"] is None:
            assert not entries, "a charge without a browser"
        elif browser["state"] in {"starting", "active"}:
            assert not refunds, "refunded while it runs"
        else:
            taken = charged - sum(refunds)
            assert taken in {micro(cost(tariff, self.used(browser))), 0}
            assert taken or self.void(browser, tariff), "given back without a reason"
            hours = max(1, ceil(self.used(browser) / timedelta(hours=1)))
            free = tariff.usd_per_hour == 0
            assert len([kind for kind, _ in amounts if kind == "charge"]) <= hours
            assert charged == hours * micro(tariff.usd_per_hour) or free

    def void(self, browser, tariff):
        """Whether giving all of it back is right: it was free, or its client never learnt of it."""
        return tariff.usd_per_hour == 0 or browser["end_reason"] == EndReason.STOPPED_BY_CALLER


class Killed(BaseException):
    """The process ended here: no handler of the server's has a say."""


class MortalStore(Store):
    """The real store of a process that ends just before or just after a commit, and of a disk that fails."""

    fuse = None
    failures = 0

    def __init__(self, engine):
        super().__init__(engine)
        self.opened = []

    async def die(self):
        """Close what the tasks of a dead process had open, as the system does, in the middle of connecting too."""
        await self.close()
        for connection in self.opened:
            if self.one_writer:
                await connection.driver_connection.close()
            else:
                connection.driver_connection.terminate()

    @asynccontextmanager
    async def _write(self):
        self._before()
        async with super()._write() as session:
            yield session
        self._burn()

    async def _transact(self, work, **options):
        self._before()
        result = await super()._transact(work, **options)
        self._burn()
        return result

    def _before(self):
        self._burn()
        if self.failures:
            self.failures -= 1
            raise OperationalError("COMMIT", {}, Exception("disk full"))

    def _burn(self):
        if self.fuse is not None:
            if self.fuse == 0:
                raise Killed
            self.fuse -= 1

    @property
    def dead(self):
        return self.fuse == 0


def without_fsync(connection, _record):
    """No power is cut here, so nothing need wait for the disk."""
    connection.execute("PRAGMA synchronous=OFF").close()


def noted_in(opened):
    """Have every connection noted as soon as it is open, before a task that is cancelled can lose it."""

    def connect(dialect, _record, arguments, named):
        opened.append(dialect.connect(*arguments, **named))
        return opened[-1]

    return connect


async def never():
    await asyncio.Event().wait()


async def ends_with_its_server(_browser, _uptime):
    return False


async def open_rentals(url, folder, hosts, clock, wall, *, usd):
    """A server's inner half: the real store and what runs the browsers, over scripted machines."""
    store = await MortalStore.open(url)
    if store.one_writer:
        for engine in (store._engine.sync_engine, store._writer._engine):
            event.listen(engine, "connect", without_fsync)
        store._writer._set_durable = lambda *_: None  # as above
    event.listen(store._engine.sync_engine, "do_connect", noted_in(store.opened))
    await store._engine.dispose()
    await store.prepare({"tests": ["key"]}, credits=usd, now=wall())
    loaded = Settings.load(data_dir=folder, browser_build="shell", heartbeat_seconds=60)
    rentals = Rentals(
        store,
        hosts,
        loaded,
        forget_profile=never,
        discard_version=never,
        find_upload=never,
        pressure=Pressure(loaded, Border.of().connections),
        metrics=Metrics(),
        clock=clock,
        wall=wall,
    )
    await rentals.open()
    return store, rentals


def sqlite_in(folder):
    return f"sqlite+aiosqlite:///{folder / 'test.sqlite3'}"


class World(RuleBasedStateMachine):
    """One server after another on one database, driven through everything a browser and a server can meet."""

    def new_database(self):
        return sqlite_in(self.folder)

    @initialize(price=st.sampled_from(["0.05", "0.02", "0.033333", "0"]))
    def begin(self, price):
        self.folder = Path(tempfile.mkdtemp(prefix="cdpbridge-money-"))
        self.url = self.new_database()
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(lambda _loop, _context: None)  # tasks of a killed server nobody reads
        self.tariff = Tariff(Decimal(price))
        self.clock = ManualClock()
        self.wall = Wall(self.clock)
        self.keys = 0
        self.seen = {}
        self.run(self.start())

    def run(self, work):
        return self.loop.run_until_complete(work)

    async def start(self):
        self.hosts = ScriptedHosts()
        self.store, self.rentals = await open_rentals(
            self.url, self.folder, self.hosts, self.clock, self.wall, usd=Decimal(1)
        )
        self.project = await self.store.project_of("key")

    def drive(self, work):
        """Let the server do something; its death on the way is followed by a restart. What came of it, None then."""
        self.run(self._settled(work))
        if self.store.dead:
            self.run(self.die())
            self.run(self.start())

    async def _settled(self, work):
        task = asyncio.ensure_future(work)
        while not task.done():
            await asyncio.wait({task}, timeout=0.1)
            if self.store.dead:  # who is dead waits for no machine, and writes nothing any more
                self.hosts.may_stop.set()
        error = task.exception()
        if error is not None and not isinstance(error, Killed):
            raise error
        await self.rest()

    async def rest(self):
        """Until nothing is on its way but what the scripted machines hold up."""
        held = not self.hosts.may_stop.is_set()
        while True:
            rentals = self.rentals._rentals.values()
            busy = set(self.rentals._charges)
            busy |= {each.ending for each in rentals if each.ending is not None and not held}
            busy |= {
                each.start.task for each in rentals if each.start is not None and not self.hosts.starting
            }
            busy = {task for task in busy if not task.done()}
            if not busy:
                break
            await asyncio.wait(busy)
        while held and any(self._unbooked(each) for each in self.rentals._rentals.values()):
            await asyncio.sleep(0.001)
        for _ in range(5):
            await asyncio.sleep(0)

    def _unbooked(self, rental):
        """Whether an end that the machines hold up has yet to reach them: it is booked before."""
        return rental.ending is not None and not rental.ending.done() and rental.id in self.hosts.running

    async def die(self):
        """The process is gone: its tasks do not go on, its timers do not fire, its browsers leave by themselves."""
        self.store.fuse = 0
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for _ in range(50):
            if not others:
                break
            for task in others:
                task.cancel()
            self.hosts.may_start.set()
            self.hosts.may_stop.set()
            await asyncio.wait(others, timeout=0.1)
            others = {task for task in asyncio.all_tasks() if not task.done()} - {asyncio.current_task()}
        for rental in self.rentals._rentals.values():
            rental.cancel_timers()
        await self.store.die()

    def aged(self, which, seconds):
        """A browser that runs, after `seconds` more; rented if there is none."""
        if not self.hosts.running and self.hosts.may_start.is_set():
            self.drive(self._create(240))
        self.wait_for(seconds)
        return self.pick(which)

    def wait_for(self, seconds):
        async def advance():
            self.clock.advance(seconds)

        self.drive(advance())

    def pick(self, which):
        running = sorted(self.hosts.running, key=str)
        return running[which % len(running)] if running else None

    # --- what clients do ------------------------------------------------------------------------------------------

    async def _create(self, minutes, key=None, client_left=never):
        order = Order(timedelta(minutes=minutes), self.tariff, LIMIT)
        with suppress(AdmissionRefused, BrowserStartFailed, StartWithdrawn, ClientLeft):
            await self.rentals.create(self.project, order, client_left=client_left, key=key)

    @precondition(lambda self: self.hosts.may_start.is_set())
    @rule(minutes=st.sampled_from([1, 5, 60, 61, 120, 240]))
    def create(self, minutes):
        self.drive(self._create(minutes))

    @precondition(lambda self: self.hosts.may_start.is_set())
    @rule()
    def create_twice_with_one_key(self):
        self.keys += 1
        before = len(Books(self.url).browsers)

        async def twice():
            await asyncio.gather(*(self._create(60, key=str(self.keys)) for _ in range(2)))

        self.drive(twice())
        assert len(Books(self.url).browsers) <= before + 1

    @rule()
    def create_and_leave(self):
        left = asyncio.Event()

        async def leave():
            creating = asyncio.ensure_future(self._create(60, client_left=left.wait))
            for _ in range(3):
                await asyncio.sleep(0)
            left.set()
            self.hosts.may_start.set()
            await creating

        self.drive(leave())

    @rule()
    def create_that_fails(self):
        self.hosts.failure = BrowserStartFailed("no memory")
        self.drive(self._create(60))
        self.hosts.failure = None

    @rule(which=st.integers(0, 9), times=st.integers(1, 2), seconds=SECONDS)
    def stop(self, which, times, seconds):
        browser_id = self.aged(which, seconds)
        if browser_id is not None and self.hosts.may_stop.is_set():

            async def stops():
                await asyncio.gather(*(self.rentals.stop(self.project, browser_id) for _ in range(times)))

            self.drive(stops())

    # --- what happens to browsers and servers ---------------------------------------------------------------------

    @rule(seconds=SECONDS)
    def wait(self, seconds):
        self.wait_for(seconds)

    @rule(which=st.integers(0, 9), seconds=SECONDS)
    def exit(self, which, seconds):
        browser_id = self.aged(which, seconds)
        if browser_id is not None:

            async def crash():
                self.hosts.crash(browser_id)

            self.drive(crash())

    @rule(which=st.integers(0, 9), seconds=SECONDS)
    def stop_and_exit_at_the_deadline(self, which, seconds):
        """All ends at once."""
        browser_id = self.aged(which, seconds)
        if browser_id is not None and self.hosts.may_stop.is_set():

            async def race():
                stop = asyncio.ensure_future(self.rentals.stop(self.project, browser_id))
                await asyncio.sleep(0)
                self.clock.advance(4 * 3600.0)
                self.hosts.crash(browser_id)
                await stop

            self.drive(race())

    @rule()
    def beat(self):
        self.drive(self.rentals._heart.beat())

    @rule(hours=st.sampled_from([-1, 1]))
    def the_wall_clock_jumps(self, hours):
        self.wall.offset += timedelta(hours=hours)

    @precondition(lambda self: self.hosts.may_stop.is_set())
    @rule()
    def stops_hang(self):
        self.hosts.may_stop.clear()

    @precondition(lambda self: not self.hosts.may_stop.is_set())
    @rule()
    def stops_go_on(self):
        async def go_on():
            self.hosts.may_stop.set()

        self.drive(go_on())

    @rule(count=st.integers(1, 3), seconds=SECONDS)
    def the_disk_fails_at_an_end(self, count, seconds):
        browser_id = self.aged(0, seconds)
        if browser_id is not None and self.hosts.may_stop.is_set():
            self.store.failures = count
            self.drive(self.rentals.stop(self.project, browser_id))
            self.store.failures = 0
            if self.rentals._endings.unwritten:
                self.drive(self.rentals._endings.retry())

    @rule(after=st.integers(1, 6))
    def it_will_be_killed_before_or_after_a_commit(self, after):
        self.store.fuse = after

    @rule()
    def killed_at_once(self):
        self.run(self.die())
        self.run(self.start())
        self.check_after_restart()

    @precondition(lambda self: self.hosts.may_stop.is_set())
    @rule()
    def restart_in_order(self):
        self.store.fuse = None
        self.run(self.rentals.close())
        self.run(self.store.close())
        self.run(self.start())
        self.check_after_restart()

    def check_after_restart(self):
        books = Books(self.url)
        assert {browser["state"] for browser in books.browsers.values()} <= {"stopped"}
        assert self.run(self.store.account(self.project)).active == 0

    # --- what holds -----------------------------------------------------------------------------------------------

    @invariant()
    def the_books_are_right(self):
        if not hasattr(self, "url"):
            return
        books = Books(self.url)
        books.check()
        account = self.run(self.store.account(self.project))
        assert (
            micro(account.balance) + micro(Decimal(1)) == books.sum
        )  # the other project has its credits too
        slots = [each for each in books.browsers.values() if each["state"] in {"starting", "active"}]
        assert account.active == len(slots) <= LIMIT
        for browser_id, browser in books.browsers.items():  # what is over does not change any more
            if browser["state"] == "stopped":
                entries = [entry["id"] for entry in books.of[browser_id]]
                assert self.seen.setdefault(browser_id, entries) == entries

    def teardown(self):
        if not hasattr(self, "url"):
            return
        self.run(self.die())
        self.run(self.start())
        self.check_after_restart()
        Books(self.url).check()
        self.run(self.rentals.close())
        self.run(self.store.close())
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()
        self.drop_database()
        shutil.rmtree(self.folder)

    def drop_database(self):
        """It goes with its folder."""


class WorldOnPostgresql(World):
    """The same on the other database."""

    def new_database(self):
        return postgres.instance().new_database()

    def drop_database(self):
        postgres.instance().drop(self.url)


class TestFaultB03B04B05B07B08B09NothingBooksWrongly(World.TestCase):
    """No negative refund, none twice, no charge without a browser, and the balance is the sum."""

    settings = settings(max_examples=6, stateful_step_count=25)


@postgres.INSTALLED
class TestFaultB03B04B05B07B08B09NothingBooksWronglyOnPostgresql(WorldOnPostgresql.TestCase):
    """The same on PostgreSQL."""

    settings = settings(max_examples=2, stateful_step_count=25)


@postgres.INSTALLED
@pytest.mark.slow
@pytest.mark.timeout(3600)
class TestFaultB03B04B05B07B08B09NothingBooksWronglyOnPostgresqlAtLength(WorldOnPostgresql.TestCase):
    """The same, for as long as it takes to meet the rare ones."""

    settings = settings(max_examples=100, stateful_step_count=40)


@pytest.mark.slow
@pytest.mark.timeout(3600)
class TestFaultB03B04B05B07B08B09NothingBooksWronglyAtLength(World.TestCase):
    """The same, for as long as it takes to meet the rare ones."""

    settings = settings(max_examples=200, stateful_step_count=40)


@pytest.fixture
def url(database, tmp_path, request):
    return sqlite_in(tmp_path) if database == "sqlite" else request.getfixturevalue("new_postgresql")()


async def test_fault_b05_an_hour_charged_just_before_the_server_is_killed(tmp_path, url):
    """The second hour is booked, and no heartbeat comes after it: what was not used of it comes back all the same."""
    clock = ManualClock()
    store, rentals = await open_rentals(url, tmp_path, ScriptedHosts(), clock, Wall(clock), usd=Decimal(1))
    project = await store.project_of("key")
    browser = await rentals.create(project, Order(timedelta(hours=4), Tariff(), LIMIT), client_left=never)
    clock.advance(3601)
    async with asyncio.timeout(60):
        while len(Books(url).of[browser.id]) < 2:
            await asyncio.sleep(0.01)
    again = await MortalStore.open(url)
    recovery = Recovery(again, never, ends_with_its_server, timedelta, Wall(clock))
    await recovery.at_start(ScriptedHosts(), await again.other_servers())
    books = Books(url)
    books.check()
    assert sum(entry["amount_micro_usd"] for entry in books.of[browser.id]) == -micro(
        cost(Tariff(), timedelta(minutes=61))
    )
    await again.close()
    rentals._rentals.clear()
    rentals._hosts.running.clear()
    await rentals.close()
    await store.close()


# tests/test_billing.py has every minute of both prices; the books do the same with both.
@pytest.mark.parametrize("price", ["0.05", pytest.param("0.02", marks=pytest.mark.slow)])
async def test_fault_b04_minute_by_minute_over_four_hours(tmp_path, url, price):
    """The server's books, the client's receipt and the written formula agree to the last digit."""
    step = 1 if url.startswith("sqlite") else 15  # it is the same arithmetic
    minutes = range(0, 241, step)
    clock, rate, tariff = ManualClock(), Fraction(price), Tariff(Decimal(price))
    store, rentals = await open_rentals(url, tmp_path, ScriptedHosts(), clock, Wall(clock), usd=Decimal(100))
    project = await store.project_of("key")
    order = Order(timedelta(hours=4), tariff, limit=len(minutes))
    browsers = [await rentals.create(project, order, client_left=never) for _ in minutes]
    total = Decimal(0)
    for minute, browser in zip(minutes, browsers, strict=True):
        stopped = await rentals.stop(project, browser.id)  # the last one finds its time over
        billed = max(minute, 1)
        hours = -(-billed // 60)
        charged = micro_exact(rate * hours)
        refunded = micro_exact(rate * (60 * hours - billed) / 60)
        assert stopped.cost == charged - refunded
        used = stopped.finished_at - stopped.started_at
        receipt = Receipt.of(tariff, used, booked=stopped.cost)
        assert (receipt.billed_minutes, receipt.charged, receipt.refunded) == (billed, charged, refunded)
        assert (receipt.difference, used) == (0, timedelta(minutes=minute))
        total += stopped.cost
        clock.advance(step * MINUTE)
    assert (await store.account(project)).balance == 100 - total
    await rentals.close()
    await store.close()


def micro_exact(amount):
    """A fraction of a USD in whole millionths, half to even, worked out without `billing`."""
    scaled = amount * 1_000_000
    whole, rest = divmod(scaled.numerator, scaled.denominator)
    twice = 2 * rest
    if twice > scaled.denominator or (twice == scaled.denominator and whole % 2):
        whole += 1
    return (Decimal(whole) * MICRO).quantize(MICRO, rounding=ROUND_HALF_EVEN)


@pytest.mark.one_build("a rental is a process and its money, whichever the build")
@pytest.mark.chromium
@pytest.mark.slow  # one kill of a real server is in test_serve.py
async def test_fault_b05_b12_sigkill_of_the_server_at_random_points(spawn_server, wait_until):
    """Whatever it was doing: settled, refunded, slots free, profile whole, balance equal to the sum."""
    seed = random.randrange(10**6)
    chance = random.Random(seed)
    print(f"seed {seed}")
    kept = set()
    for trial in range(3):
        async with spawn_server(max_browsers=4) as server:
            if not trial:
                profile = await server.profile()
            file = server.data_dir / "cdpbridge.sqlite3"
            assert (await server.account())["activeSessionCount"] == 0
            check_settled(file, await server.account())
            if trial:
                known = await server.cookies_of_profile(profile)
                assert kept <= known, "the profile has lost what was saved"
            browser = await server.rent(profileId=profile)
            await server.set_cookies(browser, f"c{trial}")
            await server.stop(browser)
            kept.add(f"c{trial}")
            clients = [asyncio.ensure_future(rent_and_stop(server, chance, profile)) for _ in range(3)]
            await asyncio.wait(clients, timeout=chance.uniform(0, 1.5))
            server.process.send_signal(signal.SIGKILL)
            await asyncio.to_thread(server.process.wait)
            await asyncio.gather(*clients)
            await wait_until(lambda server=server: not server.processes())
    async with spawn_server(max_browsers=4) as server:
        account = await server.account()
        assert account["activeSessionCount"] == 0
        check_settled(file, account)
        assert not server.folders()
        assert kept <= await server.cookies_of_profile(profile)


async def rent_and_stop(server, chance, profile):
    """A client that goes on until the server is gone."""
    with suppress(httpx.TransportError):
        while True:
            body = {"profileId": profile} if chance.random() < 0.3 else {}
            answer = await server.http.post("/browsers", json=body)
            if answer.status_code == 201 and chance.random() < 0.8:
                await server.http.patch(f"/browsers/{answer.json()['id']}", json={"action": "stop"})
            await asyncio.sleep(0)


def check_settled(file, account):
    books = Books(f"sqlite+aiosqlite:///{file}")
    books.check()
    assert {browser["state"] for browser in books.browsers.values()} <= {"stopped"}
    assert books.sum == micro(Decimal(str(account["totalCreditsBalanceUsd"])))
