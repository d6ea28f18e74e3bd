"""One cookie in the spellings of exporters, as the browser takes it."""

import json
import time

import pytest

from cdpbridge.cdp._cookie_forms import CookieError, cookie_form, described
from tests.cases import cases

LATER = int(time.time()) + 86_400
SECRET = "s3cr3t-value"


def cookie(**more):
    return {"name": "n", "value": SECRET, "domain": "example.com"} | more


def form(**more):
    return cookie_form(cookie(**more)).param


@cases(
    ("given", "wanted"),
    [
        ("no_restriction", "None"),
        ("None", "None"),
        ("none", "None"),
        ("lax", "Lax"),
        ("LAX", "Lax"),
        ("Strict", "Strict"),
        (2, "Strict"),
        (0, "None"),
        ("unspecified", None),
        ("", None),
        (None, None),
        (-1, None),
    ],
)
def test_fault_c20_same_site(given, wanted):
    assert form(sameSite=given, secure=True).get("sameSite") == wanted


def test_fault_c20_same_site_none_of_an_insecure_cookie_is_named():
    # What Firefox says of each cookie whose site said nothing.
    param, changed = cookie_form(cookie(sameSite="no_restriction", secure=False))
    assert "sameSite" not in param
    assert "needs Secure" in changed


@cases(
    "given",
    [
        {"expirationDate": LATER},
        {"expirationDate": LATER + 0.25},
        {"expires": LATER},
        {"expiry": LATER},
        {"expires": LATER * 1000},
        {"expires": str(LATER)},
        {"expires": f"{LATER}.5"},
        {"expirationDate": str(LATER * 1000)},
        {"expiry": LATER * 1_000_000},
        {"expires_utc": (LATER + 11_644_473_600) * 1_000_000},
        {"expires": time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(LATER))},
        {"expires": time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(LATER))},
        {"expires": time.strftime("%a, %d-%b-%Y %H:%M:%S GMT", time.gmtime(LATER))},
        {"Expires": "At the end of the session", "Expires raw": str(LATER)},
        {"expires": None, "expirationDate": LATER, "session": False},
    ],
)
def test_fault_c20_expiry(given):
    assert int(form(**given)["expires"]) == LATER


@cases(
    "given",
    [-1, -2.5, 0, "0", "-1", "", "Session", None, False, float("inf"), "Infinity"],
)
def test_fault_c20_session_cookies(given):
    assert "expires" not in form(expires=given)


def test_fault_c20_session_counts_more_than_an_expiry():
    assert "expires" not in form(session=True, expirationDate=LATER)


@cases(
    ("given", "wanted"),
    [
        ({"domain": ".example.com"}, ".example.com"),
        ({"domain": "example.com"}, "example.com"),
        ({"domain": "example.com", "hostOnly": False}, ".example.com"),
        ({"domain": "example.com", "hostOnly": "true"}, "example.com"),
        ({"domain": ".example.com", "hostOnly": False}, ".example.com"),
        ({"domain": ".example.com", "hostOnly": True}, "example.com"),
        ({"domain": "Example.COM"}, "example.com"),
        ({"domain": "https://.example.com/"}, ".example.com"),
        ({"domain": "example.com:8080"}, "example.com"),
        ({"domain": ".bücher.example"}, ".xn--bcher-kva.example"),
        ({"domain": ".127.0.0.1", "hostOnly": False}, "127.0.0.1"),
        ({"domain": "::1"}, "[::1]"),
        ({"domain": "[::1]:80"}, "[::1]"),
        ({"domain": ".localhost"}, "localhost"),
        ({"domain": None, "url": "http://example.com:8000/a/b?c#d"}, "example.com"),
        ({"domain": "", "Host raw": "http://example.com/"}, "example.com"),
    ],
)
def test_fault_c20_domains(given, wanted):
    assert form(**given)["domain"] == wanted


def test_fault_c20_a_url_gives_path_and_secure():
    param = form(domain=None, url="https://example.com/a/b?c")
    assert (param["path"], param["secure"]) == ("/a/", True)
    assert form(domain=None, url="https://example.com/a/b", path="/", secure=False)["secure"] is False


def test_fault_c20_partitions():
    secure = {"secure": True, "sameSite": "None"}
    site = "https://top.example"
    wanted = {"topLevelSite": site, "hasCrossSiteAncestor": True}
    for key in (site, {"topLevelSite": site}, wanted, {"sourceOrigin": site}):
        assert form(**secure, partitionKey=key)["partitionKey"] == wanted
    # As Playwright writes it, and a page of the site itself.
    assert form(**secure, partitionKey=site, _crHasCrossSiteAncestor=False)["partitionKey"] == wanted | {
        "hasCrossSiteAncestor": False
    }
    own = form(**secure, partitionKey="https://example.com")["partitionKey"]
    assert own["hasCrossSiteAncestor"] is False
    idn = form(**secure, partitionKey="https://bücher.example:8443")["partitionKey"]
    assert idn["topLevelSite"] == "https://xn--bcher-kva.example"
    for none in (None, "", {}, {"topLevelSite": ""}):
        assert "partitionKey" not in form(**secure, partitionKey=none)


def test_fault_c20_cookie_quick_manager():
    given = {
        "Host raw": "https://.example.com/",
        "Name raw": "n",
        "Path raw": "/p",
        "Content raw": SECRET,
        "Expires": "22-05-2025 22:35:05",
        "Expires raw": str(LATER),
        "Send for": "Encrypted connections only",
        "Send for raw": "true",
        "HTTP only raw": "true",
        "SameSite raw": "lax",
        "This domain only": "Valid for subdomains",
        "This domain only raw": "false",
        "Store raw": "firefox-default",
        "First Party Domain": "",
    }
    assert cookie_form(given).param == {
        "name": "n",
        "value": SECRET,
        "domain": ".example.com",
        "path": "/p",
        "secure": True,
        "httpOnly": True,
        "expires": LATER,
        "sameSite": "Lax",
    }
    assert described(given) == ("n", ".example.com")


@cases(
    ("given", "reason"),
    [
        ({"name": None}, "it has no name"),
        ({"value": None}, "it has no value"),
        ({"value": [1]}, "its value is no text"),
        ({"name": "", "value": ""}, "empty"),
        ({"name": "a=b"}, "its name has a ="),
        ({"value": "a;b"}, "its value has a ;"),
        ({"value": "a\nb"}, "its value has a control character"),
        ({"value": "a\tb"}, "its value has a control character"),
        ({"value": " a"}, "begins or ends with a space"),
        ({"value": "\ud800"}, "half of a surrogate pair"),
        ({"value": "x" * 4096}, "4097 bytes"),
        ({"value": "é" * 2048}, "4097 bytes"),
        ({"domain": None}, "neither domain nor url"),
        ({"domain": None, "url": "chrome://settings"}, "none of http or https"),
        ({"domain": 5}, "its domain is no text"),
        ({"domain": "exa mple.com"}, "its domain is no host name"),
        ({"domain": "..example.com"}, "its domain is no host name"),
        ({"domain": "a.127.0.0.1"}, "its domain is no host name"),
        ({"domain": "https://"}, "its domain is no host name"),
        ({"domain": "x" * 64 + ".com"}, "its domain is no host name"),
        ({"path": "abc"}, "its path does not begin with /"),
        ({"path": "/a;b"}, "its path has a ;"),
        ({"path": "/" + "x" * 1024}, "1025 bytes"),
        ({"secure": "maybe"}, "its secure is neither true nor false"),
        ({"expires": "next week"}, "its expiry is no time"),
        ({"expires": [1]}, "its expiry is no time"),
        ({"expires": float("nan")}, "its expiry is no time"),
        ({"sameSite": "loose"}, "its sameSite is none of"),
        ({"name": "__Secure-a"}, "__Secure- needs Secure"),
        ({"name": "__Host-a", "secure": True, "domain": ".example.com"}, "of its host alone"),
        ({"name": "__host-a", "secure": True, "path": "/x"}, "needs the path /"),
        ({"name": "__Http-a", "secure": True}, "needs HttpOnly"),
        ({"partitionKey": "top.example", "secure": True}, "no site like"),
        ({"partitioned": True, "secure": True}, "partitionKey is missing"),
        ({"partitionKeyOpaque": True}, "opaque"),
    ],
)
def test_fault_c20_the_reason_is_the_true_one(given, reason):
    with pytest.raises(CookieError, match=reason) as caught:
        cookie_form(cookie(**given))
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("given", [None, 1, "a=b", ["a"]])
def test_fault_c20_what_is_no_cookie(given):
    with pytest.raises(CookieError, match="no object"):
        cookie_form(given)
    assert described(given) == ("", "")


def test_a_form_stays_as_it_is():
    param = cookie_form(cookie(path="/a", sameSite="Lax", httpOnly=True, expires=LATER)).param
    assert cookie_form(json.loads(json.dumps(param))) == (param, "")
