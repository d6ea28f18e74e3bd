"""The settings of a crawl: `CDPBRIDGE_*` in Scrapy's settings, read once and checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from cdpbridge.api import AsyncClient, Profile, server_default
from cdpbridge.errors import ConfigurationError
from cdpbridge.integrations.scrapy._options import PageOptions, block_types, unknown, wait_until, words
from cdpbridge.rental import RentalOptions

if TYPE_CHECKING:
    from scrapy.settings import BaseSettings

__all__ = ["CrawlSettings", "settings_table"]

_PREFIX: Final = "CDPBRIDGE_"


@dataclass(frozen=True, slots=True)
class CrawlSettings:
    """The settings of one crawl, checked.

    Attributes:
        rental: What to rent.
        page: Options of requests that leave them out.
    """

    provider: AsyncClient | str | None
    browsers: int
    tabs_per_browser: int
    pages_per_tab: int
    rental: RentalOptions
    tab_timeout: timedelta | None
    render_all: bool
    ignore_certificate_errors: bool
    page: PageOptions

    @classmethod
    def of(cls, settings: BaseSettings) -> CrawlSettings:
        """Read the settings from Scrapy's.

        Raises:
            ConfigurationError: One is unknown or out of range; it says which and what is allowed.
        """
        for name in settings:
            if str(name).startswith(_PREFIX) and name not in _TABLE:
                raise ConfigurationError(f"settings: {unknown(name, _TABLE)}")
        read = {
            name.removeprefix(_PREFIX).lower(): row.read(name, settings.get(name))
            if settings.get(name) is not None
            else row.absent
            for name, row in _TABLE.items()
        }
        page = PageOptions(
            wait_until=read.pop("wait_until"),
            block_types=read.pop("block_types"),
            block_urls=read.pop("block_urls"),
        )
        rental: RentalOptions = {
            "profile": read.pop("profile"),
            "proxy_country": read.pop("proxy_country"),
            "timeout": read.pop("browser_minutes"),
        }
        return cls(rental=rental, page=page, **read)


@dataclass(frozen=True, slots=True)
class _Row:
    read: Callable[[str, Any], Any]
    absent: Any
    default: str
    meaning: str


def settings_table() -> str:
    """Return the settings as a Markdown table, for README."""
    lines = ["| setting | default | meaning |", "|---|---|---|"]
    lines += [f"| `{name}` | {row.default} | {row.meaning} |" for name, row in _TABLE.items()]
    return "\n".join(lines)


def _provider(where: str, given: Any) -> AsyncClient | str:
    if isinstance(given, AsyncClient) or (isinstance(given, str) and given):
        return given
    raise ConfigurationError(f"{where} must be `cloud`, `local`, a base URL or a client, not {given!r}")


def _count(where: str, given: Any) -> int:
    try:
        number = int(given)
    except (TypeError, ValueError):
        number = 0
    if number < 1 or isinstance(given, (bool, float)):
        raise ConfigurationError(f"{where} must be a whole number, at least 1, not {given!r}")
    return number


def _minutes(where: str, given: Any) -> timedelta:
    return timedelta(minutes=_count(where, given))


def _seconds(where: str, given: Any) -> timedelta:
    try:
        seconds = float(given)
    except (TypeError, ValueError):
        seconds = 0
    if not 0 < seconds < float("inf"):
        raise ConfigurationError(f"{where} must be a number of seconds above 0, not {given!r}")
    return timedelta(seconds=seconds)


def _profile(where: str, given: Any) -> str | Profile:
    if isinstance(given, Profile) or (isinstance(given, str) and given):
        return given
    raise ConfigurationError(f"{where} must be a profile's name or id, not {given!r}")


def _country(where: str, given: Any) -> str | None:
    if not isinstance(given, str) or not (given == "none" or (len(given) == 2 and given.isalpha())):
        raise ConfigurationError(f"{where} must be a country code such as `de`, or `none`, not {given!r}")
    return None if given == "none" else given.lower()


def _switch(where: str, given: Any) -> bool:
    known = {"true": True, "1": True, "false": False, "0": False}
    word = str(given).lower()
    if word not in known:
        raise ConfigurationError(f"{where} must be True or False, not {given!r}")
    return known[word]


_TABLE: Final = {
    "CDPBRIDGE_PROVIDER": _Row(
        _provider,
        None,
        "the environment's",
        "Where browsers are rented: `cloud`, `local`, a base URL, or a client such as `cdpbridge.at(url, key)`.",
    ),
    "CDPBRIDGE_BROWSERS": _Row(
        _count,
        1,
        "`1`",
        "Browsers at once, at most. `http` and `https` share them; they are rented when requests wait.",
    ),
    "CDPBRIDGE_TABS_PER_BROWSER": _Row(
        _count,
        8,
        "`8`",
        "Pages rendered at once in one browser. Scrapy's `CONCURRENT_REQUESTS` bounds the pages of all.",
    ),
    "CDPBRIDGE_PAGES_PER_TAB": _Row(
        _count, 100, "`100`", "Pages rendered one after the other in a tab before it is replaced."
    ),
    "CDPBRIDGE_PROFILE": _Row(
        _profile, None, "none", "Profile the browsers start from; its cookies are used."
    ),
    "CDPBRIDGE_PROXY_COUNTRY": _Row(
        _country,
        server_default,
        "the server's",
        "Country the traffic goes through, e.g. `de`; `none` for no proxy.",
    ),
    "CDPBRIDGE_BROWSER_MINUTES": _Row(
        _minutes, None, "the server's", "Paid time of a browser; it is replaced before its end."
    ),
    "CDPBRIDGE_TAB_TIMEOUT": _Row(
        _seconds, None, "none", "Seconds a request waits for a tab, beyond which it fails and may be retried."
    ),
    "CDPBRIDGE_RENDER_ALL": _Row(
        _switch,
        False,
        "`False`",
        'Render requests without `meta["cdpbridge"]` too; `False` there excepts one.',
    ),
    "CDPBRIDGE_IGNORE_CERTIFICATE_ERRORS": _Row(
        _switch,
        False,
        "`False`",
        "Render `https` pages whose certificate the browser does not trust; else they fail, and are not repeated.",
    ),
    "CDPBRIDGE_WAIT_UNTIL": _Row(
        wait_until, "load", "`load`", "Default of `wait_until`: `domcontentloaded`, `load` or `networkidle`."
    ),
    "CDPBRIDGE_BLOCK_TYPES": _Row(
        block_types, frozenset(), "none", "Default of `block_types`, e.g. `image,font,media`."
    ),
    "CDPBRIDGE_BLOCK_URLS": _Row(words, (), "none", "Default of `block_urls`, e.g. `*://ads.example.com/*`."),
}
