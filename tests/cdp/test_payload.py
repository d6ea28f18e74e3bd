"""From bytes to values."""

import json

import msgspec
import pytest
from msgspec import Raw

from cdpbridge.cdp._payload import ABSENT, as_dict, as_type, check_utf8, encode, read_envelope
from cdpbridge.errors import DecodeError
from tests.cases import cases


class Point(msgspec.Struct):
    x: int
    name: str = ""


POINT = msgspec.json.Decoder(Point, strict=False)


def result_of(text):
    return read_envelope(b'{"id":1,"result":%s}' % text.encode()).result


def test_command_encoding():
    assert encode(3, "A.b", None, "") == b'{"id":3,"method":"A.b"}'
    assert json.loads(encode(3, "A.b", {"t": "\udc00"}, "S")) == {
        "id": 3,
        "method": "A.b",
        "params": {"t": "\udc00"},
        "sessionId": "S",
    }


def test_payload_stays_raw_until_asked():
    envelope = read_envelope(b'{"id":1,"result":{"x":1,"y":[1,2]}}')
    assert isinstance(envelope.result, Raw)
    assert as_dict(envelope.result) == {"x": 1, "y": [1, 2]}
    assert as_type(envelope.result, POINT) == Point(1)


@cases("before", [0, 1, 65_534, 65_535, 65_536, 200_000])
def test_utf8_is_checked_in_pieces(before):
    for text in ("é", "日本", "😀" * 40_000):
        check_utf8(b"x" * before + text.encode())
        for wrong in (text.encode()[:-1], text.encode()[1:], text.encode() + b"\xff"):
            with pytest.raises(UnicodeDecodeError):
                check_utf8(b"x" * before + wrong)


def test_absent_payload_is_empty():
    assert as_dict(ABSENT) == {}
    assert as_type(ABSENT, msgspec.json.Decoder(dict)) == {}


@pytest.mark.parametrize("text", ["[1]", "null", "7"])
def test_payload_that_is_no_object(text):
    with pytest.raises(DecodeError) as caught:
        as_dict(result_of(text))
    assert caught.value.raw == text.encode()


def test_payload_that_does_not_fit():
    with pytest.raises(DecodeError, match="Point"):
        as_type(result_of('{"x":"no number"}'), POINT)
    with pytest.raises(DecodeError, match="Point"):
        as_type({"x": [1]}, POINT)


def test_payload_is_checked_only_when_asked_for():
    envelope = read_envelope(b'{"id":1,"result":{"t":"\xff"}}')
    with pytest.raises(DecodeError):
        as_dict(envelope.result)


def test_fault_a56_lone_surrogate_in_a_typed_payload():
    payload = result_of(r'{"x":1,"name":"a\ud83cz"}')
    assert as_type(payload, POINT) == Point(1, "a\ud83cz")
    assert as_dict(payload)["name"] == "a\ud83cz"
    assert as_type(Raw(rb'{"x":1,"name":"a\ud83cz"}'), POINT).name == "a\ud83cz"


def test_fault_a60_numbers():
    assert as_dict(result_of('{"n":9007199254740994}')) == {"n": 2**53 + 2}
    assert as_dict(result_of('{"n":%s}' % ("9" * 400)))["n"] == int("9" * 400)
    assert as_dict(result_of('{"n":%s}' % ("9" * 5000)))["n"] == float("inf")
    assert as_dict(result_of('{"n":-%s}' % ("9" * 5000)))["n"] == float("-inf")
    assert str(as_dict(result_of('{"n":-0.0}'))["n"]) == "-0.0"


def test_not_a_number_is_not_json():
    with pytest.raises(DecodeError):
        read_envelope(b'{"id":1,"result":NaN}')
