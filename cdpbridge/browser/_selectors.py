"""What a selector may be, and what is said of one that is none. The page itself reads them: `_find.js`."""

from __future__ import annotations

import re
from typing import Final

from cdpbridge.errors import ConfigurationError

__all__ = ["check_selector", "selector_hint"]

_FORMS: Final = "a selector is CSS like 'button.save', or 'text=Save'"
_PLAYWRIGHT: Final = "are Playwright's: see cdpbridge.playwright"
_EMPTY_TEXT: Final = re.compile(r"""text=\s*(["']?)\s*\1\s*""")
_XPATH: Final = re.compile(r"\s*\(*\s*(\.{0,2}/|\.\.$|xpath=)")
_ENGINE: Final = re.compile(r"\s*([a-zA-Z][\w:-]*)=(.*)", re.DOTALL)
_ATTRIBUTES: Final = frozenset({"data-testid", "data-test-id", "data-test"})
_PSEUDO_CLASS: Final = re.compile(
    r":(?:has-text|text|text-is|text-matches|visible|nth-match|light|"
    r"left-of|right-of|above|below|near|contains|eq|first|last)(?![\w-])"
)
"""Of Playwright and jQuery, and not of CSS."""


def check_selector(selector: object) -> None:
    """Check a selector, as far as that is possible without the page.

    Raises:
        ConfigurationError: It is no text, or empty, or looks for an empty text.
    """
    if not isinstance(selector, str) or not selector.strip():
        raise ConfigurationError(
            f"selector must be a text like 'button.save' or 'text=Save', not {selector!r}"
        )
    if _EMPTY_TEXT.fullmatch(selector):
        raise ConfigurationError(
            f"the selector {selector!r} looks for an empty text, which every element has: write what the element shows, e.g. 'text=Save'"
        )


def selector_hint(selector: str) -> str:
    """Return what to write in place of a selector that the page cannot read."""
    if _XPATH.match(selector):
        return f"XPath and chains {_PLAYWRIGHT}; {_FORMS}"
    if ">>" in selector:
        return f"chains with '>>' {_PLAYWRIGHT}; {_FORMS}"
    engine = _ENGINE.match(selector)
    if engine is not None and engine[1] not in {"css", "text"}:
        name, value = engine[1], engine[2].strip()
        if name == "id":
            return f"write '#{value}'; {_FORMS}"
        if name in _ATTRIBUTES:
            return f"write '[{name}=\"{value}\"]'; {_FORMS}"
        if name.lower() in {"css", "text"}:
            return f"write '{name.lower()}=' in small letters; {_FORMS}"
        return f"selectors with '{name}=' {_PLAYWRIGHT}; {_FORMS}"
    if (pseudo := _PSEUDO_CLASS.search(selector)) is not None:
        return f"{pseudo[0]!r} is no CSS; such pseudo-classes {_PLAYWRIGHT}; {_FORMS}"
    return _FORMS
