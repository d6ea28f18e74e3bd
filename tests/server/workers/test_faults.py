"""Workers that end, hang, are cut off, restarted, or spoken to by strangers: real worker programs, real browsers."""

import asyncio
import os
import signal
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import uuid4

import pytest

from cdpbridge.errors import BrowserStartFailed
from cdpbridge.server.gateway import Registry
from cdpbridge.server.hosts import BrowserSpec, CloseFrame, Leftover
from cdpbridge.server.objects import ObjectStorage
from cdpbridge.server.profiles import ProfileVersion
from cdpbridge.server.workers import LinkLimits, WorkerAddress
from cdpbridge.server.workers._auth import GREETING_BYTES, OPENING_HEAD_BYTES, hello_bytes, open_with
from cdpbridge.server.workers._dial import Dialler, host_and_port
from cdpbridge.server.workers._protocol import Hello, read_frame
from tests.conftest import until
from tests.server.workers.worker_programs import (
    SECRET,
    Calls,
    MemorySlots,
    WorkerProgram,
    answers,
    worker_hosts,
)

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.one_build("processes and connections of workers, whichever browser runs there"),
]

END = CloseFrame(1001, "stopped by the caller")
QUICK = LinkLimits(every=timedelta(seconds=0.8))


@pytest.fixture(scope="module")
def worker(tmp_path_factory):
    """A worker that outlives the tests which use it."""
    worker = WorkerProgram(tmp_path_factory.mktemp("worker"), "--alone", "600", browser_build="shell")
    yield worker
    worker.end()


@pytest.fixture
def start_worker(tmp_path):
    """Start workers of this test alone."""
    workers = []

    def start_worker(*arguments, name="worker", **settings):
        workers.append(WorkerProgram(tmp_path / name, *arguments, browser_build="shell", **settings))
        return workers[-1]

    yield start_worker
    for worker in workers:
        worker.end()


class Cable:
    """A way to a worker that can be cut: nothing passes, and nothing is refused, as with a cable."""

    def __init__(self, worker):
        self.target = host_and_port(worker.address)
        self.up = asyncio.Event()
        self.up.set()
        self.writers = []

    @asynccontextmanager
    async def laid(self):
        server = await asyncio.start_server(self._passed, "127.0.0.1", 0)
        try:
            yield "{}:{}".format(*server.sockets[0].getsockname())
        finally:
            server.close()
            for writer in self.writers:
                writer.transport.abort()

    def cut(self):
        self.up.clear()

    def mend(self):
        """The connections of before stay lost: both ends find out when they speak."""
        for writer in self.writers:
            writer.transport.abort()
        self.writers.clear()
        self.up.set()

    async def _passed(self, reader, writer):
        self.writers.append(writer)
        await self.up.wait()
        try:
            there, back = await asyncio.open_connection(*self.target)
        except OSError:
            writer.transport.abort()
            return
        self.writers.append(back)
        await asyncio.gather(self._copy(reader, back), self._copy(there, writer))

    async def _copy(self, reader, writer):
        try:
            while data := await reader.read(65536):
                await self.up.wait()
                writer.write(data)
        except OSError:
            pass
        writer.transport.abort()


@asynccontextmanager
async def cabled(worker, folder, limits=QUICK):
    """A server that reaches a worker over a cable."""
    cable = Cable(worker)
    async with cable.laid() as address:
        slots = MemorySlots(worker)
        slots.known = [WorkerAddress(worker.known.id, address, worker.slots)]
        async with worker_hosts(folder, slots, limits=limits) as hosts:
            yield cable, hosts


async def running(hosts, worker):
    """The browsers that a worker says it runs."""
    link = hosts._links.get(worker.known.id)
    if link is None:
        return None
    contact = await link.ask("contact")
    return {each["browser"] for each in contact["running"]}


async def kept(hosts, worker):
    link = hosts._links.get(worker.known.id)
    return None if link is None else {each["browser"] for each in (await link.ask("contact"))["kept"]}


async def test_the_browsers_of_a_killed_worker_end_once(start_worker, tmp_path):
    worker, calls = start_worker(), Calls()
    async with worker_hosts(tmp_path, MemorySlots(worker)) as hosts:
        specs = [BrowserSpec(uuid4()), BrowserSpec(uuid4())]
        for spec in specs:
            await calls.start(hosts, spec)
        worker.process.send_signal(signal.SIGKILL)
        await until(lambda: len(calls.exits) == 2)
        for spec in specs:
            report = await hosts.stop(spec.id, END, save=True)
            assert (report.how, report.saved) == ("exited", None)
        assert sorted(calls.exits) == sorted(spec.id for spec in specs)


async def test_a_worker_that_hung_ends_what_was_lost_with_it(start_worker, tmp_path):
    worker, calls, spec = start_worker(), Calls(), BrowserSpec(uuid4())
    async with worker_hosts(tmp_path, MemorySlots(worker), limits=QUICK) as hosts:
        await calls.start(hosts, spec)
        worker.process.send_signal(signal.SIGSTOP)
        await until(lambda: calls.exits)
        assert (await hosts.stop(spec.id, END, save=False)).how == "exited"
        worker.process.send_signal(signal.SIGCONT)

        async def nothing_left():
            return await running(hosts, worker) == set() and await kept(hosts, worker) == set()

        await until(nothing_left)
        # It takes browsers again.
        again = BrowserSpec(uuid4())
        await calls.start(hosts, again)
        assert (await hosts.stop(again.id, END, save=False)).how == "killed"
        assert calls.exits == [spec.id]


async def test_a_short_cut_ends_nothing(worker, tmp_path):
    calls, spec = Calls(), BrowserSpec(uuid4())
    async with cabled(worker, tmp_path, LinkLimits()) as (cable, hosts):
        await calls.start(hosts, spec)
        connection = await hosts.connection(spec.id)
        cable.cut()
        cable.mend()
        await until(lambda: connection.closed)
        again = await until(lambda: hosts.connection(spec.id))
        assert "Chrome" in (await again.root.send("Browser.getVersion"))["product"]
        assert calls.exits == []
        assert (await hosts.stop(spec.id, END, save=False)).how == "killed"


async def test_a_cut_worker_ends_its_browsers_and_a_late_profile_does_not_count(start_worker, tmp_path):
    worker, calls = start_worker("--alone", "4"), Calls()
    spec = BrowserSpec(uuid4(), uuid4())
    async with cabled(worker, tmp_path) as (cable, hosts):
        await calls.start(hosts, spec)
        cable.cut()
        await until(lambda: calls.exits)
        report = await hosts.stop(spec.id, END, save=True)
        assert (report.how, report.saved) == ("exited", None)
        archives = tmp_path / "worker" / "worker" / "transfers" / "profiles"
        await until(lambda: list(archives.glob("*/*.tar.zst")))
        cable.mend()
        # Its report is not wanted any more, nor is the version in it.
        await until(lambda: not list(archives.glob("*/*.tar.zst")))
        assert not (tmp_path / "profiles" / str(spec.profile_id)).exists()
        assert calls.exits == [spec.id]


async def test_another_server_takes_over_what_runs(worker, tmp_path):
    calls, later, spec = Calls(), Calls(), BrowserSpec(uuid4(), generation=1)
    slots, registry = MemorySlots(worker), Registry()
    async with (
        worker_hosts(tmp_path / "first", slots) as first,
        worker_hosts(tmp_path / "second", slots, registry=registry) as second,
    ):
        await calls.start(first, spec)
        # First it only leads to it.
        attached = await second.attach(spec.id)
        assert await answers(registry.find(attached.token).upstream) == "HTTP/1.1 200 OK\r\n"
        placement = await second.adopt(BrowserSpec(spec.id, generation=2), on_exit=later, on_limit=later.over)
        assert placement == attached
        # What the former server still asks for is refused.
        assert not await first.limit_hosts(spec.id, allowed=None)
        assert (await first.stop(spec.id, END, save=False)).how == "exited"
        assert str(spec.id) in await running(second, worker)
        assert (
            await first.adopt(BrowserSpec(spec.id, generation=1), on_exit=calls, on_limit=calls.over) is None
        )
        assert await second.release(spec.id)
        assert second.placement(spec.id) is None
        third = await first.adopt(BrowserSpec(spec.id, generation=3), on_exit=calls, on_limit=calls.over)
        assert third.worker == worker.known.id
        assert (await first.stop(spec.id, END, save=False)).how == "killed"
        assert (calls.exits, later.exits) == ([], [])


async def test_a_profile_of_a_server_that_was_killed_is_saved_by_the_next(start_worker, tmp_path):
    """Its worker has ended the browser meanwhile, and kept what it has left."""
    worker, spec = start_worker("--alone", "1"), BrowserSpec(uuid4(), uuid4())
    slots = MemorySlots(worker)
    async with worker_hosts(tmp_path, slots) as killed:
        await Calls().start(killed, spec)
        await killed._links.close()
    await until(lambda: list((tmp_path / "worker" / "worker" / "transfers").glob("profiles/*/*.zst")))
    async with worker_hosts(tmp_path, slots) as hosts:
        left = Leftover(spec.id, spec.profile_id, profile_writable=True)
        [saved] = (await hosts.recover([left])).values()
        assert (saved.version, saved.archive) == (1, None)
        assert await kept(hosts, worker) == set()
        after = BrowserSpec(uuid4(), spec.profile_id, profile_version=ProfileVersion(1))
        await Calls().start(hosts, after)


async def test_no_more_browsers_than_slots(worker, tmp_path):
    calls, slots = Calls(), MemorySlots(worker)
    slots.known = [WorkerAddress(worker.known.id, worker.address, 10)]
    async with worker_hosts(tmp_path, slots) as hosts:
        found = await asyncio.gather(
            *(calls.start(hosts, BrowserSpec(uuid4())) for _ in range(4)), return_exceptions=True
        )
        [refused] = [each for each in found if isinstance(each, BaseException)]
        assert isinstance(refused, BrowserStartFailed)
        assert "all 3 slots" in str(refused)
        assert len(slots.taken) == 3
        assert calls.exits == []


async def test_a_worker_that_is_restarted_at_once_is_another_one(start_worker, tmp_path):
    worker, calls, spec = start_worker(), Calls(), BrowserSpec(uuid4())
    async with worker_hosts(tmp_path, MemorySlots(worker), limits=QUICK) as hosts:
        await calls.start(hosts, spec)
        worker.process.send_signal(signal.SIGKILL)
        await asyncio.to_thread(worker.process.wait, 60)
        again = start_worker(listen=worker.address, name="again")
        assert (again.address, again.known.id == worker.known.id) == (worker.address, False)
        await until(lambda: calls.exits)
        assert (await hosts.stop(spec.id, END, save=False)).how == "exited"
        assert calls.exits == [spec.id]


async def test_one_without_the_secret_learns_nothing(worker, tmp_path):
    host, port = host_and_port(worker.address)
    reader, writer = await asyncio.open_connection(host, port)
    greeted = await reader.readexactly(GREETING_BYTES)
    assert greeted.startswith(b"CBW")
    writer.write(open_with(b"another secret of the same length", greeted, b"{}").data)
    async with asyncio.timeout(10):
        assert await reader.read() == b""
    writer.close()
    async with worker_hosts(tmp_path, MemorySlots(worker), secret="x" * 40, limits=QUICK) as hosts:
        with pytest.raises(BrowserStartFailed):
            await Calls().start(hosts, BrowserSpec(uuid4()))


@pytest.mark.parametrize(
    "sent",
    [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 10, os.urandom(4096), b"CBS\x01" + b"\xff" * 34],
    ids=["http", "random", "long hello"],
)
async def test_garbage_is_not_answered(worker, sent):
    host, port = host_and_port(worker.address)
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(sent)
    async with asyncio.timeout(20):
        try:
            answer = await reader.read()
        except ConnectionResetError:
            answer = b""
    assert len(answer) in {0, GREETING_BYTES}
    writer.close()
    assert hello_bytes(b"\0" * OPENING_HEAD_BYTES) is None


@pytest.mark.parametrize(
    "sent", [b"\xff\xff\xff\xff", b"\0\0\0\x02[]", b"\0\0\0\x01{", b'\0\0\0\x0a{"id":"a"}']
)
async def test_a_frame_that_is_none_ends_its_connection_only(worker, tmp_path, sent):
    dialler = Dialler(SECRET.encode())
    reader, writer = await dialler.streams(worker.known, Hello(worker.known.id, "control"))
    assert (await read_frame(reader))["slots"] == 3
    writer.write(sent)
    async with asyncio.timeout(10):
        assert await reader.read() == b""
    writer.close()
    async with worker_hosts(tmp_path, MemorySlots(worker)) as hosts:
        assert await running(hosts, worker) == set()


async def test_profiles_in_object_storage_are_kept_by_their_names(start_worker, tmp_path):
    """A worker that has a version from before is not sent it again; another one is."""
    storage = ObjectStorage((tmp_path / "storage").as_uri())
    workers = [start_worker(name=name) for name in ("one", "two")]
    calls, profile_id, version, given = Calls(), uuid4(), ProfileVersion(), []
    slots = MemorySlots(*workers)
    async with worker_hosts(tmp_path, slots, storage=storage) as hosts:
        give, take, breaks = hosts._exchange._give, hosts._exchange._take, [1, 2]

        async def breaking(*arguments):
            """The connection that brings the first version breaks twice."""
            if breaks:
                raise ConnectionResetError(breaks.pop())
            await take(*arguments)

        hosts._exchange._take = breaking
        hosts._exchange._give = lambda link, transfer, source: (
            given.append(link.worker.id),
            give(link, transfer, source),
        )[1]
        for worker, sent in ((workers[0], 0), (workers[0], 0), (workers[1], 1)):
            slots.known = [worker.known]
            spec = BrowserSpec(uuid4(), profile_id, profile_version=version)
            await calls.start(hosts, spec)
            saved = (await hosts.stop(spec.id, END, save=True)).saved
            assert saved.archive.startswith(f"profiles/{profile_id}/{saved.version:08}-{spec.id}-")
            assert storage.find(saved.archive) is not None
            version = ProfileVersion(saved.version, saved.archive)
            assert len(given) == sent
        assert given == [workers[1].known.id]
        assert (saved.version, breaks) == (3, [])
    assert calls.exits == []


async def test_a_worker_that_is_asked_to_end_saves_profiles_and_says_so(start_worker, tmp_path):
    worker, calls, spec = start_worker(), Calls(), BrowserSpec(uuid4(), uuid4())
    async with worker_hosts(tmp_path, MemorySlots(worker)) as hosts:
        await calls.start(hosts, spec)
        worker.process.send_signal(signal.SIGTERM)
        await until(lambda: calls.exits)
        report = await hosts.stop(spec.id, END, save=True)
        assert report.saved.version == 1
        assert await asyncio.to_thread(worker.process.wait, 60) == 0
