"""The operations on agent sessions and their shares."""

import httpx
import pytest

from tests.cases import cases

from .conftest import UNKNOWN

COUNTRIES = ("us", "uk", "fr", "it", "jp", "au", "de", "fi", "ca", "in")


def test_list(api):
    """Lines 852-951: sessions in pages, all of them, the active or the stopped ones."""
    active, stopped = api.session(), api.session()
    api.stop_session(stopped)
    for word, wanted, other in (("active", active, stopped), ("stopped", stopped, active)):
        page = api.call("GET", "/sessions", status=200, params={"filterBy": word, "pageSize": 100})
        ids = {item["id"] for item in page["items"]}
        assert wanted["id"] in ids
        assert other["id"] not in ids
    for params in ({"filterBy": "asleep"}, {"pageSize": 0}, {"pageNumber": 0}):
        api.refused("GET", "/sessions", None, next(iter(params)), params=params)


def test_create(api):
    """Lines 967-1030: a session with nothing asked for, and with everything null."""
    assert api.call("POST", "/sessions", None, status=201)["status"] == "active"
    nulls = dict.fromkeys(("profileId", "proxyCountryCode", "startUrl"))
    assert api.call("POST", "/sessions", nulls, status=201)["status"] == "active"


def test_limit(api):
    """Lines 992-994: 429 above the limit."""
    small = api.small_project("one session", maxBrowsers=1)
    session = small.session()
    small.call("POST", "/sessions", {}, status=429)
    small.stop_session(session)


@cases("country", COUNTRIES)
def test_countries(api, country):
    """Lines 1002-1014: each of the ten countries; here they are simulated, and every answer says so."""
    session = api.session(proxyCountryCode=country)
    assert (session["proxyCountryCode"], session["proxySimulated"]) == (country, True)
    api.stop_session(session)


def test_unknown_country(api):
    """Lines 1002-1014: another code is refused, with those that would do."""
    detail = api.call("POST", "/sessions", {"proxyCountryCode": "xx"}, status=422)["detail"]
    assert ", ".join(sorted(COUNTRIES)) in detail[0]["msg"]


def test_profile(api):
    """Lines 1018-1022: a profile that is there, and 404 for one that is not."""
    profile = api.call("POST", "/profiles", {}, status=201)
    api.session(profileId=profile["id"])
    assert api.background.hosts.specs[-1].profile_id is not None
    assert api.call("POST", "/sessions", {"profileId": UNKNOWN}, status=404)["detail"] == "Profile not found"
    api.refused("POST", "/sessions", {"profileId": "nonsense"}, "profileId")


@pytest.mark.parametrize(
    ("given", "opened"),
    [
        ("http://example.com/", "http://example.com/"),
        ("example.com", "https://example.com"),
        ("about:blank",) * 2,
    ],
)
def test_start_url(api, given, opened):
    """Lines 1027-1030: the first page, with or without a scheme."""
    api.session(startUrl=given)
    assert api.background.hosts.specs[-1].start_url == opened
    api.refused("POST", "/sessions", {"startUrl": "file:///etc/passwd"}, "startUrl")


def test_get(api):
    """Lines 1063-1199: a session with tasks, address to watch and share."""
    session = api.session()
    task = api.done(sessionId=session["id"])
    found = api.call("GET", "/sessions/{session_id}", status=200, session_id=session["id"])
    assert [each["id"] for each in found["tasks"]] == [task["id"]]
    assert found["publicShareUrl"] is None
    assert found["liveUrl"].startswith("http")
    api.call("GET", "/sessions/{session_id}", status=404, session_id=UNKNOWN)
    api.call("GET", "/sessions/{session_id}", status=422, session_id="nonsense")


def test_stop(api):
    """Lines 1203-1244: a stop ends the running task, and may be repeated."""
    created = api.call("POST", "/tasks", {"task": "Wait"}, status=202)
    session = {"id": created["sessionId"]}
    for _ in range(2):
        stopped = api.stop_session(session)
        assert (stopped["status"], stopped["liveUrl"]) == ("stopped", None)
    assert api.over(created["id"])["status"] == "stopped"
    for wrong in ({"action": "pause"}, {}):
        api.call("PATCH", "/sessions/{session_id}", wrong, status=422, session_id=session["id"])
    api.call("PATCH", "/sessions/{session_id}", {"action": "stop"}, status=404, session_id=UNKNOWN)


def test_share(api):
    """Lines 1357-1533: a share is made once, counted, and taken back."""
    template = "/sessions/{session_id}/public-share"
    ids = {"session_id": api.session()["id"]}
    api.call("GET", template, status=404, **ids)
    share = api.call("POST", template, status=201, **ids)
    assert (share["viewCount"], share["lastViewedAt"]) == (0, None)
    assert api.call("POST", template, status=201, **ids) == share
    assert api.call("GET", template, status=200, **ids) == share
    assert httpx.get(share["shareUrl"]).status_code == 200
    shown = api.call("GET", "/sessions/{session_id}", status=200, **ids)
    assert shown["publicShareUrl"] == share["shareUrl"]
    for _ in range(2):
        api.call("DELETE", template, status=204, **ids)
    api.call("GET", template, status=404, **ids)
    for method in ("GET", "POST", "DELETE"):
        api.call(method, template, status=404, session_id=UNKNOWN)
        api.call(method, template, status=422, session_id="nonsense")
