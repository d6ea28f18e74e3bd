import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdpbridge.errors import ConfigurationError
from cdpbridge.server.proxy import Upstream
from cdpbridge.server.proxy._upstream import ProxyFailure
from tests.cases import cases

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)


@given(TEXT, st.none() | TEXT, st.sampled_from(["http", "socks5"]), st.integers(1, 65535))
def test_credentials_survive_the_round_trip_through_a_url(username, password, scheme, port):
    if scheme == "socks5" and password is None:
        return  # RFC 1929 has no empty password
    upstream = Upstream(scheme, "proxy.example", port, username, password)
    assert Upstream.parse(upstream.url()) == upstream
    assert upstream.url().isascii()


@given(st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=4), TEXT)
def test_no_text_about_an_upstream_shows_its_credentials(password, username):
    upstream = Upstream("http", "proxy.example", 3128, "user-" + username, "secret-" + password)
    assert repr(upstream) == "Upstream('http://proxy.example:3128', credentials=yes)"
    assert str(upstream) == f"{upstream}" == "http://proxy.example:3128"


@cases(
    ("url", "expected"),
    [
        ("http://h", Upstream("http", "h", 80)),
        ("HTTP://h:3128/", Upstream("http", "h", 3128)),
        ("socks5://h", Upstream("socks5", "h", 1080)),
        ("socks5h://h:9", Upstream("socks5", "h", 9)),
        ("http://[::1]:8080", Upstream("http", "::1", 8080)),
        ("http://u@h:1", Upstream("http", "h", 1, "u")),
        ("http://u:@h:1", Upstream("http", "h", 1, "u", "")),
        ("http://u:p%20w%3A%40%2F%25%C3%BC@h:1", Upstream("http", "h", 1, "u", "p w:@/%ü")),
        ("http://u:p@w:ü x@h:1", Upstream("http", "h", 1, "u", "p@w:ü x")),  # forgiven: the last @ ends them
    ],
)
def test_parses(url, expected):
    assert Upstream.parse(url) == expected
    assert Upstream.parse(expected.url()) == expected


@cases(
    "url",
    [
        "",
        "h:3128",
        "https://user:hunter2@h:1",
        "socks4://user:hunter2@h:1",
        "http://user:hunter2@",
        "http://user:hunter2@h:0",
        "http://user:hunter2@h:65536",
        "http://user:hunter2@h:1/path",
        "http://user:hunter2@h:1?query",
        "http://user:hunter2/x@h:1",
        "http://user:hunter2%@h:1",
        "http://user:hunter2%zz@h:1",
        "http://user:hunter2%ff@h:1",
        "http://user:hunter2\r\n@h:1",
        "http://user:hunter2@[::zz]:1",
        "http://user:hunter2@[::1:1",
        "http://user:hunter2@h h:1",
        "socks5://user:@h:1",
        "socks5://user:hunter2" + "x" * 255 + "@h:1",
    ],
)
def test_refuses_what_is_no_upstream_without_quoting_it(url):
    with pytest.raises(ConfigurationError) as caught:
        Upstream.parse(url)
    assert "hunter2" not in str(caught.value)
    cause = caught.value.__cause__
    assert cause is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(
    "arguments",
    [("http", "", 1), ("http", "h", 1, None, "p"), ("http", "h", 1, "\ud800", "p"), ("ftp", "h", 1)],
)
def test_refuses_contradicting_arguments(arguments):
    with pytest.raises(ConfigurationError):
        Upstream(*arguments)


def test_authorization_is_utf8():
    # "Ø:ü" in UTF-8 and Base64.
    assert Upstream("http", "h", 1, "Ø", "ü").authorization() == b"Basic w5g6w7w="
    assert Upstream("http", "h", 1).authorization() is None


def test_socks5_messages():
    upstream = Upstream("socks5", "h", 1, "u", "pä")
    assert upstream.socks5_greeting() == b"\x05\x02\x00\x02"
    assert Upstream("socks5", "h", 1).socks5_greeting() == b"\x05\x01\x00"
    assert upstream.socks5_login() == b"\x01\x01u\x03p\xc3\xa4"
    assert upstream.socks5_connect("example.com", 443) == b"\x05\x01\x00\x03\x0bexample.com\x01\xbb"
    assert upstream.socks5_connect("1.2.3.4", 80) == b"\x05\x01\x00\x01\x01\x02\x03\x04\x00\x50"
    packed = ipaddress.IPv6Address("2001:db8::1").packed
    assert upstream.socks5_connect("2001:db8::1", 80) == b"\x05\x01\x00\x04" + packed + b"\x00\x50"
    with pytest.raises(ProxyFailure):
        upstream.socks5_connect("x" * 256, 80)
