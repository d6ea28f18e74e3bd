"""Sessions: commands in both forms, handlers, children."""

import asyncio
import functools
import gc
import logging
import sys

import pytest

from cdpbridge.cdp._stream import WORKER_LIMIT
from cdpbridge.errors import (
    CDPError,
    CommandError,
    ConnectionClosed,
    DecodeError,
    EventsLost,
    MessageTooBig,
    TargetClosed,
    TargetCrashed,
)
from cdpbridge.protocol import Page, Runtime
from cdpbridge.testing import SILENT, Refusal

# --- commands ---------------------------------------------------------------------------------------------------------


async def test_typed_command(connection, scripted):
    scripted.on("Page.navigate", {"frameId": "F", "loaderId": "L", "future": 1})
    result = await connection.root.send(Page.navigate("https://example.com"))
    assert (result.frame_id, result.loader_id) == ("F", "L")
    assert scripted.commands[-1]["params"] == {"url": "https://example.com"}
    assert await connection.root.send(Page.enable()) is None


async def test_typed_reply_that_does_not_fit(connection, scripted):
    scripted.on("Page.navigate", {"frameId": 7})
    with pytest.raises(DecodeError, match="does not fit"):
        await connection.root.send(Page.navigate("https://example.com"))


async def test_a_large_reply_in_both_forms(memory):
    data = "日" * 100_000
    typed = asyncio.create_task(memory.root.send(Page.get_resource_content("F", "u")))
    plain = asyncio.create_task(memory.root.send("Page.getResourceContent"))
    await asyncio.sleep(0)
    for index in (0, 1):
        memory.reply(index, content=data, base64Encoded=False)
    assert (await typed).content == data
    assert await plain == {"content": data, "base64Encoded": False}


async def test_a_command_does_not_ask_the_system_for_its_process(memory):
    called = set()

    def note(_frame, kind, function):
        if kind == "c_call":
            called.add(function.__name__)

    for command in (Runtime.evaluate("1"), "Browser.getVersion"):
        call = memory.root.send(command)
        sys.setprofile(note)
        try:
            call.send(None)
        finally:
            sys.setprofile(None)
        call.close()
    assert "get_ident" in called
    assert not called & {"_get_running_loop", "get_running_loop", "getpid"}


async def test_string_command(connection, scripted):
    scripted.on("Test.echo", lambda client, command: command["params"])
    assert await connection.root.send("Test.echo", {"a": [1, None]}) == {"a": [1, None]}
    with pytest.raises(TypeError):
        await connection.root.send(Page.enable(), {"a": 1})


async def test_fault_a63_too_big_a_command_is_refused_locally(memory, monkeypatch):
    monkeypatch.setattr("cdpbridge.cdp._multiplexer.MAX_OUTGOING_BYTES", 1000)
    with pytest.raises(MessageTooBig):
        await memory.root.send("A.b", {"t": "x" * 1000})
    assert not memory.transport.sent


async def test_fault_a18_replies_out_of_order_over_a_real_socket(connection, scripted):
    gates = {n: asyncio.Event() for n in (1, 2, 3)}

    async def when_told(client, command):
        await gates[command["params"]["n"]].wait()
        return {"n": command["params"]["n"]}

    scripted.on("Test.gate", when_told)
    order = []

    async def call(n):
        reply = await connection.root.send("Test.gate", {"n": n})
        assert reply == {"n": n}
        order.append(n)
        gates.get(n - 1, asyncio.Event()).set()

    calls = [asyncio.ensure_future(call(n)) for n in (1, 2, 3)]
    await scripted.received("Test.gate", 3)
    gates[3].set()
    await asyncio.gather(*calls)
    assert order == [3, 2, 1]


# --- handlers ---------------------------------------------------------------------------------------------------------


async def test_plain_handler_is_called_in_place(memory):
    seen = []
    remove = memory.root.on("A.b", seen.append)
    memory.transport.event("A.b", {"n": 1})
    assert seen == [{"n": 1}]
    remove()
    remove()
    memory.transport.event("A.b", {"n": 2})
    assert seen == [{"n": 1}]


async def test_typed_handler(memory):
    seen = []
    memory.root.on(Page.LoadEventFired, seen.append)
    memory.transport.event("Page.loadEventFired", {"timestamp": 1.5})
    assert seen[0].timestamp == 1.5
    with pytest.raises(TypeError):
        memory.root.on(Page.LoadEventFired.__mro__[1], seen.append)


async def test_fault_a48_coroutine_handler_sends_commands(connection, scripted):
    answers = []
    done = asyncio.Event()

    async def handler(event):
        answers.append((event["n"], await connection.root.send("Test.command")))
        if len(answers) == 3:
            done.set()

    connection.root.on("A.b", handler)
    client = await scripted.client()
    for n in range(3):
        await client.event("A.b", {"n": n})
    await done.wait()
    assert answers == [(0, {}), (1, {}), (2, {})]


async def test_fault_a48_coroutine_handler_waits_for_a_later_event(connection, scripted):
    done = asyncio.Event()

    async def handler(_):
        async with connection.root.expect("C.d"):
            await connection.root.send("Test.command")
        done.set()

    connection.root.on("A.b", handler)
    client = await scripted.client()
    await client.event("A.b")
    await scripted.received("Test.command")
    await client.event("C.d")
    await done.wait()


async def test_fault_a49_failing_handlers_reach_the_hook(memory, turns):
    async def bad_task(_):
        raise LookupError("task")

    def bad(_):
        raise KeyError("plain")

    seen = []
    memory.root.on("A.b", bad)
    memory.root.on("A.b", bad_task)
    memory.root.on("A.b", seen.append)
    memory.transport.event("A.b")
    memory.transport.event("A.b")
    await turns()
    assert len(seen) == 2
    assert [type(error) for error, _, _ in memory.failures] == [KeyError, KeyError, LookupError, LookupError]
    assert {(session, method) for _, session, method in memory.failures} == {(memory.root, "A.b")}


async def test_fault_a49_default_is_a_log_with_traceback(connection, scripted, caplog):
    def bad(_):
        raise LookupError("look here")

    connection.root.on("A.b", bad)
    await (await scripted.client()).event("A.b")
    await connection.root.send("Test.command")
    [record] = [record for record in caplog.records if record.name == "cdpbridge"]
    assert record.levelno == logging.ERROR
    assert record.exc_info[0] is LookupError


async def test_undecodable_event_reaches_the_hook(memory):
    seen = []
    memory.root.on(Page.LoadEventFired, seen.append)
    memory.transport.event("Page.loadEventFired", {"timestamp": "never"})
    memory.transport.event("Page.loadEventFired", {"timestamp": 1})
    assert len(seen) == 1
    assert [type(failure[0]) for failure in memory.failures] == [DecodeError]


async def test_plain_handler_that_returns_a_coroutine_is_told(memory):
    async def work(_):
        pytest.fail("nobody awaits this")

    memory.root.on("A.b", lambda event: work({**event}))
    memory.transport.event("A.b")
    assert isinstance(memory.failures[0][0], TypeError)


async def test_every_kind_of_coroutine_function_is_known(memory, turns):
    seen = []

    class Handler:
        async def __call__(self, event):
            seen.append("object")

        async def method(self, event):
            seen.append("method")

    async def function(name, event):
        seen.append(name)

    memory.root.on("A.b", Handler())
    memory.root.on("A.b", Handler().method)
    memory.root.on("A.b", functools.partial(function, "partial"))
    memory.transport.event("A.b")
    await turns()
    assert sorted(seen) == ["method", "object", "partial"]


async def test_fault_a51_slow_handler_holds_up_nobody(memory, turns):
    gate = asyncio.Event()
    slow, quick = [], []

    async def handler(event):
        await gate.wait()
        slow.append(event["n"])

    memory.root.on("A.b", handler)
    memory.root.on("A.b", lambda event: quick.append(event["n"]))
    total = WORKER_LIMIT + 500
    memory.transport.event("A.b", {"n": -1})
    await turns()
    for n in range(total):
        memory.transport.event("A.b", {"n": n})
    assert len(quick) == total + 1
    call = asyncio.ensure_future(memory.root.send("A.c"))
    await turns()
    memory.reply()
    assert await call == {}
    assert [failure[0].count for failure in memory.failures] == [1]
    gate.set()
    async with asyncio.timeout(60):
        while len(slow) < WORKER_LIMIT + 1:
            await turns()
    await turns()
    assert slow == [-1, *range(WORKER_LIMIT)]
    assert all(isinstance(failure[0], EventsLost) for failure in memory.failures)
    assert sum(failure[0].count for failure in memory.failures) == 500
    memory.transport.event("A.b", {"n": 7})
    await turns()
    assert slow[-1] == 7


@pytest.mark.slow  # it collects garbage thousands of times
async def test_fault_a53_tasks_of_handlers_are_held(memory, turns):
    done = []

    async def handler(event):
        for _ in range(3):
            gc.collect()
            await asyncio.sleep(0)
        done.append(event["n"])

    for n in range(20):
        memory.root.on(f"A.b{n}", handler)
        memory.transport.event(f"A.b{n}", {"n": n})
    for _ in range(10):
        gc.collect()
        await turns(1)
    assert sorted(done) == list(range(20))


async def test_fault_a54_close_in_a_coroutine_handler(connection, scripted):
    returned = asyncio.Event()

    async def handler(_):
        await connection.close()
        returned.set()

    connection.root.on("A.b", handler)
    await (await scripted.client()).event("A.b")
    async with asyncio.timeout(60):
        await returned.wait()
    assert connection.closed


async def test_fault_a54_close_started_in_a_plain_handler(connection, scripted):
    tasks = []
    connection.root.on("A.b", lambda _: tasks.append(asyncio.ensure_future(connection.close())))
    client = await scripted.client()
    await client.event("A.b")
    await client.event("A.b")
    await connection.wait_closed()
    await asyncio.gather(*tasks)


async def test_removed_coroutine_handler_gets_no_more(memory, turns):
    seen = []
    gate = asyncio.Event()

    async def handler(event):
        seen.append(event["n"])
        await gate.wait()

    remove = memory.root.on("A.b", handler)
    for n in range(3):
        memory.transport.event("A.b", {"n": n})
    await turns()
    remove()
    gate.set()
    await turns()
    assert seen == [0]


async def test_handler_that_cancels_itself_is_reported(memory, turns):
    seen = []

    async def handler(event):
        seen.append(event["n"])
        raise asyncio.CancelledError

    memory.root.on("A.b", handler)
    memory.transport.event("A.b", {"n": 0})
    memory.transport.event("A.b", {"n": 1})
    await turns()
    assert seen == [0, 1]
    assert [type(failure[0]) for failure in memory.failures] == [asyncio.CancelledError] * 2


async def test_close_ends_running_handlers(memory, turns):
    cancelled = []

    async def handler(_):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    memory.root.on("A.b", handler)
    memory.transport.event("A.b")
    await turns()
    await memory.connection.close()
    assert cancelled == [True]
    assert not memory.failures


async def test_listening_on_what_is_gone(memory):
    page = memory.attach()
    memory.transport.event("Target.detachedFromTarget", {"sessionId": "S"})
    with pytest.raises(TargetClosed):
        page.on("A.b", print)
    await memory.connection.close()
    with pytest.raises(ConnectionClosed):
        memory.root.on("A.b", print)


# --- targets ----------------------------------------------------------------------------------------------------------


async def test_fault_a32_a33_pending_fails_when_the_target_closes(connection, scripted):
    tab = await connection.new_tab()
    scripted.on("Runtime.evaluate", SILENT)
    call = asyncio.ensure_future(tab.send("Runtime.evaluate"))
    await scripted.received("Runtime.evaluate")
    await connection.root.send("Target.closeTarget", {"targetId": tab.target_id})
    with pytest.raises(TargetClosed) as caught:
        await call
    assert caught.value.reason == tab.closed == "closed"
    with pytest.raises(TargetClosed):
        await tab.send("Runtime.evaluate")
    assert len([c for c in scripted.commands if c["method"] == "Runtime.evaluate"]) == 1
    assert "closed" in repr(tab)


async def test_fault_a35_crash_then_revival(memory, turns):
    page = memory.attach()
    call = asyncio.ensure_future(page.send("Runtime.evaluate"))
    await turns()
    memory.transport.event("Inspector.targetCrashed", {}, "S")
    with pytest.raises(TargetCrashed):
        await call
    with pytest.raises(TargetCrashed):
        await page.send("Runtime.evaluate")
    assert len(memory.transport.sent) == 1
    revival = asyncio.ensure_future(page.send("Page.reload"))
    await turns()
    memory.reply()
    await revival
    call = asyncio.ensure_future(page.send("Runtime.evaluate"))
    await turns()
    memory.reply()
    await call


async def test_fault_a29_failing_handler_of_a_paused_request_fails_it(memory, turns):
    page = memory.attach()

    async def bad_task(_):
        raise LookupError

    page.on("Fetch.requestPaused", bad_task)
    memory.transport.event("Fetch.requestPaused", {"requestId": "r1"}, "S")
    await turns()
    assert memory.transport.sent[-1]["method"] == "Fetch.failRequest"
    assert memory.transport.sent[-1]["params"] == {"requestId": "r1", "errorReason": "Failed"}
    memory.reply()
    await turns()
    assert page.hint() is None

    def bad(_):
        raise LookupError

    page.on("Fetch.requestPaused", bad)
    sent = len(memory.transport.sent)
    memory.transport.event("Fetch.requestPaused", {"requestId": "r2"}, "S")
    await turns()
    memory.transport.deliver(
        {"id": memory.transport.sent[-1]["id"], "error": {"code": -32602, "message": "m"}}
    )
    await turns()
    assert len(memory.transport.sent) == sent + 1


# --- children ---------------------------------------------------------------------------------------------------------


def answering(memory, refuse=()):
    """Answer every command at once, but refuse some."""

    def answer(command):
        if command["method"] in refuse:
            return {"id": command["id"], "error": {"code": refuse[command["method"]], "message": "no"}}
        return {"id": command["id"], "result": {}}

    memory.transport._answer = answer


def methods(memory, session_id):
    return [c["method"] for c in memory.transport.sent if c.get("sessionId") == session_id]


async def test_fault_a39_child_is_set_up_before_it_runs(memory, turns):
    answering(memory)
    page = memory.attach()

    async def setup(child):
        await child.send("Network.enable")

    await page.auto_attach(setup, filter=[{}])
    assert memory.transport.sent[-1]["params"] == {
        "autoAttach": True,
        "waitForDebuggerOnStart": True,
        "flatten": True,
        "filter": [{}],
    }
    memory.attach("F", kind="iframe", parent="S", waiting=True)
    await turns(10)
    assert methods(memory, "F") == [
        "Target.setAutoAttach",
        "Network.enable",
        "Runtime.runIfWaitingForDebugger",
    ]


async def test_fault_a40_child_is_released_whatever_happens(memory, turns):
    answering(memory, {"Target.setAutoAttach": -32601, "Runtime.runIfWaitingForDebugger": -32601})

    async def setup(child):
        raise LookupError(child.id)

    with pytest.raises(CommandError):
        await memory.root.auto_attach(setup)
    for kind in ("page", "worker", "browser_ui", "app"):
        memory.attach(kind, kind=kind, waiting=True)
    await turns(10)
    for kind in ("page", "worker", "browser_ui", "app"):
        assert methods(memory, kind) == ["Target.setAutoAttach", "Runtime.runIfWaitingForDebugger"]
    assert sorted(str(failure[0]) for failure in memory.failures) == ["app", "browser_ui", "page", "worker"]


async def test_fault_a40_refused_auto_attach_is_reported_and_releases(memory, turns):
    answering(memory)
    await memory.root.auto_attach()
    answering(memory, {"Target.setAutoAttach": -32000})
    memory.attach(waiting=True)
    await turns(10)
    assert methods(memory, "S")[-1] == "Runtime.runIfWaitingForDebugger"
    assert isinstance(memory.failures[0][0], CommandError)


async def test_child_that_does_not_wait_is_not_released(memory, turns):
    answering(memory)
    await memory.root.auto_attach(wait_for_debugger=False)
    memory.attach()
    await turns(10)
    assert methods(memory, "S") == ["Target.setAutoAttach"]


async def test_fault_a41_auto_attach_recurses(memory, turns):
    answering(memory)
    prepared = []

    async def setup(child):
        prepared.append(child.id)

    await memory.root.auto_attach(setup)
    memory.attach("P", waiting=True)
    memory.attach("F", kind="iframe", parent="P", waiting=True)
    memory.attach("W", kind="worker", parent="F", waiting=True)
    await turns(10)
    assert prepared == ["P", "F", "W"]
    assert memory.connection.sessions[-1].parent.id == "F"


async def test_child_that_leaves_while_it_is_prepared(memory, turns):
    answering(memory)
    await memory.root.auto_attach()
    memory.transport._answer = None
    memory.attach(waiting=True)
    await turns()
    memory.transport.event("Target.detachedFromTarget", {"sessionId": "S"})
    await turns()
    assert not memory.failures


async def test_auto_attach_waits_for_the_children_there_are(connection, scripted):
    ready = []

    async def set_auto_attach(client, command):
        if "sessionId" not in command:
            info = {"targetId": "T", "type": "page"}
            await client.event("Target.attachedToTarget", {"sessionId": "S", "targetInfo": info})
        return {}

    async def setup(child):
        await child.send("Network.enable")
        ready.append(child)

    scripted.on("Target.setAutoAttach", set_auto_attach)
    await connection.root.auto_attach(setup)
    assert [child.id for child in ready] == ["S"]


async def test_fault_a38_auto_attach_again_keeps_the_children(memory, turns):
    answering(memory)
    await memory.root.auto_attach()
    child = memory.attach()
    await turns(10)
    await memory.root.auto_attach()
    assert memory.root.children == [child]


async def test_refusal_keeps_its_data(connection, scripted):
    scripted.on("Page.navigate", Refusal(-32602, "Invalid parameters", "params.url"))
    with pytest.raises(CommandError, match=r"params\.url") as caught:
        await connection.root.send("Page.navigate")
    assert caught.value.data == "params.url"
    assert isinstance(caught.value, CDPError)


async def test_typed_evaluate(connection, scripted):
    scripted.on("Runtime.evaluate", {"result": {"type": "number", "value": 2}})
    answer = await connection.root.send(Runtime.evaluate("1+1"))
    assert answer.result.value == 2
