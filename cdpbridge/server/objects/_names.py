"""File names as parts of the names of objects, and back."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_to_bytes

__all__ = ["object_segment", "segment_text"]

# Control characters and what is not UTF-8 are refused by some stores; `#` and digits at the end of a name are the drafts of a
# folder in obstore; a backslash separates folders in some tools; the percent sign is ours.
_ESCAPED: Final = re.compile(r"[\x00-\x1f\x7f#%\\\ud800-\udfff]")


def object_segment(name: str) -> str:
    """Return a file's name as one part of an object's name; different names stay different."""
    return _ESCAPED.sub(_escape, name)


def _escape(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8", "surrogateescape"))


def segment_text(segment: str) -> str:
    """Return the name of the file that `object_segment` has made a part of an object's name of."""
    return unquote_to_bytes(segment).decode("utf-8", "surrogateescape")
