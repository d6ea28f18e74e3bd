"""`Cutter`: secrets cut out of texts, JSON values and files. Loaded by the agent's own process too: only the standard library."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, quote_plus

__all__ = ["Cutter", "shortened", "written_files"]

_CUT_FILE_BYTES: Final = 50 * 1024 * 1024
_MAX_FILES: Final = 1000
# Characters from which on a secret is cut within words, too.
_SHORT: Final = 4
# Characters from which on a secret is no name of a field, and no chance in a binary file.
_NO_WORD: Final = 8

# Not within a word; what is before it may be the end of an escape: %3D, \\n, \\u0020.
_ALONE_BEFORE: Final = r"(?:(?<![^\W_])|(?<=%[0-9A-Fa-f]{2})|(?<=\\[bfnrt])|(?<=\\u[0-9A-Fa-f]{4}))"
_ALONE_AFTER: Final = r"(?![^\W_])"
_NAME: Final = re.compile(r"[A-Za-z_]+")


class Cutter:
    """Replaces secrets, in every spelling they take in texts and addresses, by their names.

    Longest first, so that a secret within another leaves no rest of it. A short one is replaced only where it stands alone:
    anywhere else it is a part of a word, and an answer without its letters could not be read. What it has put in is left as it
    is when the text comes by a second time.
    """

    def __init__(self, names: Mapping[str, str]) -> None:
        spelled: dict[str, str] = {}
        for value, name in names.items():
            # Without a letter or a digit in it, a short one is punctuation.
            for spelling in _spellings(value) if len(value) >= _SHORT or any(map(str.isalnum, value)) else ():
                spelled.setdefault(spelling, f"<secret>{name}</secret>")
        self._spelled = {put_in: put_in for put_in in spelled.values()} | spelled
        self._numbers = {
            value: f"<secret>{name}</secret>" for value, name in names.items() if len(value) >= _SHORT
        }
        self._pattern = re.compile(_alternatives(self._spelled, {*spelled.values()}) or r"(?!)")
        self._bytes = {text.encode(errors="replace"): self._spelled[text].encode() for text in self._spelled}
        kept = [spelling for spelling in self._bytes if len(spelling) >= _NO_WORD]
        self._bytes_pattern = re.compile(
            b"|".join(map(re.escape, sorted(kept, key=len, reverse=True))) or rb"(?!)"
        )

    def text(self, text: str) -> str:
        return self._pattern.sub(lambda found: self._spelled[found[0]], text)

    def value(self, value: Any) -> Any:
        """Cut a JSON value in its strings, and in numbers that are a secret.

        Keys are names, and stay; except one that holds a secret which is no name: long, and not of letters alone.
        """
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self._key(str(key)): self.value(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(inner) for inner in value]
        if isinstance(value, int | float) and not isinstance(value, bool):
            return self._numbers.get(str(value), value)
        return value

    def _key(self, key: str) -> str:
        def cut(found: re.Match[str]) -> str:
            is_name = len(found[0]) < _NO_WORD or _NAME.fullmatch(found[0])
            return found[0] if is_name else self._spelled[found[0]]

        return self._pattern.sub(cut, key)

    def document(self, text: str) -> str:
        """Cut a text that may be JSON: then it stays JSON, with the same names in it."""
        try:
            parsed = json.loads(text) if text.lstrip()[:1] in {"{", "["} else None
        except (ValueError, RecursionError):
            parsed = None
        if parsed is None:
            return self.text(text)
        cut = self.value(parsed)
        if cut == parsed:
            return text
        return json.dumps(cut, ensure_ascii=False, indent=2 if "\n" in text.strip() else None)

    def file(self, path: Path) -> bool:
        """Cut a file in place. Whether there was anything to cut.

        In what is no text, short secrets are chance: replacing them would break the file.
        """
        content = path.read_bytes()
        try:
            text = content.decode() if b"\0" not in content else None
        except UnicodeDecodeError:
            text = None
        if text is not None:
            cut = (self.document(text) if path.suffix.lower() == ".json" else self.text(text)).encode()
        else:
            cut = self._bytes_pattern.sub(lambda found: self._bytes[found[0]], content)
        if cut == content:
            return False
        temporary = path.with_name(f".{path.name}.cut")
        temporary.write_bytes(cut)
        temporary.replace(path)
        return True


def _alternatives(spellings: Iterable[str], first: set[str]) -> str:
    """Return what a cutter looks for, as a regular expression: what it has put in itself, then the longest first."""
    ordered = sorted(spellings, key=lambda spelling: (spelling not in first, -len(spelling)))
    long = [re.escape(spelling) for spelling in ordered if len(spelling) >= _SHORT]
    short = [re.escape(spelling) for spelling in ordered if len(spelling) < _SHORT]
    if short:
        long.append(f"{_ALONE_BEFORE}(?:{'|'.join(short)}){_ALONE_AFTER}")
    return "|".join(long)


def written_files(folder: Path, cutter: Cutter, names: Iterable[str] = ("output", "downloads")) -> list[Path]:
    """Return what an agent has written into its task's folder, cut."""
    found = [
        path
        for name in names
        for path in sorted((folder / name).rglob("*"))
        if path.is_file()
        and not path.is_symlink()
        and not path.name.startswith(".")
        # browser-use's own list of what is left to do
        and not (path.name == "todo.md" and path.stat().st_size == 0)
    ][:_MAX_FILES]
    for path in found:
        if path.stat().st_size <= _CUT_FILE_BYTES:
            cutter.file(path)
    return found


def _spellings(value: str) -> Iterable[str]:
    lines = [line for line in value.splitlines() if len(line) >= 8] if "\n" in value else []
    for text in (value, value.strip(), *lines):
        if text:
            yield from (
                text,
                quote(text, safe=""),
                quote(text),
                quote_plus(text),
                html.escape(text),
                json.dumps(text)[1:-1],
                json.dumps(text, ensure_ascii=False)[1:-1],
                repr(text)[1:-1],
            )
        if len(text) >= 6:  # shorter ones would be found everywhere
            yield base64.b64encode(text.encode(errors="replace")).decode().rstrip("=")


def shortened(value: Any, characters: int) -> Any:
    """Return a JSON value whose strings are not longer than this."""
    if isinstance(value, str):
        left_out = len(value) - characters
        return value if left_out <= 0 else f"{value[:characters]}... ({left_out} more characters)"
    if isinstance(value, dict):
        return {key: shortened(inner, characters) for key, inner in value.items()}
    if isinstance(value, list):
        return [shortened(inner, characters) for inner in value]
    return value
