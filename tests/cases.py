"""Many cases of one test, run as one: each case of `parametrize` is collected by every worker, which takes longer than most of them run."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest


class Failures:
    """What cases of one run of a test have raised."""

    def __init__(self) -> None:
        self._found: list[BaseException] = []

    @contextmanager
    def of(self, case: str) -> Iterator[None]:
        """Keep what a case raises."""
        try:
            yield
        # `pytest.raises` fails with no Exception, and so does a group of cases in which it did.
        except (Exception, pytest.fail.Exception, BaseExceptionGroup) as error:  # raised by `end`
            error.add_note(f"the case {case}")
            self._found.append(error)

    def end(self, cases: int) -> None:
        """Raise all of it."""
        if self._found:
            raise BaseExceptionGroup(f"{len(self._found)} of {cases} cases failed", self._found)


def cases(
    names: str | Sequence[str], values: Iterable[Any], *, ids: Callable[[Any], str] = repr
) -> Callable[[Callable], Callable]:
    """As `pytest.mark.parametrize`, for tests that leave nothing behind: fixtures are made once for all cases.

    Those that fail are raised together, and each says its case.
    """
    arguments = [each.strip() for each in names.split(",")] if isinstance(names, str) else list(names)
    rows = [
        (ids(value), dict(zip(arguments, value if len(arguments) > 1 else [value], strict=True)))
        for value in values
    ]
    assert rows, "no cases"

    def mark(test: Callable) -> Callable:
        if inspect.iscoroutinefunction(test):

            @functools.wraps(test)
            async def run(**fixtures: Any) -> None:
                failures = Failures()
                for case, row in rows:
                    with failures.of(case):
                        await test(**fixtures, **row)
                failures.end(len(rows))

        else:

            @functools.wraps(test)
            def run(**fixtures: Any) -> None:
                failures = Failures()
                for case, row in rows:
                    with failures.of(case):
                        test(**fixtures, **row)
                failures.end(len(rows))

        signature = inspect.signature(test)
        fixtures = [each for name, each in signature.parameters.items() if name not in arguments]
        run.__signature__ = signature.replace(parameters=fixtures)  # type: ignore[attr-defined]  # pytest reads it
        return run

    return mark
