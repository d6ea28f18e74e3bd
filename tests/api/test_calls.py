"""Each operation as a value: path, body, units."""

from datetime import timedelta
from uuid import UUID

import httpx
import pytest

from cdpbridge.api import Account, BrowserSession, Call, Page, Profile, ServerDefault, calls, server_default
from cdpbridge.errors import ConfigurationError
from tests.cases import cases

ID = UUID("11111111-2222-4333-8444-555555555555")


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (calls.get_account(), ("GET", "/billing/account", Account, {}, None)),
        (calls.create_profile(), ("POST", "/profiles", Profile, {}, {})),
        (calls.create_profile(name="a"), ("POST", "/profiles", Profile, {}, {"name": "a"})),
        (calls.get_profile(ID), ("GET", f"/profiles/{ID}", Profile, {}, None)),
        (calls.update_profile(ID, name=None), ("PATCH", f"/profiles/{ID}", Profile, {}, {"name": None})),
        (calls.delete_profile(str(ID).upper()), ("DELETE", f"/profiles/{ID}", None, {}, None)),
        (
            calls.list_profiles(page_number=2, page_size=5),
            ("GET", "/profiles", Page[Profile], {"pageNumber": "2", "pageSize": "5"}, None),
        ),
        (calls.create_browser(), ("POST", "/browsers", BrowserSession, {}, {})),
        (
            calls.list_browsers(status="active"),
            (
                "GET",
                "/browsers",
                Page[BrowserSession],
                {"pageNumber": "1", "pageSize": "100", "filterBy": "active"},
                None,
            ),
        ),
        (calls.get_browser(ID), ("GET", f"/browsers/{ID}", BrowserSession, {}, None)),
        (calls.stop_browser(ID), ("PATCH", f"/browsers/{ID}", BrowserSession, {}, {"action": "stop"})),
    ],
)
def test_every_operation(call, expected):
    assert (call.method, call.path, call.answer, call.query, call.body) == expected
    assert call.repeatable is (call.method != "POST")
    assert call.slow is (call.path.startswith("/browsers") and call.method in {"POST", "PATCH"})
    assert call.headers == {}


def test_bodies_fit_the_reference(fits):
    create = calls.create_browser(profile_id=ID, proxy_country="de", timeout=timedelta(minutes=5))
    fits("CreateBrowserSessionRequest", create.body)
    fits("CreateBrowserSessionRequest", calls.create_browser(proxy_country=None).body)
    fits("UpdateBrowserSessionRequest", calls.stop_browser(ID).body)
    fits("ProfileCreateRequest", calls.create_profile(name="a").body)
    fits("ProfileUpdateRequest", calls.update_profile(ID, name="a").body)


def test_what_is_given_is_sent_and_what_is_not_is_left_to_the_server():
    call = calls.create_browser(
        profile_id=ID, proxy_country="DE", timeout=timedelta(hours=1), idempotency_key="k-1"
    )
    assert call.body == {"profileId": str(ID), "proxyCountryCode": "de", "timeout": 60}
    assert call.headers == {"Idempotency-Key": "k-1"}


def test_lists_of_hosts():
    call = calls.create_browser(allowed_hosts=("a.example",), denied_hosts=[])
    assert call.body == {"allowedHosts": ["a.example"], "deniedHosts": []}
    assert calls.create_profile(denied_hosts=["a"]).body == {"deniedHosts": ["a"]}
    assert calls.create_session(allowed_hosts=["a"], denied_hosts=("b",)).body == {
        "allowedHosts": ["a"],
        "deniedHosts": ["b"],
    }
    assert calls.update_profile(ID, allowed_hosts=None).body == {"allowedHosts": None}
    assert calls.update_profile(ID, name=None, denied_hosts=["a"]).body == {
        "name": None,
        "deniedHosts": ["a"],
    }
    with pytest.raises(ConfigurationError, match="nothing to change"):
        calls.update_profile(ID)
    for wrong in ("a.example", [1]):
        with pytest.raises(ConfigurationError, match="allowed_hosts is a list of hosts"):
            calls.create_browser(allowed_hosts=wrong)


@cases(
    ("country", "body"),
    [
        (server_default, {}),
        (None, {"proxyCountryCode": None}),
        (" gB ", {"proxyCountryCode": "uk"}),
        ("UK", {"proxyCountryCode": "uk"}),
        ("us", {"proxyCountryCode": "us"}),
        ("zz", {"proxyCountryCode": "zz"}),  # the server knows which there are
    ],
)
def test_countries(country, body):
    assert calls.create_browser(proxy_country=country).body == body


@cases("country", ["", "deu", "d1", "ßß", "d", 5, True])
def test_no_country(country):
    with pytest.raises(ConfigurationError, match="two letters"):
        calls.create_browser(proxy_country=country)


@pytest.mark.parametrize(
    ("timeout", "minutes"),
    [(timedelta(minutes=1), 1), (timedelta(seconds=300), 5), (timedelta(hours=4), 240)],
)
def test_timeouts(timeout, minutes):
    assert calls.create_browser(timeout=timeout).body == {"timeout": minutes}


@cases(
    ("timeout", "words"),
    [
        (timedelta(seconds=90), r"whole minutes.*use timedelta\(minutes=2\)"),
        (timedelta(microseconds=1), "whole minutes"),
        (timedelta(0), "1 to 240 minutes"),
        (timedelta(minutes=-5), "1 to 240 minutes"),
        (timedelta(minutes=241), "1 to 240 minutes"),
        (5, "must be a timedelta"),
    ],
)
def test_no_timeouts(timeout, words):
    with pytest.raises(ConfigurationError, match=words):
        calls.create_browser(timeout=timeout)


@pytest.mark.parametrize("value", ["", "../profiles", "123", 5, None])
def test_what_is_no_id_never_reaches_a_path(value):
    with pytest.raises(ConfigurationError, match="is no id"):
        calls.get_browser(value)


@pytest.mark.parametrize("value", ["", "a b", "a\r\nX-Other: 1", "ä", "x" * 256])
def test_what_no_header_carries_is_no_idempotency_key(value):
    with pytest.raises(ConfigurationError, match="idempotency_key"):
        calls.create_browser(idempotency_key=value)


@pytest.mark.parametrize("paging", [{"page_number": 0}, {"page_size": 0}, {"page_size": 101}])
def test_no_such_page(paging):
    with pytest.raises(ConfigurationError, match="page_"):
        calls.list_profiles(**paging)
    with pytest.raises(ConfigurationError, match="page_"):
        calls.list_browsers(**paging)


def test_the_server_s_choice_says_its_name():
    assert repr(server_default) == "server_default"
    assert server_default is ServerDefault.SERVER_DEFAULT


def test_the_options_of_a_task_stand_once_and_others_are_refused():
    """Misspelt options would be dropped in silence, or sent as fields that no server knows."""
    with pytest.raises(TypeError, match=r"no option 'max_step'; it has .*max_steps"):
        calls.create_task("t", max_step=3)
    for name in calls.TaskOptions.__annotations__:
        assert calls.create_task("t", **{name: None}) == calls.create_task("t")
    call = calls.create_task("t", extra_body={"later": 1}, idempotency_key="k", secrets={}, vision=False)
    assert call.body == {"task": "t", "secrets": {}, "vision": False, "later": 1}
    assert call.headers == {"Idempotency-Key": "k"}


async def test_a_call_of_the_users_own(rest):
    """What replaces `with_raw_response`: each operation as a value, and operations that we do not know yet."""
    rest.answers = [httpx.Response(200, json={"running": 2}, headers={"X-Request-Id": "r-1"})]
    answer = await rest.client().send_raw(Call("GET", "/browsers/stats", dict[str, int], query={"a": "b"}))
    assert (answer.status, answer.parsed, answer.request_id) == (200, {"running": 2}, "r-1")
    assert str(rest.requests[0].url) == "https://rest.test/api/v2/browsers/stats?a=b"
