"""The sieve: what it lets through is what came, whatever the cuts; what it reads is what was meant."""

import os
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdpbridge.cdp._frames import Message, Sieve, close_frame, text_frame
from cdpbridge.tunnel._messages import EVENTS, USUAL, is_command, is_event

EVENT = b'{"method":"Browser.downloadProgress","params":{"guid":"1","state":"completed"}}'
COMMAND = b'{"params":{"files":["/a"]},"id":7,"method":"DOM.setFileInputFiles"}'
OTHERS = (
    b'{"id":1,"result":{}}',
    b'{"method":"Page.loadEventFired","params":{"timestamp":1}}',
    b'{"method":"Page.downloa',
    b"",
    b'{"id":20405060,"result":{}}',
    b'{"method":"Network.dataReceived","params":{"data":"' + b"x" * 300 + b'"}}',
    b'{"id":2,"result":{"data":"' + b"y" * 70_000 + b'"}}',
    "ünïcode".encode(),
)


def frame(first, payload, masked):
    mask = os.urandom(4) if masked else b""
    bit = 0x80 if masked else 0
    if len(payload) < 126:
        head = struct.pack("!BB", first, bit | len(payload))
    elif len(payload) < 65536:
        head = struct.pack("!BBH", first, bit | 126, len(payload))
    else:
        head = struct.pack("!BBQ", first, bit | 127, len(payload))
    body = bytes(b ^ mask[i % 4] for i, b in enumerate(payload)) if masked else payload
    return head + mask + body


def sieve(out, *, masked):
    verdict, usual = (is_command, None) if masked else (is_event, (USUAL, EVENTS))
    return Sieve(masked=masked, verdict=verdict, passed=out.append, read=out.append, usual=usual)


def raw(out):
    return b"".join(each.raw if isinstance(each, Message) else each for each in out)


def read(out):
    return [each.payload for each in out if isinstance(each, Message)]


messages = st.lists(
    st.tuples(
        st.sampled_from([EVENT, COMMAND, *OTHERS]),
        st.integers(1, 4),  # fragments
        st.booleans(),  # a ping between them
    ),
    max_size=6,
)


def stream(drawn, masked):
    data, wanted = b"", []
    for payload, count, ping in drawn:
        step = max(1, -(-len(payload) // count))
        parts = [payload[i : i + step] for i in range(0, len(payload), step)] or [b""]
        for number, part in enumerate(parts):
            last = number == len(parts) - 1
            data += frame((0x80 if last else 0) | (0 if number else 1), part, masked)
            if ping and not last:
                data += frame(0x89, b"ping", masked)
        if payload == (COMMAND if masked else EVENT):
            wanted.append(payload)
    return data, wanted


@pytest.mark.parametrize("masked", [False, True])
@settings(deadline=None, max_examples=150)
@given(drawn=messages, cuts=st.lists(st.integers(0, 2000), max_size=12), seed=st.integers(1, 40))
def test_whatever_the_cuts(masked, drawn, cuts, seed):
    data, wanted = stream(drawn, masked)
    out = []
    filter_ = sieve(out, masked=masked)
    at = 0
    for cut in [*cuts, *([seed] * 50)]:
        filter_.feed(data[at : at + cut])
        at += cut
    filter_.feed(data[at:])
    assert sorted(raw(out)) == sorted(data)  # a ping within a message that is read goes before it
    found = read(out)
    # of the browser's messages a few more are read that only begin alike; a client's fragments are always read
    assert [each for each in found if each in wanted] == wanted
    assert filter_.at_boundary


def test_a_long_message_passes_while_it_comes():
    out = []
    down = sieve(out, masked=False)
    whole = text_frame(b'{"id":5,"result":{"data":"' + b"z" * 1_000_000 + b'"}}', masked=False)
    down.feed(whole[:1000])
    assert raw(out) == whole[:1000]
    assert not down.at_boundary
    assert down.left == len(whole) - 1000
    down.feed(whole[1000:])
    assert raw(out) == whole
    assert down.at_boundary


def test_what_passes_is_the_same_object():
    for masked in (False, True):
        out = []
        data = text_frame(b'{"id":5,"method":"Browser.getVersion","params":{}}', masked=masked)
        sieve(out, masked=masked).feed(data)
        assert out[0] is data


def test_messages_of_another_writer_of_json():
    out = []
    down = sieve(out, masked=False)
    down.feed(text_frame(b'{"params": {}, "method": "Browser.downloadWillBegin"}', masked=False))
    down.feed(text_frame(b'{"params": {}, "method": "Page.loadEventFired"}', masked=False))
    assert len(read(out)) == 1


def test_everything_is_read_from_the_next_message_on():
    out = []

    def on_read(message):
        out.append(message)
        up.everything = True

    up = Sieve(masked=True, verdict=is_command, passed=out.append, read=on_read)
    other = b'{"id":8,"method":"Page.enable"}'
    up.feed(text_frame(COMMAND, masked=True) + text_frame(other, masked=True))
    assert read(out) == [COMMAND, other]


def test_close_frames_are_seen():
    for masked in (False, True):
        out = []
        filter_ = sieve(out, masked=masked)
        data = close_frame(1001, "x" * 200, masked=masked)
        assert len(data) <= 2 + 4 + 125
        filter_.feed(data[:1])
        assert not filter_.closed
        filter_.feed(data[1:])
        assert filter_.closed
        assert raw(out) == data
