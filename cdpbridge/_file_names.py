"""Names of files that come from other machines, made safe to create here."""

from __future__ import annotations

import unicodedata
from typing import Final

__all__ = ["NAME_BYTES", "safe_file_name"]

NAME_BYTES: Final = 255
"""Longest name of a file on ext4, XFS, APFS and NTFS."""
_FORBIDDEN: Final = frozenset('/\\:*?"<>|')  # by Windows, the strictest of the usual systems
_SUFFIX_BYTES: Final = 20  # a longer one is no file type, and is cut like the rest
# Windows, "Naming Files, Paths, and Namespaces": reserved with any suffix.
_DEVICES: Final = frozenset(
    {"CON", "PRN", "AUX", "NUL", *(f"{port}{digit}" for port in ("COM", "LPT") for digit in "123456789")}
)


def safe_file_name(name: str, *, otherwise: str = "file", spare_bytes: int = 0) -> str:
    """Return the last part of `name` as one harmless path component on every usual system.

    It is never empty, never hidden, has no control characters, and keeps its suffix when it is cut. A safe name stays as it is.

    Args:
        name: What a server, a page or a client calls the file.
        otherwise: The name when nothing of `name` is left.
        spare_bytes: How many of the 255 bytes the caller needs, e.g. to add a number.
    """
    text = unicodedata.normalize("NFC", name.encode(errors="replace").decode())
    last = text.replace("\\", "/").rpartition("/")[2]
    kept = "".join(
        "_" if letter in _FORBIDDEN or unicodedata.category(letter).startswith("C") else letter
        for letter in last
    ).strip(". ")
    stem, dot, suffix = kept.rpartition(".")
    if not stem or len(suffix.encode()) > _SUFFIX_BYTES:
        stem, dot, suffix = kept, "", ""
    limit = NAME_BYTES - spare_bytes - len(f"{dot}{suffix}".encode())
    safe = f"{stem.encode()[:limit].decode(errors='ignore')}{dot}{suffix}".strip(". ") or otherwise
    return f"_{safe}" if safe.partition(".")[0].rstrip().upper() in _DEVICES else safe
