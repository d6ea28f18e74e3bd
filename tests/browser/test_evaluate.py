"""What `evaluate` returns, calls and refuses, in both builds."""

import pytest

from cdpbridge.browser._evaluate import is_function
from cdpbridge.errors import ConfigurationError, EvaluationError
from tests.browser.test_actions import log, show

pytestmark = pytest.mark.chromium

CALLED = [
    "() => 5",
    "async () => 5;",
    "async() => { return Promise.resolve(5) }",
    "function () { return 5 }",
    "async function five() { return 5 }",
    "(a = (1), {b} = {}) => 5",
    "_ => 5 // a comment",
    "\n  () =>\n  5\n",
]


async def test_what_is_written_as_a_function_is_called(page, pages):
    await show(page, pages, "<p>a")
    for expression in CALLED:
        assert is_function(expression)
        assert await page.evaluate(expression) == 5, expression
    for expression in ("(() => 5)()", "(1 + 2)", "functional", "x = y => 1", "a.b(() => 1)", "function_(1)"):
        assert not is_function(expression)
    assert await page.evaluate("function add(a) { return a + 1 }; log.push(add(1)), add(4)") == 5
    assert await log(page) == [2]  # once
    for expression in ("(() => 5)", "document.querySelector", "() => () => 1", "() => document.body"):
        with pytest.raises(EvaluationError, match="has no JSON form"):
            await page.evaluate(expression)
    with pytest.raises(ConfigurationError, match="expression must be a text"):
        await page.evaluate(5)


@pytest.mark.parametrize(
    ("expression", "words", "place"),
    [
        ("log.push(1), missing", "ReferenceError", None),
        ("() => missing", "ReferenceError", (1, 7)),
        ("log.push(1), Promise.reject(new Error('late'))", "late", None),
        ("log.push(1), JSON.parse('{')", "SyntaxError", None),
        ("((", "SyntaxError", None),
        ("if (true) log.push(1), missing", "ReferenceError", None),
    ],
)
async def test_what_is_thrown_has_its_place_and_ran_once(page, pages, expression, words, place):
    await show(page, pages, "<p>a")
    with pytest.raises(EvaluationError, match=words) as caught:
        await page.evaluate(expression)
    if place is not None:
        assert (caught.value.line, caught.value.column) == place
    assert await log(page) == ([1] if "push" in expression else [])
