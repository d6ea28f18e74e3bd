"""What kind of document a response has, and whether all of it has come: no browser, no crawl."""

from __future__ import annotations

import json

import pytest

from cdpbridge.errors import NavigationError
from cdpbridge.integrations.scrapy._documents import (
    Kind,
    cut_off,
    declared_length,
    ends_early,
    kind_of,
    looks_like_html,
)
from cdpbridge.integrations.scrapy._failures import as_scrapys
from cdpbridge.integrations.scrapy._visit import header_list, utf8
from tests.cases import cases


@cases(
    ("headers", "kind"),
    [
        ([("Content-Type", b"text/html; charset=x")], Kind.PAGE),
        ([("content-type", b"TEXT/HTML")], Kind.PAGE),
        ([("Content-Type", b"application/xhtml+xml")], Kind.PAGE),
        ([("Content-Type", b"text/plain"), ("Content-Type", b"text/html")], Kind.PAGE),
        ([("Content-Type", b"text/html, text/plain")], Kind.SHOWN),
        ([("Content-Type", b"text/html"), ("Content-Disposition", b"inline; filename=a")], Kind.PAGE),
        ([("Content-Type", b"text/html"), ("Content-Disposition", b"filename=a")], Kind.PAGE),
        ([("Content-Type", b"text/html"), ("Content-Disposition", b"Attachment")], Kind.SAVED),
        ([("Content-Type", b"text/html"), ("Content-Disposition", b"form-data; name=a")], Kind.SAVED),
        ([("Content-Type", b"application/json")], Kind.SHOWN),
        ([("Content-Type", b"application/ld+json; profile=x")], Kind.SHOWN),
        ([("Content-Type", b"application/pdf")], Kind.SHOWN),
        ([("Content-Type", b"image/svg+xml")], Kind.SHOWN),
        ([("Content-Type", b"text/csv")], Kind.SAVED),
        ([("Content-Type", b"application/zip")], Kind.SAVED),
        ([("Content-Type", b"caf\xe9/x")], Kind.SAVED),
        ([], Kind.UNKNOWN),
        ([("Content-Type", b"")], Kind.UNKNOWN),
        ([("Content-Type", b"nonsense")], Kind.UNKNOWN),
        ([("Content-Type", b"application/unknown")], Kind.UNKNOWN),
        ([("X-Content-Type-Options", b"nosniff")], Kind.SHOWN),
    ],
)
def test_the_kind_of_a_document_is_the_browsers(headers, kind) -> None:
    assert kind_of(headers) is kind


@pytest.mark.parametrize(
    "body", [b"<!DOCTYPE html>", b" \n<HTML lang=en>", b"\xef\xbb\xbf<p>", b"<!-- x", b"<a href>"]
)
def test_html_without_a_type_is_seen(body) -> None:
    assert looks_like_html(body)


@cases("body", [b"", b"text <p>", b"<?xml?><html>", b"<abbr>", b"<htmlx>", b"\x00<p>"])
def test_what_is_no_html_is_not_taken_for_it(body) -> None:
    assert not looks_like_html(body)


def test_fault_c02_a_body_that_is_shorter_than_its_head_says() -> None:
    length = ("Content-Length", b"10")
    assert cut_off([length], 9)
    assert not cut_off([length], 10)
    assert not cut_off([], 0)
    assert not cut_off([length, ("Content-Encoding", b"gzip")], 9)
    assert not cut_off([length, ("Transfer-Encoding", b"chunked")], 9)
    assert cut_off([length, ("Content-Encoding", b"identity")], 9)
    assert declared_length([("content-length", b"x")]) is None


JSON = ("Content-Type", b"application/json")
XML = ("Content-Type", b"application/rss+xml; charset=utf-8")


def test_fault_c02_a_cut_anywhere_in_json_or_xml_is_seen() -> None:
    whole = json.dumps({"a": [1.5, "b\\", {"c": [[], {}, "é"]}], "d": "e"}, indent=1).encode()
    for end in range(1, len(whole)):
        # Of a name like `true` the beginning is no JSON either, but not for being cut.
        assert ends_early([JSON], whole[:end]), whole[:end]
    assert not ends_early([JSON], whole)
    large = json.dumps([{"n": n, "text": "text"} for n in range(200_000)]).encode()
    assert not ends_early([JSON], large + b"\n")
    assert not ends_early([JSON], large + b";")
    assert all(ends_early([JSON], large[:-end]) for end in range(1, 60))
    whole = b"<?xml version='1.0'?><a><b c='d'>e<![CDATA[f]]></b><g/></a>"
    for end in range(1, len(whole)):
        assert ends_early([XML], whole[:end]), whole[:end]
    assert not ends_early([XML], whole)


@cases(
    ("headers", "body"),
    [
        ([JSON], b""),
        ([JSON], b"no json"),
        ([JSON], b'{"a": 1}\n{"a": 2}\n'),
        ([JSON], b")]}'\n[1]"),
        ([JSON], b"callback([1])"),
        ([JSON], '["é"]'.encode("latin-1")),
        ([JSON, ("Content-Length", b"3")], b"[1,"),
        ([XML], b"<a></b>"),
        ([XML], b"no xml"),
        ([("Content-Type", b"text/plain")], b'{"a'),
        ([], b'{"a'),
    ],
)
def test_what_is_wrong_otherwise_is_given_as_it_is(headers, body) -> None:
    assert not ends_early(headers, body)


def test_fault_c11_each_sign_of_a_header_is_a_byte() -> None:
    chromes = {"X-Latin": "caf\xe9", "Set-Cookie": "a=\xc3\xa9\nb=2", "content-encoding": "gzip"}
    assert header_list(chromes) == [
        ("X-Latin", b"caf\xe9"),
        ("Set-Cookie", "a=é".encode()),
        ("Set-Cookie", b"b=2"),
    ]
    assert header_list({"X": "文"}) == [("X", "文".encode())]


def test_fault_c12_half_of_a_pair_becomes_a_replacement_character() -> None:
    assert utf8("a\ud83c b\udf55 \U0001f355") == "a� b� 🍕".encode()
    assert utf8("🍕") == "🍕".encode()


@cases(
    ("text", "name"),
    [
        ("net::ERR_NAME_NOT_RESOLVED", "CannotResolveHostError"),
        ("net::ERR_CONTENT_LENGTH_MISMATCH", "ResponseDataLossError"),
        ("net::ERR_EMPTY_RESPONSE", "DownloadFailedError"),
        ("net::ERR_TUNNEL_CONNECTION_FAILED", "DownloadConnectionRefusedError"),
        (
            "net::ERR_TUNNEL_CONNECTION_FAILED: its name could not be resolved (dns_error)",
            "CannotResolveHostError",
        ),
        ("net::ERR_TUNNEL_CONNECTION_FAILED: it said no (new_reason)", "DownloadConnectionRefusedError"),
        ("the proxy answered: too late (connection_timeout)", "DownloadTimeoutError"),
        ("the proxy answered: no (proxy_configuration_error)", "DownloadFailedError"),
    ],
)
def test_fault_c19_failures_have_scrapys_names(text, name) -> None:
    failure = as_scrapys(NavigationError("http://a.test/", text))
    assert type(failure).__name__ == name
    assert text in str(failure)
