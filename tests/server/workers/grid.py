"""Servers, workers, PostgreSQL and a client, each on a machine of its own whose cable can be cut: real programs, real browsers."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from contextlib import asynccontextmanager, contextmanager
from decimal import Decimal
from urllib.parse import urlsplit

from cdpbridge.cdp import connect
from cdpbridge.protocol import Runtime
from cdpbridge.server.hosts._processes import processes_using
from tests import machines, postgres, programs
from tests.conftest import clean_environment, until
from tests.folders import browsers_folder
from tests.server.conftest import KEY, ServerProcess
from tests.server.workers.worker_programs import SECRET

SERVER_PORT, WORKER_PORT = 8700, 8710
START_SECONDS = 200  # of a program that imports all of another version, on a machine that is busy
PROGRAM = machines.__file__.replace("machines.py", "on_machine.py")


class GridServer(ServerProcess):
    """A server of the grid."""

    def __init__(self, process, base_url, data_dir, machine):
        super().__init__(process, base_url, data_dir)
        self.machine = machine

    def address(self, browser):
        """Where this server leads to a browser that another one may have started."""
        found = urlsplit(browser["cdpUrl"])
        return found._replace(netloc=f"{self.machine.address}:{SERVER_PORT}").geturl()

    def freeze(self):
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self):
        self.process.send_signal(signal.SIGCONT)


class GridWorker:
    """A worker of the grid."""

    def __init__(self, process, worker_id, data_dir, machine):
        self.process, self.id, self.data_dir, self.machine = process, worker_id, data_dir, machine

    def processes(self):
        """Every process of its browsers, whether a server still knows them or not."""
        return processes_using(browsers_folder(self.data_dir / "worker"))

    def folders(self):
        """One for each of its browsers."""
        root = browsers_folder(self.data_dir / "worker")
        return sorted(root.iterdir()) if root.is_dir() else []

    def end(self, number=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(number)
        self.process.wait(60)
        self.process.stdout.close()


class Grid:
    """Machines of one test.

    Attributes:
        database: That of PostgreSQL.
        postgres: Its instance, of this grid alone.
    """

    def __init__(self, folder, network):
        self._folder, self._network = folder, network
        self._machines, self._programs, self._clients = {}, [], []
        self.database = network.machine()
        self.postgres = postgres.Postgres(machine=self.database)
        self._url = self.postgres.new_database()

    def machine(self, name):
        if name not in self._machines:
            self._machines[name] = self._network.machine()
        return self._machines[name]

    def rows(self, statement):
        return self.postgres.rows(self._url, statement)

    def _start(self, machine, module, *arguments, clock=0, package=None, **environment):
        environment = clean_environment(CDPBRIDGE_BROWSER_BUILD="shell", **environment)
        options = {"stdout": subprocess.PIPE, "text": True, "env": environment}
        if clock or package:  # a fork has this package, and its libraries
            words = machine.command(sys.executable, "-m", module, *arguments)
            if package:
                environment["PYTHONPATH"] = options["cwd"] = str(package)
            if clock:
                environment |= machines.wall_clock(clock)
            return subprocess.Popen(words, **options)
        return programs.Program([sys.executable, PROGRAM, machine.namespace, module, *arguments], **options)

    async def server(self, name, *, clock=0, package=None, environment=None, **settings):
        """Start a server, or start it again on its machine and with its folder.

        Args:
            clock: By how many seconds its wall clock is off.
            package: The folder of another version.
            environment: More than settings.
            settings: More of them; None leaves one out.
        """
        machine = self.machine(name)
        given = {
            "api_keys": KEY,
            "database_url": self._url,
            "secret_key": postgres.SECRET,
            "browsers": "workers",
            "worker_secret": SECRET,
            "storage_url": (self._folder / "objects").as_uri(),
        } | settings
        environment = (environment or {}) | {
            f"CDPBRIDGE_{each.upper()}": str(value) for each, value in given.items() if value is not None
        }
        where = [
            "--host",
            machine.address,
            "--port",
            str(SERVER_PORT),
            "--data-dir",
            str(self._folder / name),
        ]
        process = self._start(
            machine, "cdpbridge.server", *where, clock=clock, package=package, **environment
        )
        self._programs.append(process)
        line = await asyncio.wait_for(asyncio.to_thread(process.stdout.readline), START_SECONDS)
        assert line.startswith("cdpbridge: serving "), line
        server = GridServer(process, line.split()[-1], self._folder / name, machine)
        self._clients.append(server.http)
        return server

    async def worker(self, name, *servers, slots=3, options=(), package=None):
        """Start a worker, or start one again on its machine."""
        machine = self.machine(name)
        words = [
            word for server in servers for word in ("--server", str(server.http.base_url).split("/api/")[0])
        ]
        words += ["--slots", slots, "--listen", f"{machine.address}:{WORKER_PORT}", "--name", name]
        words += ["--data-dir", self._folder / name, *options]
        environment = {"CDPBRIDGE_WORKER_SECRET": SECRET, "CDPBRIDGE_WARM_BROWSERS": "0"}
        process = self._start(
            machine, "cdpbridge", "worker", *map(str, words), package=package, **environment
        )
        self._programs.append(process)
        line = await asyncio.wait_for(asyncio.to_thread(process.stdout.readline), START_SECONDS)
        assert line.startswith("cdpbridge: worker "), line
        worker = GridWorker(process, line.split()[2], self._folder / name, machine)
        await until(lambda: self.rows(f"SELECT 1 FROM workers WHERE id = '{worker.id}' AND beats > 0"))
        return worker

    @contextmanager
    def database_away(self, how):
        """Without PostgreSQL: its connections are `refused`, or hang as it is `frozen`, or its cable is `cut`."""
        go, come_back = {
            "refused": (self.postgres.stop, self.postgres.start),
            "frozen": (
                lambda: self.postgres.signal_all(signal.SIGSTOP),
                lambda: self.postgres.signal_all(signal.SIGCONT),
            ),
            "cut": (self.database.cut, self.database.mend),
        }[how]
        go()
        try:
            yield
        finally:
            come_back()

    async def at_rest(self):
        """Wait until no browser is between states: it counts as stopped for clients before its end is over."""
        between = "SELECT id FROM browsers WHERE state IN ('starting', 'stopping')"
        await until(lambda: not self.rows(between))

    def entries(self, browser):
        """Kinds of what was booked for a browser, in order."""
        where = f"WHERE browser_id = '{browser['id']}' ORDER BY id"
        return [row["kind"] for row in self.rows(f"SELECT kind FROM ledger {where}")]

    async def in_order(self):
        """The books agree with each other, nothing runs, and each browser was charged and refunded once."""
        await self.at_rest()
        assert self.rows("SELECT id, state FROM browsers WHERE state <> 'stopped'") == []
        counted = "SELECT name, running, starting FROM workers WHERE running <> 0 OR starting <> 0"
        assert self.rows(counted) == []
        [money] = self.rows(
            "SELECT (SELECT sum(balance_micro_usd) FROM projects) AS balance, (SELECT sum(amount_micro_usd) FROM ledger) AS sum,"
            " (SELECT sum(charged_micro_usd - refunded_micro_usd) FROM browsers) AS paid,"
            " (SELECT sum(amount_micro_usd) FROM ledger WHERE browser_id IS NOT NULL) AS booked"
        )
        assert money["balance"] == money["sum"], money
        assert (money["paid"] or 0) == -(money["booked"] or 0), money
        twice = "SELECT browser_id, kind FROM ledger WHERE browser_id IS NOT NULL GROUP BY browser_id, kind HAVING count(*) > 1"
        assert self.rows(twice) == []

    async def close(self):
        for client in self._clients:
            await client.aclose()
        await asyncio.to_thread(self._end)

    def _end(self):
        for machine in (*self._machines.values(), self.database):
            machine.mend()
        for process in reversed(self._programs):
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.send_signal(signal.SIGTERM)
        for process in self._programs:
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
            process.stdout.close()
        self.postgres.close()


@asynccontextmanager
async def grid_of(folder):
    """A grid; what this thread opens in the block is opened on the client's machine."""
    with machines.network() as network:
        grid = Grid(folder, network)
        try:
            with network.machine().entered():
                yield grid
        finally:
            await grid.close()


class Traffic:
    """A client that keeps asking a page, over one connection that is never re-established."""

    def __init__(self, address):
        self._address = address
        self.answers = 0

    async def __aenter__(self):
        self._connection = connect(self._address)
        connection = await self._connection.__aenter__()
        tab = await connection.new_tab()
        self._task = asyncio.create_task(self._ask(tab))
        return self

    async def _ask(self, tab):
        while True:
            answer = await tab.send(Runtime.evaluate(f"{self.answers} + 1"))
            self.answers = answer.result.value
            await asyncio.sleep(0.1)

    async def goes_on(self, more=5):
        """Wait for some more answers; what has ended the traffic is raised."""
        wanted = self.answers + more
        await until(lambda: self._task.done() or self.answers >= wanted)
        if self._task.done():
            self._task.result()

    async def __aexit__(self, *exc_info):
        self._task.cancel()
        await asyncio.wait([self._task])
        await self._connection.__aexit__(*exc_info)


async def rented(server, **body):
    """Rent as soon as the server can."""

    async def answer():
        found = await server.http.post("/browsers", json=body)
        return found.json() if found.status_code == 201 else None

    return await until(answer, timeout=90)


async def new_profile(server):
    """Make a profile, as a client does: again, after a 503."""

    async def answer():
        found = await server.http.post("/profiles", json={"name": "tests"})
        return found.json()["id"] if found.status_code == 201 else None

    return await until(answer, timeout=90)


async def stopped(server, browser):
    """Stop as a client does: again, after a 503."""

    async def answer():
        found = await server.http.patch(f"/browsers/{browser['id']}", json={"action": "stop"})
        return found.json() if found.status_code == 200 else None

    return await until(answer, timeout=90)


def paid(stopped):
    """What a browser has cost, in USD."""
    return Decimal(stopped["browserCost"])


def passing(seconds):
    """Go through the loop until so many seconds are over; each turn waits for what it asks for."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield
