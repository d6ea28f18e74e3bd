"""What a request may ask for in `meta["cdpbridge"]`: checked words, no browser yet."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, Literal

from cdpbridge.browser._request_rules import RESOURCE_TYPES
from cdpbridge.browser._screenshot import image_format
from cdpbridge.errors import ConfigurationError

__all__ = ["WAIT_UNTIL", "PageOptions", "Screenshot", "options_of", "unknown"]

WaitUntil = Literal["domcontentloaded", "load", "networkidle"]

WAIT_UNTIL: Final = ("domcontentloaded", "load", "networkidle")


@dataclass(frozen=True, slots=True)
class Screenshot:
    """How a picture is taken.

    Attributes:
        path: Where it is written; without one its bytes are in the result.
        full_page: The whole document instead of the visible part.
        format: `png`, `jpeg` or `webp`; default: what the suffix of `path` says.
        quality: 0 to 100, for jpeg and webp.
    """

    path: Path | None = None
    full_page: bool = False
    format: Literal["png", "jpeg", "webp"] = "png"
    quality: int | None = None


@dataclass(frozen=True, slots=True)
class PageOptions:
    """What a rendered request asks for: the keys of `meta["cdpbridge"]`.

    Attributes:
        wait_until: `domcontentloaded`, `load`, or `networkidle` (no request for half a second).
        wait_for_selector: Then wait until a CSS selector finds something.
        wait_for_expression: Then wait until a JavaScript expression is true.
        script: Then evaluate this JavaScript expression; a promise is awaited. Its value is `meta["cdpbridge_result"]["script"]`.
        screenshot: Then take a picture: True for its bytes, a path to write it to, or a dict of `Screenshot`'s attributes. The
            bytes or the path are `meta["cdpbridge_result"]["screenshot"]`.
        block_types: Kinds of resources the page and its frames do not get, e.g. `["image", "font"]`.
        block_urls: Addresses they do not get, with `*` for anything, e.g. `["*://ads.example.com/*"]`.
        isolated: A browser context for this request alone, with its own cache and storage.
    """

    wait_until: WaitUntil = "load"
    wait_for_selector: str | None = None
    wait_for_expression: str | None = None
    script: str | None = None
    screenshot: Screenshot | None = None
    block_types: frozenset[str] = frozenset()
    block_urls: tuple[str, ...] = ()
    isolated: bool = False


def options_of(value: Any, defaults: PageOptions) -> PageOptions | None:
    """Return the options of a request, None when it is not to be rendered.

    Args:
        value: `meta["cdpbridge"]`: a dict, True, or something false.
        defaults: Of the crawl, for what the dict leaves out.

    Raises:
        ConfigurationError: A key or value means nothing.
    """
    if value is None or value is False:
        return None
    if value is True:
        return defaults
    if not isinstance(value, Mapping):
        raise ConfigurationError(
            f'meta["cdpbridge"] must be True or a dict of options, not {type(value).__name__}'
        )
    known = [field.name for field in fields(PageOptions)]
    for name in value:
        if name not in known:
            raise ConfigurationError(f'meta["cdpbridge"]: {unknown(name, known)}')
    return replace(
        defaults,
        **{name: _CHECKS[name](f'meta["cdpbridge"]["{name}"]', given) for name, given in value.items()},
    )


def unknown(name: object, known: Collection[str]) -> str:
    """Return a text: `name` is none of `known`, and which one may have been meant."""
    near = get_close_matches(str(name), known, n=1)
    return f"there is no {name!r}; " + (
        f"do you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(known))}"
    )


def one_of(where: str, given: Any, words: Collection[str]) -> Any:
    """Check that `given` is one of `words`; return it."""
    if given not in words:
        raise ConfigurationError(f"{where} must be one of {', '.join(words)}, not {given!r}")
    return given


def wait_until(where: str, given: Any) -> Any:
    """Check `wait_until`; return it."""
    return one_of(where, given, WAIT_UNTIL)


def block_types(where: str, given: Any) -> frozenset[str]:
    """Check Chrome's names of resource types; return them."""
    return frozenset(RESOURCE_TYPES[one_of(where, each, RESOURCE_TYPES)] for each in words(where, given))


def words(where: str, given: Any) -> tuple[str, ...]:
    """Return several words, from a list or from a comma-separated text as `scrapy -s NAME=a,b` gives it."""
    if isinstance(given, str):
        given = [each.strip() for each in given.split(",") if each.strip()]
    if not isinstance(given, Collection) or not all(isinstance(each, str) and each for each in given):
        raise ConfigurationError(f"{where} must be a list of words, not {given!r}")
    return tuple(given)


def _text(where: str, given: Any) -> str | None:
    if given is not None and (not isinstance(given, str) or not given.strip()):
        raise ConfigurationError(f"{where} must be a text, not {given!r}")
    return given


def _flag(where: str, given: Any) -> bool:
    if not isinstance(given, bool):
        raise ConfigurationError(f"{where} must be True or False, not {given!r}")
    return given


def _screenshot(where: str, given: Any) -> Screenshot | None:
    if given is None or given is False:
        return None
    if given is True:
        return Screenshot()
    if isinstance(given, (str, Path)) and str(given):
        given = {"path": given}
    if not isinstance(given, Mapping):
        raise ConfigurationError(f"{where} must be True, a path, or a dict, not {given!r}")
    known = [field.name for field in fields(Screenshot)]
    for name in given:
        if name not in known:
            raise ConfigurationError(f"{where}: {unknown(name, known)}")
    path = given.get("path")
    quality = given.get("quality")
    if (kind := given.get("format")) is not None:
        kind = one_of(f'{where}["format"]', kind, ("png", "jpeg", "webp"))
    kind = image_format(path, kind)
    if quality is not None and (kind == "png" or not isinstance(quality, int) or not 0 <= quality <= 100):
        raise ConfigurationError(f'{where}["quality"] must be 0 to 100, with jpeg or webp, not {quality!r}')
    full = _flag(f'{where}["full_page"]', given.get("full_page", False))
    return Screenshot(None if path is None else Path(path), full, kind, quality)


_CHECKS: Final = {
    "wait_until": wait_until,
    "wait_for_selector": _text,
    "wait_for_expression": _text,
    "script": _text,
    "screenshot": _screenshot,
    "block_types": block_types,
    "block_urls": words,
    "isolated": _flag,
}
