"""Pings, silence and death; no message is ever told to the keepalive."""

import asyncio
import time
from datetime import timedelta
from itertools import pairwise

import pytest

from cdpbridge.cdp import connect
from cdpbridge.cdp._endpoint import Progress, dial
from cdpbridge.cdp._keepalive import Keepalive, Verdict
from cdpbridge.cdp._upgrade import upgrade
from cdpbridge.errors import CommandError, CommandTimeout, ConnectionClosed
from cdpbridge.testing import SILENT, ManualClock, Refusal

ONE_BUILD = pytest.mark.one_build("the client's protocol; both builds speak it with the same code")

SECOND = timedelta(seconds=1)
WAIT, PING, DEAD = Verdict.WAIT, Verdict.PING, Verdict.DEAD


# --- the logic --------------------------------------------------------------------------------------------------------


def course(keepalive, until, alive=(), now=0.0):
    """What comes of looking whenever a look is due: `(time, verdict)`, without the waiting."""
    verdicts = []
    while keepalive.due <= until and (not verdicts or verdicts[-1][1] is not DEAD):
        before, now = now, keepalive.due
        verdict = keepalive.check(now, alive=any(before < moment <= now for moment in alive))
        if verdict is not WAIT:
            verdicts.append((now, verdict))
    return verdicts


def test_fault_a69_silence_is_asked_then_fatal():
    assert course(Keepalive(20, 20, 0), 100) == [(20, PING), (40, DEAD)]


def test_fault_a69_uneven_periods():
    assert course(Keepalive(20, 3, 0), 100) == [(20, PING), (23, DEAD)]
    assert course(Keepalive(3, 20, 0), 100) == [(3, PING), (23, DEAD)]


def test_fault_a70_any_byte_is_life():
    assert course(Keepalive(20, 20, 0), 100, alive=range(100)) == []
    assert course(Keepalive(20, 20, 0), 60, alive=[19]) == [(40, PING), (60, DEAD)]
    assert course(Keepalive(20, 20, 0), 64, alive=[20.1]) == [(20, PING), (45, PING)]


def test_fault_a69_a_blocked_loop_is_not_the_peers_silence():
    keepalive = Keepalive(20, 20, 0)
    assert course(keepalive, 35) == [(20, PING)]
    assert keepalive.check(70, alive=False) is WAIT
    assert course(keepalive, 200, now=70) == [(90, DEAD)]


def test_a_blocked_loop_before_the_ping_still_asks():
    keepalive = Keepalive(20, 20, 0)
    assert keepalive.check(50, alive=False) is PING
    assert course(keepalive, 200, now=50) == [(70, DEAD)]


def test_without_a_timeout_it_pings_for_the_proxies_sake():
    assert course(Keepalive(20, None, 0), 70) == [(20, PING), (40, PING), (60, PING)]


@pytest.mark.parametrize("periods", [(0, 20), (20, 0), (-1, None)])
def test_periods_are_positive(periods):
    with pytest.raises(ValueError, match="positive"):
        Keepalive(*periods, 0)


# --- the socket -------------------------------------------------------------------------------------------------------


class Ended:
    """A receiver that keeps what it is told."""

    def __init__(self):
        self.messages = []
        self.closed = None

    def received(self, buffer, start, end):
        self.messages.append(bytes(buffer[start:end]))

    def lost(self, closed):
        self.closed = closed

    def pause(self):
        pass

    resume = pause


class Watched:
    """A WebSocket with a keepalive by a clock of its own, 20 s and 20 s."""

    @classmethod
    async def open(cls, scripted):
        self = cls()
        self.scripted = scripted
        self.clock = ManualClock()
        self.receiver = Ended()
        transport = await dial(scripted.ws_url, progress=Progress())
        self.websocket = await upgrade(
            transport, scripted.ws_url, headers={}, max_message_bytes=2**28, compression=False
        )
        self.websocket.keep_alive(20, 20, self.clock)
        self.websocket.start(self.receiver)
        self.client = await scripted.client()
        return self

    async def pass_time(self, seconds):
        """As a loop that is never late would."""
        end = self.clock.time() + seconds
        while self.clock.time() < end and self.receiver.closed is None:
            self.clock.advance(min(5, end - self.clock.time()))
            await asyncio.sleep(0.01)


@pytest.fixture
async def watched(scripted):
    watched = await Watched.open(scripted)
    yield watched
    watched.websocket.abort()
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_fault_a69_half_open_connection_ends(watched, wait_until):
    watched.client.stop_reading()  # nothing is answered, nothing is closed
    await watched.pass_time(39)
    assert watched.receiver.closed is None
    await watched.pass_time(2)
    assert (watched.receiver.closed.code, watched.receiver.closed.reason) == (1006, "keepalive")
    assert watched.clock.scheduled == 0


async def test_fault_a69_a_peer_that_answers_pings_lives(watched):
    await watched.pass_time(200)
    assert watched.receiver.closed is None
    assert not watched.receiver.messages


async def test_fault_a69_pings_come_sooner_than_idle_proxies_cut(watched, monkeypatch):
    """A71: proxies cut after 60 s and more without traffic."""
    pings = []
    send_ping = watched.websocket._core.send_ping
    monkeypatch.setattr(
        watched.websocket._core,
        "send_ping",
        lambda data: (pings.append(watched.clock.time()), send_ping(data)),
    )
    start = watched.clock.time()
    await watched.pass_time(200)
    times = [start, *pings]
    assert len(pings) >= 7
    assert max(later - earlier for earlier, later in pairwise(times)) <= 30


async def test_fault_a70_a_slow_transfer_is_life(watched):
    """One frame that takes 200 s, in pieces too small for a message, with no answer to any ping."""
    size = 1_000_000
    watched.client.stop_reading()
    watched.client.write(b"\x81\x7f" + size.to_bytes(8, "big"))
    for _ in range(20):
        watched.client.write(b"x" * (size // 20))
        await watched.pass_time(10)
        assert watched.receiver.closed is None
    [message] = watched.receiver.messages
    assert message == b"x" * size


async def test_fault_a70_single_bytes_and_dropped_messages_are_life(watched):
    watched.client.stop_reading()
    for byte in b"\x81\x7e\x01\x00":
        watched.client.write(bytes([byte]))
        await watched.pass_time(20)
        assert watched.receiver.closed is None
    watched.client.write(b"y" * 256)
    await watched.pass_time(20)
    assert watched.receiver.messages == [b"y" * 256]
    await watched.pass_time(50)
    assert watched.receiver.closed.reason == "keepalive"


async def test_fault_a70_an_upload_that_drains_is_life(watched, monkeypatch):
    """The peer takes what we write, slowly, and has nothing to say before its end."""
    watched.client.stop_reading()
    left = iter(range(50_000_000, 0, -1_000_000))

    class Draining:
        """uvloop's transports take no other method."""

        def __init__(self, transport):
            self._transport = transport

        def __getattr__(self, name):
            return getattr(self._transport, name)

        def get_write_buffer_size(self):
            return next(left)

    monkeypatch.setattr(watched.websocket, "_transport", Draining(watched.websocket._transport))
    await watched.pass_time(200)
    assert watched.receiver.closed is None


async def test_fault_a69_a_blocked_loop_does_not_trip_it(scripted):
    scripted.on("Test.block", {})
    tenth = timedelta(milliseconds=100)
    async with connect(scripted.ws_url, ping_interval=tenth, ping_timeout=tenth) as connection:
        await asyncio.sleep(0.11)
        for _ in range(3):
            time.sleep(0.4)
            await asyncio.sleep(0.02)
        assert await connection.root.send("Test.block") == {}
        assert not connection.closed


async def test_fault_a69_end_to_end(scripted):
    scripted.on("Test.pending", SILENT)
    quick = timedelta(milliseconds=50)
    async with connect(scripted.ws_url, ping_interval=quick, ping_timeout=quick) as connection:
        (await scripted.client()).stop_reading()
        with pytest.raises(ConnectionClosed, match="keepalive") as caught:
            await connection.root.send("Test.pending")
        assert (caught.value.code, caught.value.reason, caught.value.sent) == (1006, "keepalive", True)


async def test_keepalive_can_be_switched_off(scripted):
    async with connect(scripted.ws_url, ping_interval=None) as connection:
        assert connection._link._transport._check_timer is None
    async with connect(scripted.ws_url, ping_timeout=None) as connection:
        assert connection._link._transport._check_timer is not None
    assert connection._link._transport._check_timer is None


async def test_fault_a71_a_cut_by_an_idle_proxy_is_told_at_once(connection, scripted):
    told = asyncio.Event()
    connection.on("disconnected", told.set)
    (await scripted.client()).cut()
    async with asyncio.timeout(60):
        await told.wait()
    assert connection.close_code == 1006


# --- is the browser alive? --------------------------------------------------------------------------------------------


async def test_is_alive(connection, scripted):
    assert await connection.is_alive()
    scripted.on("Browser.getVersion", Refusal(-32601, "'Browser.getVersion' wasn't found"))
    assert await connection.is_alive()
    scripted.on("Browser.getVersion", SILENT)
    assert not await connection.is_alive(timedelta(milliseconds=30))
    await connection.close()
    assert not await connection.is_alive()


@ONE_BUILD
@pytest.mark.chromium
async def test_fault_a31_a_busy_page_is_no_dead_browser(chrome_connection, tab):
    await tab.send("Runtime.enable")
    expression = "console.log('begun'); while (true);"
    async with tab.expect("Runtime.consoleAPICalled"):  # what has not begun cannot be terminated
        busy = asyncio.ensure_future(tab.send("Runtime.evaluate", {"expression": expression}))
    with pytest.raises(CommandTimeout):
        await tab.send("Runtime.evaluate", {"expression": "1"}, timeout=timedelta(milliseconds=300))
    assert await chrome_connection.is_alive(SECOND * 30)
    await tab.send("Runtime.terminateExecution")
    with pytest.raises(CommandError, match="terminated"):
        await busy


@ONE_BUILD
@pytest.mark.chromium
async def test_a_hung_browser_is_noticed(own_chrome):
    import signal

    async with connect(own_chrome.ws_url, ping_interval=SECOND, ping_timeout=SECOND) as connection:
        assert await connection.is_alive()
        own_chrome.signal(signal.SIGSTOP)
        try:
            assert not await connection.is_alive(SECOND / 10)
            async with asyncio.timeout(60):
                await connection.wait_closed()
        finally:
            own_chrome.signal(signal.SIGCONT)
        assert connection.close_reason == "keepalive"
