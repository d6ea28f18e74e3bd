"""Work that runs to its end."""

import asyncio

import pytest

from cdpbridge._concurrency import to_the_end


async def test_the_result():
    assert await to_the_end(asyncio.sleep(0, "done")) == "done"


async def test_an_error_of_the_work():
    async def work():
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await to_the_end(work())


@pytest.mark.parametrize("fails", [False, True])
async def test_cancelled_again_and_again(fails, caplog):
    may_end, ended = asyncio.Event(), []

    async def work():
        await may_end.wait()
        ended.append(True)
        if fails:
            raise KeyError("mine")

    task = asyncio.create_task(to_the_end(work()))
    for _ in range(3):
        await asyncio.sleep(0)
        task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == [True]
    assert [record.message for record in caplog.records] == (["'mine'"] if fails else [])


async def test_work_that_is_cancelled_itself():
    work = asyncio.create_task(asyncio.Event().wait())
    waiting = asyncio.create_task(to_the_end(work))
    await asyncio.sleep(0)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
