"""The shell: owner, deadlines, back-pressure, the end."""

import asyncio
import contextlib
import gc
import os
import threading
import weakref
from datetime import timedelta

import pytest

from cdpbridge.cdp import Connection, connect, connect_pipe
from cdpbridge.errors import (
    CDPError,
    CommandError,
    CommandTimeout,
    ConnectFailed,
    ConnectionClosed,
    TargetClosed,
)
from cdpbridge.testing import SILENT, ManualClock, MemoryTransport, Refusal, ScriptedBrowser

SECOND = timedelta(seconds=1)


# --- replies and deadlines --------------------------------------------------------------------------------------------


async def test_fault_a15_one_timer_serves_all_deadlines(memory, turns):
    calls = [asyncio.ensure_future(memory.root.send("A.b", timeout=SECOND * n)) for n in (3, 1, 2)]
    await turns()
    assert memory.clock.scheduled == 1
    memory.clock.advance(1.5)
    await turns()
    assert [call.done() for call in calls] == [False, True, False]
    assert memory.clock.scheduled == 1
    with pytest.raises(CommandTimeout, match=r"A\.b got no answer from browser within 1 s"):
        await calls[1]
    memory.clock.advance(10)
    await asyncio.wait(calls)
    assert [type(call.exception()) for call in calls] == [CommandTimeout] * 3
    assert memory.clock.scheduled == 0


async def test_fault_a15_swallowed_reply_over_a_real_socket(connection, scripted):
    scripted.on("Test.swallowed", SILENT)
    with pytest.raises(CommandTimeout):
        await connection.root.send("Test.swallowed", timeout=timedelta(milliseconds=50))
    assert await connection.root.send("Test.answered") == {}


async def test_default_deadline_is_the_connections(turns):
    clock = ManualClock()
    async with Connection(MemoryTransport(), command_timeout=5 * SECOND, clock=clock) as connection:
        call = asyncio.ensure_future(connection.root.send("A.b"))
        await turns()
        clock.advance(5)
        with pytest.raises(CommandTimeout):
            await call


async def test_idle_connection_has_no_timer(memory, turns):
    call = asyncio.ensure_future(memory.root.send("A.b"))
    await turns()
    memory.reply()
    await call
    memory.clock.advance(60)
    assert memory.clock.scheduled == 0


async def test_fault_a16_reply_after_the_caller_gave_up(memory, turns):
    call = asyncio.ensure_future(memory.root.send("A.b", timeout=SECOND))
    await turns()
    memory.clock.advance(1)
    with pytest.raises(CommandTimeout):
        await call
    memory.reply()
    assert memory.connection.stats.late_replies == 1


async def test_fault_a17_cancelled_calls_leave_nothing(memory, turns):
    calls = [asyncio.ensure_future(memory.root.send("A.b")) for _ in range(1000)]
    await turns()
    assert len(memory.connection._link._mux.pending) == 1000
    for call in calls:
        call.cancel()
    memory.reply(0)  # in the turn of the cancellation
    await asyncio.wait(calls)
    assert all(call.cancelled() for call in calls)
    assert not memory.connection._link._mux.pending


async def test_fault_a14_server_that_knows_no_target_domain(connection, scripted):
    scripted.on("Target.attachToTarget", Refusal(-32601, "'Target.attachToTarget' wasn't found"))
    with pytest.raises(CommandError) as caught:
        await connection.new_tab()
    assert (caught.value.code, caught.value.method) == (-32601, "Target.attachToTarget")
    assert (await scripted.received("Target.closeTarget"))["params"] == {"targetId": "TARGET1"}


async def test_fault_a16_a19_a20_a21_over_a_real_socket(connection, scripted, failures):
    async def misbehave(client, command):
        await client.send({"id": command["id"], "result": {"n": 1}})
        await client.send({"id": command["id"], "result": {"n": 2}})
        await client.send({"id": 4711, "result": {}})
        await client.send("this is not JSON")
        return SILENT

    scripted.on("Test.odd", misbehave)
    assert await connection.root.send("Test.odd") == {"n": 1}
    assert await connection.root.send("Test.even") == {}
    stats = connection.stats
    assert (stats.duplicate_replies, stats.unknown_ids, stats.protocol_violations) == (1, 1, 1)
    assert [(session, method) for _, session, method in failures] == [(None, "")]


async def test_unreadable_message_is_logged_by_default(scripted, caplog):
    async with connect(scripted.ws_url) as connection:
        await (await scripted.client()).send("this is not JSON, and has a secret")
        await connection.root.send("A.b")
    assert "not JSON" in caplog.text
    assert "secret" not in caplog.text


# --- sessions ---------------------------------------------------------------------------------------------------------


async def test_new_tab_is_attached(connection, scripted):
    tab = await connection.new_tab("https://example.com", browser_context_id="C")
    assert scripted.commands[0]["params"] == {"url": "https://example.com", "browserContextId": "C"}
    assert (tab.target_id, tab.target_type, tab.parent, tab.closed) == (
        "TARGET1",
        "page",
        connection.root,
        None,
    )
    assert connection.root.children == [tab]
    assert connection.sessions == [connection.root, tab]
    assert "page" in repr(tab)
    await tab.send("Page.enable")
    assert scripted.commands[-1]["sessionId"] == tab.id


async def test_attach_without_the_announcement(connection, scripted):
    scripted.on("Target.attachToTarget", {"sessionId": "S"})
    tab = await connection.attach("T")
    assert (tab.id, tab.target_id) == ("S", "T")


async def test_targets_are_typed(connection, scripted):
    info = {
        "targetId": "T",
        "type": "page",
        "title": "t",
        "url": "u",
        "attached": False,
        "canAccessOpener": False,
    }
    scripted.on("Target.getTargets", {"targetInfos": [info]})
    [target] = await connection.targets()
    assert (target.target_id, target.type, target.url) == ("T", "page", "u")


async def test_detach_is_ours(connection):
    tab = await connection.new_tab()
    await tab.detach()
    assert tab.closed == "detached"
    await tab.detach()
    with pytest.raises(TargetClosed) as caught:
        await tab.send("Page.enable")
    assert caught.value.reason == "detached"
    with pytest.raises(RuntimeError):
        await connection.root.detach()


async def test_detach_without_the_announcement(connection, scripted):
    tab = await connection.new_tab()
    scripted.on("Target.detachFromTarget", {})
    await tab.detach()
    assert tab.closed == "detached"


async def test_refused_detach_leaves_the_session(connection, scripted):
    tab = await connection.new_tab()
    scripted.on("Target.detachFromTarget", Refusal(-32000, "no"))
    with pytest.raises(CommandError):
        await tab.detach()
    assert tab.closed is None
    await tab.send("Page.enable")


# --- the end ----------------------------------------------------------------------------------------------------------


async def test_fault_a68_cut_with_commands_in_flight(connection, scripted):
    scripted.on("Test.pending", SILENT)
    calls = [asyncio.ensure_future(connection.root.send("Test.pending")) for _ in range(100)]
    await scripted.received("Test.pending", 100)
    (await scripted.client()).cut()
    async with asyncio.timeout(60):
        await asyncio.wait(calls)
    errors = [call.exception() for call in calls]
    assert all(isinstance(error, ConnectionClosed) and error.sent and error.code == 1006 for error in errors)
    assert not connection._link._mux.pending
    assert connection.closed
    with pytest.raises(ConnectionClosed) as caught:
        await connection.root.send("Test.pending")
    assert caught.value.sent is False
    await connection.wait_closed()
    assert connection.root.closed == "connection"


async def test_fault_a72_close_code_and_reason_are_kept(connection, scripted):
    scripted.on("Test.pending", SILENT)
    call = asyncio.ensure_future(connection.root.send("Test.pending"))
    await scripted.received("Test.pending")
    await (await scripted.client()).close(4001, "session expired")
    with pytest.raises(ConnectionClosed, match="4001 session expired") as caught:
        await call
    assert (caught.value.code, caught.value.reason) == (4001, "session expired")
    assert (connection.close_code, connection.close_reason) == (4001, "session expired")
    assert "4001" in repr(connection)


async def test_fault_a74_close_is_idempotent(scripted):
    scripted.on("Test.pending", SILENT)
    connection = await connect(scripted.ws_url)
    call = asyncio.ensure_future(connection.root.send("Test.pending"))
    await scripted.received("Test.pending")
    await asyncio.gather(connection.close(), connection.close())
    await connection.close()
    with pytest.raises(ConnectionClosed):
        await call
    assert connection.closed
    assert await scripted.clients[0].wait_closed() == (1000, "")


async def test_fault_a73_close_while_the_other_side_does_not_read(scripted, monkeypatch, turns, wait_until):
    monkeypatch.setattr("cdpbridge.cdp._link._CLOSE_TIMEOUT", 0.05)
    connection = await connect(scripted.ws_url)
    (await scripted.client()).stop_reading()
    big = {"data": "x" * 20_000_000}
    calls = [asyncio.ensure_future(connection.root.send("Test.big", big))]
    await wait_until(lambda: connection._link._paused is not None)
    calls.append(asyncio.ensure_future(connection.root.send("Test.small")))
    await turns()
    async with asyncio.timeout(60):
        await connection.close()
        await asyncio.wait(calls)
    errors = [call.exception() for call in calls]
    assert [type(error) for error in errors] == [ConnectionClosed] * 2
    assert errors[1].sent is False


async def test_commands_wait_while_the_other_side_does_not_read(memory, turns):
    memory.transport.pause()
    memory.transport.pause()
    call = asyncio.ensure_future(memory.root.send("A.b"))
    await turns()
    assert not memory.transport.sent
    memory.transport.resume()
    memory.transport.resume()
    await turns()
    assert len(memory.transport.sent) == 1
    memory.reply()
    await call
    memory.transport.pause()
    with pytest.raises(CommandTimeout, match="not sent"):
        await memory.root.send("A.b", timeout=timedelta(milliseconds=20))


async def test_cancelled_close_still_lets_go(scripted, turns, monkeypatch):
    connection = await connect(scripted.ws_url)
    monkeypatch.setattr(connection._link._transport, "close", lambda code: None)
    closing = asyncio.ensure_future(connection.close())
    await turns()
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert (await scripted.clients[0].wait_closed())[0] is None


async def test_disconnected_is_told_once(connection, scripted, turns, failures):
    calls = []

    async def in_a_task():
        calls.append("task")

    async def bad_task():
        raise LookupError

    def bad():
        raise KeyError

    connection.on("disconnected", lambda: calls.append("plain"))
    remove = connection.on("disconnected", lambda: calls.append("removed"))
    remove()
    connection.on("disconnected", in_a_task)
    connection.on("disconnected", bad_task)
    connection.on("disconnected", bad)
    with pytest.raises(ValueError, match="'reconnected'"):
        connection.on("connected", bad)
    (await scripted.client()).cut()
    await connection.wait_closed()
    await turns()
    await connection.close()
    assert sorted(calls) == ["plain", "task"]
    assert {type(error) for error, *_ in failures} == {LookupError, KeyError}


async def test_close_codes_of_our_own(connection):
    await connection.close()
    assert connection.close_code == 1000


async def test_closed_connection_is_collected(scripted, turns):
    connection = await connect(scripted.ws_url)
    await connection.new_tab()
    await connection.close()
    reference = weakref.ref(connection)
    del connection
    await turns()
    gc.collect()
    assert reference() is None


# --- the owner --------------------------------------------------------------------------------------------------------


async def test_fault_a78_another_thread(connection, scripted):
    errors = []

    def elsewhere():
        for act in (
            lambda: asyncio.run(connection.root.send("A.b")),
            lambda: asyncio.run(connection.close()),
            lambda: connection.root.on("A.b", print),
        ):
            try:
                act()
            except RuntimeError as error:
                errors.append(str(error))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    await asyncio.to_thread(thread.join)
    assert len(errors) == 3
    assert all("belongs to the event loop" in error for error in errors)
    assert not scripted.commands


async def test_fault_a78_another_loop(running_loop):
    async def leak():
        return Connection(MemoryTransport())

    def work():
        connection = asyncio.run(leak())
        with pytest.raises(RuntimeError, match="belongs to the event loop"):
            asyncio.run(connection.root.send("A.b"))

    await asyncio.to_thread(work)


async def test_fault_a78_fork(connection, scripted):
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:  # nothing of the test runner may run here
        text = "no error"
        try:
            connection.root.send("A.b").send(None)
        except BaseException as error:
            text = f"{type(error).__name__}: {error}"
        os.write(write, text.encode())
        os._exit(0)
    os.waitpid(pid, 0)
    os.close(write)
    with os.fdopen(read) as pipe:
        text = pipe.read()
    assert text.startswith(f"RuntimeError: this connection belongs to process {os.getpid()}")
    assert await connection.root.send("Test.mine") == {}
    assert [command["method"] for command in scripted.commands] == ["Test.mine"]


# --- the pipe ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def piped_browser():
    from_browser, browser_out = os.pipe()
    browser_in, to_browser = os.pipe()

    def browser():
        with os.fdopen(browser_in, "rb") as inn, os.fdopen(browser_out, "wb") as out:
            data = b""
            while chunk := inn.read1(65536):
                data += chunk
                while b"\0" in data:
                    _, _, data = data.partition(b"\0")
                    out.write(b'{"id":1,"result":{"ok":true}}\0')
                    out.flush()

    thread = threading.Thread(target=browser)
    thread.start()
    yield from_browser, to_browser
    thread.join()


async def over_the_pipe(read_fd, write_fd):
    async with connect_pipe(read_fd, write_fd) as connection:
        assert await connection.root.send("Browser.getVersion") == {"ok": True}
    assert connection.close_code == 1000


async def test_pipe_end_to_end(running_loop):
    with piped_browser() as descriptors:
        await over_the_pipe(*descriptors)


def test_uvloop_will_do_too():
    async def over_the_socket():
        async with ScriptedBrowser() as scripted:
            scripted.on("Test.big", {"t": "x" * 3_000_000})
            async with connect(scripted.http_url) as connection:
                tab = await connection.new_tab()
                assert len((await tab.send("Test.big"))["t"]) == 3_000_000
                await asyncio.gather(*(tab.send("Test.small") for _ in range(300)))
            with pytest.raises(ConnectFailed, match="refused"):
                await connect("127.0.0.1:9")

    uvloop = pytest.importorskip("uvloop")
    uvloop.run(over_the_socket())
    with piped_browser() as descriptors:
        uvloop.run(over_the_pipe(*descriptors))


async def test_pipe_over_what_is_none(tmp_path, running_loop):
    file = os.open(tmp_path / "file", os.O_CREAT | os.O_RDWR)
    other = os.dup(file)
    with pytest.raises(ValueError):
        await connect_pipe(file, other)
    for fd in (file, other):
        with pytest.raises(OSError):
            os.fstat(fd)


async def test_connecting_is_for_await_and_for_with(scripted):
    connection = await connect(scripted.http_url)
    async with connection:
        assert not connection.closed
    assert connection.closed
    with pytest.raises(ConnectFailed):
        async with connect("http://127.0.0.1:9"):
            pytest.fail("not reached")


async def test_hook_that_fails_is_logged(scripted, caplog):
    def hook(*_):
        raise LookupError("hook")

    async with connect(scripted.ws_url, on_handler_error=hook) as connection:
        await (await scripted.client()).send("no JSON")
        await connection.root.send("A.b")
    assert "on_handler_error failed" in caplog.text


async def test_a_block_is_entered_once(scripted):
    """Entered again, it would lose the first connection."""
    opening = connect(scripted.ws_url)
    assert repr(opening) == "<Connecting not entered>"
    async with opening as first:
        with pytest.raises(RuntimeError, match="opened already; call connect"):
            await opening.__aenter__()
        assert not first.closed
        assert repr(opening) == "<Connecting entered>"
    assert first.closed
    with pytest.raises(RuntimeError, match="opened already"):
        await opening.__aenter__()


async def test_two_tasks_do_not_enter_one_block(scripted):
    opening = connect(scripted.ws_url)
    first, second = await asyncio.gather(opening.__aenter__(), opening.__aenter__(), return_exceptions=True)
    assert isinstance(second, RuntimeError)
    await opening.__aexit__(None, None, None)
    assert first.closed


async def test_a_block_that_failed_may_be_entered_again(scripted):
    scripted.refusal = (503, "not yet")
    opening = connect(scripted.ws_url)
    with pytest.raises(ConnectFailed):
        await opening.__aenter__()
    scripted.refusal = None
    async with opening as connection:
        assert await connection.is_alive()


async def test_the_end_is_explained_by_the_owner(scripted):
    """`explain_end` sees each error that a call gets from the end, and its answer is raised."""
    seen = []

    def explain(error):
        seen.append(error.code)
        return CDPError(f"the rental is over ({error.code})")

    async with connect(scripted.ws_url, explain_end=explain) as connection:
        scripted.default = SILENT
        waiting = asyncio.ensure_future(connection.root.send("Runtime.evaluate"))
        await scripted.received("Runtime.evaluate")
        (await scripted.client()).cut()
        with pytest.raises(CDPError, match=r"the rental is over \(1006\)"):
            await waiting
        with pytest.raises(CDPError, match="the rental is over"):
            await connection.root.send("Runtime.evaluate")
        with pytest.raises(CDPError, match="the rental is over"):
            connection.root.on("Page.loadEventFired", print)
    assert seen == [1006, 1006, 1006]


async def test_an_explanation_that_fails_leaves_the_error(scripted, caplog):
    def explain(error):
        raise LookupError(error.code)

    async with connect(scripted.ws_url, explain_end=explain) as connection:
        scripted.default = SILENT
        waiting = [asyncio.ensure_future(connection.root.send("Runtime.evaluate")) for _ in range(2)]
        await scripted.received("Runtime.evaluate", 2)
        (await scripted.client()).cut()
        for each in waiting:
            with pytest.raises(ConnectionClosed):
                await each
    assert "explain_end failed" in caplog.text


async def test_tasks_end_with_the_connection(scripted):
    async with connect(scripted.ws_url) as connection:
        task = connection.create_task(asyncio.Event().wait())
    assert task.cancelled()


async def test_a_task_that_fails_is_logged(connection, turns, caplog):
    async def watch_prices():
        raise LookupError("mine")

    task = connection.create_task(watch_prices())
    await turns()
    [record] = caplog.records
    assert "watch_prices, a task of a connection, failed" in record.message
    assert record.exc_info[1] is task.exception()
