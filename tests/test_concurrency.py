"""Work that runs to its end, and sets of tasks."""

import asyncio
import gc
import inspect
import logging
import os
import signal
import threading

import pytest

from cdpbridge._concurrency import LoopThread, TaskSet, in_pool, in_thread, mark_retrieved, to_the_end


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


# --- sets of tasks ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threaded", [in_pool, in_thread])
def test_work_of_a_thread_at_the_end_of_the_loop(threaded):
    """Which cancels every task: one that stood for the thread was done then, and what the thread used was closed under it."""
    began, closed, found = threading.Event(), threading.Event(), []

    def work():
        began.set()
        found.append(closed.wait(0.2))

    async def use():
        try:
            await threaded(work)
        finally:
            closed.set()

    async def main():
        main.task = asyncio.create_task(use())
        while not began.is_set():
            await asyncio.sleep(0)

    asyncio.run(main())
    assert found == [False]


async def test_a_set_keeps_its_tasks_alive():
    tasks, done = TaskSet(), []

    async def work():
        await asyncio.sleep(0)
        gc.collect()
        await asyncio.sleep(0)
        done.append(True)

    tasks.start(work(), "the work")
    assert len(tasks) == 1
    assert await tasks.wait() == 0
    assert done == [True]
    assert len(tasks) == 0


async def test_a_failure_is_logged_with_its_cause(caplog):
    tasks = TaskSet(logging.getLogger("cdpbridge.tests"))

    async def work():
        raise KeyError("mine")

    task = tasks.start(work(), "the export of cookies")
    await tasks.wait()
    [record] = caplog.records
    assert record.getMessage() == "the export of cookies failed"
    assert record.name == "cdpbridge.tests"
    assert record.exc_info[1] is task.exception()


async def test_wait_includes_tasks_that_start_meanwhile():
    tasks, order = TaskSet(), []

    async def second():
        await asyncio.sleep(0)
        order.append("second")

    async def first():
        tasks.start(second(), "the second")
        order.append("first")

    tasks.start(first(), "the first")
    await tasks.wait(5)
    assert order == ["first", "second"]


async def test_wait_says_how_many_have_not_ended():
    tasks, may_end = TaskSet(), asyncio.Event()
    for _ in range(2):
        tasks.start(may_end.wait(), "a wait")
    assert await tasks.wait(0) == 2
    assert await tasks.wait(0.01) == 2
    may_end.set()
    assert await tasks.wait(5) == 0


async def test_cancel_ends_the_tasks_and_logs_nothing(caplog):
    tasks = TaskSet()
    task = tasks.start(asyncio.Event().wait(), "a wait")
    assert await tasks.cancel(5) == 0
    assert task.cancelled()
    assert not caplog.records
    assert await tasks.cancel(5) == 0


def test_a_set_may_have_a_loop_that_does_not_run_yet(caplog):
    done = []

    async def work():
        done.append(True)
        raise KeyError("mine")

    with asyncio.Runner() as runner:
        tasks = TaskSet(loop=runner.get_loop())
        tasks.start(work(), "the work")
        assert runner.run(tasks.wait()) == 0
    assert done == [True]
    assert "the work failed" in caplog.text


async def test_cancel_says_how_many_have_not_ended():
    tasks, may_end = TaskSet(), asyncio.Event()

    async def stubborn():
        try:
            await asyncio.Event().wait()
        finally:
            await may_end.wait()

    tasks.start(stubborn(), "a stubborn task")
    await asyncio.sleep(0)
    assert await tasks.cancel(0.01) == 1
    may_end.set()
    assert await tasks.wait(5) == 0


async def test_a_task_of_the_set_may_cancel_the_others():
    tasks, late = TaskSet(), []

    async def last():
        late.append(await tasks.cancel(5))

    other = tasks.start(asyncio.Event().wait(), "a wait")
    task = tasks.start(last(), "the end")
    await task
    assert late == [0]
    assert other.cancelled()


async def test_a_retrieved_exception_is_not_reported():
    reported = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: reported.append(context))
    for mark in (True, False):
        future = asyncio.get_running_loop().create_future()
        if mark:
            future.add_done_callback(mark_retrieved)
        future.set_exception(KeyError("mine"))
        await asyncio.sleep(0)
        del future
        gc.collect()
        assert len(reported) == (0 if mark else 1)
    cancelled = asyncio.get_running_loop().create_future()
    cancelled.add_done_callback(mark_retrieved)
    cancelled.cancel()
    await asyncio.sleep(0)
    assert len(reported) == 1


# --- a loop in a thread -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("handed_over", [True, False])
def test_an_interrupt_before_the_wait_cancels_the_work(handed_over, monkeypatch):
    """Ctrl-C right behind, or right before, the work is handed to the loop: it does not go on by itself."""
    with LoopThread() as thread:
        hand_over = thread._loop.call_soon_threadsafe

        def interrupted(*arguments):
            monkeypatch.undo()
            if handed_over:
                hand_over(*arguments)
            os.kill(os.getpid(), signal.SIGINT)

        monkeypatch.setattr(thread._loop, "call_soon_threadsafe", interrupted)
        work = asyncio.sleep(3600)
        with pytest.raises(KeyboardInterrupt):
            thread.run(work)
        assert inspect.getcoroutinestate(work) == inspect.CORO_CLOSED
