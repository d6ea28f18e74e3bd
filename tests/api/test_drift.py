"""How far answers have moved from the models."""

import pytest

from cdpbridge.api import Account, BrowserSession, Difference, Page, Profile, Task, drift
from tests.cases import cases

from .conftest import ACCOUNT, BROWSER, PROFILE, page_of

NOW = "2026-11-02T12:00:00Z"
STEP = {"number": 1, "memory": "", "evaluationPreviousGoal": "", "nextGoal": "", "url": "", "actions": []}
TASK = {
    "id": "22222222-2222-4333-8444-555555555555",
    "sessionId": "33333333-2222-4333-8444-555555555555",
    "llm": "gpt-4o",
    "task": "t",
    "status": "started",
    "startedAt": NOW,
    "steps": [STEP],
    "outputFiles": [],
}


def harmful(kind, answer):
    """Without the fields that need not be there."""
    return [each for each in drift(kind, answer) if each.detail != "optional"]


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        (Account, ACCOUNT),
        (BrowserSession, BROWSER),
        (Profile, PROFILE),
        (Page[Profile], page_of([PROFILE])),
        (Task, TASK),
    ],
)
def test_answers_of_the_reference_do_not_differ(kind, answer):
    assert harmful(kind, answer) == []


@cases(
    ("kind", "answer", "found"),
    [
        (BrowserSession, BROWSER | {"weather": None}, ("weather", "unknown field", "NoneType")),
        (BrowserSession, BROWSER | {"status": "paused"}, ("status", "unknown value", "'paused'")),
        (BrowserSession, BROWSER | {"startedAt": NOW[:-1]}, ("startedAt", "naive time", "read as UTC")),
        (Task, TASK | {"llm": "gpt-9"}, ("llm", "unknown value", "'gpt-9'")),
        (Task, TASK | {"status": "judging"}, ("status", "unknown value", "'judging'")),
        (Task, TASK | {"steps": [STEP | {"mood": 1}]}, ("steps[].mood", "unknown field", "int")),
        (
            Page[Profile],
            page_of([PROFILE, PROFILE | {"userId": "u"}]),
            ("items[].userId", "unknown field", "str"),
        ),
        (
            Account,
            ACCOUNT | {"planInfo": ACCOUNT["planInfo"] | {"seats": 3}},
            ("planInfo.seats", "unknown field", "int"),
        ),
        (
            Profile,
            {k: v for k, v in PROFILE.items() if k != "createdAt"},
            ("createdAt", "missing field", "required"),
        ),
    ],
)
def test_each_kind_of_difference(kind, answer, found):
    assert harmful(kind, answer) == [Difference(*found)]


@pytest.mark.parametrize(
    ("kind", "answer", "where"),
    [
        (BrowserSession, BROWSER | {"startedAt": "secret"}, "startedAt"),
        (BrowserSession, BROWSER | {"id": "secret"}, "id"),
        (Task, TASK | {"steps": [STEP | {"number": "secret"}]}, "steps[].number"),
        (Account, ["secret"], "answer"),
    ],
)
def test_what_cannot_be_read_is_not_quoted(kind, answer, where):
    found = harmful(kind, answer)
    assert {(each.where, each.kind) for each in found} == {(where, "invalid")}
    assert "secret" not in str(found)


def test_fields_that_need_not_be_there_are_named_too():
    missing = [each.where for each in drift(Account, ACCOUNT)]
    assert missing == ["activeSessionCount", "concurrentSessionLimit", "creditsSimulated", "usdPerHour"]
    assert str(drift(Account, ACCOUNT)[0]) == "activeSessionCount: missing field (optional)"
