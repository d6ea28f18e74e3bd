"""What a worker decides by itself: slots, generations, lifetimes, and its end without servers; over scripted hosts."""

import asyncio
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from cdpbridge.server.gateway import Registry, Upstream
from cdpbridge.server.hosts import BrowserSpec
from cdpbridge.server.workers import LinkLimits, WorkerLimits
from cdpbridge.server.workers._browsers import WorkerBrowsers
from cdpbridge.server.workers._protocol import Adopt, LimitHosts, Running, Stop, Superseded, WorkerFull
from cdpbridge.testing import ManualClock
from tests.conftest import until

LIMITS = WorkerLimits(alone=timedelta(seconds=30), reports=timedelta(hours=1), grace=timedelta(seconds=5))


class Worker:
    """`WorkerBrowsers` over scripted hosts, with its clock and what it has told."""

    def __init__(self, hosts, slots):
        self.clock = ManualClock()
        self.hosts, self.registry = hosts, Registry()
        self.forgotten, self.events = [], []
        self.browsers = WorkerBrowsers(
            self,
            self.registry,
            slots,
            readable=(),
            uploads_of=lambda browser_id: Path("/uploads") / str(browser_id),
            limits=LIMITS,
            forget=self.forget,
            clock=self.clock.time,
        )

    def __getattr__(self, name):
        return getattr(self.hosts, name)

    async def start(self, spec, **calls):
        placement = await self.hosts.start(spec, **calls)
        self.registry.add(placement.token, Upstream("127.0.0.1", 1, "/devtools/browser/x"))
        return placement

    async def stop(self, browser_id, frame, *, save):
        return await self.hosts.stop(browser_id, frame, save=save)

    async def forget(self, browser_id, report):
        self.forgotten.append(browser_id)


@pytest.fixture
async def worker(scripted_hosts):
    worker = Worker(scripted_hosts(), slots=2)
    looking = asyncio.create_task(worker.browsers.look())
    with worker.browsers.telling(worker.events.append):
        yield worker
    looking.cancel()
    await asyncio.wait({looking})


def stop(spec, generation=0, *, save=False):
    return Stop(spec.id, generation, 1001, "stopped", save)


def test_a_worker_that_does_not_answer_is_dead_within_ten_seconds():
    """Each contact waits as long as it takes to the next one; the last one begins with the limit."""
    limits = LinkLimits()
    assert (limits.misses + 1) * limits.every < timedelta(seconds=10)
    assert limits.misses * limits.every < WorkerLimits().alone


async def test_every_slot_is_counted_that_is_not_free(worker):
    first, second, third = (BrowserSpec(uuid4()) for _ in range(3))
    await worker.browsers.start(first)
    worker.hosts.may_start.clear()
    starting = asyncio.create_task(worker.browsers.start(second))
    await until(lambda: worker.hosts.starting)
    with pytest.raises(WorkerFull, match="all 2 slots"):
        await worker.browsers.start(third)
    assert worker.browsers.running() == (Running(first.id, 0), Running(second.id, 0, starting=True))
    # A stop of what still starts withdraws the start.
    assert await worker.browsers.stop(stop(second)) is None
    with pytest.raises(asyncio.CancelledError):
        await starting
    worker.hosts.may_start.set()
    await worker.browsers.start(third)
    with pytest.raises(Superseded):
        await worker.browsers.start(first)
    worker.browsers.drain()
    await worker.browsers.stop(stop(first))
    with pytest.raises(WorkerFull):
        await worker.browsers.start(BrowserSpec(uuid4()))
    await worker.browsers.close()
    assert worker.browsers.running() == ()


async def test_the_newest_generation_only_is_obeyed(worker):
    spec = BrowserSpec(uuid4(), generation=1)
    assert (await worker.browsers.start(spec)).generation == 1
    assert worker.browsers.adopt(Adopt(spec.id, 3)).generation == 3
    for old in (stop(spec, 2), LimitHosts(spec.id, 1, None)):
        with pytest.raises(Superseded):
            await (worker.browsers.stop(old) if isinstance(old, Stop) else worker.browsers.limit_hosts(old))
    with pytest.raises(Superseded):
        worker.browsers.adopt(Adopt(spec.id, 2))
    report = await worker.browsers.stop(stop(spec, 3))
    with pytest.raises(Superseded):
        await worker.browsers.stop(stop(spec, 1))
    assert await worker.browsers.stop(stop(spec, 4)) is report
    assert worker.browsers.adopt(Adopt(spec.id, 4)) is None


async def test_a_report_is_given_until_it_is_taken(worker):
    spec = BrowserSpec(uuid4(), uuid4())
    await worker.browsers.start(spec)
    worker.hosts.may_stop.clear()
    stops = [asyncio.create_task(worker.browsers.stop(stop(spec, save=True))) for _ in range(2)]
    await asyncio.sleep(0)
    stops[0].cancel()  # its server has lost the connection
    worker.hosts.may_stop.set()
    report = await stops[1]
    assert len(worker.hosts.stopped) == 1
    assert worker.browsers.report(spec.id) is report
    assert [each.browser for each in worker.browsers.kept()] == [spec.id]
    await worker.browsers.taken(spec.id)
    assert worker.forgotten == [spec.id]
    assert await worker.browsers.stop(stop(spec)) is None
    await worker.browsers.taken(spec.id)
    assert worker.forgotten == [spec.id]


async def test_a_browser_ends_some_seconds_after_its_lifetime(worker):
    short = BrowserSpec(uuid4(), uuid4(), lifetime=timedelta(minutes=1))
    await worker.browsers.start(short)
    await worker.browsers.start(BrowserSpec(uuid4(), lifetime=timedelta(hours=1)))
    worker.clock.advance(64)
    worker.browsers.touched()
    worker.clock.advance(1)
    await until(lambda: worker.browsers.report(short.id))
    assert [(each.event, each.browser) for each in worker.events] == [("exit", short.id)]
    assert worker.browsers.report(short.id).saved is not None
    assert len(worker.browsers.running()) == 1
    worker.browsers.touched()
    await worker.browsers.close()


async def test_everything_ends_when_no_server_is_there_for_long(worker):
    specs = [BrowserSpec(uuid4()) for _ in range(2)]
    for spec in specs:
        await worker.browsers.start(spec)
    worker.clock.advance(29)
    worker.browsers.touched()
    worker.clock.advance(29)
    assert len(worker.browsers.running()) == 2
    worker.clock.advance(2)
    await until(lambda: not worker.browsers.running())
    assert {each.browser for each in worker.browsers.kept()} == {spec.id for spec in specs}
    worker.clock.advance(3601)
    await until(lambda: not worker.browsers.kept())
    assert sorted(worker.forgotten) == sorted(spec.id for spec in specs)


async def test_what_an_event_has_said_is_in_each_contact(worker):
    """A server may have missed the event: its connection was lost, or it did not know the browser yet."""
    spec = BrowserSpec(uuid4())
    await worker.browsers.start(spec)
    worker.hosts.crash(spec.id)
    assert [(each.event, each.browser) for each in worker.events] == [("exit", spec.id)]
    [found] = worker.browsers.running()
    assert found.exited
    assert worker.browsers.started(spec.id) is None
    assert worker.browsers.adopt(Adopt(spec.id, 1)) is None
    assert (await worker.browsers.stop(stop(spec, 1))).how == "closed"


async def test_a_failure_of_one_look_does_not_stop_the_next(worker):
    spec, late = BrowserSpec(uuid4()), BrowserSpec(uuid4(), lifetime=timedelta(hours=2))
    await worker.browsers.start(spec)
    await worker.browsers.stop(stop(spec))
    await worker.browsers.start(late)

    async def failing(_browser_id, _report):
        raise OSError("the disk fails")

    worker.browsers._forget = failing
    worker.clock.advance(3601)
    worker.browsers.touched()
    await until(lambda: not worker.browsers.kept())
    worker.clock.advance(3605)
    await until(lambda: worker.browsers.report(late.id))
