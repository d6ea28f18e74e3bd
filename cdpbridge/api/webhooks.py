"""Webhooks of the service: is a message its own, and what does it say.

    event = webhooks.verify(request.body, request.headers, secret)
    if isinstance(event, webhooks.TaskStatusUpdate) and event.payload.status == "finished":
        ...

Two forms of signature are in use, and both are read. Today's is `X-Browser-Use-Signature`, an HMAC-SHA256 in hex of
`{timestamp}.{body}`, the body as JSON with sorted keys and without spaces, and `X-Browser-Use-Timestamp` in Unix seconds. An older
page has `X-Webhook-Signature`, over the body as it came; the time is then the event's own.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal
from uuid import UUID

from pydantic import ValidationError

from cdpbridge._durations import waiting_time
from cdpbridge.errors import ConfigurationError, WebhookError

from ._models import Answer, Instant
from ._problems import problems_of

__all__ = [
    "TOLERANCE",
    "Event",
    "TaskStatusUpdate",
    "TaskStatusUpdatePayload",
    "TestEvent",
    "sign",
    "verify",
]

TOLERANCE: Final = timedelta(minutes=5)
"""How old, or early, a message may be (https://docs.browser-use.com/cloud/guides/webhooks, read 2026-11)."""

_SIGNATURE: Final = "x-browser-use-signature"
_TIMESTAMP: Final = "x-browser-use-timestamp"
_OLD_SIGNATURE: Final = "x-webhook-signature"
_ALGORITHM: Final = "sha256="  # some senders put it before the digits


class Event(Answer):
    """A message; of a kind that is newer than this library when it is of no subclass.

    Attributes:
        type: E.g. `"agent.task.status_update"`.
        timestamp: When it was sent.
        payload: What it says.
    """

    type: str
    timestamp: Instant
    payload: Any = None


class TaskStatusUpdatePayload(Answer):
    """What happened to a task.

    Attributes:
        status: One of `TaskStatus`, or `"initializing"`; open.
        metadata: The task's labels.
    """

    session_id: UUID
    task_id: UUID
    status: str
    metadata: dict[str, Any] | None = None


class TaskStatusUpdate(Event):
    """A task has another status."""

    type: Literal["agent.task.status_update"]
    payload: TaskStatusUpdatePayload


class TestEvent(Event):
    """Sent from the dashboard to try the address."""

    __test__ = False  # not one of pytest's

    type: Literal["test"]


_KINDS: Final[Mapping[str, type[Event]]] = {"agent.task.status_update": TaskStatusUpdate, "test": TestEvent}


def verify(
    body: bytes | str,
    headers: Mapping[str, str] | Iterable[tuple[str, str]],
    secret: str | Iterable[str],
    *,
    tolerance: float | timedelta = TOLERANCE,
    now: datetime | None = None,
) -> Event:
    """Return the event of a message, after a check that the service has sent it just now.

    Args:
        body: As it came, byte by byte; not JSON that was decoded and encoded again.
        headers: The request's; names in any case.
        secret: The webhook's; several while one takes the place of another.
        tolerance: How old, or early, it may be: seconds, or a `timedelta`. A message may come twice within it: know its task
            and status, or its signature.
        now: Default: this machine's clock.

    Raises:
        WebhookError: It has no signature, a wrong one, is too old, or is no event.
        ConfigurationError: There is no secret, or `tolerance` is no time.
    """
    limit = waiting_time("tolerance", tolerance, zero=True)
    raw = body.encode() if isinstance(body, str) else bytes(body)
    given = _lower(headers)
    secrets = [secret] if isinstance(secret, str) else list(secret)
    if not secrets or not all(secrets):
        raise ConfigurationError("a webhook's secret must not be empty; the dashboard shows it")
    moment = time.time() if now is None else now.timestamp()
    if _SIGNATURE in given:
        stamp = given.get(_TIMESTAMP, "")
        if not stamp.isascii() or not stamp.isdigit():
            raise WebhookError(f"a signature without a time: the header {_TIMESTAMP} must be Unix seconds")
        _check(given[_SIGNATURE], secrets, (f"{stamp}.".encode() + form for form in _forms(raw)))
        _check_age(moment - int(stamp), limit)
        return _event(raw)
    if _OLD_SIGNATURE in given:
        _check(given[_OLD_SIGNATURE], secrets, iter((raw,)))
        event = _event(raw)
        _check_age(moment - event.timestamp.timestamp(), limit)
        return event
    raise WebhookError(f"no signature: neither the header {_SIGNATURE} nor {_OLD_SIGNATURE} is there")


def sign(body: bytes | str, secret: str, *, now: datetime | None = None) -> dict[str, str]:
    """Return the headers of a signed message, for tests of your own handler."""
    raw = body.encode() if isinstance(body, str) else bytes(body)
    stamp = str(int((now or datetime.now(UTC)).timestamp()))
    message = f"{stamp}.".encode() + next(_forms(raw))
    return {"X-Browser-Use-Signature": _digest(secret, message), "X-Browser-Use-Timestamp": stamp}


def _lower(headers: Mapping[str, str] | Iterable[tuple[str, str]]) -> dict[str, str]:
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    return {name.lower(): value.strip() for name, value in pairs}


def _forms(raw: bytes) -> Iterator[bytes]:
    """Yield what may have been signed: the sorted JSON, in both spellings of letters beyond ASCII, or the body as it came."""
    try:
        value = json.loads(raw)
        for ascii_only in (True, False):
            yield json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=ascii_only).encode()
    except (
        ValueError,
        RecursionError,
    ):  # then the bytes are all there is; `_event` says what is wrong with them
        pass
    yield raw


def _digest(secret: str, message: bytes) -> str:
    return hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()


def _check(signature: str, secrets: list[str], messages: Iterator[bytes]) -> None:
    found = signature.removeprefix(_ALGORITHM).lower().encode()
    # Each is compared, so that time tells nothing of which.
    right = [
        hmac.compare_digest(_digest(secret, message).encode(), found)
        for message in messages
        for secret in secrets
    ]
    if not any(right):
        raise WebhookError("the signature is wrong: another secret, or the body is not as it came")


def _check_age(age_seconds: float, tolerance: timedelta) -> None:
    if abs(age_seconds) > tolerance.total_seconds():
        when = f"{age_seconds:.0f} s old" if age_seconds > 0 else f"{-age_seconds:.0f} s early"
        raise WebhookError(
            f"it is {when}, {tolerance.total_seconds():g} s are allowed: repeated, or a clock is wrong"
        )


def _event(raw: bytes) -> Event:
    try:
        event = Event.model_validate_json(raw)
        kind = _KINDS.get(event.type, Event)
        return event if kind is Event else kind.model_validate_json(raw)
    except ValidationError as error:
        problems = problems_of(error, whole="body")
        raise WebhookError(f"the signature is right, but it is no event ({problems})") from error
