"""The value of a script in a page, or what it threw."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from cdpbridge._durations import waiting_time
from cdpbridge.errors import CDPError, CommandError, CommandTimeout, ConfigurationError, EvaluationError
from cdpbridge.protocol import Runtime

from ._navigation import moved_on
from ._wait import AGAIN_SECONDS

if TYPE_CHECKING:
    from cdpbridge.cdp import CDPSession

__all__ = ["NO_VALUE", "evaluate", "is_function", "number_of", "read", "release", "thrown"]

_TRIES: Final = 100
"""Reads of a page that moves on each time: for two seconds at least."""
_FUNCTION: Final = re.compile(
    r"\s*(?:async\s+)?(?:function\b|(?:async\s*)?\([^()]*(?:\([^()]*\)[^()]*)*\)\s*=>|[\w$]+\s*=>)"
)

NO_VALUE: Final = ("Object reference chain is too long", "Object couldn't be returned by value")
"""Chromium's texts for some of what is no JSON. For the rest it returns an empty object."""

# What a value is, or holds, that has no JSON form, and where: `["Map", ".seen"]`; else null. What has fields is its fields, a class
# of the page's too.
_WITHOUT_JSON: Final = """function(whole) {
    'use strict';
    const kind = value => Object.prototype.toString.call(value).slice(8, -1);
    const odd = value => {
        if (typeof value !== 'object') return /function|symbol|bigint/.test(typeof value) ? typeof value : '';
        if (value === null || /^(Array|Object)$/.test(kind(value))) return '';
        return whole || !Object.keys(value).length ? kind(value) : '';
    };
    const name = odd(this);
    if (name) return [name, ''];
    if (kind(this) !== 'Object' && !(Symbol.iterator in this)) return null;
    for (const key of Object.keys(this)) {
        const name = odd(this[key]);
        if (name) return [name, Array.isArray(this) ? `[${key}]` : `.${key}`];
    }
    return null;
}"""
_ADVICE: Final = {
    "function": "e.g. what a call of it returns: `(...)()`",
    "symbol": "e.g. its `description`",
    "bigint": "e.g. `String(value)`",
    "Map": "e.g. `[...map]` or `Object.fromEntries(map)`",
    "Set": "e.g. `[...set]`",
    "Date": "e.g. `date.toISOString()`",
    "RegExp": "e.g. `String(value)`",
    "Error": "e.g. `String(value)`",
    "NodeList": "e.g. `[...list].map(each => each.textContent)`",
    "HTMLCollection": "e.g. `[...list].map(each => each.textContent)`",
}
_OF_ELEMENTS: Final = "e.g. `element.textContent`"
_OF_OTHERS: Final = "e.g. its fields: `({name: value.name})`"


def is_function(expression: str) -> bool:
    """Return True if an expression is written as a function, e.g. `() => 1`: it would have to be called."""
    return _FUNCTION.match(expression) is not None


async def evaluate(
    session: CDPSession,
    expression: str,
    *,
    timeout: float | timedelta | None,
    settled: Callable[[], Awaitable[None]],
) -> Any:
    """See `Tab.evaluate`; `settled` is waited for first, within the timeout."""
    if not isinstance(expression, str):
        raise ConfigurationError(f"expression must be a text like 'document.title', not {expression!r}")
    if timeout is None:
        await settled()
        return await _evaluate(session, expression, None)
    limit = waiting_time("timeout", timeout)
    try:
        async with asyncio.timeout(limit.total_seconds()) as deadline:
            await settled()
            return await _evaluate(session, expression, limit + timedelta(minutes=1))
    except TimeoutError:
        if not deadline.expired():
            raise
        raise CommandTimeout(
            "Runtime.evaluate", target=session.describe(), waited=limit, hint=session.hint()
        ) from None


async def _evaluate(session: CDPSession, expression: str, timeout: timedelta | None) -> Any:
    command = Runtime.evaluate(expression, await_promise=True, return_by_value=True, user_gesture=True)
    try:
        answer = await session.send(command, timeout=timeout)
    except CommandError as error:
        if not error.message.startswith(NO_VALUE):
            raise
        found = await _without_json(session, expression, timeout, whole=True)
        raise _no_json(found) from error
    if answer.exception_details is not None:
        raise thrown(answer.exception_details)
    if answer.result.unserializable_value is not None:
        return number_of(answer.result.unserializable_value)
    value = answer.result.value
    if _may_hide(value) and (found := await _without_json(session, expression, timeout, whole=False)):
        raise _no_json(found)
    return value


def _may_hide(value: Any) -> bool:
    """Return True if a value holds an empty object, which is what Chromium makes of a function, an element or a Map."""
    if isinstance(value, dict):
        return not value or {} in value.values()
    return isinstance(value, list) and {} in value


async def _without_json(
    session: CDPSession, expression: str, timeout: float | timedelta | None, *, whole: bool
) -> tuple[str, str] | None:
    """Return what in the value of an expression has no JSON form, and where; None if all has, or it cannot be said.

    The expression is evaluated again, but only as far as that changes nothing in the page; V8 stops it there.

    Args:
        whole: An object that is no plain one has none, even with fields.
    """
    try:
        again = await session.send(Runtime.evaluate(expression, throw_on_side_effect=True), timeout=timeout)
        if again.exception_details is not None or again.result.object_id is None:
            return None
        look = Runtime.call_function_on(
            _WITHOUT_JSON,
            object_id=again.result.object_id,
            arguments=[Runtime.CallArgument(value=whole)],
            return_by_value=True,
            throw_on_side_effect=True,
        )
        found = await session.send(look, timeout=timeout)
        await session.send(Runtime.release_object(again.result.object_id), timeout=timeout)
    except CDPError:  # e.g. the page has moved on; the value was there before
        return None
    return (
        None if found.exception_details is not None or not found.result.value else tuple(found.result.value)
    )


def _no_json(found: tuple[str, str] | None) -> EvaluationError:
    if found is None:
        return EvaluationError(
            "the value has no JSON form: it is or holds a window, a symbol, a bigint, or an object that refers to itself. Return "
            f"what you need of it, {_OF_OTHERS}, or end the script with `; null`"
        )
    name, place = found
    what = f"a {name}" if name[:1].islower() else f"an object of the class {name}"
    advice = _ADVICE.get(name, _OF_ELEMENTS if name.endswith("Element") else _OF_OTHERS)
    return EvaluationError(
        f"the value {f'has at `{place}`' if place else 'is'} {what}, which has no JSON form. Return what you need of it, {advice}"
    )


async def read(session: CDPSession, expression: str) -> Any:
    """Return the value of an expression that changes nothing; when the page moves on meanwhile, of the next document.

    A value of None means that the document is only just beginning.
    """
    command = Runtime.evaluate(expression, return_by_value=True)
    value = None
    for _ in range(_TRIES):
        try:
            answer = await session.send(command)
        except CommandError as error:
            if not moved_on(error):
                raise
        else:
            if answer.exception_details is not None:
                raise thrown(answer.exception_details)
            if (value := answer.result.value) is not None:
                break
        await asyncio.sleep(AGAIN_SECONDS)
    return value


async def release(session: CDPSession, object_id: str) -> None:
    """Let the page forget an object that we have asked for."""
    with suppress(CDPError):  # it has ended with its document
        await session.send(Runtime.release_object(object_id))


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
