"""The flight recorder: one line a message, no secret, bounded."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdpbridge.cdp import Closed
from cdpbridge.cdp._recorder import RecordedTransport, Recorder, line
from cdpbridge.errors import ConnectionClosed
from cdpbridge.testing import MemoryTransport
from tests.cases import cases

NOW = 1_793_614_501.123456


def shown(message, arrow="<-"):
    data = message if isinstance(message, bytes) else json.dumps(message).encode()
    text = line(NOW, arrow, data)
    assert text.startswith("2026-11-02 10:15:01.123456 ")
    return text[27:]


@cases(
    ("arrow", "message", "text"),
    [
        (
            "=>",
            {"id": 7, "method": "Page.navigate", "params": {"url": "about:blank"}, "sessionId": "9F3A1C22AB"},
            '=> 7 9F3A1C22 Page.navigate {"url":"about:blank"}',
        ),
        ("=>", {"id": 8, "method": "Browser.getVersion"}, "=> 8 - Browser.getVersion"),
        ("<-", {"id": 7, "result": {"frameId": "F"}, "sessionId": "S"}, '<= 7 S {"frameId":"F"}'),
        ("<-", {"id": 7, "result": {}}, "<= 7 - {}"),
        (
            "<-",
            {
                "id": 7,
                "error": {"code": -32602, "message": "Invalid", "data": "Failed to deserialize params.url"},
            },
            '<= 7 - error {"code":-32602,"message":"Invalid","data":"Failed to deserialize params.url"}',
        ),
        ("<-", {"error": {"code": -32700, "message": "bad"}}, '<= - error {"code":-32700,"message":"bad"}'),
        ("<-", {"method": "Page.loadEventFired", "params": {"t": 1.5}}, '<- - Page.loadEventFired {"t":1.5}'),
        ("<-", {"method": "A.b", "sessionId": "S"}, "<- S A.b"),
    ],
)
def test_forms(arrow, message, text):
    assert shown(message, arrow) == text


SECRET = "hunter2"


def event(**params):
    return {"method": "A.b", "params": params}


@cases(
    "message",
    [
        event(headers={"Authorization": SECRET, "Cookie": SECRET, "x": "y"}),
        event(headers={"set-cookie": f"a={SECRET}", "Proxy-Authorization": SECRET}),
        event(headers={"X-Browser-Use-API-Key": SECRET, "x-csrf-token": SECRET}),
        event(headers=[{"name": "Cookie", "value": SECRET}, {"value": SECRET, "name": "Set-Cookie"}]),
        event(headersText=f"Set-Cookie: {SECRET}", requestHeadersText=f"Cookie: {SECRET}"),
        event(associatedCookies=[{"cookie": {"name": "a", "value": SECRET}, "blockedReasons": []}]),
        event(blockedCookies=[{"cookieLine": SECRET, "cookie": {"name": "a", "value": SECRET}}]),
        event(request={"url": f"https://me:{SECRET}@example.com/", "postData": SECRET}),
        event(request={"postDataEntries": [{"bytes": SECRET}]}),
        event(text=f"see https://{SECRET}@example.com and ws://a:p@{SECRET}@b/"),
        event(response={"payloadData": SECRET}),
        event(value="x" * 190 + f"http://me:{SECRET}@example.com"),
        {"id": 1, "method": "Network.setCookie", "params": {"name": "a", "value": SECRET}},
        {"id": 1, "method": "Network.setCookies", "params": {"cookies": [{"name": "a", "value": SECRET}]}},
        {"id": 1, "method": "Input.insertText", "params": {"text": SECRET}},
        {
            "id": 1,
            "method": "Input.dispatchKeyEvent",
            "params": {"type": "char", "text": SECRET, "key": SECRET},
        },
        {
            "id": 1,
            "method": "Fetch.continueWithAuth",
            "params": {"authChallengeResponse": {"username": SECRET, "password": SECRET}},
        },
        {"id": 1, "result": {"cookies": [{"name": "a", "value": SECRET, "domain": "example.com"}]}},
        {"id": 1, "result": {"body": SECRET, "base64Encoded": False}},
        {"id": 1, "result": {"data": SECRET}},
        b"no JSON: " + SECRET.encode(),
        json.dumps([SECRET]).encode(),
    ],
)
def test_secrets_are_cut(message):
    text = shown(message)
    assert SECRET not in text
    assert "…" in text or "no CDP" in text


def test_what_is_no_secret_stays():
    cookie = {"name": "colour", "value": SECRET, "domain": "example.com", "httpOnly": True}
    text = shown({"id": 1, "result": {"cookies": [cookie]}})
    assert text == '<= 1 - {"cookies":[{"name":"colour","value":"…","domain":"example.com","httpOnly":true}]}'
    text = shown(event(url="https://me:x@example.com/a@b?c=d"))
    assert text == '<- - A.b {"url":"https://…@example.com/a@b?c=d"}'
    assert shown(event(value=5, name="colour")) == '<- - A.b {"value":5,"name":"colour"}'


def test_long_values_and_long_messages_are_shortened():
    assert shown({"id": 1, "result": {"data": "x" * 5000}}) == '<= 1 - {"data":"… (5000 characters)"}'
    assert shown(event(t="y" * 500)) == f'<- - A.b {{"t":"{"y" * 200}… (500 characters)"}}'
    text = shown(event(many=list(range(2000))))
    assert len(text) < 1100
    assert text.endswith("… (8900 characters)")
    assert shown(b"{" * 50_000) == "<- 50000 bytes that are no CDP"
    assert shown(b'{"id":1,"result":' + b'{"a":' * 30_000 + b"1" + b"}" * 30_001).endswith("no CDP")


@given(st.text(max_size=50) | st.text(st.characters(categories=["Cs", "Cc", "Zl", "Zp"]), max_size=20))
def test_always_one_line_that_can_be_written(text):
    for made in (shown(event(t=text)), shown({"method": text, "sessionId": text[:3]})):
        made.encode()
        assert len(made.splitlines()) == 1


@given(st.binary(max_size=60))
def test_any_bytes_give_a_line(data):
    for arrow in ("=>", "<-", "--"):
        assert line(NOW, arrow, data).isprintable()


def test_numbers_of_any_length():
    assert shown(b'{"method":"A.b","params":{"n":' + b"9" * 5000 + b"}}").startswith("<- - A.b")


# --- the ring ---------------------------------------------------------------------------------------------------------


def recorder(limit=3, **kwargs):
    return Recorder(limit, clock=lambda: NOW, **kwargs)


def test_last_messages_are_kept():
    ring = recorder()
    for number in range(10):
        ring.add("<-", b'{"id":%d,"result":{}}' % number)
    assert [text.split()[3] for text in ring.lines()] == ["7", "8", "9"]


def test_bytes_are_bounded_too():
    ring = recorder(1000, max_bytes=1000)
    for _ in range(50):
        ring.add("<-", b'{"method":"A.b","params":{"t":"' + b"x" * 300 + b'"}}')
    assert len(ring.lines()) == 2


def test_large_messages_are_kept_as_their_envelope():
    ring = recorder()
    big = b"x" * 3_000_000
    ring.add("<-", b'{"id":5,"result":{"data":"' + big + b'"},"sessionId":"S"}')
    ring.add("<-", b'{"method":"A.b","params":{"data":"' + big + b'"}}')
    ring.add("<-", b'{"id":5,"error":{"data":"' + big + b'"}}')
    assert [text[27:] for text in ring.lines()] == [
        '<= 5 S {"…":"3000045 bytes"}',
        '<- - A.b {"…":"3000037 bytes"}',
        '<= 5 - error {"…":"3000028 bytes"}',
    ]
    ring.add("<-", big)
    assert ring.lines()[-1][27:] == "-- a message of 3000000 bytes that is no CDP"
    assert ring._bytes < 1000


def test_limit_of_none_only_writes():
    written = []
    ring = recorder(0, write=written.append)
    ring.add("=>", b'{"id":1,"method":"A.b"}')
    assert not ring.lines()
    assert [text[27:] for text in written] == ["=> 1 - A.b"]
    with pytest.raises(ValueError, match="-1"):
        recorder(-1)


# --- between transport and connection ---------------------------------------------------------------------------------


class Inside:
    def __init__(self):
        self.log = []

    def received(self, buffer, start, end):
        self.log.append(bytes(buffer[start:end]))
        if b"\xff" in buffer:
            buffer.decode()

    def pause(self):
        self.log.append("pause")

    def resume(self):
        self.log.append("resume")

    def lost(self, closed):
        self.log.append(closed)


def test_everything_passes_and_is_recorded():
    done = []
    ring = recorder(100)
    memory = MemoryTransport(lambda command: {"id": command["id"], "result": {}})
    transport = RecordedTransport(memory, ring, done=lambda: done.append(1))
    assert transport.inner is memory
    inside = Inside()
    transport.start(inside)
    transport.send(b'{"id":1,"method":"A.b"}')
    memory.pause()
    memory.resume()
    memory._receiver.received(b'..{"method":"C.d"}..', 2, 18)  # part of a larger buffer
    transport.close(4001, "session expired")
    with pytest.raises(ConnectionClosed):
        transport.send(b'{"id":2,"method":"A.b"}')
    transport.abort()
    assert inside.log == [
        b'{"id":1,"result":{}}',
        "pause",
        "resume",
        b'{"method":"C.d"}',
        Closed(4001, "session expired"),
    ]
    assert [text[27:] for text in ring.lines()] == [
        "=> 1 - A.b",
        "<= 1 - {}",
        "<- - C.d",
        "-- closed 4001 session expired",
        "=> 2 - A.b",
        "-- the last command was not sent",
    ]
    assert done == [1]


def test_what_the_receiver_refuses_ends_the_transport_all_the_same():
    ring = recorder()
    memory = MemoryTransport()
    RecordedTransport(memory, ring).start(inside := Inside())
    memory.deliver(b"\xff")
    assert inside.log[-1].code == 1007
    assert re.search(r"1 bytes that are no CDP$", ring.lines()[0])
