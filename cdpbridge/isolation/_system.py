"""Which parts of a Linux system Chromium needs. Pure tables.

Found by running both builds in an empty folder and adding what they asked for (strace of `openat`, Chromium 156), and from
the places where distributions keep the same things.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

__all__ = ["DATA", "DEVICES", "LIBRARIES", "LOADERS", "PROGRAM_FOLDERS"]

_TRIPLETS: Final = {"x86_64": "x86_64-linux-gnu", "aarch64": "aarch64-linux-gnu"}


def LIBRARIES(machine: str, exists: Callable[[str], bool]) -> list[str]:  # noqa: N802  # a table with one condition
    """Return the folders of shared libraries: of a system with several architectures (Debian) its own only."""
    triplet = _TRIPLETS.get(machine, machine)
    own = [f"{folder}/{triplet}" for folder in ("/usr/lib", "/lib", "/usr/local/lib")]
    if any(map(exists, own)):
        return own
    return ["/usr/lib64", "/lib64", "/usr/lib", "/lib"]


LOADERS: Final = ("/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1")
"""The dynamic loader, where every binary names it: the kernel executes it too."""

PROGRAM_FOLDERS: Final = frozenset(
    {"/", "/bin", "/sbin", "/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"}
)
"""Folders that are not shown for one binary in them."""

DATA: Final = (
    # Fonts and their configuration; screenshots follow from them.
    "/etc/fonts",
    "/usr/local/share/fonts",
    "/usr/share/fontconfig",
    "/usr/share/fonts",
    "/var/cache/fontconfig",
    # Which libraries there are, the local time, names of types, keyboards.
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/timezone",
    # Without the environment's, names of files are ASCII: a download `märz.csv` has the name `download`.
    "/usr/lib/locale",
    "/usr/share/X11/xkb",
    "/usr/share/glib-2.0/schemas",
    "/usr/share/icu",
    "/usr/share/mime",
    "/usr/share/zoneinfo",
    # The operator's policies.
    "/etc/chromium",
    "/etc/opt/chrome",
    "/usr/share/chromium",
    # How many processors there are.
    "/sys/devices/system/cpu",
)
"""Files and folders that are read and not executed; what is absent is left out."""

DEVICES: Final = ("full", "null", "random", "urandom", "zero")
"""In /dev; no terminal, no graphics, no sound."""
