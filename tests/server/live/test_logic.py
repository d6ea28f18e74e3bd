"""The parts of the live view that know no event loop: pace, input, messages, words."""

import json
from datetime import timedelta
from decimal import Decimal

import pytest

from cdpbridge._lifecycle import EndReason
from cdpbridge.server.live import Outcome
from cdpbridge.server.live._drive import _address
from cdpbridge.server.live._input import Hands
from cdpbridge.server.live._messages import Key, Mouse, Text, Touch, Wheel, picture_head, read_message
from cdpbridge.server.live._pace import MOVING_QUALITY, REST_SECONDS, STILL_QUALITY, Pace
from tests.cases import cases

# --- pace -------------------------------------------------------------------------------------------------------------


def test_the_rate_is_capped_and_a_rest_is_not_punished():
    pace = Pace(10)
    assert pace.picture(5.0) == 5.0
    assert [pace.picture(5.0) for _ in range(3)] == pytest.approx([5.1, 5.2, 5.3])
    assert pace.picture(9.0) == 9.0


def test_a_moving_page_is_coarse_and_a_resting_one_fine():
    pace = Pace(30)
    assert pace.quality == STILL_QUALITY
    moved = []
    for number in range(6):
        pace.picture(number * 0.03)
        moved.append(pace.moves(number * 0.03))
    assert moved == [False, False, False, True, False, False]  # once a movement
    assert pace.quality == MOVING_QUALITY
    last = 5 * 0.03
    assert not pace.rests(last + REST_SECONDS / 2)
    assert pace.rests(last + REST_SECONDS)
    assert pace.quality == STILL_QUALITY
    assert not pace.rests(last + 10)


def test_a_blinking_caret_is_no_movement():
    pace = Pace(30)
    for number in range(20):
        pace.picture(number * 0.43)
        assert not pace.moves(number * 0.43)


def test_a_rest_after_a_late_acknowledgement_is_looked_at_once_more():
    pace = Pace(5)
    for at in (0.0, 0.02):  # too few for a movement, and what came after them the browser has dropped
        pace.picture(at)
        assert not pace.moves(at)
    assert not pace.rests(0.02 + REST_SECONDS)  # at this rate the next picture may be on its way
    assert pace.rests(0.02 + pace.rest_seconds)
    pace.picture(0.5)  # what came of that
    assert not pace.unsettled
    pace.limit(30)
    assert pace.rest_seconds == REST_SECONDS


def test_slow_lines_get_less_than_coarse():
    pace = Pace(30)
    for number in range(4):
        pace.picture(number * 0.03)
        pace.delivered(offered=10, dropped=8)
    assert pace.moves(0.1)
    assert pace.quality < MOVING_QUALITY


# --- input ------------------------------------------------------------------------------------------------------------


def key(kind="down", **more):
    return Key(type="key", kind=kind, **({"key": "a", "code": "KeyA", "keyCode": 65, "text": "a"} | more))


def test_keys():
    hands = Hands()
    method, params = hands.call(key())
    assert method == "Input.dispatchKeyEvent"
    assert params["type"] == "keyDown"
    assert (params["text"], params["windowsVirtualKeyCode"]) == ("a", 65)
    _, params = hands.call(key(text="", modifiers=2))
    assert params["type"] == "rawKeyDown"
    assert "text" not in params
    assert hands.call(key("up"))[1]["type"] == "keyUp"


def test_what_is_pressed_is_released():
    hands = Hands()
    hands.call(key(modifiers=8))
    hands.call(Mouse(type="mouse", kind="down", x=1, y=2, button="left", buttons=1, clicks=1))
    hands.call(Touch(type="touch", kind="start", points=[{"id": 0, "x": 1, "y": 1}]))
    released = [(method, params["type"]) for method, params in hands.release()]
    assert released == [
        ("Input.dispatchKeyEvent", "keyUp"),
        ("Input.dispatchMouseEvent", "mouseReleased"),
        ("Input.dispatchTouchEvent", "touchCancel"),
    ]
    assert hands.release() == []


def test_the_rest_of_the_input():
    hands = Hands()
    _, wheel = hands.call(Wheel(type="wheel", x=1, y=2, dx=0, dy=100))
    assert (wheel["type"], wheel["deltaY"]) == ("mouseWheel", 100)
    assert hands.call(Text(type="text", text="é漢")) == ("Input.insertText", {"text": "é漢"})
    _, end = hands.call(Touch(type="touch", kind="end", points=[{"id": 0, "x": 1, "y": 1}]))
    assert end["touchPoints"] == []


# --- messages ---------------------------------------------------------------------------------------------------------


@cases(
    ("message", "words"),
    [
        ("nonsense", "Invalid JSON"),
        ("[]", "message"),
        ({"type": "boom"}, "boom"),
        ({"type": "mouse", "kind": "move", "x": 1e9, "y": 0}, "mouse.x"),
        ({"type": "key", "kind": "down", "key": "a" * 99, "code": "", "keyCode": 1}, "key.key"),
        ({"type": "hello", "token": "t" * 999}, "hello.token"),
        ({"type": "touch", "kind": "start", "points": [{"id": 1, "x": 1, "y": 1}] * 99}, "touch.points"),
    ],
)
def test_a_bad_message_is_explained_without_its_content(message, words):
    said = read_message(message if isinstance(message, str) else json.dumps(message))
    assert isinstance(said, str)
    assert words in said
    assert "tttt" not in said


def test_the_head_of_a_picture():
    assert picture_head(2**32 + 5, 800, 600) == b"\0\0\0\x05" + b"\x44\x48\0\0" + b"\x44\x16\0\0"


# --- words ------------------------------------------------------------------------------------------------------------


@cases(
    ("outcome", "money", "title", "sentence"),
    [
        (
            Outcome(EndReason.STOPPED_BY_CALLER, timedelta(minutes=12), Decimal("0.04")),
            True,
            "Session stopped",
            "Stopped after 12 min, refunded 0.04 USD.",
        ),
        (
            Outcome(EndReason.STOPPED_BY_CALLER, timedelta(minutes=12), Decimal("0.04")),
            False,
            "Session stopped",
            "Stopped after 12 min.",
        ),
        (
            Outcome(EndReason.EXPIRED, timedelta(minutes=125)),
            True,
            "Session timed out",
            "Timed out after 2 h 5 min.",
        ),
        (
            Outcome(EndReason.BROWSER_EXITED, timedelta(seconds=8), Decimal("0.049167")),
            True,
            "The browser exited",
            "Ended after 8 s, refunded 0.0491 USD.",
        ),
        (Outcome(EndReason.START_FAILED), True, "The browser did not start", ""),
        (Outcome(None, timedelta(0)), True, "Session ended", "Ended after 0 s."),
        (
            Outcome(EndReason.SERVER_LOST, timedelta(0), Decimal("0.000012")),
            True,
            "The server stopped",
            "Ended after 0 s, refunded 0.000012 USD.",
        ),
    ],
)
def test_how_an_end_is_told(outcome, money, title, sentence):
    assert outcome.words(money=money) == (title, sentence)


@cases(
    ("typed", "opened"),
    [
        ("example.com", "https://example.com"),
        (" example.com:8080/a ", "https://example.com:8080/a"),
        ("localhost:8000", "http://localhost:8000"),
        ("127.0.0.1/x", "http://127.0.0.1/x"),
        ("http://a.example", "http://a.example"),
        ("about:blank", "about:blank"),
        ("file:///etc/passwd", None),
        ("view-source:file:///etc/passwd", None),
        ("chrome://version", None),
        ("javascript:alert(1)", None),
    ],
)
def test_what_the_address_bar_opens(typed, opened):
    assert _address(typed) == opened
