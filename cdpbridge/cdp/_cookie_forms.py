"""One cookie in the spelling of any usual exporter, as the browser takes it. Pure; no value appears in a reason.

The spellings: `Network.Cookie` of CDP, Playwright, Puppeteer, Selenium, the cookies API of extensions (EditThisCookie,
Cookie-Editor), Cookie Quick Manager, tough-cookie, and columns of the databases of Chromium and Firefox.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any, Final, NamedTuple
from urllib.parse import quote, urlsplit

import idna

__all__ = ["CookieError", "CookieForm", "cookie_form", "described"]

# Chromium's limits: net/cookies/parsed_cookie.h.
_MOST_BYTES: Final = 4096
_MOST_BYTES_OF_PATH: Final = 1024

# Names of a field in lower case, without spaces and underscores; the first one that says something counts.
_NAME: Final = ("name", "nameraw", "key")
_VALUE: Final = ("value", "contentraw")
_DOMAIN: Final = ("domain", "host", "hostkey", "hostraw")
_PATH: Final = ("path", "pathraw")
_SECURE: Final = ("secure", "issecure", "sendforraw")
_HTTP_ONLY: Final = ("httponly", "ishttponly", "httponlyraw")
_HOST_ONLY: Final = ("hostonly", "thisdomainonlyraw")
_SESSION: Final = ("session",)
# The raw one first: "Expires" of Cookie Quick Manager is text for people, in the local time of its browser.
_EXPIRES: Final = ("expiresraw", "expirationdate", "expires", "expiry", "expiresutc")
_SAME_SITE: Final = ("samesite", "samesiteraw")

_SAME_SITES: Final[dict[str, str | None]] = {
    "strict": "Strict",
    "lax": "Lax",
    "none": "None",
    "norestriction": "None",
    # Columns of Chromium's and Firefox's databases.
    "2": "Strict",
    "1": "Lax",
    "0": "None",
    # Nothing was said when the cookie was set.
    "": None,
    "unspecified": None,
    "unset": None,
    "default": None,
    "-1": None,
    "256": None,
}
_NO_EXPIRY: Final = frozenset({"", "session", "attheendofthesession", "infinity", "never", "none", "null"})
_TRUE: Final = frozenset({"true", "1", "yes"})
_FALSE: Final = frozenset({"false", "0", "no"})

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
# More than DNS allows: a browser that resolves at a proxy may have cookies of such hosts.
_LABELS: Final = re.compile(r"{0}(\.{0})*\.?".format(r"[^\x00-\x20\x7f.,;:/?#@%*<>^|`{}\"\[\]\\]{1,63}"))
# Seconds from 1601 to 1970: Chromium's database counts from there.
_SECONDS_TO_1970: Final = 11_644_473_600
_PATH_SAFE: Final = "".join(chr(code) for code in range(0x21, 0x7F))


class CookieError(ValueError):
    """A browser cannot have this cookie. The message is the reason, without the value."""


class CookieForm(NamedTuple):
    """A cookie as `Storage.setCookies` takes it.

    Attributes:
        param: A `Network.CookieParam`. Without `expires` it lasts as long as the browser.
        changed: What it cannot keep, and why; empty when it is whole.
    """

    param: dict[str, Any]
    changed: str = ""


def cookie_form(cookie: object, *, url: str | None = None) -> CookieForm:
    """Return a cookie in the browser's spelling.

    `expires` becomes seconds since 1970, from seconds, milliseconds, microseconds or a date. A cookie without a leading dot is
    of its host alone, unless `hostOnly` says otherwise.

    Args:
        cookie: In the spelling of any exporter.
        url: Address of a site, for a cookie that names none.

    Raises:
        CookieError: No browser can have it.
    """
    if not isinstance(cookie, Mapping):
        raise CookieError("it is no object with name, value and domain")
    fields = {_squeezed(str(key)): value for key, value in cookie.items() if value is not None}
    param: dict[str, Any] = _name_and_value(fields)
    where = _site(fields, url)
    param["domain"] = where.domain
    param["path"] = _path(fields, where.path)
    for name, spellings in (("secure", _SECURE), ("httpOnly", _HTTP_ONLY)):
        if (flag := _flag(fields, spellings, name)) is not None:
            param[name] = flag
    if where.secure and "secure" not in param:
        param["secure"] = True
    if (expires := _expires(fields)) is not None:
        param["expires"] = expires
    changed = _set_same_site(param, fields)
    _set_partition(param, fields)
    _set_source(param, fields)
    _check_prefix(param)
    return CookieForm(param, changed)


def described(cookie: object) -> tuple[str, str]:
    """Return the name and domain of a cookie, as far as it has them, to tell people which one is meant."""
    if not isinstance(cookie, Mapping):
        return "", ""
    fields = {_squeezed(str(key)): value for key, value in cookie.items() if value is not None}
    domain = str(_first(fields, _DOMAIN) or fields.get("url") or "")
    return str(_first(fields, _NAME) or ""), _host_of(domain) if "://" in domain else domain


@lru_cache(maxsize=1024)  # a profile has thousands of cookies, and their fields have the same names
def _squeezed(text: str) -> str:
    return re.sub(r"[\s_]", "", text).lower()


def _first(fields: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    """Return the first value that says something; None if there is none."""
    empty = None
    for name in names:
        if (found := fields.get(name)) is not None:
            if found != "":
                return found
            empty = found
    return empty


def _name_and_value(fields: Mapping[str, Any]) -> dict[str, Any]:
    both = {}
    for what, names in (("name", _NAME), ("value", _VALUE)):
        given = _first(fields, names)
        if given is None:
            raise CookieError(f"it has no {what}")
        if isinstance(given, int | float) and not isinstance(given, bool):
            given = str(given)
        if not isinstance(given, str):
            raise CookieError(f"its {what} is no text")
        if _CONTROL.search(given):
            raise CookieError(f"its {what} has a control character")
        if ";" in given or (what == "name" and "=" in given):
            raise CookieError(f"its {what} has a {';' if ';' in given else '='}")
        if given != given.strip(" "):
            raise CookieError(f"its {what} begins or ends with a space")
        try:
            given.encode()
        except UnicodeEncodeError:
            raise CookieError(f"its {what} has half of a surrogate pair") from None
        both[what] = given
    if not both["name"] and not both["value"]:
        raise CookieError("its name and its value are empty")
    if (size := len("".join(both.values()).encode())) > _MOST_BYTES:
        raise CookieError(
            f"its name and value have {size} bytes, and a browser keeps at most {_MOST_BYTES:,}"
        )
    return both


# --- where it belongs -------------------------------------------------------------------------------------------------


class _Site(NamedTuple):
    domain: str
    path: str = "/"
    secure: bool = False


def _site(fields: Mapping[str, Any], url: str | None) -> _Site:
    given = _first(fields, _DOMAIN)
    address = fields.get("url") or (url if given in (None, "") else None)
    host_only = _flag(fields, _HOST_ONLY, "hostOnly")
    if given not in (None, ""):
        if not isinstance(given, str):
            raise CookieError("its domain is no text")
        secure = isinstance(address, str) and address.lower().startswith("https:")
        return _Site(_domain(_host_of(given), host_only), secure=secure)
    if not isinstance(address, str) or not address:
        raise CookieError("it has neither domain nor url")
    parts = urlsplit(address.strip())
    if parts.scheme.lower() not in {"http", "https"}:
        raise CookieError("its url is none of http or https")
    # As Playwright and the cookies API of extensions: a url means its host alone, and the folder of its path.
    folder = parts.path.rpartition("/")[0] + "/"
    return _Site(_domain(_host_of(address), host_only is not False), folder, parts.scheme.lower() == "https")


@lru_cache(maxsize=1024)
def _host_of(text: str) -> str:
    """Return the host of an address, or of what is one already, with its leading dot."""
    text = text.strip()
    if "://" not in text:
        text = f"//{text}" if text.count(":") < 2 or text.startswith("[") else f"//[{text}]"
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return ""
    host = parts.hostname or ""
    return f"[{host}]" if ":" in host else host


@lru_cache(maxsize=1024)
def _domain(host: str, host_only: bool | None) -> str:
    bare = host.removeprefix(".")
    if not bare.isascii():
        try:
            bare = idna.encode(bare, uts46=True).decode()
        except (idna.IDNAError, UnicodeError):
            raise CookieError("its domain is no host name") from None
    if bare.startswith("["):
        try:
            return f"[{ipaddress.IPv6Address(bare[1:-1]).compressed}]"
        except ValueError:
            raise CookieError("its domain is no host name") from None
    if len(bare) > 253 or not _LABELS.fullmatch(bare):
        raise CookieError("its domain is no host name")
    # An address or a single name has nothing below it; the browser drops the dot.
    if bare.rstrip(".").rpartition(".")[2].isdigit():
        if not _is_ipv4(bare):  # a host whose last part is a number can be nothing else
            raise CookieError("its domain is no host name")
        return bare
    if "." not in bare.rstrip("."):
        return bare
    below = host.startswith(".") if host_only is None else not host_only
    return f".{bare}" if below else bare


def _is_ipv4(host: str) -> bool:
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        return False
    return True


def _path(fields: Mapping[str, Any], default: str) -> str:
    path = _first(fields, _PATH)
    if path is None or path == "":
        path = default
    if not isinstance(path, str) or not path.startswith("/"):
        raise CookieError("its path does not begin with /")
    if ";" in path or _CONTROL.search(path):
        raise CookieError("its path has a ; or a control character")
    if path != "/":
        try:
            path = quote(path, safe=_PATH_SAFE)
        except UnicodeEncodeError:
            raise CookieError("its path has half of a surrogate pair") from None
    if len(path) > _MOST_BYTES_OF_PATH:
        raise CookieError(
            f"its path has {len(path)} bytes, and a browser keeps at most {_MOST_BYTES_OF_PATH:,}"
        )
    return path


# --- how long, and for whom -------------------------------------------------------------------------------------------


def _flag(fields: Mapping[str, Any], names: tuple[str, ...], what: str) -> bool | None:
    given = _first(fields, names)
    if given is None or isinstance(given, bool):
        return given
    text = _squeezed(str(given))
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    if text == "":
        return None
    raise CookieError(f"its {what} is neither true nor false")


def _expires(fields: Mapping[str, Any]) -> float | None:
    """Return seconds since 1970; None for a session cookie: no expiry, 0, or below."""
    if _flag(fields, _SESSION, "session"):
        return None
    given = _first(fields, _EXPIRES)
    if given is None or given is False:
        return None
    seconds: float | None = None
    if isinstance(given, int | float) and not isinstance(given, bool):
        try:
            seconds = float(given)
        except OverflowError:
            return None
    elif isinstance(given, str):
        if _squeezed(given) in _NO_EXPIRY:
            return None
        seconds = _time(given.strip())
    if seconds is None or math.isnan(seconds):
        raise CookieError("its expiry is no time: it takes seconds since 1970, or a date")
    if seconds <= 0 or math.isinf(seconds):
        return None
    return _in_seconds(seconds)


def _time(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        try:
            moment = parsedate_to_datetime(text)
        except (ValueError, TypeError, IndexError):
            return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _in_seconds(number: float) -> float:
    """Tell units by their size: no other one gives a date of this century."""
    if number < 1e12:
        return number
    if number < 1e15:
        return number / 1e3  # Date.getTime() of JavaScript
    if number < 1.1e16:
        return number / 1e6  # Firefox's
    if number < 1e17:
        return number / 1e6 - _SECONDS_TO_1970  # Chromium's
    return number / 1e9


def _set_same_site(param: dict[str, Any], fields: Mapping[str, Any]) -> str:
    given = _first(fields, _SAME_SITE)
    if given is None or given is False:
        return ""
    text = _squeezed(str(given))
    if text not in _SAME_SITES:
        raise CookieError("its sameSite is none of Strict, Lax, None, no_restriction and unspecified")
    if (same_site := _SAME_SITES[text]) is None:
        return ""
    if same_site == "None" and not param.get("secure"):
        # Firefox says None of every cookie that said nothing. Chromium keeps no such cookie; without it, it keeps it as Lax.
        return "kept without SameSite=None, which needs Secure"
    param["sameSite"] = same_site
    return ""


def _set_partition(param: dict[str, Any], fields: Mapping[str, Any]) -> None:
    if fields.get("partitionkeyopaque") is True:
        raise CookieError("its partition is opaque: no site can be in it again")
    key = fields.get("partitionkey")
    ancestor = fields.get("crhascrosssiteancestor")
    site: Any = key
    if isinstance(key, Mapping):
        site = key.get("topLevelSite") or key.get("sourceOrigin")
        ancestor = key.get("hasCrossSiteAncestor", ancestor)
    if not site:
        if fields.get("partitioned") is True:
            raise CookieError("it is partitioned, and its partitionKey is missing")
        return
    parts = urlsplit(site) if isinstance(site, str) else None
    if parts is None or parts.scheme not in {"http", "https"} or not parts.hostname:
        raise CookieError("its partitionKey is no site like https://example.com")
    if not isinstance(ancestor, bool):
        # In a page of the site itself there is no other one between.
        host = str(param["domain"]).lstrip(".")
        ancestor = host != parts.hostname and not host.endswith(f".{parts.hostname}")
    top = _domain(_host_of(parts.hostname), host_only=True)
    param["partitionKey"] = {"topLevelSite": f"{parts.scheme}://{top}", "hasCrossSiteAncestor": ancestor}


def _set_source(param: dict[str, Any], fields: Mapping[str, Any]) -> None:
    if (priority := fields.get("priority")) in {"Low", "Medium", "High"}:
        param["priority"] = priority
    scheme, port = fields.get("sourcescheme"), fields.get("sourceport")
    if scheme == "NonSecure" and param.get("secure"):
        return  # set by http://localhost; as a pair the browser refuses them
    if scheme in {"Unset", "NonSecure", "Secure"}:
        param["sourceScheme"] = scheme
    if isinstance(port, int) and (port == -1 or 0 < port < 65536):
        param["sourcePort"] = port


def _check_prefix(param: Mapping[str, Any]) -> None:
    name = str(param["name"]).lower()
    prefix = next(
        (
            each
            for each in ("__Host-Http-", "__Host-", "__Http-", "__Secure-")
            if name.startswith(each.lower())
        ),
        None,
    )
    if prefix is None:
        return
    if not param.get("secure"):
        raise CookieError(f"the prefix {prefix} needs Secure")
    if "Http-" in prefix and not param.get("httpOnly"):
        raise CookieError(f"the prefix {prefix} needs HttpOnly")
    if "Host-" in prefix and str(param["domain"]).startswith("."):
        raise CookieError(f"the prefix {prefix} needs a cookie of its host alone, without Domain")
    if "Host-" in prefix and param["path"] != "/":
        raise CookieError(f"the prefix {prefix} needs the path /")
