"""Faults of part A that a scripted browser shows: those with no better place beside the tests of one module."""

import asyncio
import base64
import gc
import io
import logging
import os
import re
import subprocess
import sys
import tracemalloc

import pytest

from cdpbridge.cdp import connect
from cdpbridge.errors import CommandError, CommandTimeout, TargetClosed
from cdpbridge.testing import SILENT, Refusal

GONE = Refusal(-32001, "Session with given id not found.")


async def test_fault_a28_a29_hint_names_all_that_holds_a_target_up(memory, turns):
    """An open dialog and paused requests are both in the text of a timeout, and in no text after they were answered."""
    tab = memory.attach()
    for number in range(3):
        memory.transport.event("Fetch.requestPaused", {"requestId": f"R{number}"}, "S")
    memory.transport.event("Page.javascriptDialogOpening", {"type": "confirm"}, "S")
    waiting = asyncio.ensure_future(tab.send("Runtime.evaluate"))
    await turns()
    memory.clock.advance(31)
    with pytest.raises(CommandTimeout, match=r"confirm dialog is open.*3 requests are paused"):
        await waiting
    waiting = [
        asyncio.ensure_future(tab.send(method, {"requestId": f"R{number}"}))
        for number, method in enumerate(
            ("Fetch.continueRequest", "Fetch.fulfillRequest", "Fetch.failRequest")
        )
    ]
    memory.transport.event("Page.javascriptDialogClosed", {}, "S")
    await turns()
    assert tab.hint() is None
    memory.clock.advance(31)
    await asyncio.wait(waiting)
    assert all("paused" not in str(call.exception()) for call in waiting)


# --- targets ----------------------------------------------------------------------------------------------------------


async def test_fault_a47_target_announced_again_under_a_new_session(connection, scripted):
    """A relay that lost its sessions announces the target anew: the old session ends at its first use, the new one works."""
    old = await connection.new_tab()
    client = await scripted.client()
    scripted.on("Page.enable", lambda _, command: GONE if command["sessionId"] == old.id else {"new": True})
    scripted.on("Test.pending", SILENT)
    pending = asyncio.ensure_future(old.send("Test.pending"))
    await scripted.received("Test.pending")
    info = {"targetId": old.target_id, "type": "page", "title": "", "url": "", "attached": True}
    params = {"sessionId": "NEW", "targetInfo": info, "waitingForDebugger": False}
    async with connection.root.expect("Target.attachedToTarget"):
        await client.event("Target.attachedToTarget", params)
    new = connection.sessions[-1]
    assert (new.id, new.target_id, old.closed) == ("NEW", old.target_id, None)
    with pytest.raises(TargetClosed) as caught:
        await old.send("Page.enable")
    assert isinstance(caught.value.__cause__, CommandError)
    with pytest.raises(TargetClosed):
        await pending
    assert old.closed == "closed"
    sent = connection.stats.commands
    with pytest.raises(TargetClosed):
        await old.send("Page.enable")
    assert connection.stats.commands == sent
    assert await new.send("Page.enable") == {"new": True}


async def test_fault_a47_same_session_announced_twice(connection, scripted):
    tab = await connection.new_tab()
    client = await scripted.client()
    heard = []
    tab.on("A.b", heard.append)
    params = {"sessionId": tab.id, "targetInfo": {"targetId": tab.target_id, "type": "page"}}
    async with connection.root.expect("Target.attachedToTarget"):
        await client.event("Target.attachedToTarget", params)
    await client.event("A.b", {"n": 1}, tab.id)
    await tab.send("Page.enable")
    assert heard == [{"n": 1}]
    assert connection.sessions == [connection.root, tab]


# --- events and bytes -------------------------------------------------------------------------------------------------


def test_fault_a52_memory_is_flat_over_events_nobody_wants():
    async def flood():
        from cdpbridge.cdp import Connection
        from cdpbridge.testing import MemoryTransport

        connection = Connection(MemoryTransport())
        data = b'{"method":"Network.dataReceived","params":{"requestId":"1","data":"' + b"x" * 500 + b'"}}'
        received, end = connection._link.received, len(data)
        for _ in range(1000):
            received(data, 0, end)
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(200_000):
            received(data, 0, end)
        after, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert connection.stats.events_dropped == 201_000
        await connection.close()
        return after - before, peak - before

    grown, peak = asyncio.run(flood())
    assert grown < 10_000
    assert peak < 20_000


async def test_fault_a53_collector_takes_no_handler_that_runs(connection, scripted):
    """Also while nobody but the loop's timer or a future of the connection refers to it."""
    client = await scripted.client()
    done = []

    async def handler(event):
        await connection.root.send("Test.slow")
        gc.collect()
        done.append(event["n"])

    scripted.on("Test.slow", lambda *_: asyncio.sleep(0, {}))
    connection.root.on("A.b", handler)
    for number in range(10):
        await client.event("A.b", {"n": number})
    async with asyncio.timeout(60):
        while len(done) < 10:
            gc.collect()
            await connection.root.send("Test.more")
    assert done == list(range(10))


async def test_fault_a56_surrogates_survive_logs_and_come_back_out(connection, scripted, monkeypatch):
    """What was read is sent again as it was, and a failing handler of such an event is logged to what `sys.stderr` is like."""
    log = io.TextIOWrapper(io.BytesIO(), "utf-8", errors="backslashreplace")
    logger = logging.getLogger("cdpbridge")
    monkeypatch.setattr(logger, "handlers", [logging.StreamHandler(log)])
    monkeypatch.setattr(logger, "propagate", False)  # pytest's own report cannot carry it
    monkeypatch.setattr(logging, "raiseExceptions", False)
    client = await scripted.client()
    tab = await connection.new_tab()
    heard = []

    def handler(event):
        heard.append(event["t"])
        raise LookupError(event["t"])

    tab.on("A.b", handler)
    await client.event("A.b", {"t": "a\ud83cz"}, tab.id)
    scripted.on("Test.echo", lambda _, command: command["params"])
    echo = await tab.send("Test.echo", {"t": "a\ud83cz"})
    log.flush()
    written = log.buffer.getvalue().decode()
    assert "handling A.b" in written
    assert "LookupError: a\\ud83cz" in written
    assert [text.encode("utf-8", "replace") for text in (heard[0], echo["t"])] == [b"a?z"] * 2
    assert heard[0] == echo["t"] == "a\ud83cz"


async def test_fault_a59_unknown_things_are_passed_on(connection, scripted):
    client = await scripted.client()
    heard = []
    connection.root.on("Brand.newThing", heard.append)
    await client.send(
        '{"method":"Brand.newThing","params":{"kind":"unheard of","more":[1]},"extra":{"x":1},"sessionId":""}'
    )
    await connection.root.send("A.b")
    assert heard == [{"kind": "unheard of", "more": [1]}]


async def test_fault_a60_huge_integers_do_not_stop_the_reader(connection, scripted):
    client = await scripted.client()
    heard = []
    connection.root.on("A.b", heard.append)
    await client.send('{"method":"A.b","params":{"n":' + "9" * 5000 + ',"m":' + "1" * 400 + "}}")
    assert await connection.root.send("A.c") == {}
    assert heard == [{"n": float("inf"), "m": int("1" * 400)}]


async def test_fault_a64_only_text_frames_are_sent(scripted, monkeypatch):
    """Chromium cuts the socket at a binary frame: whatever is sent, also by the compressing path, is text."""
    from websockets.protocol import Protocol

    opcodes = []
    original = Protocol.recv_frame

    def recv_frame(self, frame):
        if self.side.name == "SERVER":
            opcodes.append(frame.opcode.name)
        original(self, frame)

    monkeypatch.setattr(Protocol, "recv_frame", recv_frame)
    for compression in (False, True):
        async with connect(scripted.ws_url, compression=compression) as connection:
            for data in ("x", "é", "\ud83c", "x" * 200, "x" * 70_000):
                await connection.root.send("Test.echo", {"t": data})
    assert opcodes == (["TEXT"] * 5 + ["CLOSE"]) * 2


async def test_fault_a65_order_around_large_messages(connection, scripted):
    """A large reply and large events keep their places among small ones, in the session and between sessions.

    They are decoded in the event loop, for a thread would not free it: msgspec and json hold the interpreter's lock for the
    whole of a decode. What is larger than a program can wait for comes as a stream: `read_stream`.
    """
    client = await scripted.client()
    tab = await connection.new_tab()
    big = base64.b64encode(bytes(9_000_000)).decode()
    order = []

    async def script(_, command):
        for number in range(3):
            await client.event("A.small", {"n": number}, tab.id)
            await client.event("A.big", {"n": number, "data": big}, tab.id)
        await client.send({"id": command["id"], "sessionId": tab.id, "result": {"data": big}})
        await client.event("A.small", {"n": "last"}, tab.id)
        return SILENT

    scripted.on("Test.big", script)
    tab.on("A.small", lambda event: order.append(("small", event["n"])))
    tab.on("A.big", lambda event: order.append(("big", event["n"])))
    async with tab.expect("A.small", lambda event: event["n"] == "last"):
        call = asyncio.ensure_future(tab.send("Test.big"))
        call.add_done_callback(lambda _: order.append("reply"))
    assert len((await call)["data"]) == len(big)
    kinds = [("small", 0), ("big", 0), ("small", 1), ("big", 1), ("small", 2), ("big", 2)]
    assert order[:6] == kinds
    assert set(order[6:]) == {"reply", ("small", "last")}


# --- the end ----------------------------------------------------------------------------------------------------------

PROGRAM = """
import asyncio, sys
import cdpbridge.cdp

async def main():
    connection = await cdpbridge.cdp.connect(sys.argv[1])
    tab = await connection.new_tab()
    async def handler(event):
        await tab.send("Test.silent")
    tab.on("A.b", handler)
    await tab.send("Test.event")
    call = asyncio.ensure_future(tab.send("Test.silent"))
    stream = tab.events("A.b")
    waiting = asyncio.ensure_future(anext(stream))
    await tab.send("Test.more")
    print("ready", flush=True)
    {inside}
    return connection, tab, call, waiting

{run}
"""
ENDS = {
    "returned": ("pass", "asyncio.run(main())", 0),
    "kept until exit": ("pass", "kept = asyncio.run(main())", 0),
    "loop closed": (
        "pass",
        "loop = asyncio.new_event_loop(); kept = loop.run_until_complete(main()); loop.close()",
        0,
    ),
    "loop dropped": ("pass", "loop = asyncio.new_event_loop(); loop.run_until_complete(main()); del loop", 0),
    "sys.exit": ("sys.exit(3)", "asyncio.run(main())", 3),
    "in a thread": (
        "pass",
        "import threading; t = threading.Thread(target=lambda: asyncio.run(main())); t.start(); t.join()",
        0,
    ),
}


@pytest.mark.parametrize("end", ENDS)
async def test_fault_a79_interpreter_exit_with_an_open_connection(scripted, end):
    """The program ends with its own status, soon, and without a storm: a loop that is dropped with running tasks is named
    by asyncio, one line each; nothing of ours raises."""
    inside, run, status = ENDS[end]

    async def event(client, command):
        await client.event("A.b", {}, command["sessionId"])
        return {}

    scripted.on("Test.event", event)
    scripted.on("Test.silent", SILENT)
    done = await asyncio.to_thread(
        subprocess.run,  # that the connection was never closed is a ResourceWarning, and rightly so
        [
            sys.executable,
            "-W",
            "ignore::ResourceWarning",
            "-c",
            PROGRAM.format(inside=inside, run=run),
            scripted.ws_url,
        ],
        env={name: value for name, value in os.environ.items() if name != "PYTHONDEVMODE"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.stdout == "ready\n", done.stderr
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    if not end.startswith("loop"):
        assert not done.stderr
    else:
        assert not re.sub(
            r"(?m)^(Task was destroyed but it is pending!|task: <Task .*)\n", "", done.stderr
        ), done.stderr
