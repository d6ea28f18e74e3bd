"""Lists of hosts that no browser needs: advertisements and trackers. Pure, but for reading the files.

Three formats, as the usual publishers write them, line by line, also mixed in one file:

* hosts(5): `0.0.0.0 ads.example.com` or `127.0.0.1 ...`, several names in a line: exactly these names;
* one name in a line, `*.example.com` for all names below it;
* the domain rules of ad blockers: `||example.com^` with all names below it, and `@@||example.com^` for an exception.

A rule for parts of a page, for paths, or for some kinds of requests needs more than a host's name, so it is left out.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cdpbridge.errors import ConfigurationError

__all__ = ["BlockList"]

_NAME: Final = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)+[a-z0-9-]{2,63}")
_RULE: Final = re.compile(r"(?P<except>@@)?\|\|(?P<host>[^/^$*|]+)\^?(?:\$(?P<options>.*))?")
_COMMENT: Final = re.compile(r"\s#")
# Options that do not narrow a rule for us: a proxy does not see them, and all requests of a domain are meant.
_HARMLESS_OPTIONS: Final = {"all", "important"}


@dataclass(frozen=True, slots=True)
class BlockList:
    """Hosts that are not reached.

    Attributes:
        exact: Names.
        below: Names, with every name below them.
        exceptions: Names that are reached all the same, with every name below them.
        unused: How many lines say nothing about a whole host.
    """

    exact: frozenset[str] = frozenset()
    below: frozenset[str] = frozenset()
    exceptions: frozenset[str] = frozenset()
    unused: int = 0

    def __bool__(self) -> bool:
        return bool(self.exact or self.below)

    def __len__(self) -> int:
        return len(self.exact) + len(self.below)

    def blocks(self, host: str) -> bool:
        """Return True if a host is listed; case and a dot at the end make no difference."""
        name = host.lower().rstrip(".")
        listed = name in self.exact or _is_below(name, self.below)
        return listed and not (self.exceptions and _is_below(name, self.exceptions))

    @classmethod
    def read(cls, files: Sequence[Path]) -> BlockList:
        """Read the files together.

        Raises:
            ConfigurationError: One cannot be read, or names no host at all.
        """
        lists = []
        for file in files:
            try:
                found = cls.parse(file.read_text(encoding="utf-8", errors="replace").splitlines())
            except OSError as error:
                raise ConfigurationError(f"block_lists: {file} cannot be read: {error.strerror}") from error
            if not found:
                raise ConfigurationError(
                    f"block_lists: {file} names no host; a line is `0.0.0.0 ads.example.com`, `ads.example.com` or "
                    "`||ads.example.com^`"
                )
            lists.append(found)
        return cls(
            frozenset().union(*(each.exact for each in lists)),
            frozenset().union(*(each.below for each in lists)),
            frozenset().union(*(each.exceptions for each in lists)),
            sum(each.unused for each in lists),
        )

    @classmethod
    def parse(cls, lines: Iterable[str]) -> BlockList:
        """Read the lines of a list."""
        kinds: dict[str, set[str]] = {"exact": set(), "below": set(), "exceptions": set()}
        unused = 0
        for line in lines:
            text = line.lstrip("\ufeff").strip()
            if not text or text.startswith(("#", "!", "[")):
                continue
            kind, names = _read(text)
            good = [name for name in map(_canonical, names) if name is not None]
            kinds[kind].update(good)
            unused += not good
        return cls(
            frozenset(kinds["exact"]), frozenset(kinds["below"]), frozenset(kinds["exceptions"]), unused
        )


def _read(text: str) -> tuple[str, Sequence[str]]:
    """Return the kind of a line, and the names it is about."""
    rule = _RULE.fullmatch(text)
    if rule is not None:
        options = {option for option in (rule["options"] or "").split(",") if option}
        names = [rule["host"]] if options <= _HARMLESS_OPTIONS else []
        return "exceptions" if rule["except"] else "below", names
    first, *rest = _COMMENT.split(text)[0].split()
    if _is_address(first):
        return "exact", rest
    if rest:
        return "exact", []
    return ("below", [first[2:]]) if first.startswith("*.") else ("exact", [first])


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return True


def _canonical(name: str) -> str | None:
    """Return one spelling of a name; None for what is none, such as the `localhost` of a hosts file."""
    spelled = name.strip().lower().rstrip(".")
    if not spelled.isascii():
        try:
            spelled = spelled.encode("idna").decode()
        except UnicodeError:
            return None
    if spelled == "localhost.localdomain" or _is_address(spelled):
        return None
    return spelled if _NAME.fullmatch(spelled) else None


def _is_below(name: str, names: frozenset[str]) -> bool:
    while name not in names:
        _, dot, name = name.partition(".")
        if not dot:
            return False
    return True
