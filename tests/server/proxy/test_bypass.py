"""Chromium's bypass rules, applied by the forwarder."""

import pytest

from cdpbridge.errors import ConfigurationError
from cdpbridge.server.proxy._bypass import Bypass
from tests.cases import cases

HERE = [
    "localhost",
    "a.localhost",
    "127.0.0.1",
    "127.9.9.9",
    "::1",
    "::ffff:127.0.0.1",
    "169.254.169.254",
    "fe80::1",
]


@cases("host", HERE)
def test_this_machine_is_bypassed_but_for_a_rule(host):
    assert Bypass().covers(host, 80, encrypted=False)
    assert not Bypass.parse("<-loopback>").covers(host, 80, encrypted=False)
    assert not Bypass.parse("*.example.com;<-loopback>").covers(host, 80, encrypted=False)
    # The last rule that matches decides.
    assert Bypass.parse(f"<-loopback>,[{host}]" if ":" in host else f"<-loopback>,{host}").covers(
        host, 80, encrypted=False
    )


@cases(
    ("rule", "covered", "not_covered"),
    [
        ("example.com", ["example.com", "EXAMPLE.com."], ["www.example.com", "example.com.evil"]),
        (".example.com", ["www.example.com", "a.b.example.com"], ["example.com", "notexample.com"]),
        ("*.example.com", ["www.example.com"], ["example.com"]),
        ("*example.com", ["example.com", "notexample.com"], ["example.org"]),
        ("*", ["example.com", "192.0.2.1"], []),
        ("192.0.2.0/24", ["192.0.2.77"], ["192.0.3.1", "a.example"]),
        ("2001:db8::/32", ["2001:db8::1"], ["2001:db9::1"]),
        ("<local>", ["intranet"], ["intra.net", "2001:db8::1"]),
        (" a.example , b.example ", ["a.example", "b.example"], ["c.example"]),
        ("a.[bc].example", ["a.[bc].example"], ["a.b.example"]),
        ("192.0.2.0/99;;x://", [], ["192.0.2.1"]),
    ],
)
def test_rules(rule, covered, not_covered):
    bypass = Bypass.parse(rule)
    assert [host for host in covered if not bypass.covers(host, 80, encrypted=False)] == []
    assert [host for host in not_covered if bypass.covers(host, 80, encrypted=False)] == []


def test_ports_and_schemes():
    bypass = Bypass.parse("a.example:8080;https://b.example;http://c.example:81;wss://10.0.0.0/8")
    assert bypass.covers("a.example", 8080, encrypted=False)
    assert not bypass.covers("a.example", 80, encrypted=False)
    assert (
        bypass.covers("b.example", 443, encrypted=True),
        bypass.covers("b.example", 443, encrypted=False),
    ) == (True, False)
    assert (
        bypass.covers("c.example", 81, encrypted=False),
        bypass.covers("c.example", 81, encrypted=True),
    ) == (True, False)
    assert bypass.covers("10.1.1.1", 443, encrypted=True)


def test_a_list_without_end_is_refused():
    with pytest.raises(ConfigurationError, match="bypass list"):
        Bypass.parse("a" * 70_000)
