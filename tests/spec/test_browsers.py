"""The operations on browsers."""

from datetime import datetime

import pytest

from tests.cases import cases

from .conftest import UNKNOWN
from .test_sessions import COUNTRIES


def minutes(browser):
    lasts = datetime.fromisoformat(browser["timeoutAt"]) - datetime.fromisoformat(browser["startedAt"])
    return lasts.total_seconds() / 60


def test_list(api):
    """Lines 2263-2370: browsers in pages, those of sessions among them."""
    active, stopped, session = api.browser(), api.browser(), api.session()
    api.stop_browser(stopped)
    page = api.call("GET", "/browsers", status=200, params={"filterBy": "active", "pageSize": 100})
    assert {active["id"], session["browserSessionId"]} <= {item["id"] for item in page["items"]}
    page = api.call("GET", "/browsers", status=200, params={"filterBy": "stopped", "pageSize": 1})
    assert [item["id"] for item in page["items"]] == [stopped["id"]]
    for params in ({"filterBy": "asleep"}, {"pageSize": 101}, {"pageNumber": 0}):
        api.refused("GET", "/browsers", None, next(iter(params)), params=params)


def test_price(api):
    """Lines 2374-2405: an hour is charged upfront, and what was not used is given back at the stop."""
    before = api.call("GET", "/billing/account", status=200)["totalCreditsBalanceUsd"]
    browser = api.browser()
    during = api.call("GET", "/billing/account", status=200)["totalCreditsBalanceUsd"]
    assert round(before - during, 6) == 0.05
    for _ in range(2):
        assert api.stop_browser(browser)["browserCost"] == "0.000833"
    after = api.call("GET", "/billing/account", status=200)["totalCreditsBalanceUsd"]
    assert round(before - after, 6) == 0.000833


@pytest.mark.parametrize("asked", [1, 5, 5.0, 240])
def test_timeout(api, asked):
    """Lines 2469-2470: minutes, an integer as JSON Schema has it."""
    assert minutes(api.browser(timeout=asked)) == asked


@cases("asked", [0, -1, 241, 5.5, "5", True, None, 10**30])
def test_bad_timeouts(api, asked):
    """Lines 2469-2470: everything else is refused."""
    api.refused("POST", "/browsers", {"timeout": asked}, "timeout")


def test_default_timeout(api, free):
    """Lines 2469-2470: without one, an hour, or as long as the plan allows."""
    assert minutes(api.browser()) == 60
    assert minutes(free.browser()) == 15


@pytest.mark.parametrize("asked", [16, 60, 240, 241, 100_000])
def test_free_limit(free, asked):
    """Lines 2425-2427: above the limit of the free plan every number is 403."""
    detail = free.call("POST", "/browsers", {"timeout": asked}, status=403)["detail"]
    assert "free users" in detail


def test_limits_of_the_plans(api, free):
    """Lines 2382-2409: 15 minutes on the free plan, four hours on the paid one."""
    assert minutes(free.browser(timeout=15)) == 15
    assert minutes(api.browser(timeout=240)) == 240


def test_profile(api):
    """Lines 2428-2430: a profile that is there, and 404 for one that is not."""
    profile = api.call("POST", "/profiles", {}, status=201)
    assert api.browser(profileId=profile["id"])["profileId"] == profile["id"]
    assert api.browser(profileId=None)["profileId"] is None
    assert api.call("POST", "/browsers", {"profileId": UNKNOWN}, status=404)["detail"] == "Profile not found"
    api.refused("POST", "/browsers", {"profileId": "nonsense"}, "profileId")


@cases("country", COUNTRIES)
def test_countries(api, country):
    """Lines 2458-2468: each of the ten countries."""
    browser = api.browser(proxyCountryCode=country)
    assert (browser["proxyCountryCode"], browser["proxySimulated"]) == (country, True)


@cases("country", ["xx", "", "germany", 1])
def test_unknown_countries(api, country):
    """Lines 2458-2468: another code is refused."""
    api.refused("POST", "/browsers", {"proxyCountryCode": country}, "proxyCountryCode")


def test_limit(api):
    """Lines 2434-2436: 429 above the limit."""
    small = api.small_project("one browser", maxBrowsers=1)
    browser = small.browser()
    small.call("POST", "/browsers", {}, status=429)
    small.stop_browser(browser)


def test_get(api):
    """Lines 2476-2591: one browser; its addresses end with it."""
    browser = api.browser()
    found = api.call("GET", "/browsers/{session_id}", status=200, session_id=browser["id"])
    assert found == browser
    assert None not in (found["cdpUrl"], found["liveUrl"])
    stopped = api.stop_browser(browser)
    assert (stopped["cdpUrl"], stopped["liveUrl"]) == (None, None)
    assert stopped["finishedAt"] is not None
    api.call("GET", "/browsers/{session_id}", status=404, session_id=UNKNOWN)
    api.call("GET", "/browsers/{session_id}", status=422, session_id="nonsense")


def test_stop(api):
    """Lines 2594-2701: stop is the only action, and may be repeated."""
    browser = api.browser()
    for _ in range(2):
        assert api.stop_browser(browser)["status"] == "stopped"
    for wrong in ({"action": "pause"}, {"action": None}, {}):
        api.call("PATCH", "/browsers/{session_id}", wrong, status=422, session_id=browser["id"])
    api.call("PATCH", "/browsers/{session_id}", {"action": "stop"}, status=404, session_id=UNKNOWN)
