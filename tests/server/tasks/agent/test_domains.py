"""`allowedDomains`, entry by entry."""

import pytest

from cdpbridge.server.tasks.agent._domains import allowed_domains, outside, secret_pages
from tests.cases import cases


@cases(
    ("given", "rules"),
    [
        ("example.com", ["example.com", "www.example.com"]),  # as browser-use: the root stands for its www.
        ("shop.example.com", ["shop.example.com"]),
        (" Example.COM. ", ["example.com", "www.example.com"]),
        ("*.example.com", ["*.example.com"]),
        ("*", ["*"]),
        ("https://shop.example.com", ["shop.example.com:443"]),
        ("HTTP://shop.example.com/", ["shop.example.com:80"]),
        ("http*://shop.example.com/*", ["shop.example.com"]),
        ("*://*.example.com", ["*.example.com"]),
        ("http://shop.example.com:8080", ["shop.example.com:8080"]),
        ("localhost:3000", ["localhost:3000"]),
        ("shop.example.com:*", ["shop.example.com"]),
        ("127.0.0.1", ["127.0.0.1"]),
        ("127.1", ["127.0.0.1"]),
        ("2130706433", ["127.0.0.1"]),
        ("[::1]:8080", ["[::1]:8080"]),
        ("2001:DB8::1", ["[2001:db8::1]"]),
        ("bücher.example", ["xn--bcher-kva.example", "www.xn--bcher-kva.example"]),
        ("shop.faß。example", ["shop.xn--fa-hia.example"]),
    ],
)
def test_every_spelling_of_a_domain_is_a_rule_for_connections(given, rules):
    assert [domain.rule for domain in allowed_domains([given])] == rules


@cases(
    ("given", "why"),
    [
        ("", "empty"),
        ("   ", "empty"),
        ("https://example.com/shop", "names a path"),
        ("example.com/shop/*", "names a path"),
        ("example.com?q=1", "names a path"),
        ("file:///etc", "http and https"),
        ("chrome-extension://*", "http and https"),
        ("ftp://example.com", "http and https"),
        ("exam*.com", "at the start"),
        ("*example.com", "at the start"),
        ("example.*", "at the start"),
        ("*.*.com", "at the start"),
        ("user@example.com", "user name"),
        ("example.com:0", "no port"),
        ("example.com:99999", "no port"),
        ("example.com:http", "no port"),
        ("ex ample.com", "no name of a host"),
        ("example..com", "no name of a host"),
        ("-", "no name of a host"),
        ("[::1", "no name of a host"),
        ("999.1.1.1.1", "no address"),
        ("*.127.0.0.1", "below an address"),
        ("10.0.0.0/8", "names a path"),
        ("x" * 64 + ".com", "no name of a host"),
    ],
)
def test_what_cannot_be_kept_is_refused_in_words(given, why):
    with pytest.raises(ValueError, match=why):
        allowed_domains([given])


def test_there_is_an_end_to_the_list():
    with pytest.raises(ValueError, match="1001 domains"):
        allowed_domains(["example.com"] * 1001)


@cases(
    ("url", "is_outside"),
    [
        ("http://example.com/", False),
        ("https://www.example.com:9/x", False),
        ("https://WWW.EXAMPLE.COM./", False),
        ("https://api.example.com/", True),
        ("https://example.com.evil.test/", True),
        ("https://example.com@evil.test/", True),
        ("https://evil.test/example.com", True),
        ("https://notexample.com/", True),
        ("http://sub.shop.test/", False),
        ("http://shop.test/", False),
        ("http://127.0.0.1:8000/", False),
        ("http://0x7f000001:8000/", False),
        ("http://127.0.0.1:8001/", True),
        ("about:blank", False),
        ("data:text/html,x", False),
        ("chrome://newtab/", False),
        ("chrome://settings/", True),
        ("file:///etc/passwd", True),
        ("view-source:http://example.com/", True),
        ("chrome-error://chromewebdata/", True),
        ("javascript:alert(1)", True),
        ("http://[::1/", True),
        ("", False),
    ],
)
def test_pages_outside(url, is_outside):
    domains = allowed_domains(["example.com", "*.shop.test", "127.0.0.1:8000"])
    assert outside(url, domains) is is_outside


def test_secrets_count_on_each_domain_as_it_is_written():
    assert secret_pages(["Example.com", "http*://127.0.0.1:8000", "https://*.a.com"]) == (
        "example.com",
        "http*://127.0.0.1",
        "https://*.a.com",
    )
