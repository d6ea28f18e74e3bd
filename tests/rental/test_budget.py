"""Ceilings as a pure rule."""

from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdpbridge import Budget, Tariff
from cdpbridge.billing import cost
from cdpbridge.errors import ConfigurationError
from cdpbridge.rental._budget import Claim, Usage, Verdict, judge
from tests.cases import cases

HOUR = Claim(Tariff(), None)


@cases(
    ("budget", "usage", "verdict"),
    [
        (Budget(), Usage(Decimal(9), 999, [HOUR] * 9), Verdict.YES),
        (Budget(browsers=2), Usage(running=[HOUR]), Verdict.YES),
        (Budget(browsers=2), Usage(running=[HOUR] * 2), Verdict.FULL),
        (Budget(browsers=0), Usage(), Verdict.NEVER),
        (Budget(usd="0.05"), Usage(), Verdict.YES),
        (Budget(usd="0.05"), Usage(usd=Decimal("0.000001")), Verdict.NEVER),
        (Budget(usd="0.06"), Usage(running=[HOUR]), Verdict.LATER),  # it may stop after a minute
        (Budget(usd="0.05"), Usage(running=[HOUR]), Verdict.NEVER),  # that minute is spent
        (Budget(minutes=60), Usage(), Verdict.YES),
        (Budget(minutes=60), Usage(minutes=1), Verdict.NEVER),
        (Budget(minutes=61), Usage(running=[HOUR]), Verdict.LATER),
    ],
)
def test_rows_of_the_rule(budget, usage, verdict):
    found, why = judge(budget, usage, HOUR)
    assert found is verdict
    assert bool(why) is (verdict is not Verdict.YES)


def test_the_reason_has_the_figures():
    _, why = judge(Budget(usd="0.06", name="nightly"), Usage(usd=Decimal("0.01"), running=[HOUR]), HOUR)
    for words in ("the budget 'nightly'", "allows 0.06 USD", "0.01 are spent", "may use 0.05 more"):
        assert words in why


@given(
    st.decimals(0, 1, places=3),
    st.lists(st.tuples(st.integers(1, 240), st.integers(0, 240)), max_size=30),
)
def test_no_ceiling_is_passed_whatever_is_let_in_and_however_long_it_runs(ceiling, rentals):
    """Each that is let in runs as long as it likes; what was spent in the end is within the ceiling."""
    budget, running, spent = Budget(usd=ceiling), [], Decimal(0)
    for timeout, used in rentals:
        claim = Claim(Tariff(), timedelta(minutes=timeout))
        if judge(budget, Usage(spent, 0, running), claim)[0] is Verdict.YES:
            running.append(claim)
        elif running:  # one ends, having used what it liked
            ended = running.pop(0)
            spent += cost(ended.tariff, min(timedelta(minutes=used), ended.timeout))
    assert spent + sum(claim.forecast.most for claim in running) <= ceiling


@cases(
    "values",
    [
        {"usd": -1},
        {"usd": "much"},
        {"usd": "NaN"},
        {"minutes": -1},
        {"browsers": 1.5},
        {"per": timedelta(0)},
        {"name": "x", "whole_machine": True},
    ],
)
def test_nonsense_is_refused(values):
    with pytest.raises(ConfigurationError):
        Budget(**values)


def test_who_shares_a_budget():
    assert Budget(name="a").scope == Budget(name="a").scope != Budget(name="b").scope
    assert Budget().scope != Budget().scope
    assert Budget(whole_machine=True).scope == Budget(whole_machine=True).scope == "machine"


def test_of_the_environment():
    assert Budget.of_environment({}) is None
    found = Budget.of_environment({"CDPBRIDGE_BUDGET_USD": "1.5", "CDPBRIDGE_BUDGET_BROWSERS": "3"})
    assert (found.usd, found.minutes, found.browsers, found.whole_machine) == (Decimal("1.5"), None, 3, True)
    with pytest.raises(ConfigurationError, match="CDPBRIDGE_BUDGET_"):
        Budget.of_environment({"CDPBRIDGE_BUDGET_MINUTES": "an hour"})
