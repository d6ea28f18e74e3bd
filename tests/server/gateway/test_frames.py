"""Frame boundaries, whatever the cuts."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader

from cdpbridge.server.gateway._frames import PING, FrameScanner, close_frame, masked_close_frame

TEXT = b"\x81\x02ok"


def parse(data, *, mask=False):
    """What `websockets` reads in one frame."""
    reader = StreamReader()
    reader.feed_data(data)
    parsing = Frame.parse(reader.read_exact, mask=mask, max_size=None)
    try:
        next(parsing)
    except StopIteration as end:
        return end.value
    raise AssertionError("this is not a whole frame")


@st.composite
def frames(draw):
    """One well-formed frame: its bytes, whether it ends a data message, whether it is a close frame."""
    opcode = draw(st.sampled_from([0, 1, 2, 8, 9, 10]))
    fin = opcode >= 8 or draw(st.booleans())
    size = draw(st.sampled_from([0, 1, 2, 125] if opcode >= 8 else [0, 1, 125, 126, 300, 65_535, 65_536]))
    masked = draw(st.booleans())
    head = bytes([opcode | 0x80 * fin])
    bit = 0x80 * masked
    if size < 126:
        head += bytes([bit | size])
    elif size < 65_536:
        head += struct.pack("!BH", bit | 126, size)
    else:
        head += struct.pack("!BQ", bit | 127, size)
    # Payload that looks like headers: a scanner that loses its place finds close frames in it.
    return (
        head + b"\x88\x00\x88\x00"[: 4 * masked] + (b"\x88\x02" * size)[:size],
        fin and opcode < 8,
        opcode == 8,
    )


@given(st.lists(frames(), max_size=6), st.data())
def test_the_same_boundaries_however_the_bytes_are_cut(items, data):
    stream = b"".join(item[0] for item in items)
    ends = {0}
    for item in items:
        ends.add(max(ends) + len(item[0]))
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=12))
    if data.draw(st.booleans()):  # within headers, where it matters
        cuts += [end + step for end in ends for step in range(-2, 11) if 0 <= end + step <= len(stream)]
    scanner, at = FrameScanner(), 0
    for cut in sorted({*cuts, len(stream)}):
        scanner.feed(stream[at:cut])
        at = cut
        assert scanner.at_boundary == (at in ends)
    assert scanner.messages == sum(item[1] for item in items)
    assert scanner.closed == any(item[2] for item in items)


@given(frames(), frames(), st.data())
def test_one_frame_is_cut_off_exactly(first, second, data):
    stream, size = first[0] + second[0], len(first[0])
    scanner = FrameScanner()
    begun = data.draw(st.integers(1, size - 1))
    scanner.feed(stream[:begun])
    at = begun
    while not scanner.at_boundary:
        step = data.draw(st.integers(1, len(stream) - at))
        taken = scanner.feed_one(stream[at : at + step])
        assert 0 < taken <= step
        at += taken
    assert at == size
    assert scanner.closed == first[2]


def test_a_close_frame_has_passed_when_its_last_byte_has():
    scanner = FrameScanner()
    scanner.feed(b"\x88\x02\x03")
    assert not scanner.closed
    scanner.feed(b"\xe8")
    assert scanner.closed


def test_the_start_is_a_boundary():
    assert FrameScanner().at_boundary


def test_a_mask_of_which_nothing_has_come():
    scanner = FrameScanner()
    scanner.feed(b"\x81\x80")
    assert not scanner.at_boundary
    assert scanner.feed_one(b"mask" + TEXT) == 4


@pytest.mark.parametrize(
    ("reason", "read"),
    [("", ""), ("session expired", "session expired"), ("x" * 200, "x" * 123), ("é" * 100, "é" * 61)],
)
def test_close_frames_are_read_by_others(reason, read):
    frame = parse(close_frame(1001, reason))
    assert (frame.opcode, frame.fin, frame.data[:2]) == (Opcode.CLOSE, True, b"\x03\xe9")
    assert frame.data[2:].decode() == read
    frame = parse(masked_close_frame(1000), mask=True)
    assert (frame.opcode, frame.data) == (Opcode.CLOSE, b"\x03\xe8")


def test_the_ping_is_read_by_others():
    frame = parse(PING)
    assert (frame.opcode, frame.fin, frame.data) == (Opcode.PING, True, b"")
