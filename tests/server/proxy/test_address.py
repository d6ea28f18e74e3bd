import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from cdpbridge.server.proxy._address import is_forbidden, literal_address
from tests.cases import cases

FORBIDDEN = [
    "0.0.0.0", "0.1.2.3", "10.1.2.3", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.8.9.1",
    "168.63.129.16", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.192", "192.168.1.1",
    "198.18.0.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255",
    "::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254",
    "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2002:a00:1::", "fc00::1", "fd00:ec2::254",
    "fe80::1", "fe80::1%1", "2606:4700::1%1", "fec0::1", "ff02::1", "2001:db8::1", "100::1",
]  # fmt: skip
PUBLIC = ["1.1.1.1", "8.8.8.8", "93.184.216.34", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]


@cases("address", FORBIDDEN)
def test_refuses(address):
    assert is_forbidden(address)


@cases("address", PUBLIC)
def test_lets_public_addresses_through(address):
    assert not is_forbidden(address)


@given(st.ip_addresses(v=4, network="10.0.0.0/8") | st.ip_addresses(v=4, network="127.0.0.0/8"))
def test_no_ipv6_spelling_of_a_private_ipv4_address_passes(address):
    number = int(address)
    for spelling in (
        ipaddress.IPv6Address((0xFFFF << 32) | number),
        ipaddress.IPv6Address(number),
        ipaddress.IPv6Address((0x64FF9B << 96) | number),
        ipaddress.IPv6Address((0x2002 << 112) | (number << 80)),
    ):
        assert is_forbidden(str(spelling))


@cases(
    ("host", "address"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("2130706433", "127.0.0.1"),
        ("0x7f.1", "127.0.0.1"),
        ("017700000001", "127.0.0.1"),
        ("127.1", "127.0.0.1"),
        ("0", "0.0.0.0"),
        ("::ffff:7f00:1", "::ffff:127.0.0.1"),
        ("localhost", "127.0.0.1"),
        ("LOCALHOST.", "127.0.0.1"),
        ("a.localhost", "127.0.0.1"),
        ("example.com", None),
        ("localhost.example.com", None),
    ],
)
def test_reads_every_spelling_of_an_address(host, address):
    found = literal_address(host)
    if address is None:
        assert found is None
    else:
        assert ipaddress.ip_address(found) == ipaddress.ip_address(address)
