"""A lost wire is made anew: over memory with a manual clock, and to a scripted browser."""

import asyncio
import random
from datetime import timedelta
from itertools import pairwise

import pytest

from cdpbridge.cdp import Connection, NotRestored, connect
from cdpbridge.errors import CommandError, CommandTimeout, ConnectFailed, ConnectionClosed, TargetClosed
from cdpbridge.testing import SILENT, ManualClock, MemoryTransport, Refusal

SECOND = timedelta(seconds=1)


class Browser:
    """Answers over memory, by rules, one wire after another.

    Attributes:
        targets: Target id to type; those of `automatic` are announced by auto-attach, by the id of their parent.
        transports: Every transport so far.
        failures: What the next tries to connect raise.
    """

    def __init__(self):
        self.clock = ManualClock()
        self.targets = {"T": "page"}
        self.automatic = {}
        self.silent = set()
        self.refused = set()
        self.failures = []
        self.dropping = None  # a command upon which the wire drops
        self.tries = []
        self.transports = []
        self.sessions = {}
        self.handlers_failed = []
        self.connection = Connection(
            self.wire(),
            clock=self.clock,
            reopen=self.reopen,
            on_handler_error=lambda *failure: self.handlers_failed.append(failure),
        )
        self.events = []
        self.connection.on("reconnected", self.events.append)
        self.connection.on("disconnected", lambda: self.events.append("disconnected"))
        self.root = self.connection.root

    def wire(self):
        transport = MemoryTransport(lambda command: self.answer(transport, command))
        self.transports.append(transport)
        self.sessions = {}
        return transport

    async def reopen(self):
        self.tries.append(self.clock.time())
        if self.failures:
            failure = self.failures.pop(0)
            if failure is SILENT:
                await asyncio.Event().wait()
            raise failure
        return self.wire()

    def answer(self, transport, command):
        method, params = command["method"], command.get("params", {})
        if self.dropping == method:
            self.dropping = None
            transport.lose(1006)
            return None
        if method in self.silent:
            return None
        if method in self.refused:
            return {"id": command["id"], "error": {"code": -32000, "message": "no"}}
        result = {}
        if method == "Target.attachToTarget":
            if params["targetId"] not in self.targets:
                return {
                    "id": command["id"],
                    "error": {"code": -32602, "message": "No target with given id found"},
                }
            result["sessionId"] = self.announce(transport, params["targetId"], command.get("sessionId", ""))
        elif method == "Target.setAutoAttach" and params["autoAttach"]:
            parent = self.sessions.get(command.get("sessionId"), "")
            for target_id in self.automatic.get(parent, ()):
                self.announce(transport, target_id, command.get("sessionId", ""))
        return {"id": command["id"], "result": result}

    def announce(self, transport, target_id, parent):
        session_id = f"W{len(self.transports)}S{len(self.sessions)}"
        self.sessions[session_id] = target_id
        info = {"targetId": target_id, "type": self.targets[target_id]}
        params = {"sessionId": session_id, "targetInfo": info, "waitingForDebugger": False}
        transport.event("Target.attachedToTarget", params, parent)
        return session_id

    def sent(self):
        """Session, method and parameters of all that went over the present wire, but for the question whether it works."""
        return [
            (command.get("sessionId", ""), command["method"], command.get("params"))
            for command in self.transports[-1].sent
            if command["method"] != "Browser.getVersion"
        ]

    async def drop(self, *args, **kwargs):
        """Of a wire that has been steady for a while."""
        self.clock.advance(2)
        self.transports[-1].lose(*args, **kwargs)
        await asyncio.sleep(0)

    async def reported(self):
        for _ in range(1000):
            if self.events:
                return self.events.pop(0)
            await asyncio.sleep(0)
        raise AssertionError("nothing was reported")


@pytest.fixture
async def browser(running_loop):
    browser = Browser()
    yield browser
    await browser.connection.close()
    assert not browser.connection._link._tasks


# --- what comes back --------------------------------------------------------------------------------------------------


async def test_the_same_objects_go_on_with_their_state_in_order(browser):
    tab = await browser.connection.attach("T")
    heard = []
    tab.on("Page.loadEventFired", heard.append)
    await browser.root.send("Target.setDiscoverTargets", {"discover": True})
    await tab.send("Page.enable")
    await tab.send("Network.enable", {"maxPostDataSize": 7})
    headers = {"headers": {"A": "1"}}
    await tab.send("Network.setExtraHTTPHeaders", headers)
    headers["headers"]["A"] = "changed by the program, and never sent"
    await tab.send("Fetch.enable", {"patterns": []})
    await tab.send("Runtime.evaluate", {"expression": "1"})
    await tab.send("Log.enable")
    await tab.send("Log.disable")
    old_id = tab.id
    await browser.drop(1006, "cut")
    report = await browser.reported()
    assert (report.restored, report.lost, report.not_restored) == ((browser.root, tab), (), ())
    assert (report.tries, report.code, report.reason, report.gap) == (1, 1006, "cut", timedelta(0))
    assert browser.sent() == [
        ("", "Target.setDiscoverTargets", {"discover": True}),
        ("", "Target.attachToTarget", {"targetId": "T", "flatten": True}),
        (tab.id, "Page.enable", None),
        (tab.id, "Network.enable", {"maxPostDataSize": 7}),
        (tab.id, "Network.setExtraHTTPHeaders", {"headers": {"A": "1"}}),
        (tab.id, "Fetch.enable", {"patterns": []}),
    ]
    assert tab.id != old_id
    assert browser.connection.sessions == [browser.root, tab]
    browser.transports[-1].event("Page.loadEventFired", {"n": 1}, tab.id)
    assert heard == [{"n": 1}]
    assert (await tab.send("Runtime.evaluate", {"expression": "1"})) == {}
    # and once more: what was restored is still remembered
    await browser.drop()
    assert (await browser.reported()).restored == (browser.root, tab)
    assert len(browser.sent()) == 6


async def test_commands_in_flight_fail_and_tell_whether_they_were_sent(browser, turns):
    browser.silent.add("Test.pending")
    calls = [asyncio.ensure_future(browser.root.send("Test.pending")) for _ in range(3)]
    await turns()
    await browser.drop(1006, unsent=1)
    await asyncio.wait(calls)
    assert [call.exception().sent for call in calls] == [True, True, False]
    await browser.reported()
    assert not browser.connection._link._mux.pending


async def test_commands_made_meanwhile_wait(browser, turns):
    tab = await browser.connection.attach("T")
    browser.failures = [ConnectFailed("no", stage="tcp")]
    await browser.drop()
    assert browser.connection.reconnecting
    assert not browser.connection.closed
    assert "reconnecting" in repr(browser.connection)
    assert (tab.closed, browser.connection.sessions) == (None, [browser.root, tab])
    calls = [asyncio.ensure_future(session.send("Test.later")) for session in (tab, browser.root, tab)]
    await turns()
    assert not any(call.done() for call in calls)
    browser.clock.advance(1)
    assert (await browser.reported()).gap == SECOND
    assert await asyncio.gather(*calls) == [{}] * 3
    assert [session for session, method, _ in browser.sent() if method == "Test.later"].count(tab.id) == 2


async def test_waiting_commands_have_their_deadline(browser):
    browser.failures = [ConnectFailed("no", stage="tcp")]
    await browser.drop()
    with pytest.raises(CommandTimeout, match="not sent: the connection is being re-established"):
        await browser.root.send("Test.later", timeout=timedelta(milliseconds=20))


async def test_streams_and_expectations_survive(browser):
    tab = await browser.connection.attach("T")
    async with tab.events("Page.frameNavigated") as stream:
        async with tab.expect("Page.loadEventFired") as load:
            await browser.drop()
            await browser.reported()
            browser.transports[-1].event("Page.frameNavigated", {"n": 1}, tab.id)
            browser.transports[-1].event("Page.loadEventFired", {"n": 2}, tab.id)
        assert load.event == {"n": 2}
        assert await anext(stream) == {"n": 1}


async def test_a_wire_that_is_paused_when_it_drops(browser, turns):
    browser.transports[-1].pause()
    await browser.drop()
    await browser.reported()
    assert await browser.root.send("A.b") == {}
    browser.failures = [ConnectFailed("no", stage="tcp")]
    await browser.drop()
    browser.clock.advance(1)
    await turns(2)
    browser.transports[-1].pause()
    await browser.reported()
    call = asyncio.ensure_future(browser.root.send("A.b"))
    await turns()
    assert not call.done()
    browser.transports[-1].resume()
    assert await call == {}


async def test_handlers_of_reconnected_that_fail_are_reported(browser):
    def fail(report):
        raise LookupError

    browser.connection.on("reconnected", fail)
    await browser.drop()
    await browser.reported()
    await browser.drop()
    await browser.reported()
    assert [method for _, _, method in browser.handlers_failed] == ["disconnected or reconnected"] * 2


async def test_what_the_browser_has_done_counts_not_who_still_waits(browser, turns):
    browser.silent.add("Page.enable")
    cancelled = asyncio.ensure_future(browser.root.send("Page.enable"))
    await turns()
    cancelled.cancel()
    browser.transports[-1].deliver(
        {"id": browser.transports[-1].sent[-1]["id"], "result": {}}
    )  # in the turn of the cancellation
    await turns()
    browser.silent.clear()
    browser.refused.add("Log.enable")
    with pytest.raises(CommandError):
        await browser.root.send("Log.enable")
    for odd in ([], "text", {"sessionId": 5}):
        call = asyncio.ensure_future(browser.root.send("Target.attachToBrowserTarget"))
        browser.silent.add("Target.attachToBrowserTarget")
        await turns()
        browser.transports[-1].deliver({"id": browser.transports[-1].sent[-1]["id"], "result": odd})
        await asyncio.wait([call])
    refused = asyncio.ensure_future(browser.root.send("Log.enable"))
    await turns(1)
    refused.cancel()
    await turns()
    await browser.drop()
    assert (await browser.reported()).restored == (browser.root,)
    assert browser.sent() == [("", "Page.enable", None)]


async def test_ids_of_scripts_that_the_program_knows_stay_good(browser):
    """After a restore the browser counts anew: script 2 of the program is script 1 of the browser."""
    numbers = {}

    def answer(transport, command, answer=browser.answer):
        reply = answer(transport, command)
        if command["method"].startswith("Page.addScript"):
            numbers[transport] = numbers.get(transport, 0) + 1
            reply["result"]["identifier"] = str(numbers[transport])
        return reply

    browser.answer = answer
    add, remove = "Page.addScriptToEvaluateOnNewDocument", "Page.removeScriptToEvaluateOnNewDocument"
    first, second = [await browser.root.send(add, {"source": source}) for source in "ab"]
    await browser.root.send(remove, first)
    await browser.drop()
    await browser.reported()
    assert browser.sent() == [("", add, {"source": "b"})]
    third = await browser.root.send(add, {"source": "c"})
    assert third != second
    await browser.root.send(remove, second)
    assert browser.sent()[-1] == ("", remove, {"identifier": "1"})
    await browser.root.send(remove, third)
    assert browser.sent()[-1] == ("", remove, {"identifier": "2"})


# --- children ---------------------------------------------------------------------------------------------------------


async def test_children_found_by_auto_attach_come_back_by_it(browser):
    browser.targets |= {"F": "iframe", "W": "worker", "G": "iframe"}
    browser.automatic = {"T": ["F", "G"], "F": ["W"]}
    set_up = []

    async def setup(child):
        set_up.append(child.target_id)
        await child.send("Runtime.enable")

    tab = await browser.connection.attach("T")
    await tab.auto_attach(setup, wait_for_debugger=False)
    frame, other = tab.children
    [worker] = frame.children
    browser.automatic = {"T": ["F", "N"], "F": ["W"]}
    browser.targets["N"] = "iframe"
    await browser.drop()
    report = await browser.reported()
    assert set(report.restored) == {browser.root, tab, frame, worker}
    assert report.lost == (other,)
    assert other.closed == "closed"
    assert [child.target_id for child in tab.children] == ["F", "N"]
    assert (tab.children[0], frame.children) == (frame, [worker])
    await asyncio.sleep(0)
    assert sorted(set_up) == ["F", "G", "N", "W"]
    methods = [method for session, method, _ in browser.sent() if session == worker.id]
    assert methods == ["Target.setAutoAttach", "Runtime.enable"]
    assert browser.sent().index((frame.id, "Runtime.enable", None)) > browser.sent().index(
        (
            frame.id,
            "Target.setAutoAttach",
            {"autoAttach": True, "waitForDebuggerOnStart": False, "flatten": True},
        )
    )


async def test_a_child_that_was_still_being_set_up_starts_over(browser, turns):
    browser.targets["F"] = "iframe"
    browser.automatic = {"T": ["F"]}
    browser.silent.add("Test.slow")
    set_up = []

    async def setup(child):
        set_up.append(child)
        await child.send("Test.slow")

    tab = await browser.connection.attach("T")
    attaching = asyncio.ensure_future(tab.auto_attach(setup, wait_for_debugger=False))
    await turns(10)
    await browser.drop()
    browser.silent.clear()
    report = await browser.reported()
    await attaching
    await turns(10)
    first, second = set_up
    assert report.lost == (first,)
    assert first.closed == "detached"
    assert tab.children == [second]


async def test_two_sessions_on_one_target_stay_two(browser):
    first = await browser.connection.attach("T")
    second = await browser.connection.attach("T")
    await second.send("Page.enable")
    await browser.drop()
    assert (await browser.reported()).restored == (browser.root, first, second)
    assert first.id != second.id
    assert [session for session, method, _ in browser.sent() if method == "Page.enable"] == [second.id]


async def test_attached_without_an_announcement(browser):
    browser.announce = lambda transport, target_id, parent: f"W{len(browser.transports)}"
    tab = await browser.connection.attach("T")
    await tab.send("Page.enable")
    await browser.drop()
    assert (await browser.reported()).restored == (browser.root, tab)
    assert tab.id == "W2"
    assert browser.sent()[-1] == ("W2", "Page.enable", None)


async def test_a_session_nobody_can_ask_for_again_ends(browser, turns):
    tab = await browser.connection.attach("T")
    tab._node.attached_by = None  # as when the reply was still on its way
    await browser.drop()
    assert (await browser.reported()).lost == (tab,)


async def test_waiting_children_are_released(browser, turns):
    browser.targets["F"] = "iframe"
    browser.automatic = {"T": ["F"]}
    tab = await browser.connection.attach("T")
    await tab.auto_attach(wait_for_debugger=True)
    announce = browser.announce

    def announce_waiting(transport, target_id, parent):
        event = transport.event
        transport.event = lambda method, params, session: event(
            method, {**params, "waitingForDebugger": True}, session
        )
        try:
            return announce(transport, target_id, parent)
        finally:
            transport.event = event

    browser.announce = announce_waiting
    await browser.drop()
    await browser.reported()
    [frame] = tab.children
    assert (frame.id, "Runtime.runIfWaitingForDebugger", None) in browser.sent()


# --- A75: no command reaches another tab ------------------------------------------------------------------------------


async def test_fault_a75_a_target_that_is_gone_ends_its_session(browser):
    browser.targets["U"] = "page"
    tab, other = await browser.connection.attach("T"), await browser.connection.attach("U")
    waiting = []
    async with other.events("Page.loadEventFired") as stream:
        del browser.targets["U"]
        browser.failures = [ConnectFailed("no", stage="tcp")]
        await browser.drop()
        waiting.append(asyncio.ensure_future(other.send("Page.reload")))
        await asyncio.sleep(0)
        browser.clock.advance(1)
        report = await browser.reported()
        assert (report.restored, report.lost) == ((browser.root, tab), (other,))
        for call in (waiting[0], other.send("Page.reload"), anext(stream)):
            with pytest.raises(TargetClosed) as caught:
                await call
            assert caught.value.reason == "closed"
    assert "Page.reload" not in [method for _, method, _ in browser.sent()]


@pytest.mark.parametrize("ids", [["S0", "S1"], ["S1", "S0"]])
async def test_fault_a75_a_new_wire_that_uses_old_session_ids_again(browser, ids, turns):
    """Ids are the server's; some count from one anew."""
    browser.targets["U"] = "page"
    free = ["S0", "S1", *ids]

    def announce(transport, target_id, parent):
        session_id = free.pop(0)
        browser.sessions[session_id] = target_id
        info = {"targetId": target_id, "type": "page"}
        transport.event("Target.attachedToTarget", {"sessionId": session_id, "targetInfo": info}, parent)
        return session_id

    browser.announce = announce
    first, second = await browser.connection.attach("T"), await browser.connection.attach("U")
    await browser.drop()
    assert (await browser.reported()).restored == (browser.root, first, second)
    assert [first.id, second.id] == ids
    assert browser.root.children == [first, second]
    assert [browser.sessions[session.id] for session in (first, second)] == ["T", "U"]
    await first.send("Page.reload")
    assert browser.sent()[-1][0] == first.id
    await first.detach()
    assert browser.root.children == [second]
    assert await second.send("Page.reload") == {}


async def test_fault_a75_ids_of_commands_are_never_used_again(browser, turns):
    browser.silent.add("Test.pending")
    call = asyncio.ensure_future(browser.root.send("Test.pending"))
    await turns()
    old = browser.transports[-1].sent[-1]["id"]
    await browser.drop()
    await browser.reported()
    with pytest.raises(ConnectionClosed):
        await call
    browser.transports[-1].deliver({"id": old, "result": {}})
    await browser.root.send("A.b")
    assert min(command["id"] for command in browser.transports[-1].sent) > old


async def test_fault_a75_detach_asks_for_the_new_id(browser, turns):
    tab = await browser.connection.attach("T")
    browser.failures = [ConnectFailed("no", stage="tcp")]
    await browser.drop()
    leaving = asyncio.ensure_future(tab.detach())
    await turns()
    browser.clock.advance(1)
    await browser.reported()
    await leaving
    assert tab.closed == "detached"
    assert ("", "Target.detachFromTarget", {"sessionId": tab.id}) in browser.sent()
    await browser.drop()
    assert (await browser.reported()).restored == (browser.root,)


# --- what does not come back ------------------------------------------------------------------------------------------


async def test_what_cannot_be_restored_is_told(browser):
    tab = await browser.connection.attach("T")
    await tab.send("Page.enable")
    await tab.send("Profiler.start")
    await tab.send("Emulation.setTimezoneOverride", {"timezoneId": "Asia/Tokyo"})
    browser.refused.add("Emulation.setTimezoneOverride")
    await browser.drop()
    report = await browser.reported()
    assert report.restored == (browser.root, tab)
    assert report.not_restored == (
        NotRestored(tab, "Profiler.start", "what it had begun ended with the connection"),
        NotRestored(tab, "Emulation.setTimezoneOverride", "Emulation.setTimezoneOverride: no (-32000)"),
    )
    await browser.drop()
    assert (await browser.reported()).not_restored == ()


async def test_a_hung_page_holds_up_only_itself(browser, turns):
    browser.targets["U"] = "page"
    hung, other = await browser.connection.attach("T"), await browser.connection.attach("U")
    await hung.send("Page.enable")
    browser.silent.add("Page.enable")
    await browser.drop()
    await turns(10)
    assert await other.send("Test.a") == {}
    waiting = asyncio.ensure_future(hung.send("Test.b"))
    await turns()
    assert not waiting.done()
    browser.clock.advance(5)
    report = await browser.reported()
    assert await waiting == {}
    [missing] = report.not_restored
    assert (missing.session, missing.method) == (hung, "Page.enable")
    assert "within 5 s" in missing.reason


async def test_a_crashed_page_is_not_asked(browser):
    tab = await browser.connection.attach("T")
    await tab.send("Page.enable")
    browser.transports[-1].event("Inspector.targetCrashed", {}, tab.id)
    await browser.drop()
    report = await browser.reported()
    [missing] = report.not_restored
    assert (missing.session, missing.method) == (tab, "Page.enable")
    assert "crashed" in missing.reason
    assert "Page.enable" not in [method for _, method, _ in browser.sent()]
    assert await tab.send("Page.navigate", {"url": "u"}) == {}
    assert await tab.send("Test.after") == {}
    methods = [method for _, method, _ in browser.sent()]
    assert methods[-3:] == ["Page.navigate", "Page.enable", "Test.after"]
    assert await tab.send("Page.reload") == {}
    assert [method for _, method, _ in browser.sent()].count("Page.enable") == 1


async def test_a_target_that_goes_during_the_restore(browser, turns):
    tab = await browser.connection.attach("T")
    await tab.send("Page.enable")
    browser.silent.add("Page.enable")
    await browser.drop()
    await turns(10)
    browser.transports[-1].event("Target.detachedFromTarget", {"sessionId": tab.id})
    assert (await browser.reported()).lost == (tab,)


async def test_a_reply_without_a_session_is_no_session(browser):
    tab = await browser.connection.attach("T")
    browser.announce = lambda transport, target_id, parent: ""
    await browser.drop()
    assert (await browser.reported()).lost == (tab,)


async def test_a_parent_that_goes_takes_children_that_are_still_away(browser, turns):
    browser.targets["F"] = "iframe"
    tab = await browser.connection.attach("T")
    await tab.send("Target.attachToTarget", {"targetId": "F", "flatten": True})
    [frame] = tab.children
    await tab.send("Page.enable")
    browser.silent.add("Page.enable")
    await browser.drop()
    await turns(10)
    waiting = asyncio.ensure_future(frame.send("Test.later"))
    await turns()
    browser.transports[-1].event("Target.detachedFromTarget", {"sessionId": tab.id})
    with pytest.raises(TargetClosed, match="parent"):
        await waiting
    assert (await browser.reported()).lost == (tab, frame)


# --- A76: again, and the end ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "moment", ["Browser.getVersion", "Target.attachToTarget", "Page.enable", "Log.enable"]
)
async def test_fault_a76_a_second_drop_during_the_restore(browser, moment, turns):
    tab = await browser.connection.attach("T")
    await tab.send("Page.enable")
    await tab.send("Log.enable")
    browser.dropping = moment
    await browser.drop()
    call = asyncio.ensure_future(tab.send("Test.later"))
    for _ in range(3):
        await turns(10)
        browser.clock.advance(0.2)
    report = await browser.reported()
    assert report.tries == 2
    assert (report.restored, report.lost, report.not_restored) == ((browser.root, tab), (), ())
    assert len(browser.transports) == 3
    assert await call == {}
    assert not browser.events


async def test_fault_a76_a_browser_that_does_not_answer_is_left(browser, turns):
    browser.silent.add("Browser.getVersion")
    await browser.drop()
    await turns(10)
    browser.clock.advance(5)
    await turns(10)
    browser.silent.clear()
    browser.clock.advance(1)
    assert (await browser.reported()).tries == 2


async def test_tries_back_off_until_the_limit(browser, turns, wait_until):
    browser.failures = [ConnectFailed("refused", stage="tcp")] * 100
    start = browser.clock.time() + 2
    await browser.drop(1006, "cut")
    call = asyncio.ensure_future(browser.root.send("Test.later", timeout=60 * SECOND))
    for _ in range(400):
        await turns(3)
        browser.clock.advance(0.1)
    await turns()
    tries = [moment - start for moment in browser.tries]
    assert tries[0] == 0
    assert 8 <= len(tries) <= 30
    assert tries[-1] < 30
    gaps = [later - earlier for earlier, later in pairwise(tries)]
    assert max(gaps) <= 5.1
    assert gaps[0] < 0.2
    with pytest.raises(ConnectionClosed, match="no new connection within 30 s: refused") as caught:
        await call
    assert (caught.value.code, caught.value.sent) == (1006, False)
    assert browser.events == ["disconnected"]
    assert browser.connection.closed
    await browser.connection.wait_closed()


async def test_a_try_that_hangs_ends_with_the_limit(browser, turns):
    browser.failures = [SILENT]
    await browser.drop()
    browser.clock.advance(31)
    await turns()
    assert browser.connection.closed
    assert "no new connection within 30 s" in browser.connection.close_reason


async def test_a_browser_that_is_gone_is_not_waited_for(browser, turns):
    browser.failures = [ConnectFailed("HTTP 404", stage="upgrade", status=404)]
    await browser.drop()
    await turns()
    assert browser.connection.closed
    assert "cannot reconnect: HTTP 404" in browser.connection.close_reason
    assert len(browser.tries) == 1


async def test_a_failure_of_our_own_ends_it_too(browser, turns, monkeypatch, caplog):
    async def broken(*_, **__):
        raise LookupError("a bug")

    monkeypatch.setattr(browser.connection._link._reconnecting, "_attach_again", broken)
    await browser.drop()
    await turns(20)
    assert "a bug" in caplog.text
    assert "resuming failed" in browser.connection.close_reason
    await browser.connection.wait_closed()


async def test_transports_that_break_at_once_are_not_made_in_a_frenzy(browser, turns):
    start = browser.clock.time()
    for _ in range(4):
        browser.transports[-1].lose()
        for _ in range(20):
            await turns(5)
            if browser.events:
                break
            browser.clock.advance(0.1)
        browser.events.clear()
    assert browser.clock.time() - start > 0.25
    await browser.drop()
    assert (await browser.reported()).gap == timedelta(0)


@pytest.mark.parametrize(
    ("code", "reason"),
    [(1001, "session stopped"), (1001, "the browser closed the connection"), (4001, "expired"), (1000, "")],
)
async def test_fault_a72_a_decided_end_is_final(browser, code, reason, turns):
    await browser.drop(code, reason)
    await turns()
    assert not browser.tries
    assert browser.events == ["disconnected"]
    assert (browser.connection.close_code, browser.connection.close_reason) == (code, reason)


async def test_a_decided_end_during_the_restore_is_final(browser, turns):
    tab = await browser.connection.attach("T")
    await tab.send("Page.enable")
    browser.silent.add("Page.enable")
    await browser.drop()
    call = asyncio.ensure_future(tab.send("Test.later"))
    await turns(10)
    await browser.drop(1001, "session expired")
    with pytest.raises(ConnectionClosed, match="session expired"):
        await call
    await turns()
    assert browser.events == ["disconnected"]
    assert len(browser.tries) == 1
    await browser.connection.wait_closed()


# --- A74: close -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["waiting", "dialling", "restoring"])
async def test_fault_a74_close_during_a_reconnect(browser, moment, turns):
    tab = await browser.connection.attach("T")
    await tab.send("Page.enable")
    if moment == "restoring":
        browser.silent.add("Page.enable")
    else:
        browser.failures = [ConnectFailed("no", stage="tcp") if moment == "waiting" else SILENT]
    await browser.drop()
    await turns(10)
    calls = [asyncio.ensure_future(session.send("Test.later")) for session in (tab, browser.root)]
    await turns()
    async with asyncio.timeout(60):
        await asyncio.gather(browser.connection.close(), browser.connection.close())
        await asyncio.wait(calls)
    if moment != "restoring":
        assert [call.exception().sent for call in calls] == [False, False]
    assert isinstance(calls[0].exception(), ConnectionClosed)
    assert browser.connection.close_code == 1000
    assert browser.clock.scheduled == 0
    await browser.connection.close()
    await turns()
    assert browser.events == ["disconnected"]


async def test_fault_a74_close_in_a_handler_of_reconnected(browser, turns):
    async def close(report):
        await browser.connection.close()

    browser.connection.on("reconnected", close)
    await browser.drop()
    await browser.reported()
    await turns(10)
    assert browser.connection.closed


async def test_fault_a74_cancelled_connect_leaves_no_socket(scripted):
    import psutil

    opening = asyncio.ensure_future(connect(scripted.ws_url)._opening())
    while not scripted.requests and not opening.done():
        await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    for _ in range(100):
        sockets = [
            one
            for one in psutil.Process().net_connections()
            if one.raddr and one.raddr.port == scripted.port and one.status == "ESTABLISHED"
        ]
        if not sockets:
            return
        await asyncio.sleep(0.01)
    pytest.fail(f"left open: {sockets}")


# --- over a socket ----------------------------------------------------------------------------------------------------


async def test_fault_a77_over_a_real_socket(scripted):
    scripted.on("Test.pending", SILENT)
    reports = asyncio.Queue()
    async with connect(scripted.http_url, reconnect=True) as connection:
        connection.on("reconnected", reports.put_nowait)
        tab = await connection.new_tab()
        await tab.send("Page.enable")
        call = asyncio.ensure_future(tab.send("Test.pending"))
        await scripted.received("Test.pending")
        (await scripted.client()).cut()
        with pytest.raises(ConnectionClosed) as caught:
            await call
        assert caught.value.sent
        report = await reports.get()
        assert report.restored == (connection.root, tab)
        assert scripted.commands[-1] == {
            "id": scripted.commands[-1]["id"],
            "method": "Page.enable",
            "sessionId": tab.id,
        }
        await (await scripted.client(1)).close(1012, "restart")
        report = await reports.get()
        assert (report.code, report.reason) == (1012, "restart")
        assert await tab.send("Test.answered") == {}
        scripted.refusal = (404, "no such browser")
        scripted.http["/json/version"] = (404, "no such browser")
        (await scripted.client(2)).cut()
        async with asyncio.timeout(60):
            await connection.wait_closed()
        assert "404" in connection.close_reason


async def test_reconnect_is_off_unless_asked_for(scripted):
    async with connect(scripted.ws_url) as connection:
        (await scripted.client()).cut()
        await connection.wait_closed()
        assert connection.closed
        assert not connection.reconnecting
        assert not connection._link._mux._remember


async def test_the_limit_is_settable(scripted):
    async with connect(scripted.ws_url, reconnect=timedelta(milliseconds=200)) as connection:
        scripted.refusal = (503, "not now")
        (await scripted.client()).cut()
        async with asyncio.timeout(60):
            await connection.wait_closed()
        assert "within 0.2 s" in connection.close_reason


async def test_refused_answers_of_the_probe_are_answers(scripted):
    scripted.on("Browser.getVersion", Refusal(-32601, "'Browser.getVersion' wasn't found"))
    reports = asyncio.Queue()
    async with connect(scripted.ws_url, reconnect=True) as connection:
        connection.on("reconnected", reports.put_nowait)
        (await scripted.client()).cut()
        assert (await reports.get()).tries == 1


def test_under_uvloop():
    uvloop = pytest.importorskip("uvloop")

    async def over_the_socket():
        from cdpbridge.testing import ScriptedBrowser

        async with (
            ScriptedBrowser() as scripted,
            connect(
                scripted.ws_url, reconnect=True, ping_interval=SECOND / 20, ping_timeout=SECOND / 20
            ) as connection,
        ):
            tab = await connection.new_tab()
            await asyncio.sleep(0.3)  # pings are answered
            assert len(scripted.clients) == 1
            (await scripted.client()).stop_reading()
            while len(scripted.clients) == 1:
                await asyncio.sleep(0.01)
            assert await tab.send("Test.small") == {}

    uvloop.run(over_the_socket())


# --- anything at any time ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(60))
async def test_any_interleaving_leaves_nothing_behind(browser, seed, turns):
    """Drops, refusals, deaths of targets and commands in any order: every call ends, and none reaches another's target."""
    chance = random.Random(seed)
    browser.targets |= {"U": "page", "V": "page", "F": "iframe", "W": "worker"}
    browser.automatic = {"T": ["F"], "F": ["W"]}
    sessions = [await browser.connection.attach(target) for target in ("T", "U", "V", "U")]
    targets = dict(zip(sessions, ("T", "U", "V", "U"), strict=True))
    await sessions[0].auto_attach(wait_for_debugger=False)
    received = []
    answer = browser.answer

    def check(transport, command):
        if command["method"] == "Test.who":
            received.append((browser.sessions.get(command["sessionId"]), command["params"]["target"]))
        if command["method"] != "Browser.getVersion" and chance.random() < 0.1:
            return None  # never answered
        return answer(transport, command)

    browser.answer = check
    calls = []

    def send():
        session = chance.choice(sessions)
        method = chance.choice(
            ["Test.who"] * 3 + ["Page.enable", "Page.disable", "Log.enable", "Profiler.start"]
        )
        params = {"target": targets[session]} if method == "Test.who" else {}
        calls.append(asyncio.ensure_future(session.send(method, params, timeout=5 * SECOND)))

    def detach():
        calls.append(asyncio.ensure_future(chance.choice(sessions).detach()))

    def drop():
        browser.transports[-1].lose(1006, unsent=chance.randrange(2))

    def drop_at():
        browser.dropping = chance.choice(["Target.attachToTarget", "Page.enable", "Target.setAutoAttach"])

    def refuse():
        browser.failures += [ConnectFailed("no", stage="tcp")] * chance.randrange(3)

    def close_target():
        browser.targets.pop(chance.choice(["U", "V", "F"]), None)
        browser.automatic = {"T": [target for target in ["F"] if target in browser.targets], "F": ["W"]}

    def event():
        session = chance.choice(sessions)
        method = chance.choice(
            ["Inspector.targetCrashed", "Inspector.targetReloadedAfterCrash", "Test.event"]
        )
        browser.transports[-1].event(method, {}, session.id)

    acts = [*[send] * 12, *[drop] * 2, drop_at, refuse, close_target, event, event, detach]
    for _ in range(120):
        chance.choice(acts)()
        if chance.random() < 0.5:
            await turns(chance.randrange(6))
        if chance.random() < 0.3:
            browser.clock.advance(chance.random())
    browser.answer = answer
    for _ in range(200):
        await turns(3)
        browser.clock.advance(0.5)
        if all(call.done() for call in calls) and not browser.connection.reconnecting:
            break
    await asyncio.wait(calls, timeout=60)  # the deadline of a call that waits for a wire is the loop's
    expected = (ConnectionClosed, CommandTimeout, TargetClosed, CommandError, type(None))
    assert {type(call.exception()) for call in calls if not isinstance(call.exception(), expected)} == set()
    assert [pair for pair in received if pair[0] != pair[1]] == []
    connection = browser.connection
    assert not connection._link._mux.pending
    assert not connection._link.send_blocked
    assert connection.closed or not connection._link._mux.targets.suspended
    assert not connection._link._reconnecting._gates
    assert not any(not task.done() for task in connection._link._tasks)
