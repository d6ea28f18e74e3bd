"""The words of the Scrapy handler: settings, options of a request, headers and cookies. No browser, no crawl."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest
from scrapy.settings import Settings

from cdpbridge.errors import ConfigurationError
from cdpbridge.integrations.scrapy import CrawlSettings, PageOptions
from cdpbridge.integrations.scrapy._options import Screenshot, options_of
from cdpbridge.integrations.scrapy._visit import cookie_pairs, header_list, set_cookie_lines
from cdpbridge.protocol import Network
from tests.cases import cases


def test_settings_as_python_and_as_the_command_line_gives_them() -> None:
    as_python = {
        "CDPBRIDGE_BROWSERS": 3,
        "CDPBRIDGE_BLOCK_TYPES": ["image", "xhr"],
        "CDPBRIDGE_BROWSER_MINUTES": 5,
        "CDPBRIDGE_RENDER_ALL": True,
        "CDPBRIDGE_TAB_TIMEOUT": 1.5,
        "CDPBRIDGE_PROXY_COUNTRY": "DE",
    }
    as_text = {name: str(value) for name, value in as_python.items()} | {
        "CDPBRIDGE_BLOCK_TYPES": "image, xhr"
    }
    read = CrawlSettings.of(Settings(as_python))
    assert read == CrawlSettings.of(Settings(as_text))
    assert read.page.block_types == {"Image", "XHR"}
    assert (read.rental["timeout"], read.tab_timeout) == (timedelta(minutes=5), timedelta(seconds=1.5))
    assert (read.browsers, read.render_all, read.rental["proxy_country"]) == (3, True, "de")
    assert CrawlSettings.of(Settings({"CDPBRIDGE_PROXY_COUNTRY": "none"})).rental["proxy_country"] is None
    assert CrawlSettings.of(Settings()).page == PageOptions()


@cases(
    ("settings", "message"),
    [
        ({"CDPBRIDGE_BROWSER": 2}, "there is no 'CDPBRIDGE_BROWSER'; do you mean 'CDPBRIDGE_BROWSERS'?"),
        ({"CDPBRIDGE_BROWSERS": 0}, "CDPBRIDGE_BROWSERS must be a whole number, at least 1, not 0"),
        ({"CDPBRIDGE_BROWSERS": True}, "CDPBRIDGE_BROWSERS must be a whole number"),
        ({"CDPBRIDGE_BLOCK_TYPES": "images"}, "CDPBRIDGE_BLOCK_TYPES must be one of stylesheet, image"),
        ({"CDPBRIDGE_BLOCK_URLS": [1]}, "CDPBRIDGE_BLOCK_URLS must be a list of words"),
        ({"CDPBRIDGE_PROXY_COUNTRY": "Germany"}, "CDPBRIDGE_PROXY_COUNTRY must be a country code"),
        ({"CDPBRIDGE_TAB_TIMEOUT": "inf"}, "CDPBRIDGE_TAB_TIMEOUT must be a number of seconds above 0"),
        ({"CDPBRIDGE_WAIT_UNTIL": "idle"}, "CDPBRIDGE_WAIT_UNTIL must be one of domcontentloaded, load"),
        ({"CDPBRIDGE_RENDER_ALL": "yes"}, "CDPBRIDGE_RENDER_ALL must be True or False, not 'yes'"),
        ({"CDPBRIDGE_PROVIDER": 1}, "CDPBRIDGE_PROVIDER must be `cloud`, `local`, a base URL or a client"),
        ({"CDPBRIDGE_PROFILE": ""}, "CDPBRIDGE_PROFILE must be a profile's name or id"),
    ],
)
def test_wrong_settings_are_told(settings, message) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        CrawlSettings.of(Settings(settings))


def test_options_of_a_request_come_before_the_crawls() -> None:
    crawl = PageOptions(wait_until="networkidle", block_urls=("*.css",))
    assert options_of(None, crawl) is options_of(False, crawl) is None
    assert options_of(True, crawl) is crawl
    assert options_of({"block_urls": []}, crawl) == PageOptions(wait_until="networkidle")
    assert options_of({"screenshot": "a.png"}, crawl).screenshot == Screenshot(Path("a.png"))
    assert options_of({"screenshot": False}, crawl).screenshot is None


@cases(
    ("options", "message"),
    [
        ("yes", 'meta["cdpbridge"] must be True or a dict of options, not str'),
        ({"wait_til": "load"}, "there is no 'wait_til'; do you mean 'wait_until'?"),
        ({"script": 1}, 'meta["cdpbridge"]["script"] must be a text'),
        ({"isolated": 1}, 'meta["cdpbridge"]["isolated"] must be True or False'),
        ({"screenshot": 1.5}, 'meta["cdpbridge"]["screenshot"] must be True, a path, or a dict'),
        ({"screenshot": {"fullpage": True}}, "there is no 'fullpage'; do you mean 'full_page'?"),
        ({"screenshot": {"quality": 50}}, '["quality"] must be 0 to 100, with jpeg or webp'),
        ({"screenshot": {"format": "gif"}}, '["format"] must be one of png, jpeg, webp'),
    ],
)
def test_wrong_options_are_told(options, message) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        options_of(options, PageOptions())


def cookie(name, *, domain="a.example", value="1", session=True, secure=False):
    return Network.Cookie(
        name=name,
        value=value,
        domain=domain,
        path="/",
        expires=-1 if session else 1_800_000_000,
        size=1,
        http_only=False,
        secure=secure,
        session=session,
    )


def test_cookies_of_scripts_and_redirects_become_headers() -> None:
    headers = header_list({"Set-Cookie": "a=1; Path=/\nb=2", "Content-Length": "3", "X": "y"})
    assert headers == [("Set-Cookie", b"a=1; Path=/"), ("Set-Cookie", b"b=2"), ("X", b"y")]
    had = [
        cookie("a"),
        cookie("sent"),
        cookie("script", session=False, secure=True),
        cookie("wide", domain=".example"),
        cookie("foreign", domain="b.example"),
    ]
    lines = set_cookie_lines(
        headers, had, sent=[("sent", "1")], requested="http://a.example/", final="http://a.example/b"
    )
    assert lines == [
        *headers,
        ("Set-Cookie", b"script=1; Path=/; Expires=Fri, 15 Jan 2027 08:00:00 GMT; Secure"),
        ("Set-Cookie", b"wide=1; Path=/; Domain=.example"),
    ]


def test_a_cookie_of_another_host_is_not_taken_for_the_requested_ones() -> None:
    lines = set_cookie_lines(
        [("set-cookie", b"own=1"), ("set-cookie", b"wide=1; Domain=b.example")],
        [],
        sent=[],
        requested="http://a.example/",
        final="http://b.example/",
    )
    assert [value for _name, value in lines] == [b"own=1; Domain=b.example", b"wide=1; Domain=b.example"]


def test_the_cookie_header_is_read_as_servers_read_it() -> None:
    assert cookie_pairs("a=1; b=x=y;c = 2 ; flag") == [("a", "1"), ("b", "x=y"), ("c", "2")]
    assert cookie_pairs("") == []
