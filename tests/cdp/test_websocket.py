"""Frames: our own reader against the Sans-I/O core, and what RFC 6455 asks for."""

import asyncio
import os
import struct

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.protocol import OPEN
from websockets.uri import parse_uri
from websockets.utils import accept_key

from cdpbridge.cdp import connect
from cdpbridge.cdp._frame_reader import LARGEST_BUFFER
from cdpbridge.cdp._websocket import State, WebSocketTransport
from cdpbridge.errors import ConnectFailed, ConnectionClosed, MessageTooBig
from cdpbridge.testing import SILENT

LIMIT = 100_000


class Wire(asyncio.Transport):
    """An asyncio transport that goes nowhere."""

    def __init__(self):
        super().__init__()
        self.written = b""
        self.closing = False
        self.protocol = None

    def set_protocol(self, protocol):
        self.protocol = protocol

    def set_write_buffer_limits(self, high=None, low=None):
        pass

    def pause_reading(self):
        pass

    resume_reading = pause_reading

    def write(self, data):
        self.written += data

    def is_closing(self):
        return self.closing

    def close(self):
        self.closing = True

    abort = close


class Receiver:
    def __init__(self):
        self.log = []
        self.kept = []

    def received(self, buffer, start, end):
        data = bytes(buffer[start:end])
        if start == 0 and end == len(buffer):
            self.kept.append((buffer, data))
        data.decode()
        self.log.append(data)

    def lost(self, closed):
        self.log.append((closed.code, type(closed.cause).__name__))

    def pause(self):
        pass

    resume = pause


def frame(payload, opcode=1, *, fin=True, mask=False, head=0):
    first = (0x80 if fin else 0) | opcode | head
    size, bit = len(payload), 0x80 if mask else 0
    if size < 126:
        start = struct.pack("!BB", first, bit | size)
    elif size < 65536:
        start = struct.pack("!BBH", first, bit | 126, size)
    else:
        start = struct.pack("!BBQ", first, bit | 127, size)
    return start + (b"\0\0\0\0" if mask else b"") + payload


def push(websocket, data, step=None):
    at = 0
    while at < len(data):
        room = websocket.get_buffer(-1)
        size = min(len(room), len(data) - at, step or len(data))
        room[:size] = data[at : at + size]
        websocket.buffer_updated(size)
        at += size


def shake_hands(step=None, behind=b""):
    core = ClientProtocol(parse_uri("ws://127.0.0.1:1/devtools/browser/x"), max_size=LIMIT)
    websocket = WebSocketTransport(core, LIMIT)
    wire = Wire()
    websocket.open(wire, {})
    head = (
        "HTTP/1.1 101 WebSocket Protocol Handshake\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept_key(core.key)}\r\n\r\n"
    )
    push(websocket, head.encode() + behind, step)
    assert websocket.opened.done()
    return websocket, wire


def read(data, step=None, *, core_only=False):
    """Everything a receiver sees of some bytes, and what was written back, close frames unmasked."""

    async def run():
        websocket, _ = shake_hands()
        receiver = Receiver()
        websocket.start(receiver)
        if core_only:
            websocket._state = State.CLOSING
        push(websocket, data, step)
        await asyncio.sleep(0)
        for buffer, kept in receiver.kept:
            assert buffer == kept, "a buffer that was given away has changed"
        if websocket._linger:
            websocket._linger.cancel()
        return receiver.log

    return asyncio.run(run())


texts = st.text(max_size=40).map(str.encode) | st.integers(0, 20_000).map(lambda size: b"x" * size)
good_frames = st.one_of(
    texts.map(frame),
    texts.map(lambda data: frame(data, 2)),
    st.binary(max_size=125).map(lambda data: frame(data, 9)),
    st.binary(max_size=125).map(lambda data: frame(data, 10)),
    st.tuples(texts, texts, st.binary(max_size=20)).map(
        lambda parts: frame(parts[0], fin=False) + frame(parts[2], 9) + frame(parts[1], 0)
    ),
)
bad_frames = st.one_of(
    st.binary(max_size=30),
    st.binary(max_size=30).map(frame),
    texts.map(lambda data: frame(data, mask=True)),
    texts.map(lambda data: frame(data, fin=False)),
    texts.map(lambda data: frame(data, 0)),
    texts.map(lambda data: frame(data, head=0x40)),
    st.just(frame(b"x" * (LIMIT + 1))),
    st.just(frame(b"y" * 90_000, fin=False) + frame(b"y" * 20_000, 0)),
    st.sampled_from([b"", b"\x03\xe8", b"\x0f\xa1gone", b"\x03", b"\x03\xe8\xff"]).map(
        lambda data: frame(data, 8)
    ),
)


@settings(max_examples=150)
@example(good=b"", mixed=frame(b"\xff", 2) + frame(b"", 2), step=1)  # nothing may follow the end
@given(
    st.lists(good_frames, max_size=6).map(b"".join),
    st.lists(good_frames | bad_frames, max_size=4).map(b"".join),
    st.sampled_from([1, 2, 3, 7, 1000]),
)
def test_fuzz_both_readings_and_all_cuts_give_the_same_events(good, mixed, step):
    data = good + mixed
    whole = read(data)
    if len(data) < 5_000 or step > 100:
        assert read(data, step) == whole
    by_core = read(data, core_only=True)
    assert by_core == whole


@pytest.mark.parametrize("step", [1, 5, None])
@pytest.mark.parametrize("behind", [b"", frame(b"{}"), frame(b"{}") + frame(b'{"a":1}')[:4]])
async def test_handshake_in_pieces_keeps_the_frames_behind_it(step, behind):
    websocket, _ = shake_hands(step, behind)
    receiver = Receiver()
    websocket.start(receiver)
    if len(behind) > 4:
        push(websocket, (frame(b"{}") + frame(b'{"a":1}'))[len(behind) :], step)
        assert receiver.log[0] == b"{}"
    websocket.abort()


async def test_absurdly_long_handshake_ends():
    core = ClientProtocol(parse_uri("ws://127.0.0.1:1/x"))
    websocket = WebSocketTransport(core, LIMIT)
    websocket.open(Wire(), {})
    push(websocket, b"HTTP/1.1 101 x\r\nA: " + b"x" * 300_000)
    with pytest.raises(ConnectFailed):
        websocket.opened.result()


async def test_fault_a67_fragments_with_control_frames_between(connection, scripted):
    client = await scripted.client()
    async with connection.root.expect("A.b") as first, connection.root.expect("C.d") as second:
        client.write(frame(b'{"method":"A.b",', fin=False))
        client.write(frame(b"ping", 9))
        client.write(frame(b'"params":{"t":"\xc3', 0, fin=False) + frame(b'\xa9"}}', 0))
        client.write(frame(b'{"method":"C.d"}'))
    assert first.event == {"t": "é"}
    assert second.event == {}


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(b"{}", mask=True), 1002),
        (frame(b"{}", head=0x40), 1002),
        (frame(b"{}", 3), 1002),
        (frame(b"x", fin=False) + frame(b"{}"), 1002),
        (frame(b"x" * 126, 9), 1002),
    ],
)
async def test_fault_a67_frames_against_the_rules(connection, scripted, data, code):
    client = await scripted.client()
    scripted.on("Test.pending", SILENT)
    pending = asyncio.ensure_future(connection.root.send("Test.pending"))
    await scripted.received("Test.pending")
    client.write(data)
    with pytest.raises(ConnectionClosed) as caught:
        await pending
    assert caught.value.code == code
    assert connection.close_code == code
    assert (await client.wait_closed())[0] == code


async def test_fault_a57_invalid_utf8_ends_with_1007(connection, scripted):
    client = await scripted.client()
    scripted.on("Test.pending", SILENT)
    pending = asyncio.ensure_future(connection.root.send("Test.pending"))
    await scripted.received("Test.pending")
    client.write(frame(b'{"id":1,"result":{"t":"\xff"}}'))
    with pytest.raises(ConnectionClosed) as caught:
        await pending
    assert caught.value.code == 1007
    assert (await client.wait_closed())[0] == 1007


async def test_fault_a61_reply_over_our_limit_names_it(scripted):
    scripted.on("Page.captureScreenshot", {"data": "x" * 2_000_000})
    async with connect(scripted.ws_url, max_message_bytes=1_000_000) as connection:
        with pytest.raises(MessageTooBig, match="1009") as caught:
            await connection.root.send("Page.captureScreenshot")
        assert caught.value.limit_bytes == 1_000_000
        assert connection.close_code == 1009
        with pytest.raises(ConnectionClosed):
            await connection.root.send("Browser.getVersion")


async def test_masks_are_random_and_undone(running_loop, turns):
    websocket, wire = shake_hands()
    websocket.start(Receiver())
    await turns()
    wire.written = b""
    for _ in range(2000):
        websocket.send(b"{}")
    await turns()
    masks = {wire.written[at + 2 : at + 6] for at in range(0, len(wire.written), 8)}
    assert len(masks) > 1990
    key = wire.written[2:6]
    assert bytes(byte ^ key[at % 4] for at, byte in enumerate(wire.written[6:8])) == b"{}"
    websocket.abort()


async def test_writes_of_one_turn_are_one_write(running_loop, turns):
    websocket, wire = shake_hands()
    websocket.start(Receiver())
    await turns()
    writes = []
    wire.write = writes.append
    for _ in range(100):
        websocket.send(b"{}")
    assert not writes
    await turns()
    assert len(writes) == 1
    websocket.abort()


async def test_loss_in_the_turn_of_a_send_says_that_nothing_left(running_loop):
    websocket, _ = shake_hands()
    ends = []
    receiver = Receiver()
    receiver.lost = ends.append
    websocket.start(receiver)
    websocket.send(b"{}")
    websocket.send(b"{}")
    websocket.connection_lost(ConnectionResetError("reset"))
    assert (ends[0].code, ends[0].reason, ends[0].unsent) == (1006, "reset", 2)


async def test_idle_connection_keeps_a_small_buffer_and_a_busy_one_grows(running_loop):
    websocket, _ = shake_hands()
    websocket.start(Receiver())
    assert len(websocket.get_buffer(-1)) <= 16 * 1024
    push(websocket, frame(b"x" * 100) * 10_000)
    assert len(websocket.get_buffer(-1)) == LARGEST_BUFFER
    websocket.abort()


async def test_fault_a66_compression_is_off_unless_asked_for(scripted):
    scripted.on("Test.echo", lambda client, command: {"t": command["params"]["t"] * 1000})
    async with connect(scripted.ws_url) as connection:
        assert "Sec-WebSocket-Extensions" not in scripted.clients[0].headers
        assert (await connection.root.send("Test.echo", {"t": "ab"}))["t"] == "ab" * 1000
    async with connect(scripted.ws_url, compression=True) as connection:
        assert "permessage-deflate" in scripted.clients[1].headers["Sec-WebSocket-Extensions"]
        replies = await asyncio.gather(*(connection.root.send("Test.echo", {"t": "ab"}) for _ in range(20)))
        assert all(reply["t"] == "ab" * 1000 for reply in replies)


async def test_upgrade_sends_no_origin_and_our_headers(scripted):
    async with connect(scripted.ws_url, headers={"Authorization": "Bearer secret", "user-agent": "mine"}):
        headers = scripted.clients[0].headers
        assert "Origin" not in headers
        assert headers["Authorization"] == "Bearer secret"
        assert headers["User-Agent"] == "mine"


async def test_core_logs_no_secrets(scripted, caplog):
    caplog.set_level("DEBUG")
    async with connect(scripted.ws_url, headers={"Authorization": "Bearer secret"}) as connection:
        await connection.root.send("Test.command", {"password": "hunter2"})
        text = "\n".join(
            record.getMessage() for record in caplog.records if record.name != "websockets.server"
        )
    assert "secret" not in text
    assert "hunter2" not in text


async def test_core_stays_in_step(running_loop):
    websocket, _ = shake_hands()
    receiver = Receiver()
    websocket.start(receiver)
    for _ in range(50):
        push(websocket, frame(b"{}") + frame(os.urandom(20), 9) + frame(b"{}", fin=False) + frame(b"", 0), 11)
    assert receiver.log == [b"{}"] * 100
    assert websocket._core.state is OPEN
    websocket.abort()
