"""The second layer: what may be executed and where may be written, by rules that the browser can never take off.

Mounts already say what there is. Landlock (Linux 5.13) adds that nothing but Chromium is executed, and that nothing inside
changes the mounts, in whatever namespace a process of the browser makes itself.
"""

from __future__ import annotations

import os
import struct
from typing import Final

from ._kernel import landlock_add_path, landlock_create, landlock_restrict, landlock_version
from ._plan import Plan

__all__ = ["attributes", "restrict", "rules"]

# linux/landlock.h
_EXECUTE: Final = 1 << 0
_WRITE_FILE: Final = 1 << 1
_READ_FILE: Final = 1 << 2
_READ_DIR: Final = 1 << 3
_MAKE_CHAR: Final = 1 << 6
_MAKE_BLOCK: Final = 1 << 11
_REFER: Final = 1 << 13  # version 2
_TRUNCATE: Final = 1 << 14  # version 3
_OF_VERSION_1: Final = (1 << 13) - 1
_SCOPE_ABSTRACT_SOCKETS, _SCOPE_SIGNALS = 1, 2  # version 6


def _known(version: int) -> int:
    return _OF_VERSION_1 | (_REFER if version >= 2 else 0) | (_TRUNCATE if version >= 3 else 0)


def attributes(version: int) -> bytes:
    """Return the attributes of a set of rules that decides about everything this version knows. Pure."""
    if version < 4:
        return struct.pack("=Q", _known(version))
    if version < 6:
        return struct.pack("=QQ", _known(version), 0)
    return struct.pack("=QQQ", _known(version), 0, _SCOPE_ABSTRACT_SOCKETS | _SCOPE_SIGNALS)


def rules(plan: Plan, version: int) -> list[tuple[str, int]]:
    """Return which rights are allowed below which path. Pure."""
    known = _known(version)
    change = known & ~(_EXECUTE | _MAKE_CHAR | _MAKE_BLOCK)
    # Chromium's own sandbox writes its maps of ids there.
    places = [("/proc", _READ_FILE | _READ_DIR | _WRITE_FILE | _TRUNCATE), ("/dev", _READ_FILE | _WRITE_FILE)]
    found = [("/", _READ_FILE | _READ_DIR), *((path, rights & known) for path, rights in places)]
    found += [(path, change) for path in plan.writable if path != "/proc"]
    return [*found, *((path, _EXECUTE | _READ_FILE) for path in plan.executables)]


def restrict(plan: Plan) -> None:
    """Apply the rules to this process, inside its place."""
    version = landlock_version()
    ruleset = landlock_create(attributes(version))
    for path, rights in rules(plan, version):
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            landlock_add_path(ruleset, rights, descriptor)
        finally:
            os.close(descriptor)
    landlock_restrict(ruleset)
    os.close(ruleset)
