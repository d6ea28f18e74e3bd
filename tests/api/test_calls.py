"""Each operation as a value: path, body, units."""

from datetime import timedelta
from uuid import UUID

import pytest

from cdpbridge.api import Account, BrowserSession, Page, Profile, ServerChoice, _calls, server_default
from cdpbridge.errors import ConfigurationError

ID = UUID("11111111-2222-4333-8444-555555555555")


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (_calls.get_account(), ("GET", "/billing/account", Account, {}, None)),
        (_calls.create_profile(), ("POST", "/profiles", Profile, {}, {})),
        (_calls.create_profile(name="a"), ("POST", "/profiles", Profile, {}, {"name": "a"})),
        (_calls.get_profile(ID), ("GET", f"/profiles/{ID}", Profile, {}, None)),
        (_calls.update_profile(ID, name=None), ("PATCH", f"/profiles/{ID}", Profile, {}, {"name": None})),
        (_calls.delete_profile(str(ID).upper()), ("DELETE", f"/profiles/{ID}", None, {}, None)),
        (
            _calls.list_profiles(page_number=2, page_size=5),
            ("GET", "/profiles", Page[Profile], {"pageNumber": "2", "pageSize": "5"}, None),
        ),
        (_calls.create_browser(), ("POST", "/browsers", BrowserSession, {}, {})),
        (
            _calls.list_browsers(status="active"),
            (
                "GET",
                "/browsers",
                Page[BrowserSession],
                {"pageNumber": "1", "pageSize": "100", "filterBy": "active"},
                None,
            ),
        ),
        (_calls.get_browser(ID), ("GET", f"/browsers/{ID}", BrowserSession, {}, None)),
        (_calls.stop_browser(ID), ("PATCH", f"/browsers/{ID}", BrowserSession, {}, {"action": "stop"})),
    ],
)
def test_every_operation(call, expected):
    assert (call.method, call.path, call.answer, call.query, call.body) == expected
    assert call.repeatable is (call.method != "POST")
    assert call.slow is (call.path.startswith("/browsers") and call.method in {"POST", "PATCH"})
    assert call.headers == {}


def test_bodies_fit_the_reference(fits):
    create = _calls.create_browser(profile_id=ID, proxy_country="de", timeout=timedelta(minutes=5))
    fits("CreateBrowserSessionRequest", create.body)
    fits("CreateBrowserSessionRequest", _calls.create_browser(proxy_country=None).body)
    fits("UpdateBrowserSessionRequest", _calls.stop_browser(ID).body)
    fits("ProfileCreateRequest", _calls.create_profile(name="a").body)
    fits("ProfileUpdateRequest", _calls.update_profile(ID, name="a").body)


def test_what_is_given_is_sent_and_what_is_not_is_left_to_the_server():
    call = _calls.create_browser(
        profile_id=ID, proxy_country="DE", timeout=timedelta(hours=1), idempotency_key="k-1"
    )
    assert call.body == {"profileId": str(ID), "proxyCountryCode": "de", "timeout": 60}
    assert call.headers == {"Idempotency-Key": "k-1"}


@pytest.mark.parametrize(
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
    assert _calls.create_browser(proxy_country=country).body == body


@pytest.mark.parametrize("country", ["", "deu", "d1", "ßß", "d", 5, True])
def test_no_country(country):
    with pytest.raises(ConfigurationError, match="two letters"):
        _calls.create_browser(proxy_country=country)


@pytest.mark.parametrize(
    ("timeout", "minutes"),
    [(timedelta(minutes=1), 1), (timedelta(seconds=300), 5), (timedelta(hours=4), 240)],
)
def test_timeouts(timeout, minutes):
    assert _calls.create_browser(timeout=timeout).body == {"timeout": minutes}


@pytest.mark.parametrize(
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
        _calls.create_browser(timeout=timeout)


@pytest.mark.parametrize("value", ["", "../profiles", "123", 5, None])
def test_what_is_no_id_never_reaches_a_path(value):
    with pytest.raises(ConfigurationError, match="is no id"):
        _calls.get_browser(value)


@pytest.mark.parametrize("value", ["", "a b", "a\r\nX-Other: 1", "ä", "x" * 256])
def test_what_no_header_carries_is_no_idempotency_key(value):
    with pytest.raises(ConfigurationError, match="idempotency_key"):
        _calls.create_browser(idempotency_key=value)


@pytest.mark.parametrize("paging", [{"page_number": 0}, {"page_size": 0}, {"page_size": 101}])
def test_no_such_page(paging):
    with pytest.raises(ConfigurationError, match="page_"):
        _calls.list_profiles(**paging)
    with pytest.raises(ConfigurationError, match="page_"):
        _calls.list_browsers(**paging)


def test_the_server_s_choice_says_its_name():
    assert repr(server_default) == "server_default"
    assert server_default is ServerChoice.SERVER_DEFAULT
