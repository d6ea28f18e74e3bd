"""Cases in one test, as each by itself."""

import inspect

import pytest

from tests.cases import cases


def test_every_case_runs_and_each_that_fails_is_named():
    seen = []

    @cases("number", [0, 1], ids="n={}".format)
    @cases(("word", "wanted"), [("a", 1), ("b", 2), ("c", 3)])
    def test(place, word, wanted, number):
        seen.append((place, number, word))
        if word == "a":
            assert number == 1, "too small"
        if word == "b":
            with pytest.raises(ValueError):
                int(wanted)

    assert list(inspect.signature(test).parameters) == ["place"]
    with pytest.raises(BaseExceptionGroup, match="2 of 2 cases failed") as caught:
        test(place="here")
    assert [name for _, _, name in seen] == ["a", "b", "c"] * 2
    assert {place for place, _, _ in seen} == {"here"}
    first, second = caught.value.exceptions
    assert (first.__notes__, second.__notes__) == (["the case n=0"], ["the case n=1"])
    assert [each.__notes__ for each in first.exceptions] == [["the case ('a', 1)"], ["the case ('b', 2)"]]
    assert [each.__notes__ for each in second.exceptions] == [["the case ('b', 2)"]]


async def test_coroutines_too():
    seen = []

    @cases("number", range(3))
    async def test(number):
        seen.append(number)
        assert number != 1

    with pytest.raises(BaseExceptionGroup, match="1 of 3 cases failed"):
        await test()
    assert seen == [0, 1, 2]


def test_no_cases_are_no_test():
    with pytest.raises(AssertionError, match="no cases"):
        cases("number", [])
