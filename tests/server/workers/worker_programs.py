"""Worker programs of tests, and the books that know them, in memory."""

import asyncio
import signal
import subprocess
import sys
from contextlib import asynccontextmanager
from uuid import UUID

from cdpbridge.server.workers import LinkLimits, NoFreeSlot, WorkerAddress, WorkerHosts
from tests import programs
from tests.conftest import clean_environment

SECRET = "secret-of-the-workers-of-tests-0123456789"
SERVER = "http://127.0.0.1:9"  # discard: no server is there


class WorkerProgram:
    """`cdpbridge worker` as a process."""

    def __init__(
        self, data_dir, *arguments, server=SERVER, slots=3, listen="127.0.0.1:0", secret=SECRET, **settings
    ):
        environment = clean_environment(CDPBRIDGE_WORKER_SECRET=secret, CDPBRIDGE_WARM_BROWSERS="0")
        environment |= {f"CDPBRIDGE_{name.upper()}": str(value) for name, value in settings.items()}
        command = [sys.executable, "-m", "cdpbridge", "worker", "--server", server, "--slots", str(slots)]
        command += ["--listen", listen, "--data-dir", str(data_dir), *arguments]
        self.process = programs.Program(command, stdout=subprocess.PIPE, env=environment, text=True)
        line = self.process.stdout.readline()
        assert line.startswith("cdpbridge: worker "), line
        _, _, worker_id, _, address = line.split()
        self.slots, self.address = slots, address
        self.known = WorkerAddress(UUID(worker_id), address, slots, "worker_tls_certificate" in settings)

    def end(self, number=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(number)
        self.process.wait(60)
        self.process.stdout.close()


class MemorySlots:
    """`Slots` in memory."""

    def __init__(self, *workers):
        self.known = [worker.known for worker in workers]
        self.taken = {}
        self.problems = {}

    async def reserve(self, browser_id):
        for worker in self.known:
            if list(self.taken.values()).count(worker.id) < worker.slots:
                self.taken[browser_id] = worker.id
                return worker
        raise NoFreeSlot("no worker has a free slot")

    async def free(self, browser_id):
        self.taken.pop(browser_id, None)

    async def worker(self, worker_id):
        return next((each for each in self.known if each.id == worker_id), None)

    async def workers(self):
        return list(self.known)

    async def note(self, worker_id, problem):
        self.problems[worker_id] = problem


@asynccontextmanager
async def worker_hosts(folder, slots, *, registry=None, secret=SECRET, limits=None, storage=None, tls=None):
    """`WorkerHosts` of one server, in a block at whose end what it has started is ended."""
    from cdpbridge.server.files import FileStore
    from cdpbridge.server.gateway import Registry
    from cdpbridge.server.profiles import Archives, ProfileStore
    from cdpbridge.server.proxy import Rules

    profiles = ProfileStore(folder / "profiles", archives=None if storage is None else Archives(storage))
    files = FileStore(folder / "files")
    hosts = WorkerHosts(
        slots,
        secret.encode(),
        registry or Registry(),
        profiles=profiles,
        files=files,
        folder=folder / "transfers",
        rules=Rules,
        max_file_bytes=2**30,
        token_of=lambda browser_id: browser_id.hex,
        tls=tls,
        limits=limits or LinkLimits(),
    )
    hosts.files = files
    await hosts.open()
    try:
        yield hosts
    finally:
        await hosts.close()
        profiles.close()


class Calls:
    """What a host has called."""

    def __init__(self):
        self.exits, self.limits = [], []

    def __call__(self, browser_id):
        self.exits.append(browser_id)

    def over(self, browser_id, limit):
        self.limits.append((browser_id, limit))

    async def start(self, hosts, spec):
        return await hosts.start(spec, on_exit=self, on_limit=self.over)


async def answers(upstream, path="/json/version"):
    """The head of an answer of a browser's debugging port."""
    async with asyncio.timeout(30):
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        transport = await upstream.open(protocol)
        writer = asyncio.StreamWriter(transport, protocol, reader, asyncio.get_running_loop())
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: {upstream.authority}\r\n\r\n".encode())
            return (await reader.readline()).decode()
        finally:
            writer.close()
