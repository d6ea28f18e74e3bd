"""What is written as a function, which users of Playwright expect to be called."""

from cdpbridge.browser._evaluate import is_function
from tests.cases import cases


@cases(
    "expression",
    [
        "() => 5",
        "async () => 5;",
        "async() => { return Promise.resolve(5) }",
        "function () { return 5 }",
        "async function five() { return 5 }",
        "(a = (1), {b} = {}) => 5",
        "_ => 5 // a comment",
        "\n  () =>\n  5\n",
    ],
)
def test_what_is_a_function(expression):
    assert is_function(expression)


@cases(
    "expression",
    ["(() => 5)()", "(1 + 2)", "functional", "x = y => 1", "a.b(() => 1)", "function_(1)", "window.jQuery"],
)
def test_what_is_none(expression):
    assert not is_function(expression)
