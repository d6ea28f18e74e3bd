"""Which uids browsers of this process may have: those of its user namespace without an owner."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cdpbridge.errors import ConfigurationError

__all__ = [
    "check_capabilities",
    "check_mapped",
    "default_uids",
    "delegated_uids",
    "parse_uid_range",
    "range_text",
    "uses_browser_uids",
]

_PROC: Final = Path("/proc")
# The first lies where systemd's table of uid ranges (UIDS-GIDS.md) has none but containers, which are looked for in
# /etc/subuid; the second is unused there and fits into the 65,536 ids of a rootless container.
_DEFAULT_RANGES: Final = ("700000-700999", "60600-61099")
# the one above means "none"
_LAST_ID: Final = 2**32 - 2
_CAPABILITIES: Final = {
    "CAP_CHOWN": 0,
    "CAP_DAC_OVERRIDE": 1,
    "CAP_KILL": 5,
    "CAP_SETGID": 6,
    "CAP_SETUID": 7,
}


def uses_browser_uids() -> bool:
    """Return True if browsers of this process get uids of their own: it runs as uid 0, on Linux."""
    return sys.platform == "linux" and os.geteuid() == 0


def parse_uid_range(text: str) -> range:
    """Read the uids of `"first-last"`.

    Raises:
        ValueError: It is no range of ordinary uids.
    """
    first, dash, last = text.partition("-")
    if not (dash and first.strip().isdecimal() and last.strip().isdecimal()):
        raise ValueError(f"{text!r} is no range of uids; write first-last, e.g. {_DEFAULT_RANGES[0]}")
    uids = range(int(first), int(last) + 1)
    if not uids or uids.start < 1 or uids[-1] > _LAST_ID:
        raise ValueError(f"{text!r}: write the lower uid first, above 0 and up to {_LAST_ID}")
    return uids


def check_capabilities() -> None:
    with (_PROC / "self" / "status").open() as lines:
        effective = next(int(line.split()[1], 16) for line in lines if line.startswith("CapEff:"))
    missing = [name for name, bit in _CAPABILITIES.items() if not effective >> bit & 1]
    if missing:
        raise ConfigurationError(
            f"Chromium never runs as root, and this root process may not start it as another user: {', '.join(missing)} "
            "missing; grant them to the container, or run as an ordinary user"
        )


def default_uids() -> range:
    delegated = delegated_uids()
    for text in _DEFAULT_RANGES:
        uids = parse_uid_range(text)
        if _is_mapped(uids) and not any(uids.start in each or uids[-1] in each for each in delegated):
            return uids
    raise ConfigurationError(
        f"browsers of a root process get uids of their own, and none of {' and '.join(_DEFAULT_RANGES)} is free here: "
        f"{_mapped_text()}; set browser_uids to a range in there that is not used"
    )


def _maps() -> list[list[range]]:
    """Return the ids that exist in our user namespace: of users, of groups."""
    found = []
    for name in ("uid_map", "gid_map"):
        lines = (_PROC / "self" / name).read_text().splitlines()
        extents = sorted((int(line.split()[0]), int(line.split()[2])) for line in lines)
        merged: list[range] = []
        for start, count in extents:
            if merged and merged[-1].stop == start:
                merged[-1] = range(merged[-1].start, start + count)
            else:
                merged.append(range(start, start + count))
        found.append(merged)
    return found


def check_mapped(uids: range) -> None:
    """Raise ConfigurationError unless all of `uids`, and groups of the same numbers, exist in our user namespace."""
    if not _is_mapped(uids):
        raise ConfigurationError(
            f"browser_uids {range_text(uids)} do not exist in this user namespace, {_mapped_text()}; choose a range in there"
        )


def _is_mapped(uids: range) -> bool:
    return all(any(uids.start in each and uids[-1] in each for each in extents) for extents in _maps())


def _mapped_text() -> str:
    return "where uids are " + ", ".join(map(range_text, _maps()[0]))


def range_text(uids: range) -> str:
    return f"{uids.start}-{uids[-1]}"


def delegated_uids() -> list[range]:
    """Return the uids that belong to accounts of this machine, or to their containers."""
    return [
        *_accounts("/etc/passwd"),
        *_accounts("/etc/group"),
        *_subids("/etc/subuid"),
        *_subids("/etc/subgid"),
    ]


def _accounts(path: str) -> Iterator[range]:
    for fields in _fields(path):
        match fields:
            case [_, _, number, *_] if number.isdecimal():
                yield range(int(number), int(number) + 1)


def _subids(path: str) -> Iterator[range]:
    for fields in _fields(path):
        match fields:
            case [_, start, count] if start.isdecimal() and count.isdecimal():
                yield range(int(start), int(start) + int(count))


def _fields(path: str) -> list[list[str]]:
    try:
        return [line.split(":") for line in Path(path).read_text(errors="replace").splitlines()]
    except OSError:
        return []
