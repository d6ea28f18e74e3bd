"""What a failed create means, as a table: whether a browser may be running, and whether to ask again."""

import asyncio

import pytest

from cdpbridge.errors import (
    APIConnectionError,
    APIResponseError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    ConfigurationError,
    PaymentRequiredError,
    RateLimitError,
    ServerError,
)
from cdpbridge.rental._create import Verdict, verdict

REQUEST = {"method": "POST", "path": "/browsers"}


def status(kind, number):
    return kind(status=number, **REQUEST)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (APIConnectionError("refused", maybe_processed=False, **REQUEST), Verdict.REFUSED),
        (APIConnectionError("reset", **REQUEST), Verdict.LOST),
        (APITimeoutError("no answer", **REQUEST), Verdict.LOST),
        (APIResponseError("cut", **REQUEST), Verdict.LOST),
        (
            APIResponseError("no cdpUrl", answer_id="1b4e28ba-2fa1-11d2-883f-0016d3cca427", **REQUEST),
            Verdict.UNREAD,
        ),
        (status(RateLimitError, 429), Verdict.NO_SLOT),
        (status(AuthenticationError, 401), Verdict.REFUSED),
        (status(PaymentRequiredError, 402), Verdict.REFUSED),
        (status(APIStatusError, 418), Verdict.REFUSED),
        (status(ServerError, 500), Verdict.UNCLEAR),
        (status(ServerError, 502), Verdict.UNCLEAR),
        (status(ServerError, 503), Verdict.REFUSED),
        (status(ServerError, 504), Verdict.UNCLEAR),
        (ConfigurationError("bad key"), Verdict.REFUSED),
        (RuntimeError("of a hook"), Verdict.UNCLEAR),
        (TimeoutError(), Verdict.UNCLEAR),
    ],
    ids=lambda value: value.name if isinstance(value, Verdict) else type(value).__name__,
)
def test_fault_a81_every_failure_of_a_create_has_a_verdict(error, expected):
    assert verdict(error) is expected


def test_a_cancellation_is_no_failure_to_judge():
    """`run` must not catch it: `create` waits for the answer in a task of its own."""
    assert not issubclass(asyncio.CancelledError, Exception)
