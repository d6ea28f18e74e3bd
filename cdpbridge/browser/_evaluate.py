"""The value of a script in a page, or what it threw."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from cdpbridge.errors import EvaluationError
from cdpbridge.protocol import Runtime

if TYPE_CHECKING:
    from cdpbridge.cdp import CDPSession

__all__ = ["evaluate", "number_of", "thrown"]


async def evaluate(session: CDPSession, expression: str, *, timeout: float | timedelta | None = None) -> Any:
    """See `Tab.evaluate`."""
    answer = await session.send(
        Runtime.evaluate(expression, await_promise=True, return_by_value=True, user_gesture=True),
        timeout=timeout,
    )
    if answer.exception_details is not None:
        raise thrown(answer.exception_details)
    if answer.result.unserializable_value is not None:
        return number_of(answer.result.unserializable_value)
    return answer.result.value


def thrown(details: Runtime.ExceptionDetails) -> EvaluationError:
    """Return the error for what a script threw."""
    exception = details.exception
    text = details.text
    if exception is not None:  # an Error describes itself; anything else can be thrown too
        text = (
            exception.description or f"{details.text} {exception.unserializable_value or exception.value!r}"
        )
    return EvaluationError(text, line=details.line_number + 1, column=details.column_number + 1)


def number_of(text: str) -> int | float:
    """Return a value that JSON has no form for: `NaN`, `Infinity`, `-Infinity`, `-0`, or a bigint like `12n`."""
    return int(text.removesuffix("n")) if text.endswith("n") else float(text)
