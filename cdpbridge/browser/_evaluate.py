"""The value of a script in a page, or what it threw."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from cdpbridge.errors import CDPError, CommandError, EvaluationError
from cdpbridge.protocol import Runtime

if TYPE_CHECKING:
    from cdpbridge.cdp import CDPSession

__all__ = ["NO_VALUE", "evaluate", "number_of", "thrown"]

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


async def evaluate(session: CDPSession, expression: str, *, timeout: float | timedelta | None = None) -> Any:
    """See `Tab.evaluate`."""
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
