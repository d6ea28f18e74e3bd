"""The read buffer: what is a whole text, what is for the core, and where the next bytes go."""

import struct

import pytest

from cdpbridge.cdp._frame_reader import LARGEST_BUFFER, FrameReader

LIMIT = 100_000


def frame(payload, first=0x81):
    size = len(payload)
    if size < 126:
        return struct.pack("!BB", first, size) + payload
    if size < 65536:
        return struct.pack("!BBH", first, 126, size) + payload
    return struct.pack("!BBQ", first, 127, size) + payload


class Reading:
    """A reader, and the messages it has delivered."""

    def __init__(self, limit=LIMIT):
        self.reader = FrameReader(limit)
        self.messages = []

    def received(self, buffer, start, end):
        self.messages.append(bytes(buffer[start:end]))

    def push(self, data):
        """Whether the next frame is for the core."""
        at, for_core = 0, False
        while at < len(data):
            into = self.reader.get_buffer()
            size = min(len(into), len(data) - at)
            into[:size] = data[at : at + size]
            at += size
            large = self.reader.add(size)
            if large is not None:
                self.messages.append(bytes(large))
                continue
            full = self.reader.full
            for_core = self.reader.read(self.received)
            if full and not self.reader.at_limit:
                self.reader.grow()
        return for_core


@pytest.fixture
def reading():
    return Reading()


@pytest.mark.parametrize("size", [0, 1, 125, 126, 5000, 65_535, 65_536, LIMIT])
def test_texts_of_every_head(reading, size):
    payload = b"x" * size
    assert not reading.push(frame(payload) + frame(b"{}"))
    assert reading.messages == [payload, b"{}"]
    assert reading.reader.filled == 0


@pytest.mark.parametrize("size", [0, 3, 200, 70_000])
def test_bytes_one_by_one(reading, size):
    """A head that is not complete is not read, whatever stands behind it in the buffer."""
    reading.push(frame(b"\xff" * 90_000))
    reading.messages.clear()
    data = frame(b"y" * size)
    for number, byte in enumerate(data):
        assert not reading.push(bytes([byte]))
        assert reading.messages == ([b"y" * size] if number == len(data) - 1 else [])


@pytest.mark.parametrize(
    ("data", "asked"),
    [
        (frame(b"ping", 0x89), 6),
        (frame(b"binary", 0x82), 8),
        (frame(b"part", 0x01), 6),
        (frame(b"z" * 300, 0xC1), 304),  # compressed
        (frame(b"bye", 0x88), 5),
        (b"\x81\x82abcd..", 2),  # masked, which a server may not
        (frame(b"w" * (LIMIT + 1))[:20], 10 + LIMIT + 1),  # too large: its head is enough
        (b"\x81\x7f\x80" + b"\0" * 7, 10 + (1 << 63)),  # absurd
    ],
)
def test_frames_for_the_core(reading, data, asked):
    assert reading.push(frame(b"before") + data)
    assert reading.messages == [b"before"]
    assert reading.reader.for_core == asked
    assert reading.reader.peek() == data
    assert reading.reader.take(asked) == data[:asked]
    assert reading.reader.peek() == data[asked:]


def test_texts_between_fragments_are_for_the_core(reading):
    """Until the last fragment has passed, every frame is the core's: it says what is wrong."""
    assert reading.push(frame(b"a", 0x01) + frame(b"text"))
    reading.reader.take(3)
    assert reading.reader.read(reading.received)
    reading.reader.take(6)
    assert reading.push(frame(b"b", 0x80) + frame(b"free"))
    reading.reader.take(3)
    assert not reading.reader.read(reading.received)
    assert reading.messages == [b"free"]


def test_a_control_frame_between_fragments_ends_nothing(reading):
    assert reading.push(frame(b"a", 0x01))
    reading.reader.take(3)
    assert reading.push(frame(b"", 0x89))
    reading.reader.take(2)
    assert reading.push(frame(b"text"))
    assert not reading.messages


def test_a_handler_that_raises_loses_no_message(reading):
    def leave(*_):
        raise SystemExit

    data = frame(b"one") + frame(b"two") + frame(b"three")[:4]
    reading.reader.get_buffer()[: len(data)] = data
    assert reading.reader.add(len(data)) is None
    with pytest.raises(SystemExit):
        reading.reader.read(leave)
    assert not reading.reader.read(reading.received)
    assert reading.messages == [b"two"]
    assert reading.reader.peek() == frame(b"three")[:4]


def test_the_buffer_grows_to_its_largest_size_and_no_further(reading):
    reading.push(frame(b"x" * 100) * 10_000)
    assert reading.reader.at_limit
    assert len(reading.reader.get_buffer()) == LARGEST_BUFFER
    assert reading.messages == [b"x" * 100] * 10_000


@pytest.mark.parametrize("data", [b"\x81", frame(b"{}"), frame(b"x" * 60_000)[:30_000]])
def test_any_byte_is_a_sign_of_life(data):
    reading = Reading()
    assert not reading.reader.mark_overwritten()
    reading.reader.leave_mark(b"12345678")
    assert not reading.reader.mark_overwritten()
    reading.push(data)
    assert reading.reader.mark_overwritten()
    reading.reader.leave_mark(b"87654321")
    assert not reading.reader.mark_overwritten()


def test_life_within_a_large_message():
    reading = Reading()
    data = frame(b"x" * 60_000)
    reading.push(data[:10_000])
    reading.reader.leave_mark(b"12345678")
    assert not reading.reader.mark_overwritten()
    reading.push(data[10_000:10_001])
    assert reading.reader.mark_overwritten()
    reading.push(data[10_001:])
    assert reading.messages == [b"x" * 60_000]
