"""Frames: our reading of the wire against that of `websockets` alone, on random streams cut at random places.

The other reader is the Sans-I/O core of `websockets` and nothing else: it shares no line with `WebSocketTransport`. Both must
give the same messages, end with the same code, and answer the same bytes, masks apart.
"""

import asyncio
import random
import struct
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.exceptions import PayloadTooBig
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN, State
from websockets.uri import parse_uri
from websockets.utils import accept_key, apply_mask

from cdpbridge.cdp._websocket import WebSocketTransport
from tests.cases import cases

LIMIT = 70_000


class Wire(asyncio.Transport):
    """An asyncio transport that goes nowhere."""

    def __init__(self):
        super().__init__()
        self.written = b""
        self.closing = False

    def set_protocol(self, protocol):
        pass

    def set_write_buffer_limits(self, high=None, low=None):
        pass

    def pause_reading(self):
        pass

    resume_reading = pause_reading

    def write(self, data):
        assert not self.closing, "written after the end"
        self.written += data

    def is_closing(self):
        return self.closing

    def close(self):
        self.closing = True

    abort = close


class Receiver:
    """Keeps what comes, refuses what is no UTF-8, and sees whether a buffer that is its own stays so."""

    def __init__(self):
        self.messages = []
        self.own = []
        self.end = None

    def received(self, buffer, start, end):
        assert self.end is None, "received after the end"
        data = bytes(buffer[start:end])
        if start == 0 and end == len(buffer):
            self.own.append((buffer, data))
        data.decode()
        self.messages.append(data)

    def lost(self, closed):
        assert self.end is None, "lost twice"
        self.end = (closed.code, closed.cause is not None)

    def pause(self):
        pass

    resume = pause


def unmasked(data):
    """A client's frames, without their masks, which are random: `[(first byte, payload)]`, and what is left over."""
    frames, at = [], 0
    while at + 2 <= len(data):
        first, size = data[at], data[at + 1]
        assert size & 0x80, "a client's frame must be masked"
        size &= 0x7F
        at += 2
        if size == 126:
            size, at = struct.unpack_from("!H", data, at)[0], at + 2
        elif size == 127:
            size, at = struct.unpack_from("!Q", data, at)[0], at + 8
        mask, at = data[at : at + 4], at + 4
        frames.append((first, apply_mask(data[at : at + size], mask)))
        at += size
    assert at == len(data)
    return frames


def upgraded(core):
    return (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept_key(core.key)}\r\n\r\n"
    ).encode()


def new_core():
    core = ClientProtocol(parse_uri("ws://127.0.0.1:1/devtools/browser/x"), max_size=LIMIT)
    core.debug = False
    return core


def read_ours(pieces, sent):
    """Messages, end and answers of `WebSocketTransport`; `sent` goes out in the middle."""

    async def run():
        core = new_core()
        websocket, wire, receiver = WebSocketTransport(core, LIMIT), Wire(), Receiver()
        websocket.open(wire, {})
        head = upgraded(core)
        websocket.get_buffer(-1)[: len(head)] = head
        websocket.buffer_updated(len(head))
        assert websocket.opened.done()
        websocket.start(receiver)
        await asyncio.sleep(0)
        wire.written = b""
        for number, piece in enumerate(pieces):
            if number == len(pieces) // 2 and receiver.end is None and sent is not None:
                websocket.send(sent)
            at = 0
            while at < len(piece) and not wire.closing:
                room = websocket.get_buffer(-1)
                assert len(room), "no room to read into"
                size = min(len(room), len(piece) - at)
                room[:size] = piece[at : at + size]
                websocket.buffer_updated(size)
                at += size
        await asyncio.sleep(0)
        for buffer, data in receiver.own:
            assert buffer == data, "a buffer that was given away has changed"
        if receiver.end is None:
            websocket.eof_received()
        await asyncio.sleep(0)
        if websocket._linger is not None:
            websocket._linger.cancel()
        assert receiver.end is not None
        return receiver.messages, receiver.end, unmasked(wire.written)

    return asyncio.run(run())


def read_theirs(pieces, sent, *, bytewise=False):
    """The same of the core of `websockets`, fed as its documentation says.

    Given much at once, the core reads ahead, and answers a later frame's fault before its owner has seen that an earlier text is
    no UTF-8. Only byte by byte does its owner's verdict come in the stream's order, which is ours.
    """
    core = new_core()
    core.send_request(core.connect())
    core.data_to_send()
    core.receive_data(upgraded(core))
    core.events_received()
    core.data_to_send()
    messages, fragments, written, end, did_send = [], [], b"", None, False
    for number, piece in enumerate(pieces):
        if number == len(pieces) // 2 and end is None and core.state is OPEN and sent is not None:
            core.send_text(sent)
            did_send = True
        for part in [piece[at : at + 1] for at in range(len(piece))] if bytewise else [piece]:
            core.receive_data(part)
            for event in core.events_received():
                if not isinstance(event, Frame) or end is not None:
                    continue
                if event.opcode is Opcode.CLOSE:
                    end = (core.close_rcvd.code, False)
                elif event.opcode in {Opcode.TEXT, Opcode.BINARY, Opcode.CONT}:
                    fragments.append(bytes(event.data))
                    if event.fin:
                        message, fragments = b"".join(fragments), []
                        try:
                            message.decode()
                        except UnicodeDecodeError as error:
                            if not bytewise:
                                return read_theirs(pieces, sent, bytewise=True)
                            core.fail(1007, f"invalid UTF-8: {error.reason}")
                            end = (1007, False)
                        else:
                            messages.append(message)
            if core.parser_exc is not None and end is None:
                end = (core.close_sent.code, isinstance(core.parser_exc, PayloadTooBig))
            written += b"".join(core.data_to_send())
    if end is None:
        core.receive_eof()
        end = (1006, False)
    return messages, end, unmasked(written), did_send


def compare(pieces, sent=None):
    theirs = read_theirs(pieces, sent)
    # The core refuses a bad opcode before it has the frame's length, we have both first: up to 8 bytes later.
    ours = read_ours(pieces, sent if theirs[3] else None)
    assert ours[0] == theirs[0]
    assert ours[1] == theirs[1]
    assert ours[2] == theirs[2]
    return ours


def frame(payload, opcode=1, *, fin=True, mask=False, reserved=0, form=0):
    """A server's frame. `form` 2 or 8 writes the length in that many bytes, needed or not."""
    first, size = (0x80 if fin else 0) | reserved | opcode, len(payload)
    bit = 0x80 if mask else 0
    if form == 8 or size > 65535:
        head = struct.pack("!BBQ", first, bit | 127, size)
    elif form == 2 or size > 125:
        head = struct.pack("!BBH", first, bit | 126, size)
    else:
        head = struct.pack("!BB", first, bit | size)
    return head + (b"\1\2\3\4" if mask else b"") + payload


json_like = st.one_of(
    st.just(b'{"id":1,"result":{}}'),
    st.text(max_size=60).map(str.encode),
    st.integers(0, LIMIT + 10).map(lambda size: b"x" * size),
    st.sampled_from([125, 126, 127, 65535, 65536, LIMIT, LIMIT + 1]).map(lambda size: b"y" * size),
)
control = st.tuples(st.sampled_from([9, 10]), st.binary(max_size=125)).map(
    lambda pair: frame(pair[1], pair[0])
)


@st.composite
def fragmented(draw):
    """A message in fragments, cut also inside its characters, with control frames between them."""
    data = draw(st.text(min_size=1, max_size=40)).encode()
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), min_size=1, max_size=4)))
    parts = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    opcode, out = draw(st.sampled_from([1, 2])), b""
    for number, part in enumerate(parts):
        out += frame(part, 0 if number else opcode, fin=number == len(parts) - 1)
        if number < len(parts) - 1:
            out += draw(st.just(b"") | control)
    return out


good = st.one_of(
    json_like.map(frame),
    json_like.map(frame),
    json_like.map(lambda data: frame(data, 2)),
    st.tuples(
        st.binary(max_size=20).map(lambda data: b"z" + bytes(b & 0x7F for b in data)), st.sampled_from([2, 8])
    ).map(lambda pair: frame(pair[0], form=pair[1])),
    control,
    fragmented(),
)
bad = st.one_of(
    st.binary(max_size=40),
    st.binary(min_size=1, max_size=30).map(frame),
    st.binary(max_size=20).map(lambda data: frame(data, 2)),
    json_like.map(lambda data: frame(data, mask=True)),
    json_like.map(lambda data: frame(data, fin=False)),
    json_like.map(lambda data: frame(data, 0)),
    st.sampled_from([0x10, 0x20, 0x40, 0x70]).map(lambda bits: frame(b"{}", reserved=bits)),
    st.integers(3, 15).map(lambda opcode: frame(b"{}", opcode)),
    st.just(frame(b"p" * 126, 9)),
    st.sampled_from([8, 9, 10]).map(lambda opcode: frame(b"", opcode, fin=False)),
    st.just(frame(b"y" * 40_000, fin=False) + frame(b"y" * 40_000, 0)),
    st.just(b"\x81\x7f\xff\xff\xff\xff\xff\xff\xff\xff"),
    st.just(b"\x81\x7f\x80\0\0\0\0\0\0\0"),
    st.sampled_from(
        [999, 1000, 1001, 1004, 1005, 1006, 1009, 1011, 1015, 1016, 2999, 3000, 4001, 4999, 5000, 65535]
    ).map(lambda code: frame(struct.pack("!H", code) + b"reason", 8)),
    st.sampled_from([b"", b"\x03", b"\x03\xe8\xff", b"\x03\xe8" + b"r" * 123, b"\x03\xe8" + b"r" * 124]).map(
        lambda data: frame(data, 8)
    ),
)


def cut(data, places):
    places = [0, *sorted({place % (len(data) + 1) for place in places}), len(data)]
    return [data[a:b] for a, b in pairwise(places) if a < b]


places = st.lists(st.integers(0, 1_000_000), max_size=12)
streams = st.tuples(st.lists(good, max_size=6), st.lists(good | bad, max_size=4)).map(
    lambda pair: b"".join(pair[0] + pair[1])
)


@settings(max_examples=400)
@example(frame(b"\xff") + frame(b"{}"), [], None)
@example(frame(b"a" * 10, fin=False) + frame(b"ping", 9) + frame(b"\xff", 0) + frame(b"{}"), [3], b"{}")
@example(frame(b"", 8) + frame(b"{}"), [], b"{}")
@given(streams, places, st.none() | st.sampled_from([b"{}", b"x" * 200, b"x" * 70_000]))
def test_fuzz_same_events_same_end_same_answers(stream, cuts, sent):
    compare(cut(stream, cuts), sent)


@settings(max_examples=60)
@given(st.lists(good | bad, max_size=5).map(b"".join).filter(lambda data: len(data) < 2000))
def test_fuzz_byte_by_byte(stream):
    whole = compare([stream] if stream else [])
    assert compare([stream[at : at + 1] for at in range(len(stream))]) == whole


@settings(max_examples=100)
@given(st.lists(good, min_size=1, max_size=8).map(b"".join), places)
def test_fuzz_good_frames_never_end_the_connection(stream, cuts):
    if len(stream) <= LIMIT:
        _, end, _ = compare(cut(stream, cuts))
        assert end == (1006, False)  # only the end of the stream itself


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_fuzz_long_run():
    """Streams of mutated frames: bits flipped, bytes dropped and doubled, at random."""
    seed = random.SystemRandom().randrange(2**32)
    print("seed", seed)
    dice = random.Random(seed)
    for _ in range(20_000):
        frames = []
        for _ in range(dice.randrange(1, 8)):
            size = dice.choice([0, 1, 2, 20, 125, 126, 127, 500])
            if dice.random() < 0.02:
                size = dice.choice([8_190, 65_535, 65_536, LIMIT, LIMIT + 1])
            payload = dice.choice([b"x" * size, dice.randbytes(min(size, 200)), ("é" * (size // 2)).encode()])
            opcode = dice.choice([1, 1, 1, 1, 2, 0, 9, 10, 8, 3])
            frames.append(frame(payload, opcode, fin=dice.random() < 0.9, mask=dice.random() < 0.02))
        data = bytearray(b"".join(frames))
        for _ in range(dice.choice([0, 0, 0, 1, 3])):
            at = dice.randrange(len(data)) if data else 0
            kind = dice.randrange(3)
            if kind == 0 and data:
                data[at] ^= 1 << dice.randrange(8)
            elif kind == 1:
                del data[at : at + 1]
            else:
                data[at:at] = data[at : at + dice.randrange(1, 20)]
        cuts = [dice.randrange(len(data) + 1) for _ in range(dice.choice([0, 1, 5, 40]))]
        compare(cut(bytes(data), cuts), dice.choice([None, None, b"{}", b"x" * 300]))


# --- the cases of Autobahn that a client meets --------------------------------------------------------------------------

CASES = {
    # 1.x framing, 2.x ping and pong
    "1.1.1 empty text": (frame(b""), 1, 1006),
    "1.1.8 text of 65536 in pieces": (frame(b"*" * 65536), 1, 1006),
    "1.2.1 empty binary": (frame(b"", 2), 1, 1006),
    "2.5 ping of 126": (frame(b"x" * 126, 9), 0, 1002),
    "2.7 pong unasked": (frame(b"x", 10) + frame(b"{}"), 1, 1006),
    "2.10 ten pings": (b"".join(frame(b"%d" % n, 9) for n in range(10)), 0, 1006),
    # 3.x reserved bits, 4.x opcodes
    "3.1 reserved bit 3": (frame(b"{}", reserved=0x10), 0, 1002),
    "3.2 reserved bit behind a good frame": (
        frame(b"{}") + frame(b"{}", reserved=0x20) + frame(b"", 9),
        1,
        1002,
    ),
    "3.5 reserved on ping": (frame(b"", 9, reserved=0x50), 0, 1002),
    "4.1.1 opcode 3": (frame(b"", 3), 0, 1002),
    "4.2.5 opcode 15": (frame(b"{}") + frame(b"", 15), 1, 1002),
    # 5.x fragments
    "5.1 fragmented ping": (frame(b"a", 9, fin=False) + frame(b"b", 0), 0, 1002),
    "5.3 two fragments": (frame(b"a", fin=False) + frame(b"b", 0), 1, 1006),
    "5.6 ping between": (frame(b"a", fin=False) + frame(b"p", 9) + frame(b"b", 0), 1, 1006),
    "5.9 continuation of nothing": (frame(b"a", 0) + frame(b"{}"), 0, 1002),
    "5.10 continuation of nothing, not final": (frame(b"a", 0, fin=False), 0, 1002),
    "5.15 after a good message": (
        frame(b"a", fin=False) + frame(b"b", 0) + frame(b"c", 0, fin=False) + frame(b"d"),
        1,
        1002,
    ),
    "5.18 text in the middle": (frame(b"a", fin=False) + frame(b"b"), 0, 1002),
    "5.19 many fragments and pings": (
        frame(b"a", fin=False) + (frame(b"b", 0, fin=False) + frame(b"p", 9)) * 4 + frame(b"c", 0),
        1,
        1006,
    ),
    # 6.x UTF-8
    "6.1.3 empty fragments": (frame(b"", fin=False) + frame(b"mid", 0, fin=False) + frame(b"", 0), 1, 1006),
    "6.2.4 character in four fragments": (
        frame("κ".encode()[:1], fin=False) + frame(b"", 0, fin=False) + frame("κ".encode()[1:], 0),
        1,
        1006,
    ),
    "6.3.1 invalid in the middle": (frame(b"\xce\xba\xe1\xbd\xb9\xed\xa0\x80edited"), 0, 1007),
    "6.4.1 invalid fragment": (frame(b"\xce\xba", fin=False) + frame(b"\xf4\x90\x80\x80", 0), 0, 1007),
    "6.6.2 complete": (frame("κόσμε".encode()), 1, 1006),
    "6.7.4 largest of four bytes": (frame(b"\xf4\x8f\xbf\xbf"), 1, 1006),
    "6.9.1 above the last": (frame(b"\xf4\x90\x80\x80"), 0, 1007),
    "6.10.1 five bytes": (frame(b"\xf8\x88\x80\x80\x80"), 0, 1007),
    "6.12.1 lone continuation": (frame(b"\x80"), 0, 1007),
    "6.14.1 cut off": (frame(b"\xce"), 0, 1007),
    "6.18.1 overlong": (frame(b"\xc0\x80"), 0, 1007),
    "6.20.1 surrogate": (frame(b"\xed\xa0\x80"), 0, 1007),
    "6.22.3 noncharacter is fine": (frame(b"\xef\xbf\xbe"), 1, 1006),
    # 7.x closing
    "7.1.1 close": (frame(b"{}") + frame(b"\x03\xe8", 8), 1, 1000),
    "7.1.2 two closes": (frame(b"\x03\xe8", 8) * 2, 0, 1000),
    "7.1.3 ping after close": (frame(b"\x03\xe8", 8) + frame(b"", 9), 0, 1000),
    "7.1.4 text after close": (frame(b"\x03\xe8", 8) + frame(b"{}"), 0, 1000),
    # Autobahn takes any clean end here; `websockets` finds that a message was cut off.
    "7.1.5 close in the middle": (frame(b"a", fin=False) + frame(b"\x03\xe8", 8) + frame(b"b", 0), 0, 1002),
    "7.3.1 close without a code": (frame(b"", 8), 0, 1005),
    "7.3.2 close of one byte": (frame(b"\x03", 8), 0, 1002),
    "7.3.5 reason of 123": (frame(b"\x03\xe8" + b"r" * 123, 8), 0, 1000),
    "7.3.6 reason of 124": (frame(b"\x03\xe8" + b"r" * 124, 8), 0, 1002),
    "7.5.1 reason that is no UTF-8": (frame(b"\x03\xe8\xce\xba\xe1\xbd\xb9\xed\xa0\x80", 8), 0, 1007),
    **{
        f"7.7 code {code}": (frame(struct.pack("!H", code), 8), 0, code)
        for code in (1000, 1011, 3000, 3999, 4000, 4999)
    },
    **{
        f"7.9 code {code}": (frame(struct.pack("!H", code), 8), 0, 1002)
        for code in (0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999, 5000, 65535)
    },
    # 9.x limits
    "9.x over the limit": (frame(b"x" * (LIMIT + 1)), 0, 1009),
    "9.x over the limit in fragments": (frame(b"x" * LIMIT, fin=False) + frame(b"x", 0), 0, 1009),
    "masked by the server": (frame(b"{}", mask=True), 0, 1002),
}


@cases("name", CASES)
@cases("step", [None, 1, 997])
def test_fault_a67_conformance(name, step):
    stream, count, code = CASES[name]
    if step == 1:
        stream_cut = [stream[at : at + 1] for at in range(min(len(stream), 300))]
        stream_cut += [stream[300:]] if len(stream) > 300 else []
    else:
        stream_cut = [
            stream[at : at + (step or len(stream))] for at in range(0, len(stream), step or len(stream))
        ]
    messages, end, _ = compare(stream_cut)
    assert (len(messages), end[0]) == (count, code)


def test_the_other_reader_is_another():
    assert new_core().state is State.CONNECTING
    assert read_theirs([frame(b"{}")], b"{}") == ([b"{}"], (1006, False), [(0x81, b"{}")], True)
