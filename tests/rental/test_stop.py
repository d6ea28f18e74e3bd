"""The confirmed stop at a server that no longer listens."""

import itertools
from datetime import timedelta
from types import SimpleNamespace
from uuid import uuid4

import pytest

from cdpbridge.errors import APIConnectionError, APITimeoutError, StopFailed
from cdpbridge.rental import _stop

REFUSED = APIConnectionError("refused", method="PATCH", path="/browsers", maybe_processed=False)
TIMED_OUT = APITimeoutError("no connection in time", method="PATCH", path="/browsers", maybe_processed=False)


@pytest.mark.parametrize(
    ("place", "failure", "simulated", "gives_up"),
    [
        ("http://127.0.0.1:8700/api/v2", REFUSED, True, True),
        (
            "http://127.0.0.1:8700/api/v2",
            REFUSED,
            False,
            False,
        ),  # a forwarded port: the browser runs elsewhere
        ("http://browsers.example.com/api/v2", REFUSED, True, False),
        ("http://127.0.0.1:8700/api/v2", TIMED_OUT, True, False),
    ],
)
async def test_only_where_nothing_is_paid_a_refused_connection_ends_it_early(
    monkeypatch, place, failure, simulated, gives_up
):
    tries = itertools.count(1)
    tried = 0

    async def refused(_client, _browser_id):
        nonlocal tried
        tried = next(tries)
        raise failure

    monkeypatch.setattr(_stop, "_stop_once", refused)
    monkeypatch.setattr(_stop, "_STOP_RETRY_SECONDS", 0.05)
    monkeypatch.setattr(_stop, "_REFUSED_SECONDS", 0.04)
    client = SimpleNamespace(place=place, is_local=False)
    with pytest.raises(StopFailed):
        await _stop.confirmed_stop(client, uuid4(), timedelta(seconds=1), simulated=simulated)
    assert (tried == 2) == gives_up
