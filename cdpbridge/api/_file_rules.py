"""Files on their way to and from a server: names, types and sizes before, parts and wholeness during. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Final

from cdpbridge._file_names import safe_file_name
from cdpbridge.errors import ConfigurationError

from ._task_models import MAX_UPLOAD_BYTES, UPLOAD_CONTENT_TYPES

__all__ = ["Partial", "UploadPlan", "check_size", "local_target", "plan_upload"]

_TYPES: Final = {
    ".csv": "text/csv",
    ".doc": "application/msword",
    ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ".gif": "image/gif",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".log": "text/plain",
    ".markdown": "text/markdown",
    ".md": "text/markdown",
    ".pdf": "application/pdf",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".text": "text/plain",
    ".txt": "text/plain",
    ".webp": "image/webp",
    ".xls": "application/vnd.ms-excel",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}
_LONGEST_NAME: Final = 255
_FORBIDDEN: Final = re.compile(r"[/\\\x00-\x1f\x7f]")
_CONTENT_RANGE: Final = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


@dataclass(frozen=True, slots=True)
class UploadPlan:
    """What an upload is called; its size is known when it is read."""

    file_name: str
    content_type: str


def plan_upload(source: Path | None, file_name: str | None, content_type: str | None) -> UploadPlan:
    """Return how a file is uploaded, checked before anything is sent.

    Args:
        source: Where it is, None for bytes.
        file_name: Name under which the agent finds it. Default: the source's.
        content_type: Default: by the name.

    Raises:
        ConfigurationError: There is no usable name, or the API does not take such files.
    """
    name = file_name if file_name is not None else (source.name if source is not None else None)
    if name is None:
        raise ConfigurationError("bytes have no name: give file_name, e.g. file_name='report.pdf'")
    if not name or len(name) > _LONGEST_NAME or _FORBIDDEN.search(name) or name in {".", ".."}:
        raise ConfigurationError(
            f"{name!r} is no name for an upload: 1 to {_LONGEST_NAME} characters, without / \\ and control characters"
        )
    found = content_type or _TYPES.get(PurePath(name).suffix.lower())
    if found is None or found not in UPLOAD_CONTENT_TYPES:
        what = f"content type {found!r}" if found else f"a file called {name!r}"
        raise ConfigurationError(
            f"{what} cannot be uploaded; the API takes {', '.join(UPLOAD_CONTENT_TYPES)}"
            + ("" if found else ": give content_type to say which it is")
        )
    return UploadPlan(name, found)


def check_size(name: str, size_bytes: int) -> None:
    """Raise ConfigurationError for a size that the API does not take."""
    if not 1 <= size_bytes <= MAX_UPLOAD_BYTES:
        raise ConfigurationError(
            f"{name!r} has {size_bytes} bytes; an upload may have 1 to {MAX_UPLOAD_BYTES} (10 MiB)"
        )


def local_target(path: Path, server_name: str, *, is_folder: bool) -> Path:
    """Return where a download goes: `path`, or, in a folder, the name that the server gives."""
    return path / safe_file_name(server_name, otherwise="download") if is_folder else path


@dataclass(slots=True)
class Partial:
    """A download as far as it has come.

    Attributes:
        received: Bytes on disk.
        total: Bytes in all; None while the server has not said.
        tag: The server's `ETag` of what is on disk; without one, a part is of no use.
    """

    received: int = 0
    total: int | None = None
    tag: str | None = None

    def headers(self) -> dict[str, str]:
        """Return headers that request only what is missing, if the file is still the same (RFC 9110, section 13.1.5)."""
        plain = {"Accept-Encoding": "identity"}  # so that lengths are those of the file
        if not self.received or self.tag is None:
            return plain
        return plain | {"Range": f"bytes={self.received}-", "If-Range": self.tag}

    def begin(self, status: int, headers: Mapping[str, str]) -> bool:
        """Take note of an answer's head; whether its body goes behind what is there, else it takes its place.

        Raises:
            ValueError: It is a part that was not asked for; the next request is for the whole.
        """
        wanted, self.received = self.received, 0
        if status == 206:
            part = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", ""))
            if part is None or not wanted or int(part[1]) != wanted:
                self.tag = None
                raise ValueError(f"a part came that was not asked for: {headers.get('Content-Range')!r}")
            self.received = wanted
            self.total = None if part[3] == "*" else int(part[3])
            return True
        tag = headers.get("ETag", "")
        self.tag = tag if tag.startswith('"') else None  # a weak one does not promise the same bytes
        length = headers.get("Content-Length", "")
        plain = headers.get("Content-Encoding", "identity") == "identity"
        self.total = int(length) if length.isdigit() and plain else None
        return False

    def missing(self) -> str | None:
        """Return what is wrong when the body has ended; None if it is complete."""
        if self.total is None or self.received == self.total:
            return None
        return f"{self.received} of {self.total} bytes came"
