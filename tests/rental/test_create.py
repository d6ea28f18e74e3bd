"""What a failed create means, as a table: whether a browser may be running, and whether to ask again."""

import asyncio

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
from cdpbridge.rental._create import CreateVerdict, verdict
from tests.cases import cases

REQUEST = {"method": "POST", "path": "/browsers"}


def status(kind, number):
    return kind(status=number, **REQUEST)


@cases(
    ("error", "expected"),
    [
        (APIConnectionError("refused", maybe_processed=False, **REQUEST), CreateVerdict.REFUSED),
        (APIConnectionError("reset", **REQUEST), CreateVerdict.LOST),
        (APITimeoutError("no answer", **REQUEST), CreateVerdict.LOST),
        (APIResponseError("cut", **REQUEST), CreateVerdict.LOST),
        (
            APIResponseError("no cdpUrl", answer_id="1b4e28ba-2fa1-11d2-883f-0016d3cca427", **REQUEST),
            CreateVerdict.UNREAD,
        ),
        (status(RateLimitError, 429), CreateVerdict.NO_SLOT),
        (status(AuthenticationError, 401), CreateVerdict.REFUSED),
        (status(PaymentRequiredError, 402), CreateVerdict.REFUSED),
        (status(APIStatusError, 418), CreateVerdict.REFUSED),
        (status(ServerError, 500), CreateVerdict.UNCLEAR),
        (status(ServerError, 502), CreateVerdict.UNCLEAR),
        (status(ServerError, 503), CreateVerdict.REFUSED),
        (status(ServerError, 504), CreateVerdict.UNCLEAR),
        (ConfigurationError("bad key"), CreateVerdict.REFUSED),
        (RuntimeError("of a hook"), CreateVerdict.UNCLEAR),
        (TimeoutError(), CreateVerdict.UNCLEAR),
    ],
)
def test_fault_a81_every_failure_of_a_create_has_a_verdict(error, expected):
    assert verdict(error) is expected


def test_a_cancellation_is_no_failure_to_judge():
    """`run` must not catch it: `create` waits for the answer in a task of its own."""
    assert not issubclass(asyncio.CancelledError, Exception)
