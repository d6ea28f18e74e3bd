import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdpbridge.server.proxy._messages import (
    Target,
    check_head,
    has_body_twice,
    passed_headers,
    wants_websocket,
)
from cdpbridge.server.proxy._upstream import ProxyFailure
from tests.cases import cases


def request(target, method="GET", headers=()):
    return h11.Request(method=method, target=target, headers=[("Host", "h"), *headers])


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("http://a.example/x?y=%20", Target("a.example", 80, b"a.example", b"/x?y=%20")),
        ("HTTP://a.example:8080", Target("a.example", 8080, b"a.example:8080", b"/")),
        ("http://a_b.example?q", Target("a_b.example", 80, b"a_b.example", b"/?q")),
        ("http://[2001:db8::1]:8/x", Target("2001:db8::1", 8, b"[2001:db8::1]:8", b"/x")),
        ("http://[::1]/", Target("::1", 80, b"[::1]", b"/")),
    ],
)
def test_absolute_targets(target, expected):
    assert Target.of(request(target)) == expected


def test_options_of_a_whole_server():
    assert Target.of(request("http://h", "OPTIONS")).path == b"*"


@pytest.mark.parametrize(
    ("target", "host", "port"),
    [("a.example:443", "a.example", 443), ("[::1]:9", "::1", 9), ("1.2.3.4:65535", "1.2.3.4", 65535)],
)
def test_connect_targets(target, host, port):
    parsed = Target.of(request(target, "CONNECT"))
    assert (parsed.host, parsed.port, parsed.path) == (host, port, b"")
    assert parsed.tunnel_authority == target.encode()


@cases(
    ("method", "target"),
    [
        ("GET", "/"),
        ("GET", "*"),
        ("GET", "https://h/"),
        ("GET", "ftp://h/"),
        ("GET", "http:///x"),
        ("GET", "http://user:pw@h/"),
        ("GET", "http://h/#fragment"),
        ("GET", "http://h:0/"),
        ("GET", "http://h:65536/"),
        ("GET", "http://h:+80/"),
        ("GET", "http://h:/"),
        ("GET", "http://h:8_0/"),
        ("GET", "http://h%41/"),
        ("GET", "http://[::1/"),
        ("GET", "http://[::1]x/"),
        ("GET", "http://[fe80::1%25eth0]/"),
        ("GET", "http://[1.2.3.4]/"),
        ("CONNECT", "h"),
        ("CONNECT", "http://h:1/"),
        ("CONNECT", "h:1/x"),
        ("CONNECT", "u@h:1"),
    ],
)
def test_refuses_other_targets(method, target):
    with pytest.raises(ProxyFailure) as caught:
        Target.of(request(target, method))
    assert caught.value.status == 400


@given(
    st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1),
    st.sampled_from(["GET", "CONNECT"]),
)
def test_any_target_is_taken_or_refused(text, method):
    for target in (text, "http://" + text):
        try:
            parsed = Target.of(request(target, method))
        except ProxyFailure:
            continue
        assert parsed.host
        assert 0 < parsed.port < 65536


def test_headers_that_end_here_and_headers_that_go_on():
    received = request(
        "http://h/",
        headers=[
            ("X-Custom-Case", "1"),
            ("Proxy-Authorization", "Basic browser"),
            ("Proxy-Connection", "keep-alive"),
            ("Connection", "close, X-Private, Content-Length, host"),
            ("X-Private", "gone"),
            ("Content-Length", "3"),
            ("Keep-Alive", "timeout=5"),
            ("TE", "trailers"),
            ("Trailer", "x"),
            ("Upgrade", "h2c"),
            ("Cookie", "a=b"),
        ],
    )
    assert passed_headers(received, host=b"real:80") == [
        (b"Host", b"real:80"),
        (b"X-Custom-Case", b"1"),
        (b"Content-Length", b"3"),
        (b"Cookie", b"a=b"),
    ]


def test_chunked_stays_chunked():
    received = request("http://h/", "POST", [("transfer-encoding", "Chunked")])
    assert passed_headers(received, host=b"h")[1:] == [(b"Transfer-Encoding", b"chunked")]


def test_both_framings_are_noticed():
    assert has_body_twice(
        request("/", headers=[("Content-Length", "1"), ("Transfer-Encoding", "chunked")]).headers
    )
    assert not has_body_twice(request("/", headers=[("Content-Length", "1")]).headers)


def test_websocket_needs_both_headers():
    assert wants_websocket(request("/", headers=[("Connection", "x, upgrade"), ("Upgrade", "WebSocket")]))
    assert not wants_websocket(request("/", headers=[("Upgrade", "websocket")]))
    assert not wants_websocket(request("/", headers=[("Connection", "upgrade"), ("Upgrade", "h2c")]))


def test_folded_lines_are_refused():
    check_head(b"GET / HTTP/1.1\r\nA: b\r\n\r\n")
    with pytest.raises(ProxyFailure):
        check_head(b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n")
