"""Whatever happens in whatever order: every call ends with the right error, nothing is left over, events keep their order.

A model of a few lines says which calls an act must end, and how; after each act the real connection is compared with it.
"""

import asyncio
import logging
from datetime import timedelta

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cdpbridge.cdp import Connection
from cdpbridge.errors import (
    CommandError,
    CommandTimeout,
    ConnectionClosed,
    DecodeError,
    EventsLost,
    TargetClosed,
    TargetCrashed,
)
from cdpbridge.testing import ManualClock, MemoryTransport

TIMEOUT = 30.0
TURNS = 12


class Target:
    """An attachment, as the model sees it, and what its listeners have got."""

    def __init__(self, session, target_id, parent):
        self.session = session
        self.target_id = target_id
        self.parent = parent
        self.gone = self.crashed = False
        self.told = 0  # events
        self.plain = []
        self.worked = []
        self.streamed = []
        self.stream_from = 0
        self.stream_end = None

    def is_within(self, other):
        return self is other or (self.parent is not None and self.parent.is_within(other))


class Call:
    """Somebody who waits: for a reply, for an event, or for room to send."""

    def __init__(self, task, target, kind):
        self.task = task
        self.target = target
        self.kind = kind
        self.id = self.since = None
        self.outcome = None  # what the model says of its end

    def end(self, kind, **attributes):
        if self.outcome is None:
            self.outcome = (kind, attributes)


class World:
    def __init__(self):
        self.clock = ManualClock()
        self.transport = MemoryTransport()
        self.failures = []
        self.connection = Connection(
            self.transport,
            clock=self.clock,
            command_timeout=timedelta(seconds=TIMEOUT),
            on_handler_error=lambda error, *_: self.failures.append(error),
        )
        self.cut = self.paused = False
        self.targets = []
        self.calls = []
        self.streams = []
        self.listen(Target(self.connection.root, "", None))

    # --- the model ------------------------------------------------------------------------------------------------

    def pick(self, number):
        return self.targets[number % len(self.targets)]

    def waiting(self, *kinds):
        return [call for call in self.calls if call.outcome is None and call.kind in kinds]

    def listen(self, target):
        self.targets.append(target)
        target.session.on("A.event", lambda event: target.plain.append(event["n"]))

        async def work(event):
            if event["n"] % 3 == 0:
                await asyncio.sleep(0)
            target.worked.append(event["n"])
            if event["n"] % 5 == 4:
                raise LookupError(event["n"])

        def fail(event):
            raise KeyError(event["n"])

        target.session.on("A.event", work)
        target.session.on("A.event", fail)

    def detach_all(self, top):
        for target in self.targets:
            if target.is_within(top):
                target.gone = True
        for call in self.waiting("command", "expect"):
            if call.target.gone:
                call.end(TargetClosed)

    def crash_all(self, targets, *, again):
        """`again`: also those who wait although the target had crashed before."""
        for target in targets:
            news, target.crashed = not target.crashed, True
            for call in self.waiting("command", "expect"):
                if call.target is target and (news or (again and call.kind == "expect")):
                    call.end(TargetCrashed)

    # --- acts -----------------------------------------------------------------------------------------------------

    def attach(self, number, other):
        parent = self.pick(number)
        if parent.gone or self.cut:
            return
        session_id = f"S{len(self.targets)}"
        target_id = f"T{other % 4}"
        info = {"targetId": target_id, "type": ("page", "iframe", "worker", "unheard_of")[other % 4]}
        params = {"sessionId": session_id, "targetInfo": info, "waitingForDebugger": False}
        self.transport.event("Target.attachedToTarget", params, parent.session.id)
        session = next(one for one in self.connection.sessions if one.id == session_id)
        self.listen(Target(session, target_id, parent))

    def send(self, number, _):
        target = self.pick(number)
        before = len(self.transport.sent)
        call = Call(asyncio.ensure_future(target.session.send("Test.call", {"n": before})), target, "queued")
        self.calls.append(call)
        if not self.paused:
            self.admit(call)

    def admit(self, call):
        """What becomes of a call that may be sent now."""
        if self.cut:
            call.end(ConnectionClosed, sent=False)
        elif call.target.gone:
            call.end(TargetClosed)
        elif call.target.crashed:
            call.end(TargetCrashed)
        else:
            call.kind, call.since = "command", self.clock.time()

    def expect(self, number, _):
        target = self.pick(number)

        async def wait():
            async with target.session.expect("A.wanted", timeout=timedelta(hours=1)) as expectation:
                pass
            return expectation.event

        call = Call(asyncio.ensure_future(wait()), target, "expect")
        self.calls.append(call)
        if self.cut:
            call.end(ConnectionClosed)
        elif target.gone:
            call.end(TargetClosed)

    def stream(self, number, _):
        target = self.pick(number)
        if target.gone or self.cut or target.stream_end is not None:
            return
        target.stream_from = target.told
        stream = target.session.events("A.event").__aiter__()

        async def read():
            async for event in stream:
                target.streamed.append(event["n"])

        target.stream_end = asyncio.ensure_future(read())

    def reply(self, number, other):
        calls = self.waiting("command")
        if not calls or self.cut:
            return
        call = calls[number % len(calls)]
        kind = other % 5
        message = {"id": call.id}
        if call.target.parent is not None and other % 2:  # Chromium leaves it out at times
            message["sessionId"] = call.target.session.id
        if kind == 0:
            call.end(CommandError, code=-32000)
            message["error"] = {"code": -32000, "message": "no"}
        elif kind == 1:
            call.end(DecodeError)
        elif kind == 2 and call.target.parent is not None:
            call.end(TargetClosed)
            self.detach_all(call.target)
            message["error"] = {"code": -32001, "message": "Session with given id not found."}
        else:
            call.end(None, n=number)
            message["result"] = {"n": number}
        self.transport.deliver(message)
        if other % 7 == 0:
            self.transport.deliver({"id": call.id, "result": {"n": "again"}})

    def event(self, number, _):
        target = self.pick(number)
        if self.cut:
            return
        self.transport.event("A.event", {"n": target.told}, target.session.id)
        if not target.gone:
            target.told += 1

    def wanted(self, number, _):
        target = self.pick(number)
        if self.cut:
            return
        for call in self.waiting("expect"):
            if call.target is target:
                call.end(None, n=number)
        self.transport.event("A.wanted", {"n": number}, target.session.id)

    def detach(self, number, _):
        target = self.pick(number)
        if target.parent is None or self.cut or target.gone:
            return
        self.detach_all(target)
        params = {"sessionId": target.session.id, "targetId": target.target_id}
        self.transport.event("Target.detachedFromTarget", params, target.parent.session.id)

    def crash(self, number, other):
        target = self.pick(number)
        if target.parent is None or self.cut or target.gone:
            return
        if other % 2:
            self.crash_all([target], again=True)
            self.transport.event("Inspector.targetCrashed", {}, target.session.id)
        else:
            same = [one for one in self.targets if one.target_id == target.target_id and not one.gone]
            self.crash_all(same, again=False)
            params = {"targetId": target.target_id, "status": "crashed", "errorCode": 5}
            self.transport.event("Target.targetCrashed", params)

    def revive(self, number, _):
        target = self.pick(number)
        if target.parent is None or self.cut or target.gone:
            return
        target.crashed = False
        self.transport.event("Inspector.targetReloadedAfterCrash", {}, target.session.id)

    def cancel(self, number, _):
        calls = self.waiting("command", "expect", "queued")
        if calls:
            call = calls[number % len(calls)]
            call.end(asyncio.CancelledError)
            call.task.cancel()

    def wait(self, number, _):
        self.clock.advance(number % 40)
        for call in self.waiting("command"):
            if call.since + TIMEOUT <= self.clock.time():
                call.end(CommandTimeout)

    def nonsense(self, number, other):
        if self.cut:
            return
        messages = (
            "no JSON",
            "[]",
            "{}",
            '{"id":999999,"result":{}}',
            '{"method":"A.event","params":{"n":-1},"sessionId":"nobody"}',
            '{"method":"Target.detachedFromTarget","params":{"sessionId":"nobody"}}',
            '{"method":"Target.attachedToTarget","params":[]}',
            '{"method":"Target.targetCrashed"}',
        )
        self.transport.deliver(messages[number % len(messages)])

    def idless_error(self, _number, _other):
        calls = self.waiting("command")
        if self.cut:
            return
        if len(calls) == 1:
            calls[0].end(CommandError, code=-32700)
        self.transport.deliver({"error": {"code": -32700, "message": "bad"}})

    def pause(self, _number, _other):
        if not self.cut:
            self.paused = True
            self.transport.pause()

    def resume(self, _number, _other):
        if not self.cut:
            self.paused = False
            self.transport.resume()
            for call in self.waiting("queued"):
                self.admit(call)

    def lose(self, number, other):
        if self.cut or other % 3:  # rarer than the rest
            return
        unsent = number % 4
        left = len(self.transport.sent) - unsent
        self.transport.lose(1006, "cut", unsent=unsent)
        self.end_all(lambda call: call.id <= left)

    def end_all(self, was_sent):
        self.cut, self.paused = True, False
        for call in self.waiting("command", "expect", "queued"):
            if call.kind == "command":
                call.end(ConnectionClosed, sent=was_sent(call))
            else:
                call.end(ConnectionClosed, sent=False if call.kind == "queued" else None)

    # --- the comparison -------------------------------------------------------------------------------------------

    def check(self):
        for call in self.calls:
            if call.outcome is None:
                assert not call.task.done(), f"{call.kind} ended early: {call.task}"
                continue
            assert call.task.done(), f"{call.kind} should have ended: {call.outcome}"
            kind, attributes = call.outcome
            if kind is None:
                assert call.task.result() == attributes
            elif kind is asyncio.CancelledError:
                assert call.task.cancelled()
            else:
                error = call.task.exception()
                assert isinstance(error, kind), (error, kind)
                assert {name: getattr(error, name) for name in attributes} == attributes
        assert set(self.connection._link._mux.pending) == {call.id for call in self.waiting("command")}

    def check_events(self):
        for target in self.targets:
            assert target.plain == list(range(target.told))
            assert target.worked == list(range(len(target.worked)))
            assert target.streamed == list(
                range(target.stream_from, target.stream_from + len(target.streamed))
            )


ACTS = [
    *["send"] * 6,
    *["reply"] * 4,
    *["event"] * 4,
    *["attach"] * 3,
    "expect",
    "expect",
    "wanted",
    "stream",
    "detach",
    "crash",
    "revive",
    "cancel",
    "wait",
    "nonsense",
    "idless_error",
    "pause",
    "resume",
    "resume",
    "lose",
]


async def live(acts):
    loop = asyncio.get_running_loop()
    before = asyncio.all_tasks(loop)
    world = World()
    for name, number, other in acts:
        sent = len(world.transport.sent)
        getattr(world, name)(number, other)
        for _ in range(TURNS):
            await asyncio.sleep(0)
        fresh = [command["id"] for command in world.transport.sent[sent:]]
        admitted = [call for call in world.calls if call.kind == "command" and call.id is None]
        assert len(fresh) == len(admitted)
        for call, command_id in zip(admitted, fresh, strict=True):
            call.id = command_id
        world.check()
    await world.connection.close()
    world.end_all(lambda _: True)
    for _ in range(TURNS):
        await asyncio.sleep(0)
    world.check()
    world.check_events()
    for target in world.targets:
        if target.stream_end is not None:
            error = target.stream_end.exception()
            assert isinstance(error, TargetClosed if target.gone else ConnectionClosed), error
            assert target.streamed == list(range(target.stream_from, target.told))
    connection = world.connection
    assert not connection._link._mux.pending
    assert connection._link._mux.next_deadline() is None
    assert not connection._link._tasks
    assert asyncio.all_tasks(loop) == before
    assert world.clock.scheduled == 0
    assert not any(isinstance(error, EventsLost) for error in world.failures)


def run(acts):
    logging.getLogger("cdpbridge").setLevel(logging.CRITICAL)
    try:
        asyncio.run(live(acts))
    finally:
        logging.getLogger("cdpbridge").setLevel(logging.NOTSET)


acts = st.lists(st.tuples(st.sampled_from(ACTS), st.integers(0, 60), st.integers(0, 60)), max_size=60)


@settings(max_examples=300)
@example([("send", 0, 0), ("lose", 0, 0)])
@example([("attach", 0, 0), ("attach", 1, 1), ("send", 2, 0), ("expect", 2, 0), ("detach", 1, 0)])
@example(
    [("attach", 0, 0), ("send", 1, 0), ("crash", 1, 1), ("send", 1, 0), ("revive", 1, 0), ("send", 1, 0)]
)
@example([("pause", 0, 0), ("send", 0, 0), ("lose", 1, 0)])
@given(acts)
def test_fuzz_any_interleaving_ends_every_call_rightly(acts):
    run(acts)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@settings(max_examples=10_000)
@given(acts)
def test_fuzz_long_run(acts):
    run(acts)
