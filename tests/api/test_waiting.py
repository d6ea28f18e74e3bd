"""When to look again: pauses, deadlines, patience. Time is a number."""

from datetime import timedelta

import pytest

from cdpbridge.api import TaskStatusView
from cdpbridge.api._waiting import MAX_OUTAGE_SECONDS, Watch, is_over
from cdpbridge.errors import ConfigurationError
from tests.cases import cases


def view(status, finished=None):
    return TaskStatusView(id="11111111-2222-4333-8444-555555555555", status=status, finished_at=finished)


@pytest.mark.parametrize(("silence", "pause"), [(0, 0.5), (5, 0.5), (20, 2), (50, 5), (3600, 5)])
def test_pauses_grow_with_the_silence(silence, pause):
    watch = Watch.begin(100, None)
    assert watch.pause(100 + silence, chance=0.5) == pytest.approx(pause)
    assert watch.pause(100 + silence, chance=0) == pytest.approx(0.8 * pause)
    assert watch.pause(100 + silence, chance=1) == pytest.approx(1.2 * pause)


def test_news_begins_the_silence_anew():
    watch = Watch.begin(0, None)
    watch.answered(50, news=True)
    assert watch.pause(50, chance=0.5) == 0.5
    watch.answered(70)
    assert watch.pause(70, chance=0.5) == pytest.approx(2)


def test_a_deadline():
    watch = Watch.begin(0, timedelta(seconds=10))
    assert watch.left(4) == 6
    assert watch.pause(9.9, chance=0.5) == pytest.approx(0.1)
    assert watch.pause(10, chance=0.5) is None
    assert watch.left(11) == 0
    assert Watch.begin(0, None).left(1e9) is None


def test_a_server_that_is_away_for_a_while():
    watch = Watch.begin(0, None)
    assert watch.may_go_on(10)
    assert watch.may_go_on(10 + MAX_OUTAGE_SECONDS - 1)
    assert not watch.may_go_on(10 + MAX_OUTAGE_SECONDS)
    watch.answered(100)
    assert watch.may_go_on(101)


@pytest.mark.parametrize("timeout", [timedelta(0), timedelta(seconds=-1)])
def test_no_time_at_all(timeout):
    with pytest.raises(ConfigurationError, match="positive"):
        Watch.begin(0, timeout)


@cases(
    ("status", "finished", "over"),
    [
        ("created", None, False),
        ("started", None, False),
        ("paused", "2026-11-02T12:00:00Z", False),
        ("finished", None, True),
        ("stopped", None, True),
        ("failed", None, True),
        ("napping", None, False),
        ("exploded", "2026-11-02T12:00:00Z", True),
    ],
)
def test_what_is_over(status, finished, over):
    assert is_over(view(status, finished)) is over
