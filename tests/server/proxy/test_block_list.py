"""What a block list says of a host, in the formats of the usual publishers."""

import pytest

from cdpbridge.errors import ConfigurationError
from cdpbridge.server.proxy import BlockList
from tests.cases import cases

LIST = """\ufeff# a hosts file
127.0.0.1 localhost localhost.localdomain
::1 ip6-localhost
0.0.0.0 0.0.0.0
0.0.0.0 ads.example.com tracker.example.com. # two
! rules of an ad blocker
[Adblock Plus 2.0]
||adnet.test^
||BLOCKED.test
||narrow.test^$third-party
||whole.test^$important,all
||path.test/banner
@@||good.adnet.test^
@@||paths.adnet.test/x^
example.org##.banner
/banner-[0-9]+/
plain.test
*.wild.test
bücher.test
not a name
192.0.2.1
http://url.test/
"""


@cases(
    ("host", "blocked"),
    [
        ("ads.example.com", True),
        ("ADS.example.com.", True),
        ("tracker.example.com", True),
        ("x.ads.example.com", False),  # hosts(5) names hosts, not what is below them
        ("example.com", False),
        ("localhost", False),
        ("adnet.test", True),
        ("a.b.adnet.test", True),
        ("notadnet.test", False),
        ("good.adnet.test", False),
        ("x.good.adnet.test", False),
        ("paths.adnet.test", True),  # its exception is for a path
        ("blocked.test", True),
        ("narrow.test", False),
        ("whole.test", True),
        ("path.test", False),
        ("plain.test", True),
        ("www.plain.test", False),
        ("wild.test", True),
        ("www.wild.test", True),
        ("xn--bcher-kva.test", True),
        ("192.0.2.1", False),
        ("url.test", False),
        ("example.org", False),
    ],
)
def test_hosts(host, blocked):
    assert BlockList.parse(LIST.splitlines()).blocks(host) is blocked


def test_what_a_list_holds():
    found = BlockList.parse(LIST.splitlines())
    assert (len(found), bool(found)) == (8, True)
    assert found.unused == 11
    assert not BlockList()
    assert not BlockList().blocks("example.com")


def test_files_are_read_together_and_refused_in_words(tmp_path):
    (tmp_path / "a").write_text("0.0.0.0 a.test\r\n")
    (tmp_path / "b").write_bytes(b"||b.test^\n\xff\n")
    found = BlockList.read([tmp_path / "a", tmp_path / "b"])
    assert (found.blocks("a.test"), found.blocks("x.b.test")) == (True, True)
    with pytest.raises(ConfigurationError, match="none cannot be read: No such file"):
        BlockList.read([tmp_path / "none"])
    (tmp_path / "page").write_text("<!doctype html><title>404</title>\n")
    with pytest.raises(ConfigurationError, match="page names no host"):
        BlockList.read([tmp_path / "page"])
