"""Countries of proxies: how they are spelt, and which upstream each has. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from pydantic import SecretStr

from cdpbridge.api._models import PROXY_COUNTRY_CODES
from cdpbridge.api._models import country_spelling as country_code
from cdpbridge.errors import ConfigurationError
from cdpbridge.server.proxy import Upstream

__all__ = ["DIRECT", "SIMULATE", "checked_proxies", "country_code", "proxies_of"]

DIRECT: Final = "direct"
"""In the table of proxies: this country needs no upstream, connect directly."""

SIMULATE: Final = "simulate"
"""In the table of proxies: this country has no upstream; connect directly, and say so in every answer."""

# ISO 3166-1 alpha-2, with `xk` (user-assigned, in general use) and `an` (withdrawn), which the official SDK has too.
_ISO: Final = frozenset(
    [
        "ad",
        "ae",
        "af",
        "ag",
        "ai",
        "al",
        "am",
        "an",
        "ao",
        "aq",
        "ar",
        "as",
        "at",
        "au",
        "aw",
        "ax",
        "az",
        "ba",
        "bb",
        "bd",
        "be",
        "bf",
        "bg",
        "bh",
        "bi",
        "bj",
        "bl",
        "bm",
        "bn",
        "bo",
        "bq",
        "br",
        "bs",
        "bt",
        "bv",
        "bw",
        "by",
        "bz",
        "ca",
        "cc",
        "cd",
        "cf",
        "cg",
        "ch",
        "ci",
        "ck",
        "cl",
        "cm",
        "cn",
        "co",
        "cr",
        "cu",
        "cv",
        "cw",
        "cx",
        "cy",
        "cz",
        "de",
        "dj",
        "dk",
        "dm",
        "do",
        "dz",
        "ec",
        "ee",
        "eg",
        "eh",
        "er",
        "es",
        "et",
        "fi",
        "fj",
        "fk",
        "fm",
        "fo",
        "fr",
        "ga",
        "gb",
        "gd",
        "ge",
        "gf",
        "gg",
        "gh",
        "gi",
        "gl",
        "gm",
        "gn",
        "gp",
        "gq",
        "gr",
        "gs",
        "gt",
        "gu",
        "gw",
        "gy",
        "hk",
        "hm",
        "hn",
        "hr",
        "ht",
        "hu",
        "id",
        "ie",
        "il",
        "im",
        "in",
        "io",
        "iq",
        "ir",
        "is",
        "it",
        "je",
        "jm",
        "jo",
        "jp",
        "ke",
        "kg",
        "kh",
        "ki",
        "km",
        "kn",
        "kp",
        "kr",
        "kw",
        "ky",
        "kz",
        "la",
        "lb",
        "lc",
        "li",
        "lk",
        "lr",
        "ls",
        "lt",
        "lu",
        "lv",
        "ly",
        "ma",
        "mc",
        "md",
        "me",
        "mf",
        "mg",
        "mh",
        "mk",
        "ml",
        "mm",
        "mn",
        "mo",
        "mp",
        "mq",
        "mr",
        "ms",
        "mt",
        "mu",
        "mv",
        "mw",
        "mx",
        "my",
        "mz",
        "na",
        "nc",
        "ne",
        "nf",
        "ng",
        "ni",
        "nl",
        "no",
        "np",
        "nr",
        "nu",
        "nz",
        "om",
        "pa",
        "pe",
        "pf",
        "pg",
        "ph",
        "pk",
        "pl",
        "pm",
        "pn",
        "pr",
        "ps",
        "pt",
        "pw",
        "py",
        "qa",
        "re",
        "ro",
        "rs",
        "ru",
        "rw",
        "sa",
        "sb",
        "sc",
        "sd",
        "se",
        "sg",
        "sh",
        "si",
        "sj",
        "sk",
        "sl",
        "sm",
        "sn",
        "so",
        "sr",
        "ss",
        "st",
        "sv",
        "sx",
        "sy",
        "sz",
        "tc",
        "td",
        "tf",
        "tg",
        "th",
        "tj",
        "tk",
        "tl",
        "tm",
        "tn",
        "to",
        "tr",
        "tt",
        "tv",
        "tw",
        "tz",
        "ua",
        "ug",
        "um",
        "us",
        "uy",
        "uz",
        "va",
        "vc",
        "ve",
        "vg",
        "vi",
        "vn",
        "vu",
        "wf",
        "ws",
        "xk",
        "ye",
        "yt",
        "za",
        "zm",
        "zw",
    ]
)


def proxies_of(value: object) -> object:
    """Return what the setting `proxies` stands for: a table, one as JSON, or the word `simulate`.

    Raises:
        ValueError: It is some other text.
    """
    if not isinstance(value, str):
        return value
    text = value.strip()
    if text.lower() == SIMULATE:
        return dict.fromkeys(PROXY_COUNTRY_CODES, SIMULATE)
    try:
        return json.loads(text)
    except ValueError:
        # Not quoted, and not chained: it may hold credentials.
        raise ValueError(f'write a table country -> upstream, or "{SIMULATE}"') from None


def checked_proxies(table: Mapping[str, SecretStr], *, simulating: bool) -> dict[str, SecretStr]:
    """Return the table by the reference's codes.

    Args:
        table: Country to upstream, `direct` or `simulate`.
        simulating: Simulate each country of the reference that is not in the table.

    Raises:
        ValueError: A key is no country, or an upstream is none. The text quotes no credentials.
    """
    for country, upstream in table.items():
        if country_code(country) not in {*_ISO, *PROXY_COUNTRY_CODES}:
            raise ValueError(f"{country!r} is no country; write its two letters of ISO 3166-1, e.g. de")
        address = upstream.get_secret_value()
        if address not in {DIRECT, SIMULATE}:
            try:
                Upstream.parse(address)
            except ConfigurationError as error:
                raise ValueError(f"{country}: {error}") from error
    simulated = PROXY_COUNTRY_CODES if simulating else ()
    return {
        **{country: SecretStr(SIMULATE) for country in simulated},
        **{country_code(country): upstream for country, upstream in table.items()},
    }
