"""Webhooks: both forms of signature, their age, and what they say."""

import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta

import pytest

from cdpbridge.api import webhooks
from cdpbridge.errors import ConfigurationError, WebhookError
from tests.cases import cases

SECRET = "whsec-of-tests"
NOW = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)
STAMP = str(int(NOW.timestamp()))
UPDATE = {
    "type": "agent.task.status_update",
    "timestamp": "2026-11-02T12:00:00Z",
    "payload": {
        "task_id": "22222222-2222-4333-8444-555555555555",
        "session_id": "33333333-2222-4333-8444-555555555555",
        "status": "finished",
        "metadata": {"team": "Zoë"},
    },
}
BODY = json.dumps(UPDATE, indent=2).encode()  # neither sorted nor without spaces


def mac(message, secret=SECRET):
    return hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()


def canonical(value, **options):
    return json.dumps(value, separators=(",", ":"), sort_keys=True, **options).encode()


def headers(message=None, stamp=STAMP, secret=SECRET):
    signed = f"{stamp}.".encode() + (canonical(UPDATE) if message is None else message)
    return {"X-Browser-Use-Signature": mac(signed, secret), "X-Browser-Use-Timestamp": stamp}


def test_todays_form():
    event = webhooks.verify(BODY, headers(), SECRET, now=NOW)
    assert isinstance(event, webhooks.TaskStatusUpdate)
    assert (event.payload.status, event.payload.metadata, event.timestamp) == (
        "finished",
        {"team": "Zoë"},
        NOW,
    )


@pytest.mark.parametrize(
    "signed", [canonical(UPDATE, ensure_ascii=False), BODY], ids=["letters", "as it came"]
)
def test_spellings_of_the_same_body(signed):
    assert webhooks.verify(BODY, headers(signed), SECRET, now=NOW).type == UPDATE["type"]


@pytest.mark.parametrize("prefix", ["", "sha256="])
def test_the_older_form(prefix):
    given = {"x-webhook-signature": prefix + mac(BODY)}
    assert webhooks.verify(BODY.decode(), given, SECRET, now=NOW).payload.status == "finished"
    with pytest.raises(WebhookError, match="wrong"):  # over the body as it came, and nothing else
        webhooks.verify(canonical(UPDATE), given, SECRET, now=NOW)
    with pytest.raises(WebhookError, match="old"):
        webhooks.verify(BODY, given, SECRET, now=NOW + timedelta(hours=1))


def test_what_we_sign_we_accept_and_so_does_who_knows_the_rule():
    given = webhooks.sign(BODY, SECRET, now=NOW)
    assert given == headers()
    webhooks.verify(BODY, list(given.items()), SECRET, now=NOW)
    webhooks.verify(BODY, webhooks.sign(BODY, SECRET), SECRET)  # by this machine's clock


def test_a_secret_that_is_being_replaced():
    for pair in ([SECRET, "new"], ["new", SECRET]):
        webhooks.verify(BODY, headers(), pair, now=NOW)
    with pytest.raises(WebhookError):
        webhooks.verify(BODY, headers(), ["new"], now=NOW)


@pytest.mark.parametrize("seconds", [-300, 0, 300])
def test_within_the_tolerance(seconds):
    webhooks.verify(BODY, headers(), SECRET, now=NOW + timedelta(seconds=seconds))


@cases(
    ("given", "now", "words"),
    [
        ({}, NOW, "no signature"),
        (headers(secret="other"), NOW, "wrong"),
        (headers() | {"X-Browser-Use-Timestamp": str(int(STAMP) + 1)}, NOW, "wrong"),
        ({"X-Browser-Use-Signature": "zoë", "X-Browser-Use-Timestamp": STAMP}, NOW, "wrong"),
        ({"X-Browser-Use-Signature": headers()["X-Browser-Use-Signature"]}, NOW, "without a time"),
        (headers(stamp="soon"), NOW, "without a time"),
        (headers(), NOW + timedelta(seconds=301), "301 s old"),
        (headers(), NOW - timedelta(seconds=301), "301 s early"),
    ],
)
def test_what_is_not_to_be_trusted(given, now, words):
    with pytest.raises(WebhookError, match=words):
        webhooks.verify(BODY, given, SECRET, now=now)


@pytest.mark.parametrize("position", range(0, len(BODY), 7))
def test_one_changed_byte_is_found(position):
    changed = bytearray(BODY)
    changed[position] ^= 1
    value = None
    try:
        value = json.loads(bytes(changed))
    except ValueError:
        pass
    if value == UPDATE:
        pytest.skip("the same value: white space")
    with pytest.raises(WebhookError):
        webhooks.verify(bytes(changed), headers(), SECRET, now=NOW)


@pytest.mark.parametrize("body", [b"", b"[]", b"no json", b'{"type": "test"}', b"\xff"])
def test_signed_but_no_event(body):
    given = {"X-Browser-Use-Signature": mac(STAMP.encode() + b"." + body), "X-Browser-Use-Timestamp": STAMP}
    with pytest.raises(WebhookError):
        webhooks.verify(body, given, SECRET, now=NOW)


def test_other_events():
    test = {"type": "test", "timestamp": "2026-11-02T12:00:00", "payload": {"test": "ok"}}
    event = webhooks.verify(canonical(test), headers(canonical(test)), SECRET, now=NOW)
    assert isinstance(event, webhooks.TestEvent)
    assert event.timestamp == NOW
    new = test | {"type": "agent.session.purged", "extra": 1}
    event = webhooks.verify(canonical(new), headers(canonical(new)), SECRET, now=NOW)
    assert (type(event), event.type, event.model_extra) == (
        webhooks.Event,
        "agent.session.purged",
        {"extra": 1},
    )


@pytest.mark.parametrize("secret", ["", [], [SECRET, ""]])
def test_no_secret_is_no_check(secret):
    with pytest.raises(ConfigurationError):
        webhooks.verify(BODY, headers(), secret, now=NOW)
