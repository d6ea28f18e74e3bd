"""`mapped`: each item once, in order or as they come, bounded, and over in every way out."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdpbridge._concurrency import TaskSet
from cdpbridge.pool._map import Reorder, mapped


@given(st.permutations(range(20)))
def test_reorder_gives_out_in_order(numbers):
    order = Reorder()
    assert [each for number in numbers for each in order.put(number, number)] == list(range(20))


class Work:
    """Work that ends when told, and counts."""

    def __init__(self):
        self.began = []
        self.most = self.running = 0
        self.gates = {}
        self.tasks = TaskSet()
        self.free = False

    async def __call__(self, item):
        self.began.append(item)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            if self.free:
                for _ in range(10):
                    await asyncio.sleep(0)
            else:
                await self.gates.setdefault(item, asyncio.Event()).wait()
            if isinstance(item, Exception):
                raise item
        finally:
            self.running -= 1
        return item

    async def until(self, count):
        """Wait until so many have begun."""
        async with asyncio.timeout(60):
            while len(self.began) < count:
                await asyncio.sleep(0)


@pytest.fixture
async def work():
    before = asyncio.all_tasks()
    yield Work()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() <= before | {asyncio.current_task()}


def start(work, items, *, concurrency=3, ordered=True, return_exceptions=False, done=None):
    done = [] if done is None else done
    work.done = done
    return mapped(
        work,
        items,
        concurrency=concurrency,
        ordered=ordered,
        return_exceptions=return_exceptions,
        finished=done.append,
        start=lambda workers: work.tasks.start(workers, "the map"),
    )


async def later(items):
    for item in items:
        await asyncio.sleep(0)
        yield item


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("source", [list, iter, later])
async def test_each_item_once(work, ordered, source):
    work.free = True
    found = [each async for each in start(work, source(range(50)), ordered=ordered)]
    assert sorted(found) == list(range(50))
    assert not ordered or found == list(range(50))
    assert work.most == 3
    assert work.done == list(range(1, 51))


async def test_results_as_they_come(work):
    results = start(work, [0, 1, 2], ordered=False)
    first = asyncio.ensure_future(anext(results))
    await work.until(3)
    work.gates[2].set()
    assert await first == 2
    await results.aclose()


async def test_results_in_order_wait_for_the_first(work):
    results = start(work, [0, 1, 2])
    first = asyncio.ensure_future(anext(results))
    await work.until(3)
    work.gates[2].set()
    for _ in range(20):
        await asyncio.sleep(0)
    assert not first.done()
    work.gates[0].set()
    assert await first == 0
    await results.aclose()


@pytest.mark.parametrize("ordered", [True, False])
async def test_no_more_than_twice_the_concurrency_ahead_of_the_reader(work, ordered):
    work.free = True
    results = start(work, iter(int, 1), ordered=ordered)
    for read in range(1, 10):
        await anext(results)
        for _ in range(50):
            await asyncio.sleep(0)
        assert len(work.began) <= 6 + read
    await results.aclose()


async def test_a_failure_ends_it_in_its_turn_with_a_note(work):
    work.free = True
    found = []
    with pytest.raises(KeyError) as caught:
        async for each in start(work, [0, 1, KeyError("x"), 3, 4]):
            found.append(each)
    assert found == [0, 1]
    assert caught.value.__notes__ == ["item 2 of the map, counted from 0"]


async def test_a_failure_among_the_results(work):
    work.free = True
    error = KeyError("x")
    assert [each async for each in start(work, [0, error, 2], return_exceptions=True)] == [0, error, 2]


@pytest.mark.parametrize("ordered", [True, False])
async def test_items_that_fail_end_it(work, ordered):
    work.free = True

    async def items():
        yield 0
        yield 1
        raise OSError("the list is gone")

    with pytest.raises(OSError, match="the list is gone"):
        async for _ in start(work, items(), ordered=ordered):
            pass


async def test_no_items(work):
    assert [each async for each in start(work, [])] == []


async def test_who_leaves_the_loop_ends_the_work(work):
    results = start(work, range(10), ordered=False)
    first = asyncio.ensure_future(anext(results))
    await work.until(3)
    work.gates[1].set()
    await first
    await results.aclose()
    assert work.running == 0


async def test_a_cancelled_reader_ends_the_work(work):
    async def read():
        async for _ in start(work, range(10)):
            pass

    reader = asyncio.ensure_future(read())
    await work.until(3)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert work.running == 0


async def test_ended_from_outside(work):
    results = start(work, range(10))
    first = asyncio.ensure_future(anext(results))
    await work.until(3)
    [everything] = work.tasks
    everything.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert work.running == 0
