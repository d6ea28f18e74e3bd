"""Which failure is tried again, and when."""

from datetime import UTC, datetime
from uuid import UUID

import pytest

from cdpbridge.api import calls
from cdpbridge.api._retry import MAX_DELAY_SECONDS, delay_seconds, may_retry, passes, retry_after_seconds
from cdpbridge.errors import (
    APIConnectionError,
    APIResponseError,
    APIStatusError,
    APITimeoutError,
    RateLimitError,
    ServerError,
)
from tests.cases import cases

READ = calls.get_account()
STOP = calls.stop_browser(UUID(int=1))
CREATE = calls.create_browser(idempotency_key="k")
NOW = datetime(2026, 11, 2, 12, tzinfo=UTC)


def status(number, retry_after=None):
    return APIStatusError(status=number, method="GET", path="/x", retry_after=retry_after)


@cases("kind", [APIConnectionError, APITimeoutError])
@cases(
    ("call", "maybe_processed", "expected"),
    [
        (READ, True, True),
        (READ, False, True),
        (STOP, True, True),
        (STOP, False, True),
        (CREATE, True, False),  # the lost answer of a create proves nothing
        (CREATE, False, True),
    ],
)
def test_no_answer(kind, call, maybe_processed, expected):
    error = kind("x", method="GET", path="/x", maybe_processed=maybe_processed)
    assert may_retry(call, error) is expected


@cases(
    ("number", "read", "stop", "create"),
    [
        (400, False, False, False),
        (401, False, False, False),
        (402, False, False, False),
        (403, False, False, False),
        (404, False, False, False),
        (408, False, False, False),
        (409, False, False, False),
        (422, False, False, False),
        (429, True, True, False),
        (500, False, True, False),
        (501, False, True, False),
        (502, True, True, False),
        (503, True, True, False),
        (504, True, True, False),
    ],
)
def test_fault_a85_statuses(number, read, stop, create):
    error = status(number)
    assert passes(error) is read
    assert (may_retry(READ, error), may_retry(STOP, error), may_retry(CREATE, error)) == (read, stop, create)


@pytest.mark.parametrize("number", [403, 429, 502, 503, 504])
def test_fault_a85_a_create_comes_back_when_429_says_so_only(number):
    assert may_retry(CREATE, status(number, retry_after=1.0)) is (number == 429)


def test_an_answer_that_makes_no_sense_is_final():
    assert not may_retry(READ, APIResponseError("x", method="GET", path="/x"))


@cases(
    ("tries", "shortest", "longest"),
    [(1, 0.25, 0.5), (2, 0.5, 1), (3, 1, 2), (6, 8, 16), (7, 15, 30), (99, 15, 30)],
)
def test_pauses_double_within_bounds(tries, shortest, longest):
    error = ServerError(status=503, method="GET", path="/x")
    assert delay_seconds(tries, error, chance=0) == shortest
    assert delay_seconds(tries, error, chance=1) == longest


@pytest.mark.parametrize(
    ("asked", "delay"), [(0.0, 0.0), (7.0, 7.0), (MAX_DELAY_SECONDS, 30.0), (30.1, None)]
)
def test_the_server_s_pause_is_kept_or_too_long(asked, delay):
    error = RateLimitError(status=429, method="GET", path="/x", retry_after=asked)
    assert delay_seconds(1, error, chance=0.5) == delay


def test_a_pause_after_no_answer():
    assert delay_seconds(1, APIConnectionError("x", method="GET", path="/x"), chance=0) == 0.25


@cases(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("soon", None),
        ("-1", None),
        ("1e9", None),
        ("²", None),
        ("0", 0.0),
        (" 12 ", 12.0),
        ("Mon, 02 Nov 2026 12:00:30 GMT", 30.0),
        ("Mon, 02 Nov 2026 13:00:30 +0100", 30.0),
        ("Mon, 02 Nov 2026 12:00:30 -0000", 30.0),  # no zone: UTC
        ("Mon, 02 Nov 2026 11:59:00 GMT", 0.0),
        ("Mon, 99 Nov 2026 12:00:30 GMT", None),
        ("Mon, 02 Nov 2026 12:00:30 +9999999999999999999", None),
    ],
)
def test_retry_after(header, seconds):
    assert retry_after_seconds(header, now=NOW) == seconds
