"""Streams and expectations."""

import asyncio
import gc
from datetime import timedelta

import pytest

from cdpbridge.errors import CommandTimeout, ConnectionClosed, EventsLost, TargetClosed, TargetCrashed
from cdpbridge.protocol import Page


async def test_stream_in_a_block(memory):
    async with memory.root.events("A.b") as stream:
        for n in range(3):
            memory.transport.event("A.b", {"n": n})
        assert [(await anext(stream))["n"] for _ in range(3)] == [0, 1, 2]
    memory.transport.event("A.b", {"n": 4})
    with pytest.raises(StopAsyncIteration):
        await anext(stream)
    assert not memory.root._node.listeners


async def test_stream_of_several_kinds_keeps_the_order(memory):
    async with memory.root.events(Page.LoadEventFired, "A.b") as stream:
        memory.transport.event("A.b", {"n": 1})
        memory.transport.event("Page.loadEventFired", {"timestamp": 2})
        memory.transport.event("A.b", {"n": 3})
        assert await anext(stream) == {"n": 1}
        assert (await anext(stream)).timestamp == 2
        assert await anext(stream) == {"n": 3}


async def test_stream_without_a_block_is_forgotten_with_its_loop(memory, turns):
    async def read():
        async for event in memory.root.events("A.b"):
            return event

    task = asyncio.ensure_future(read())
    await turns()
    memory.transport.event("A.b", {"n": 1})
    assert await task == {"n": 1}
    gc.collect()
    assert not memory.root._node.listeners


async def test_slow_reader_learns_of_the_gap_where_it_is(memory):
    async with memory.root.events("A.b", limit=3) as stream:
        for n in range(5):
            memory.transport.event("A.b", {"n": n})
        seen = [(await anext(stream))["n"]]
        memory.transport.event("A.b", {"n": 5})  # room again, but the gap comes first
        seen += [(await anext(stream))["n"] for _ in range(2)]
        assert seen == [0, 1, 2]
        with pytest.raises(EventsLost) as caught:
            await anext(stream)
        assert caught.value.count == 3
        memory.transport.event("A.b", {"n": 6})
        assert await anext(stream) == {"n": 6}


async def test_stream_ends_with_its_target(memory):
    page = memory.attach()
    async with page.events("A.b", "C.d") as stream:
        memory.transport.event("A.b", {"n": 1}, "S")
        memory.transport.event("Target.detachedFromTarget", {"sessionId": "S"})
        assert await anext(stream) == {"n": 1}
        with pytest.raises(TargetClosed):
            await anext(stream)


async def test_waiting_stream_ends_with_the_connection(memory, turns):
    async def read():
        async for _ in memory.root.events("A.b"):
            pytest.fail("there is none")

    task = asyncio.ensure_future(read())
    await turns()
    memory.transport.lose(1006, "cut")
    with pytest.raises(ConnectionClosed):
        await task


async def test_stream_closed_from_elsewhere(memory, turns):
    stream = memory.root.events("A.b")

    async def read():
        return [event async for event in stream]

    task = asyncio.ensure_future(read())
    await turns()
    memory.transport.event("A.b", {"n": 1})
    stream.close()
    assert await task == [{"n": 1}]


async def test_stream_misused(memory, turns):
    with pytest.raises(TypeError):
        memory.root.events()
    with pytest.raises(ValueError):
        memory.root.events("A.b", limit=0)
    async with memory.root.events("A.b") as stream:
        first = asyncio.ensure_future(anext(stream))
        await turns()
        with pytest.raises(RuntimeError, match="two tasks"):
            await anext(stream)
        memory.transport.event("A.b")
        await first


async def test_expect_listens_before_the_block(memory):
    async with memory.root.expect(Page.LoadEventFired) as waiter:
        with pytest.raises(RuntimeError):
            _ = waiter.event
        memory.transport.event("Page.loadEventFired", {"timestamp": 1})
        memory.transport.event("Page.loadEventFired", {"timestamp": 2})
    assert waiter.event.timestamp == 1
    assert not memory.root._node.listeners


async def test_expect_with_a_predicate(memory):
    async with memory.root.expect("A.b", lambda event: event["n"] > 1) as waiter:
        for n in range(4):
            memory.transport.event("A.b", {"n": n})
    assert waiter.event == {"n": 2}


async def test_expect_with_a_failing_predicate(memory):
    with pytest.raises(KeyError):
        async with memory.root.expect("A.b", lambda event: event["missing"]):
            memory.transport.event("A.b", {})
    with pytest.raises(LookupError):  # the block's error is the one to show
        async with memory.root.expect("A.b", lambda event: event["missing"]):
            memory.transport.event("A.b", {})
            raise LookupError


async def test_expect_that_is_not_fulfilled(memory):
    page = memory.attach()
    memory.transport.event("Page.javascriptDialogOpening", {"type": "alert"}, "S")
    with pytest.raises(CommandTimeout, match=r"A\.b .* alert dialog") as caught:
        async with page.expect("A.b", timeout=timedelta(milliseconds=20)):
            pass
    assert caught.value.method == "A.b"
    assert not page._node.listeners


async def test_expect_does_not_wait_after_an_error(memory):
    with pytest.raises(LookupError):
        async with memory.root.expect("A.b"):
            raise LookupError
    assert not memory.root._node.listeners


async def test_expect_cancelled(memory, turns):
    async def wait():
        async with memory.root.expect("A.b"):
            pass

    task = asyncio.ensure_future(wait())
    await turns()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not memory.root._node.listeners


async def test_fault_a55_expect_when_the_connection_dies(connection, scripted):
    with pytest.raises(ConnectionClosed) as caught:
        async with asyncio.timeout(60), connection.root.expect("A.b"):
            (await scripted.client()).cut()
    assert caught.value.code == 1006


@pytest.mark.parametrize(
    ("method", "params", "session_id", "error"),
    [
        ("Target.detachedFromTarget", {"sessionId": "S"}, "", TargetClosed),
        ("Inspector.targetCrashed", {}, "S", TargetCrashed),
    ],
)
async def test_expect_when_the_target_dies(memory, method, params, session_id, error):
    page = memory.attach()
    with pytest.raises(error):
        async with page.expect("A.b"):
            memory.transport.event(method, params, session_id)


async def test_expect_the_crash_itself(memory):
    page = memory.attach()
    async with page.expect("Inspector.targetCrashed") as waiter:
        memory.transport.event("Inspector.targetCrashed", {}, "S")
    assert waiter.event == {}


async def test_expect_armed_after_a_crash(memory):
    page = memory.attach()
    memory.transport.event("Inspector.targetCrashed", {}, "S")
    async with page.expect("A.b") as waiter:
        memory.transport.event("Inspector.targetReloadedAfterCrash", {}, "S")
        memory.transport.event("A.b", {"n": 1}, "S")
    assert waiter.event == {"n": 1}


async def test_an_expect_block_is_entered_once_at_a_time(memory, turns):
    """Entered twice, it would lose its first subscription."""
    block = memory.root.expect("Page.loadEventFired", timeout=1)
    for number in range(2):
        async with block as expected:
            with pytest.raises(RuntimeError, match="entered already"):
                await block.__aenter__()
            memory.transport.event("Page.loadEventFired", {"n": number})
        assert expected.event == {"n": number}
        assert not memory.root._node.listeners
