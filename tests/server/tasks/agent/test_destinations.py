"""What an agent in a place reaches, as names and addresses."""

import base64
import json

import pytest

from cdpbridge.server.tasks.agent._destinations import destinations, hosts_file, proxy_of, vault_hosts


def test_names_and_ports_are_the_same_inside_and_each_host_has_an_address_of_its_own():
    found = destinations(
        [
            "http://127.0.0.1:8700/cdp/x",
            "https://models.example.com/v1",
            "https://[2001:db8::1]:8443/v1",
            "ws://localhost/x",
        ],
        ["a.1password.com", "models.example.com"],
    )
    assert [(each.host, each.port, each.address) for each in found] == [
        ("127.0.0.1", 8700, "127.0.0.1"),
        ("models.example.com", 443, "127.0.1.1"),
        ("2001:db8::1", 8443, "2001:db8::1"),
        ("localhost", 80, "127.0.0.1"),
        ("a.1password.com", 443, "127.0.1.2"),
    ]
    assert hosts_file(found).splitlines() == [
        "127.0.0.1 localhost",
        "127.0.1.1 models.example.com",
        "127.0.1.2 a.1password.com",
    ]


def test_one_host_at_two_ports_has_one_address():
    found = destinations(["https://a.example/cdp", "http://a.example:9000/v1", "https://a.example/other"])
    assert [(each.port, each.address) for each in found] == [(443, "127.0.1.1"), (9000, "127.0.1.1")]


@pytest.mark.parametrize("url", ["ftp://a.example/", "models.example.com", "https:///v1"])
def test_an_address_that_leads_nowhere(url):
    with pytest.raises(ValueError, match="an address that an agent needs"):
        destinations([url])


@pytest.mark.parametrize(
    ("url", "environment", "expected"),
    [
        ("https://m.example/", {}, None),
        ("https://m.example/", {"HTTPS_PROXY": "http://p:1"}, "http://p:1"),
        ("https://m.example/", {"HTTPS_PROXY": "http://p:1", "https_proxy": "http://q:1"}, "http://q:1"),
        ("http://m.example/", {"HTTPS_PROXY": "http://p:1"}, None),
        ("http://m.example/", {"ALL_PROXY": "socks5://p:1"}, "socks5://p:1"),
        ("https://m.example/", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "localhost,.example"}, None),
        ("http://127.0.0.1:1/", {"http_proxy": "http://p:1", "no_proxy": "127.0.0.1"}, None),
        ("https://m.example/", {"HTTPS_PROXY": ""}, None),
    ],
)
def test_the_server_goes_through_the_proxies_of_its_environment(url, environment, expected):
    [destination] = destinations([url])
    assert proxy_of(destination, environment) == expected


def test_a_token_of_1password_says_its_host():
    def token(said):
        return "ops_" + base64.urlsafe_b64encode(json.dumps(said).encode()).decode().rstrip("=")

    assert vault_hosts(token({"signInAddress": "team.1password.eu"})) == ("team.1password.eu",)
    for other in ("token", token({}), token([]), ""):
        assert "my.1password.com" in vault_hosts(other)
