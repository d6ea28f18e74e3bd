"""The written price rule, in its edges and as invariants."""

from datetime import timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdpbridge.billing import (
    HostBytes,
    Receipt,
    Tariff,
    billed_minutes,
    charge,
    cost,
    forecast,
    refund,
    round_money,
)
from tests.cases import cases

DEFAULT = Tariff()

ROWS = [
    # used, minutes, charged, refunded
    (timedelta(0), 1, "0.05", "0.049167"),
    (timedelta(seconds=59.9), 1, "0.05", "0.049167"),
    (timedelta(seconds=60), 1, "0.05", "0.049167"),
    (timedelta(seconds=60.1), 2, "0.05", "0.048333"),
    (timedelta(minutes=30), 30, "0.05", "0.025"),
    (timedelta(minutes=59), 59, "0.05", "0.000833"),
    (timedelta(minutes=60), 60, "0.05", "0"),
    (timedelta(minutes=61), 61, "0.1", "0.049167"),
    (timedelta(hours=4), 240, "0.2", "0"),
]


@cases(("used", "minutes", "charged", "refunded"), ROWS)
def test_fault_a86_b04_rows_of_the_rule(used, minutes, charged, refunded):
    assert billed_minutes(DEFAULT, used) == minutes
    assert charge(DEFAULT, used) == Decimal(charged)
    assert refund(DEFAULT, used) == Decimal(refunded)
    assert cost(DEFAULT, used) == Decimal(charged) - Decimal(refunded)


def test_fault_b04_half_an_hour_gives_half_the_money_back():
    assert refund(DEFAULT, timedelta(minutes=30)) == Decimal("0.025")


def test_another_price():
    assert refund(Tariff(Decimal("0.02")), timedelta(minutes=15)) == Decimal("0.015")
    assert charge(Tariff(Decimal(0)), timedelta(hours=3)) == 0


def test_minimum_minutes():
    assert billed_minutes(Tariff(minimum_minutes=5), timedelta(seconds=1)) == 5
    assert billed_minutes(Tariff(minimum_minutes=0), timedelta(0)) == 0
    assert refund(Tariff(minimum_minutes=0), timedelta(0)) == Decimal("0.05")


@pytest.mark.parametrize("price", ["-0.01", "NaN", "Infinity"])
def test_a_price_is_a_price(price):
    with pytest.raises(ValueError, match="usd_per_hour"):
        Tariff(Decimal(price))


def test_a_minimum_is_not_negative():
    with pytest.raises(ValueError, match="minimum_minutes"):
        Tariff(minimum_minutes=-1)


@pytest.mark.parametrize("ask", [billed_minutes, charge, refund, cost])
def test_used_time_is_not_negative(ask):
    with pytest.raises(ValueError, match="negative"):
        ask(DEFAULT, timedelta(microseconds=-1))


@pytest.mark.parametrize(
    ("amount", "rounded"),
    [("0.0000005", "0"), ("0.0000015", "0.000002"), ("0.0000025", "0.000002"), ("0.04916666", "0.049167")],
)
def test_money_is_rounded_half_to_even(amount, rounded):
    assert round_money(Decimal(amount)) == Decimal(rounded)


durations = st.timedeltas(timedelta(0), timedelta(hours=4))
tariffs = st.builds(
    Tariff,
    st.decimals(min_value=0, max_value=100, places=6, allow_nan=False, allow_infinity=False),
    st.integers(0, 60),
)


@given(tariffs, durations)
def test_money_is_conserved_and_never_negative(tariff, used):
    assert 0 <= refund(tariff, used) <= charge(tariff, used)
    assert cost(tariff, used) == charge(tariff, used) - refund(tariff, used)


@given(tariffs, durations, durations)
def test_longer_use_never_costs_less(tariff, one, other):
    shorter, longer = sorted((one, other))
    assert charge(tariff, shorter) <= charge(tariff, longer)
    assert billed_minutes(tariff, shorter) <= billed_minutes(tariff, longer)
    assert cost(tariff, shorter) <= cost(tariff, longer) + Decimal("0.000001")  # each is rounded once


@given(tariffs, durations)
def test_cost_is_the_minutes_at_the_minute_price(tariff, used):
    exact = tariff.usd_per_hour * billed_minutes(tariff, used) / 60
    assert abs(cost(tariff, used) - exact) <= Decimal("0.000001")


@given(durations)
def test_minutes_are_the_ceiling(used):
    minutes = billed_minutes(DEFAULT, used)
    assert timedelta(minutes=minutes) >= used
    assert minutes == 1 or timedelta(minutes=minutes - 1) < used


def test_receipt():
    receipt = Receipt.of(DEFAULT, timedelta(seconds=20))
    assert (receipt.paid, receipt.difference) == (Decimal("0.000833"), None)
    assert str(receipt) == "charged 0.05, used 1 min, refunded 0.049167, paid 0.000833 (USD)"


@pytest.mark.parametrize(
    ("simulated", "place", "unit"),
    [
        (True, "this machine", "simulated USD, this machine"),
        (True, "127.0.0.1:8700", "simulated USD, 127.0.0.1:8700"),
        (False, "cloud", "USD, cloud"),
        (False, "", "USD"),
    ],
)
def test_fault_e08_a_receipt_says_where_and_whether_it_is_money(simulated, place, unit):
    receipt = Receipt.of(DEFAULT, timedelta(seconds=20), simulated=simulated, place=place)
    assert str(receipt).endswith(f"paid 0.000833 ({unit})")
    assert str(Receipt.total([receipt, receipt])).endswith(f"paid 0.001666 ({unit})")


def test_fault_e08_a_sum_of_simulated_and_other_money_is_not_simulated():
    one, other = (Receipt.of(DEFAULT, timedelta(0), simulated=simulated) for simulated in (True, False))
    assert not Receipt.total([one, other]).simulated


@pytest.mark.parametrize(
    ("booked", "account_change", "difference", "words"),
    [
        ("0.05", None, "0", ""),
        ("0.05", "-7", "0", ""),  # the server's own figure counts: the balance moves for other rentals too
        (None, "-0.05", "0", ""),
        ("0.06", None, "0.01", "; the server booked 0.06"),
        (None, "-0.02", "-0.03", "; the account balance fell by 0.02"),
    ],
)
def test_receipt_next_to_the_servers_figures(booked, account_change, difference, words):
    receipt = Receipt.of(
        DEFAULT,
        timedelta(minutes=60),
        booked=None if booked is None else Decimal(booked),
        account_change=None if account_change is None else Decimal(account_change),
    )
    assert receipt.difference == Decimal(difference)
    assert str(receipt) == "charged 0.05, used 60 min, refunded 0, paid 0.05 (USD)" + words


@pytest.mark.parametrize("price", ["0.05", "0.02"])
def test_fault_a86_minute_by_minute_over_four_hours_the_forecast_is_the_written_formula(price):
    """Charged for each started hour, given back by the minute; the formula is written here once more, in fractions."""
    tariff = Tariff(Decimal(price))
    hourly = Fraction(price)

    def booked(amount):
        return round_money(Decimal(amount.numerator) / Decimal(amount.denominator))

    for minute in range(241):
        for extra in (timedelta(0), timedelta(microseconds=1), timedelta(seconds=59.9)):
            used = timedelta(minutes=minute) + extra
            minutes = max(minute + (1 if extra else 0), 1)
            hours = -(-minutes // 60)
            charged, back = booked(hourly * hours), booked(hourly * hours - hourly * minutes / 60)
            assert (charge(tariff, used), refund(tariff, used)) == (charged, back)
            expected = forecast(tariff, used)
            assert (expected.most, expected.minutes) == (charged - back, minutes)
            assert expected.most == Receipt.of(tariff, used).paid
            assert (expected.upfront, expected.least) == (hourly_decimal(price), cost(tariff, timedelta(0)))


def hourly_decimal(price):
    return round_money(Decimal(price))


def test_a_total_of_receipts():
    receipts = [Receipt.of(DEFAULT, timedelta(minutes=minutes), booked=Decimal(1)) for minutes in (3, 61)]
    total = Receipt.total(receipts)
    assert (total.billed_minutes, total.booked) == (64, 2)
    assert total.paid == receipts[0].paid + receipts[1].paid
    assert Receipt.total([receipts[0], Receipt.of(DEFAULT, timedelta(0))]).booked is None


def test_bytes_by_host_of_several_rentals_are_added_up():
    one = Receipt.of(Tariff(), timedelta(0), traffic=[HostBytes("a", 1, 2), HostBytes(None, 50, 50)])
    two = Receipt.of(Tariff(), timedelta(0), traffic=[HostBytes("b", 2, 3), HostBytes("a", 1, 1)])
    assert Receipt.total([one, two]).traffic == (
        HostBytes("a", 2, 3),
        HostBytes("b", 2, 3),
        HostBytes(None, 50, 50),
    )
    assert Receipt.total([]).traffic == ()
