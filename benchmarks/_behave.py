"""One behaviour of one Python client, in a process of its own: `_behave.py ADAPTER VARIANT SCENARIO URL`.

Prints `{"fine": bool, "verdict": words}`. The scenarios are those of `behaviour.py`; `_behave.mjs` has them for Node.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import os
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

PATIENCE = 3.0  # seconds after which something hangs

# Two events that every client knows, with what belongs into them: some have a class for each.
FIRST, SECOND = "Page.loadEventFired", "Page.domContentEventFired"
FIRED = {"timestamp": 1.0}

Verdict = tuple[bool, str]


async def ends(work: Awaitable[Any], seconds: float = PATIENCE) -> tuple[str, Any]:
    """`("result", value)`, `("error", exception)` or `("hangs", None)`."""
    task = asyncio.ensure_future(work)
    await asyncio.wait([task], timeout=seconds)
    if not task.done():
        task.add_done_callback(lambda task: task.cancelled() or task.exception())
        return "hangs", None
    if task.cancelled():
        return "error", asyncio.CancelledError()
    error = task.exception()
    return ("result", task.result()) if error is None else ("error", error)


async def goes_on(session: Any) -> str:
    """What a command gets now: nothing to say when it is answered."""
    how, value = await ends(session.send("Runtime.evaluate", {"expression": "1+1"}))
    if how == "result":
        return ""
    return "later commands HANG" if how == "hangs" else f"later commands fail: {type(value).__name__}"


def emit(session: Any, *events: tuple[str, dict[str, Any]]) -> Awaitable[Any]:
    return session.send("Fake.emit", {"events": events})


async def after(session: Any, done: asyncio.Event, act: Awaitable[Any]) -> Verdict:
    """Do something, wait for `done`, and see whether the connection lives."""
    acting = asyncio.ensure_future(ends(act))
    how, _ = await ends(done.wait())
    await acting
    later = await goes_on(session)
    if how == "hangs":
        return False, "DEADLOCK" + (", whole connection" if later else "")
    return not later, later or "ok"


async def command_in_handler(client: Any, session: Any) -> Verdict:
    done = asyncio.Event()

    async def handler(_event: Any) -> None:
        await session.send("Runtime.evaluate", {"expression": "1+1"})
        done.set()

    client.on(session, FIRST, handler)
    return await after(session, done, emit(session, (FIRST, FIRED)))


async def handler_waits_for_event(client: Any, session: Any) -> Verdict:
    done, second = asyncio.Event(), asyncio.Event()

    async def handler(_event: Any) -> None:
        await second.wait()
        done.set()

    client.on(session, FIRST, handler)
    client.on(session, SECOND, lambda _event: second.set())
    return await after(session, done, emit(session, (FIRST, FIRED), (SECOND, FIRED)))


async def slow_handlers(client: Any, session: Any) -> Verdict:
    async def handler(_event: Any) -> None:
        await asyncio.sleep(0.01)

    client.on(session, FIRST, handler)
    emitting = asyncio.ensure_future(ends(emit(session, *[(FIRST, FIRED)] * 300), 10))
    await asyncio.sleep(0.05)
    start = time.perf_counter()
    how, _ = await ends(session.send("Runtime.evaluate", {"expression": "1+1"}), 10)
    waited = (time.perf_counter() - start) * 1e3
    await emitting
    return how == "result" and waited < 300, f"{waited:.0f} ms" if how == "result" else how


async def not_json(_client: Any, session: Any) -> Verdict:
    await ends(session.send("Fake.raw", {"text": "<html>bad gateway</html>"}))
    later = await goes_on(session)
    return not later, later or "ok"


async def unknown_id(_client: Any, session: Any) -> Verdict:
    await ends(session.send("Fake.raw", {"text": '{"id":1999999,"result":{}}'}))
    later = await goes_on(session)
    return not later, later or "ok"


async def empty_reply(_client: Any, session: Any) -> Verdict:
    how, value = await ends(session.send("Fake.empty"))
    later = await goes_on(session)
    if later:
        return False, later
    said = {"hangs": "its command HANGS", "result": f"returns {value!r}", "error": "error"}[how]
    return how != "hangs", said


async def cancelled(client: Any, session: Any) -> Verdict:
    if not getattr(client, "cancels", True):
        return True, "no cancellation"
    if not hasattr(client, "pending"):
        return True, "not visible"
    before = client.pending()
    tasks = [asyncio.ensure_future(session.send("Fake.silent")) for _ in range(1000)]
    await asyncio.sleep(0.3)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    left = client.pending() - before
    return left == 0, f"{left} entries leak" if left else "ok"


async def two_handlers(client: Any, session: Any) -> Verdict:
    called: list[int] = []
    client.on(session, FIRST, lambda _event: called.append(1))
    client.on(session, FIRST, lambda _event: called.append(2))
    await ends(emit(session, (FIRST, FIRED)))
    await asyncio.sleep(0.2)
    return sorted(called) == [1, 2], "ok" if len(called) == 2 else f"handler {called} only"


async def deadline(client: Any, session: Any) -> Verdict:
    if not hasattr(client, "send_within"):
        return False, "none for a command"
    start = time.perf_counter()
    how, value = await ends(client.send_within(session, "Fake.silent", 0.5))
    return how == "error", f"{type(value).__name__} after {time.perf_counter() - start:.1f} s"


async def raising_handler(client: Any, session: Any) -> Verdict:
    told: list[BaseException] = []
    others: list[Any] = []
    if hasattr(client, "told_of_errors"):
        client.told_of_errors(told.append)

    def handler(_event: Any) -> None:
        raise ZeroDivisionError

    client.on(session, FIRST, handler)
    client.on(session, SECOND, others.append)
    how, value = await ends(emit(session, (FIRST, FIRED), (SECOND, FIRED)))
    if how == "error":
        return False, f"raised out of an unrelated command: {type(value).__name__}"
    later = await goes_on(session)
    if later:
        return False, later
    await asyncio.sleep(0.2)
    if not others:
        return False, "later events lost"
    return bool(told), "told to the program" if told else "reaches nobody but the log"


async def _wire_ends(session: Any, how: str) -> Verdict:
    tasks = [asyncio.ensure_future(session.send("Fake.silent")) for _ in range(100)]
    await asyncio.sleep(0.3)
    await ends(session.send(how), 0.5)
    await asyncio.wait(tasks, timeout=PATIENCE)
    failed = sum(task.done() for task in tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return failed == 100, f"{failed} of 100 fail"


async def dropped(_client: Any, session: Any) -> Verdict:
    return await _wire_ends(session, "Fake.drop")


async def closed(_client: Any, session: Any) -> Verdict:
    return await _wire_ends(session, "Fake.close")


async def _page_ends(client: Any, method: str, params: dict[str, Any]) -> Verdict:
    session = await client.new_tab()
    await session.send("Runtime.evaluate", {"expression": "1+1"})
    waiting = asyncio.ensure_future(
        session.send("Runtime.evaluate", {"expression": "new Promise(() => {})", "awaitPromise": True})
    )
    await asyncio.sleep(0.3)
    start = time.perf_counter()
    ending = asyncio.ensure_future(ends(session.send(method, params), 6))
    how, value = await ends(waiting, 6)
    took = time.perf_counter() - start
    if how == "hangs":
        ending.cancel()
        return False, "HANGS"
    ending.cancel()
    return True, f"fails after {took:.1f} s: {type(value).__name__}"


async def page_crashes(client: Any, _session: Any) -> Verdict:
    return await _page_ends(client, "Page.crash", {})


async def page_closes(client: Any, _session: Any) -> Verdict:
    return await _page_ends(client, "Page.close", {})


SCENARIOS: dict[str, Callable[[Any, Any], Awaitable[Verdict]]] = {
    "command-in-handler": command_in_handler,
    "handler-waits-for-event": handler_waits_for_event,
    "slow-handlers": slow_handlers,
    "not-json": not_json,
    "unknown-id": unknown_id,
    "empty-reply": empty_reply,
    "cancelled": cancelled,
    "two-handlers": two_handlers,
    "deadline": deadline,
    "raising-handler": raising_handler,
    "dropped": dropped,
    "closed": closed,
    "page-crashes": page_crashes,
    "page-closes": page_closes,
}


async def main() -> None:
    adapter, variant, scenario, url = sys.argv[1:5]
    logging.disable(logging.CRITICAL)
    asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
    client = importlib.import_module(f"peers.{adapter}").Client(variant)
    await client.open(url)
    session = None if scenario.startswith("page-") else await client.attach()
    how, value = await ends(SCENARIOS[scenario](client, session), 30)
    fine, verdict = value if how == "result" else (False, f"{how}: {value!r}"[:100])
    print(json.dumps({"fine": fine, "verdict": verdict}), flush=True)
    os._exit(0)  # some clients cannot be closed after this


if __name__ == "__main__":
    asyncio.run(main())
