"""Credentials for one origin each, and origins as Chromium writes them."""

import pickle

import pytest

from cdpbridge.cdp._http_auth import HttpAuth
from cdpbridge.cdp._http_credentials import (
    HttpCredentials,
    checked_credentials,
    checked_credentials_list,
    origin_of,
    with_credentials,
    without_user_info,
)
from cdpbridge.errors import ConfigurationError
from tests.cases import cases

SECRET = "s3cret-word"


@cases(
    ("url", "origin"),
    [
        ("https://example.com", "https://example.com"),
        ("HTTPS://Example.COM:443/a?b#c", "https://example.com"),
        ("http://example.com:80", "http://example.com"),
        ("http://example.com:443/", "http://example.com:443"),
        ("https://example.com:08443/", "https://example.com:8443"),
        ("http://user:pass@example.com:8080/@x", "http://example.com:8080"),
        ("http://a@b@example.com/", "http://example.com"),
        ("http://[::1]:81/", "http://[::1]:81"),
        ("http://[0:0::0:1]/", "http://[::1]"),
        ("http://127.1/", "http://127.0.0.1"),
        ("http://0x7f.1:90/", "http://127.0.0.1:90"),
        ("https://bücher.example/", "https://xn--bcher-kva.example"),
        ("https://xn--bcher-kva.example/", "https://xn--bcher-kva.example"),
        ("https://ex%61mple.com/", "https://example.com"),
        # As a browser reads it, the host is before the backslash.
        ("http://evil.example\\@example.com/", "http://evil.example"),
        (" https://exam\nple.com/ ", "https://example.com"),
        ("https:/example.com", "https://example.com"),
        ("ftp://example.com", None),
        ("about:blank", None),
        ("example.com", None),
        ("https://", None),
        ("https://example.com:port", None),
        ("https://example.com:99999", None),
        ("https://[::1", None),
        ("https://[::g]", None),
        ("https://[::1]x", None),
        ("https://a b/", None),
        ("https://1.2.3.4.5/", None),
        ("https://☃.☃‍/", None),
    ],
)
def test_origins(url, origin):
    assert origin_of(url) == origin


@cases(
    ("url", "bare", "credentials"),
    [
        ("https://example.com/a", "https://example.com/a", None),
        ("https://example.com/a@b", "https://example.com/a@b", None),
        ("https://ada:p%40ss@example.com/a", "https://example.com/a", ("ada", "p@ss", "https://example.com")),
        ("http://ada@example.com:81", "http://example.com:81", ("ada", "", "http://example.com:81")),
        ("http://ada:a:b@example.com/", "http://example.com/", ("ada", "a:b", "http://example.com")),
        ("http://:pass@example.com/", "http://example.com/", ("", "pass", "http://example.com")),
        ("http://@example.com/", "http://example.com/", None),
        ("http://ada:p@ss@example.com/", "http://example.com/", ("ada", "p@ss", "http://example.com")),
        ("ftp://ada:pass@example.com/", "ftp://ada:pass@example.com/", None),
        ("http://ada:pass@exa mple.com/", "http://ada:pass@exa mple.com/", None),
    ],
)
def test_addresses_with_a_login(url, bare, credentials):
    expected = None if credentials is None else HttpCredentials(*credentials)
    assert without_user_info(url) == (bare, expected)


def test_the_ones_given_win_over_those_in_the_address():
    url = "https://ada:one@example.com/"
    mine = {"username": "ada", "password": "two"}
    assert with_credentials(url, None)[1] == [HttpCredentials("ada", "one", "https://example.com")]
    assert with_credentials(url, mine) == (
        "https://example.com/",
        [HttpCredentials("ada", "two", "https://example.com")],
    )
    elsewhere = {**mine, "origin": "https://other.example/"}
    assert [each.password for each in with_credentials(url, elsewhere)[1]] == ["one", "two"]


@cases(
    ("given", "words"),
    [
        ("ada:" + SECRET, "a dict with username, password and origin, not str"),
        ({"username": SECRET}, "the password is missing"),
        (
            {"username": SECRET, "password": SECRET, "send": "always"},
            "there is no 'send'; there are username",
        ),
        ({"username": SECRET, "password": 5}, "the password must be a text"),
        ({"username": SECRET, "password": SECRET}, "need an origin"),
        ({"username": SECRET, "password": SECRET, "origin": "example.com"}, "http or https address"),
        ({"username": SECRET, "password": SECRET, "origin": 5}, "http or https address"),
        (HttpCredentials(None, SECRET), "the username must be a text"),
    ],
)
def test_fault_c13_wrong_credentials_are_refused_without_their_words(given, words):
    with pytest.raises(ConfigurationError, match=words) as error:
        checked_credentials(given)
    assert SECRET not in str(error.value)


def test_several():
    one = {"username": "ada", "password": SECRET, "origin": "https://EXAMPLE.com:443/login"}
    other = HttpCredentials("bob", SECRET, "http://example.com")
    assert checked_credentials_list(None) == ()
    assert [each.origin for each in checked_credentials_list(one)] == ["https://example.com"]
    assert [each.username for each in checked_credentials_list([one, other])] == ["ada", "bob"]
    with pytest.raises(ConfigurationError, match="there are two for https://example"):
        checked_credentials_list([one, one])
    with pytest.raises(ConfigurationError, match="not int"):
        checked_credentials_list(5)


def test_fault_c13_no_repr_has_them():
    credentials = HttpCredentials("ada-" + SECRET, SECRET, "https://example.com")
    auth = HttpAuth([credentials])
    assert pickle.loads(pickle.dumps(credentials)) == credentials
    for shown in (repr(credentials), str(credentials), repr(auth), repr([credentials]), f"{credentials}"):
        assert SECRET not in shown
    assert "https://example.com" in repr(credentials)
    assert "https://example.com" in repr(auth)
