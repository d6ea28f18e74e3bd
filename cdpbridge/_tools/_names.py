"""Names and prose of generated code: wire names to Python names, descriptions to docstrings. Pure."""

from __future__ import annotations

import keyword
import re
import textwrap
from typing import Final

__all__ = ["constant_name", "docstring", "python_name", "snake_case"]

_WIDTH: Final = 104  # of 110, less the indentation of a method's text

# Acronyms that plain splitting tears apart: `setBlockedURLs` is set_blocked_urls, `IFrame` is iframe.
_WHOLE_WORDS: Final = (("URLs", "Urls"), ("IDs", "Ids"), ("IFrame", "Iframe"), ("IPv", "Ipv"), ("2XX", "2xx"))

# Builtins that annotations in generated code use: a field or function of that name would hide them.
_USED_BUILTINS: Final = frozenset({"bool", "bytes", "dict", "float", "int", "list", "str"})


def snake_case(name: str) -> str:
    """`getDOMStorageItems` as `get_dom_storage_items`, `base64Encoded` as `base64_encoded`."""
    for word, plain in _WHOLE_WORDS:
        name = name.replace(word, plain)
    name = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", name)
    name = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name)
    return re.sub(r"[^a-z0-9]+", "_", name.lower())


def python_name(name: str) -> str:
    """A field, parameter or function name; one that Python claims gets a trailing underscore."""
    python = snake_case(name)
    return f"{python}_" if keyword.iskeyword(python) or python in _USED_BUILTINS else python


def constant_name(value: str) -> str:
    """An enumeration's value as the name of its constant: `no-referrer` as `NO_REFERRER`."""
    name = snake_case(value).strip("_").upper()
    if not name:
        return "EMPTY"
    return f"_{name}" if name[0].isdigit() else name


def docstring(
    text: str, marks: list[str], section: str = "", entries: list[tuple[str, str]] | None = None
) -> str:
    """A Google-style docstring: the description, a line for each mark, a section of described names."""
    blocks = ["\n".join(line for paragraph in _paragraphs(text) for line in _filled(paragraph)), *marks]
    if entries:
        lines = [f"{section}:"]
        for name, about in entries:
            first, *rest = _paragraphs(about)
            lines += _filled(f"{name}: {first}", "    ", "        ")
            lines += [line for paragraph in rest for line in _filled(paragraph, "        ", "        ")]
        blocks.append("\n".join(lines))
    whole = "\n\n".join(blocks).replace("\\", "\\\\").replace('"""', "'''")
    if "\n" in whole:
        return f'"""{whole}\n"""'
    return f'"""{whole} """' if whole.endswith('"') else f'"""{whole}"""'


def _paragraphs(text: str) -> list[str]:
    """Hard-wrapped prose becomes one line a paragraph; items of lists and blank lines stay."""
    paragraphs: list[str] = []
    for raw in text.strip().split("\n"):
        line = raw.strip()
        if not paragraphs or not line or not paragraphs[-1] or re.match(r"[-*#]|\d+[.)] ", line):
            paragraphs.append(line)
        else:
            paragraphs[-1] += f" {line}"
    return paragraphs


def _filled(paragraph: str, first: str = "", rest: str = "") -> list[str]:
    return textwrap.wrap(
        paragraph,
        _WIDTH,
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    ) or [""]
