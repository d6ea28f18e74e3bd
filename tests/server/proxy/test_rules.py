"""The rules of a browser's network: spellings of addresses, lists of hosts, and what an operator opens."""

from dataclasses import replace

import pytest

from cdpbridge.errors import ConfigurationError
from cdpbridge.server.proxy import HostLists, Rules
from cdpbridge.server.proxy._address import is_loopback, is_own, literal_address
from tests.cases import cases

CLOSED = Rules(private=False)

PRIVATE = [
    "127.0.0.1",
    "127.1",
    "127.0.0.2",
    "127.0.0.1.",
    "2130706433",
    "0x7f000001",
    "0x7f.1",
    "017700000001",
    "0177.0.0.1",
    "0.0.0.0",
    "0",
    "0.1.2.3",
    "localhost",
    "LOCALHOST.",
    "a.b.localhost",
    "::",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:a00:1",
    "::127.0.0.1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::a00:1",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
    "2001:0:4136:e378:8000:63bf:80ff:fffe",
    "169.254.169.254",
    "2852039166",
    "0xa9.0xfe.0xa9.0xfe",
    "fd00:ec2::254",
    "fe80::1",
    "168.63.129.16",
    "192.0.0.192",
    "100.100.100.200",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "198.18.0.1",
    "224.0.0.1",
    "255.255.255.255",
]


@cases("host", PRIVATE)
def test_fault_d06_every_spelling_of_a_private_address_is_refused(host):
    refusal = CLOSED.refuse_host(host, 80)
    assert (refusal.error, host in refusal.text) == ("destination_ip_prohibited", True)
    assert Rules().refuse_host(host, 80) is None


@cases("host", ["8.8.8.8", "134744072", "2606:4700::1111", "::ffff:8.8.8.8", "example.com", "10.example"])
def test_public_hosts_are_not(host):
    assert CLOSED.refuse_host(host, 80) is None


def test_a_name_is_judged_by_its_address():
    assert CLOSED.refuse_host("intern.example", 80) is None
    assert CLOSED.refuse_address("intern.example", 80, "10.0.0.1") is not None
    assert CLOSED.refuse_address("intern.example", 80, "8.8.8.8") is None
    assert CLOSED.refuse_address("own.example", 80, "8.8.8.8", own=True) is not None
    assert Rules().refuse_address("own.example", 80, "8.8.8.8", own=True) is None


@pytest.mark.parametrize(
    ("entry", "opened", "closed"),
    [
        (
            "localhost:3000",
            [("localhost", "127.0.0.1"), ("localhost", "::1"), ("127.0.0.1", "127.0.0.1"), ("[::1]", "::1")],
            [("127.0.0.2", "127.0.0.2")],
        ),
        (
            "127.0.0.1:3000",
            [("127.1", "127.0.0.1"), ("localhost", "::1"), ("dev.example", "127.0.0.1")],
            [("10.0.0.1", "10.0.0.1")],
        ),
        (
            "10.0.0.5:3000",
            [("10.0.0.5", "10.0.0.5"), ("wiki", "10.0.0.5"), ("::ffff:a00:5", "::ffff:10.0.0.5")],
            [("wiki", "10.0.0.6")],
        ),
        (
            "Wiki.Intern.:3000",
            [("wiki.intern", "10.0.0.7"), ("WIKI.intern.", "10.0.0.7")],
            [("10.0.0.7", "10.0.0.7"), ("a.wiki.intern", "10.0.0.7")],
        ),
        ("[fd00::1]:3000", [("fd00::1", "fd00::1"), ("fd00:0:0::1", "fd00::1")], [("fd00::2", "fd00::2")]),
    ],
)
def test_what_an_operator_opens(entry, opened, closed):
    rules = Rules(private=False, private_allowed=[entry])
    for host, address in opened:
        assert rules.refuse_address(host.strip("[]"), 3000, address) is None, host
        assert rules.refuse_address(host.strip("[]"), 3001, address) is not None, host
    for host, address in closed:
        assert rules.refuse_address(host, 3000, address) is not None, host


def test_lists_of_hosts():
    rules = Rules(
        allowed_hosts=["example.com", "*.wiki.example", "192.0.2.1", "[2001:db8::1]:8080", "bücher.example"]
    )
    for host in (
        "example.com",
        "EXAMPLE.com.",
        "wiki.example",
        "a.b.wiki.example",
        "192.0.2.1",
        "3221225985",
        "xn--bcher-kva.example",
    ):
        assert rules.refuse_host(host, 443) is None, host
    for host in (
        "www.example.com",
        "notexample.com",
        "evilwiki.example",
        "example.com.evil",
        "192.0.2.2",
        "2001:db8::1",
    ):
        assert rules.refuse_host(host, 443).error == "http_request_denied", host
    assert rules.refuse_host("2001:db8:0::1", 8080) is None
    denied = replace(rules, denied_hosts=["*.wiki.example", "example.com:80"])
    assert denied.refuse_host("a.wiki.example", 443) is not None
    assert (denied.refuse_host("example.com", 443), denied.refuse_host("example.com", 80) is None) == (
        None,
        False,
    )
    assert Rules(allowed_hosts=[]).refuse_host("example.com", 80) is not None
    assert Rules(denied_hosts=["*"]).refuse_host("example.com", 80) is not None
    # A list opens nothing that is private.
    assert (
        Rules(private=False, allowed_hosts=["*"]).refuse_host("127.0.0.1", 80).error
        == "destination_ip_prohibited"
    )


def test_networks_and_names_below():
    rules = Rules(
        allowed_hosts=[
            "10.0.0.0/8",
            "[2001:db8::]/32:8080",
            "2001:db9::/32",
            ".wiki.example",
            "straße.example",
        ]
    )
    for host, port in (
        ("10.1.2.3", 80),
        ("0xa.1", 80),
        ("::ffff:10.0.0.1", 80),
        ("2001:db8::1", 8080),
        ("2001:db9::1", 80),
        ("wiki.example", 80),
        ("a.wiki.example", 80),
        ("xn--strae-oqa.example", 80),  # as Chromium writes it, not `strasse.example`
    ):
        assert rules.refuse_host(host, port) is None, host
    for host, port in (
        ("11.0.0.1", 80),
        ("2001:db8::1", 80),
        ("strasse.example", 80),
        ("intern.example", 80),
    ):
        assert rules.refuse_host(host, port) is not None, host
    # A name that resolves into a network is judged when that is known.
    assert rules.refuse_host("intern.example", 80, resolved_here=True) is None
    assert rules.refuse_address("intern.example", 80, "10.0.0.9") is None
    assert rules.refuse_address("intern.example", 80, "192.0.2.9") is not None
    denied = Rules(denied_hosts=["10.0.0.0/8", "192.0.2.1:80"])
    assert denied.refuse_host("intern.example", 80, resolved_here=True) is None
    assert denied.refuse_address("intern.example", 80, "10.0.0.9") is not None
    assert denied.refuse_address("intern.example", 80, "::ffff:10.0.0.9") is not None
    assert denied.refuse_address("intern.example", 80, "192.0.2.1") is not None
    assert denied.refuse_address("intern.example", 443, "192.0.2.1") is None


def test_each_list_must_let_a_host_pass():
    rules = Rules(denied_hosts=["a.example"]).narrowed(
        HostLists(["*.example"]), HostLists(None, ["b.example"])
    )
    assert rules.refuse_host("c.example", 80) is None
    for host in ("a.example", "b.example", "example.org"):
        assert rules.refuse_host(host, 80) is not None, host
    assert rules.narrowed(HostLists([])).refuse_host("c.example", 80) is not None
    assert (rules.limits_hosts, Rules().narrowed(HostLists()).limits_hosts) == (True, False)


@cases(
    "pattern",
    [
        "10.0.0.1/8",
        "10.0.0.0/33",
        "10.0.0/8",
        "2001:db8::/129",
        "xn--a.ü\u0301\u0000",
        "",
        " ",
        "a b",
        "http://a",
        "a/b",
        "*a",
        "a.*",
        "a:0",
        "a:65536",
        "a:x",
        "[::g]",
        "::1",
        "a@b",
        "ü" * 300,
    ],
)
def test_a_bad_pattern_is_refused_in_words(pattern):
    for name in ("allowed_hosts", "denied_hosts"):
        with pytest.raises(ConfigurationError, match=name):
            Rules(**{name: [pattern]})
    with pytest.raises(ConfigurationError, match="private_allowed"):
        Rules(private_allowed=[pattern])


def test_lists_are_lists_and_opened_services_have_a_port():
    with pytest.raises(ConfigurationError, match="list of hosts"):
        Rules(allowed_hosts="example.com")
    for entry in ("localhost", "*.intern:80", "*:80", "10.0.0.0/8:80"):
        with pytest.raises(ConfigurationError, match="host:port"):
            Rules(private_allowed=[entry])


def test_own_addresses():
    for address in ("127.0.0.1", "127.9.9.9", "::1", "0.0.0.0", "::", "::ffff:127.0.0.1"):
        assert is_own(address), address
    for address in ("8.8.8.8", "192.0.2.1", "2001:db8::1"):
        assert not is_own(address), address
    assert (is_loopback("::ffff:127.0.0.1"), is_loopback("10.0.0.1"), is_loopback("a")) == (
        True,
        False,
        False,
    )
    assert literal_address("ü") is None
