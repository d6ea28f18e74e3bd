"""What a `startUrl` stands for."""

import pytest

from cdpbridge.api._start_page import start_page
from tests.cases import cases


@cases(
    ("given", "opened"),
    [
        ("https://example.com/a?b#c", "https://example.com/a?b#c"),
        ("HTTP://EXAMPLE.com", "HTTP://EXAMPLE.com"),
        ("http://user:word@host/", "http://user:word@host/"),
        ("example.com", "https://example.com"),
        ("example.com/a?b#c", "https://example.com/a?b#c"),
        (" example.com\n", "https://example.com"),
        ("//example.com/a", "https://example.com/a"),
        ("example.com:8443/a", "https://example.com:8443/a"),
        ("example.com:8080/a", "http://example.com:8080/a"),
        ("münchen.de", "https://münchen.de"),
        ("localhost", "http://localhost"),
        ("localhost:3000/a", "http://localhost:3000/a"),
        ("127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("[::1]:8000/a", "http://[::1]:8000/a"),
        ("web:9000", "http://web:9000"),
        ("wiki.internal/a", "http://wiki.internal/a"),
        ("about:blank", "about:blank"),
        ("About:Blank", "about:blank"),
    ],
)
def test_web_pages(given, opened):
    assert start_page(given) == opened


@cases(
    "given",
    [
        "",
        "  ",
        "nonsense",
        "two words",
        "file:///etc/passwd",
        "file:/etc/passwd",
        "FILE:///etc/passwd",
        "javascript:alert(1)",
        "data:text/html,x",
        "about:config",
        "chrome://settings",
        "chrome:settings",
        "view-source:https://example.com",
        "view-source:example.com",
        "blob:https://example.com/1",
        "ftp://example.com",
        "mailto:a@example.com",
        "user:word@example.com",
        "http://",
        "https:///a",
        "http:example.com",
        "https://[::1",
        "http://example.com:99999",
        "https://a b/",
        "https://exa\\mple.com",
        f"{'x' * 10_000}.com",
    ],
)
def test_everything_else_is_refused(given):
    with pytest.raises(ValueError, match="web page"):
        start_page(given)
