"""One test of what is this machine, for the REST client, the CDP client and the server."""

from cdpbridge._loopback import is_loopback, is_loopback_address
from tests.cases import cases


@cases(
    "host", ["localhost", "LocalHost.", "a.localhost", "127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"]
)
def test_this_machine(host):
    assert is_loopback(host)
    assert is_loopback_address(host) == (not host.lower().rstrip(".").endswith("localhost"))


@cases(
    "host",
    [
        "",
        "localhost.example.com",
        "notlocalhost",
        "10.0.0.1",
        "0.0.0.0",
        "::",
        "::ffff:10.0.0.1",
        "127.0.0.1.nip.io",
    ],
)
def test_others(host):
    assert not is_loopback(host)
    assert not is_loopback_address(host)
