"""Turns to start: fair over projects, and none is lost."""

import asyncio
from uuid import uuid4

import pytest

from cdpbridge.server.hosts import NoFreeSlot
from cdpbridge.server.hosts._turns import Turns

A, B, C = uuid4(), uuid4(), uuid4()


async def queue(turns, projects):
    """Tasks that wait for turns, in this order; each notes its project when it has one."""
    served = []

    async def wait(project):
        await turns.acquire(project)
        served.append(project)

    tasks = []
    for project in projects:
        tasks.append(asyncio.ensure_future(wait(project)))
        await asyncio.sleep(0)
    return tasks, served


async def test_projects_take_turns_and_within_one_who_came_first_is_first():
    turns = Turns(1)
    await turns.acquire(A)
    tasks, served = await queue(turns, [A, A, A, B, B, C])
    assert turns.waiting == 6
    for number in range(6):
        turns.release()
        await until_served(served, number + 1)
    assert served == [A, B, C, A, B, A]
    turns.release()
    assert not turns.locked
    await asyncio.gather(*tasks)


async def until_served(served, count):
    while len(served) < count:
        await asyncio.sleep(0)


async def test_who_waits_comes_before_one_that_comes_when_a_turn_is_free():
    turns = Turns(1)
    await turns.acquire(A)
    [waiting], served = await queue(turns, [A])
    turns.release()
    late = asyncio.ensure_future(turns.acquire(B))
    await asyncio.sleep(0)
    assert not late.done()
    await waiting
    turns.release()
    await late
    assert served == [A]


async def test_who_leaves_takes_no_turn_along_also_in_the_moment_in_which_it_is_given():
    turns = Turns(1)
    await turns.acquire(A)
    (left, given), _ = await queue(turns, [A, B])
    left.cancel()
    await asyncio.wait({left})
    turns.release()
    given.cancel()  # it has its turn, and has not run since
    await asyncio.wait({given})
    assert given.cancelled()
    assert not turns.locked
    await turns.acquire(C)


async def test_who_waits_too_long_is_told_when_to_come_back():
    turns = Turns(1)
    await turns.acquire(A)
    with pytest.raises(NoFreeSlot, match=r"waited 0\.01 s") as caught:
        await turns.acquire(A, seconds=0.01)
    assert caught.value.retry_after_seconds > 0
    assert turns.waiting == 0
    turns.release()
    assert not turns.locked
