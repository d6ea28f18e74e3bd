"""Fault B34, the decisions: which names, which pages."""

from cdpbridge.server.gateway._hosts import host_allowed, origin_allowed
from tests.cases import cases

ALLOWED = frozenset({"browsers.example.com"})


@cases(
    ("host", "allowed"),
    [
        ("127.0.0.1", True),
        ("127.0.0.1:8700", True),
        ("10.1.2.3:1", True),
        ("[::1]:8700", True),
        ("[fe80::1%25eth0]:8700", True),
        ("localhost", True),
        ("LocalHost:8700", True),
        ("a.localhost:8700", True),
        ("browsers.example.com", True),
        ("Browsers.Example.COM.:443", True),
        ("evil.example", False),
        ("browsers.example.com.evil.example", False),
        ("x.browsers.example.com", False),
        ("127.0.0.1.evil.example", False),
        ("evil-localhost", False),
        ("user@127.0.0.1", False),
        ("127.0.0.1/path", False),
        ("127.0.0.1:port", False),
        ("[::1", False),
        ("", False),
        (None, False),
    ],
)
def test_fault_b34_hosts(host, allowed):
    assert host_allowed(host, ALLOWED) is allowed


@cases(
    ("origin", "host", "allowed"),
    [
        (None, "127.0.0.1:8700", True),
        ("http://127.0.0.1:8700", "127.0.0.1:8700", True),
        ("http://localhost", "localhost", True),
        ("http://localhost:80", "localhost", True),
        ("https://localhost", "localhost:443", True),
        ("https://browsers.example.com", "127.0.0.1:8700", True),
        ("http://127.0.0.1:9999", "127.0.0.1:8700", False),
        ("http://localhost:8700", "127.0.0.1:8700", False),
        ("https://evil.example", "127.0.0.1:8700", False),
        ("https://evil.example", "browsers.example.com", False),
        ("https://browsers.example.com.evil.example", "browsers.example.com", False),
        ("null", "127.0.0.1:8700", False),
        ("", "127.0.0.1:8700", False),
        ("file://", "127.0.0.1:8700", False),
        ("http://127.0.0.1:8700", None, False),
        ("http://[bad", "127.0.0.1", False),
    ],
)
def test_fault_b34_origins(origin, host, allowed):
    assert origin_allowed(origin, host, ALLOWED) is allowed
