"""Failed REST requests, and webhook messages that cannot be trusted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ._base import CDPBridgeError

__all__ = [
    "APIConnectionError",
    "APIError",
    "APIResponseError",
    "APIStatusError",
    "APITimeoutError",
    "AuthenticationError",
    "BadRequestError",
    "ConflictError",
    "NotFoundError",
    "PaymentRequiredError",
    "PermissionDeniedError",
    "RateLimitError",
    "ServerError",
    "UnprocessableEntityError",
    "WebhookError",
]


class APIError(CDPBridgeError):
    """A REST request failed.

    Attributes:
        method: HTTP method, e.g. `"POST"`.
        path: Path below the base URL, e.g. `"/browsers"`.
    """

    def __init__(self, message: str, *, method: str, path: str) -> None:
        super().__init__(f"{method} {path}: {message}")
        self.method = method
        self.path = path


class APIConnectionError(APIError):
    """No answer came: refused, reset, name not found.

    Attributes:
        maybe_processed: False only when the server cannot have seen the request.
    """

    def __init__(self, message: str, *, method: str, path: str, maybe_processed: bool = True) -> None:
        super().__init__(message, method=method, path=path)
        self.maybe_processed = maybe_processed


class APITimeoutError(APIConnectionError, TimeoutError):
    """No answer came within the request's timeout."""


class APIResponseError(APIError):
    """An answer arrived that does not fit the contract, e.g. not JSON, or a required field is missing.

    Attributes:
        answer_id: The answer's `id`, if it has one: the request has created something.
    """

    def __init__(self, message: str, *, method: str, path: str, answer_id: str | None = None) -> None:
        super().__init__(message, method=method, path=path)
        self.answer_id = answer_id


class APIStatusError(APIError):
    """The server answered with a status of 400 or above.

    Attributes:
        status: HTTP status.
        detail: The body's `detail`: a text, or a list of `{"loc", "msg", "type"}` for 422, or None.
        request_id: The server's `X-Request-Id`, if it sent one.
        retry_after: Seconds from `Retry-After`, if it sent one.
    """

    def __init__(
        self,
        *,
        status: int,
        method: str,
        path: str,
        detail: Any = None,
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        text = f"{status} {_detail_text(detail)}".rstrip()
        if request_id:
            text += f" (request {request_id})"
        super().__init__(text, method=method, path=path)
        self.status = status
        self.detail = detail
        self.request_id = request_id
        self.retry_after = retry_after


def _detail_text(detail: Any) -> str:
    if isinstance(detail, list):
        parts = []
        for item in detail:
            if isinstance(item, Mapping):
                where = ".".join(str(part) for part in item.get("loc", ()))
                parts.append(f"{where}: {item.get('msg', '')}".strip(": "))
            else:
                parts.append(str(item))
        return "; ".join(parts)
    if isinstance(detail, Mapping):
        return str(detail.get("message") or dict(detail))
    return "" if detail is None else str(detail)


class BadRequestError(APIStatusError):
    """400: the request is not possible in the present state, e.g. a task on a stopped session."""


class AuthenticationError(APIStatusError):
    """401: the API key is missing or unknown."""


class PaymentRequiredError(APIStatusError):
    """402: credits are used up, or the plan does not include this."""


class PermissionDeniedError(APIStatusError):
    """403: not on this plan, e.g. a timeout over the plan's limit."""


class NotFoundError(APIStatusError):
    """404: no such profile, browser, session, task or file for this key."""


class ConflictError(APIStatusError):
    """409: the request contradicts another one, e.g. an `Idempotency-Key` reused with another body."""


class UnprocessableEntityError(APIStatusError):
    """422: a field of the request is not valid; `detail` names it."""


class RateLimitError(APIStatusError):
    """429: too many concurrent sessions, or too many requests."""


class ServerError(APIStatusError):
    """5xx: the server failed."""


class WebhookError(CDPBridgeError):
    """A webhook message cannot be trusted: no signature, a wrong signature, or too old."""
