"""The browser's disk, as far as the tunnel reaches it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from cdpbridge.errors import CDPBridgeError

__all__ = ["Disk", "Folders", "log_failure", "opened", "write_all"]

logger = logging.getLogger("cdpbridge")


@dataclass(frozen=True, slots=True)
class Folders:
    """Where files are, by the names that the browser uses.

    Attributes:
        downloads: The browser saves there what is carried to clients, in a folder for each browser context.
        uploads: Files of clients are put there.
        kept: Where the server has the browser save what no client has asked for; None elsewhere.
    """

    downloads: str
    uploads: str
    kept: str | None = None


class Disk(Protocol):
    """Reads and writes files of the browser's machine."""

    folders: Folders

    async def fetch(self, path: str, sink: BinaryIO, size: int) -> int:
        """Write the bytes of a file, which should be `size`, into `sink`, which has no buffer.

        Returns:
            How many.

        Raises:
            CDPBridgeError: It cannot be read, or not to its end.
            OSError: The connection failed, or `sink` cannot be written.
        """

    async def write(self, folder: str, source: Path) -> str:
        """Put a file of this machine into a folder below `folders.uploads`, under its own name.

        Returns:
            Its path there.

        Raises:
            CDPBridgeError: It cannot be put there.
            OSError: It cannot be read, or the connection failed.
        """

    async def remove(self, path: str, *, delay: float = 0.0) -> None:
        """Remove a file or folder after `delay` seconds, where the browser's machine allows it; failures are logged."""

    async def close(self) -> None:
        """End its connections."""


def write_all(sink: BinaryIO, chunk: bytes | memoryview) -> None:
    """Write a chunk into a file without a buffer, which may take less at a time."""
    view = memoryview(chunk)
    while view:
        view = view[sink.write(view) :]


def opened(source: Path) -> BinaryIO:
    """Open a file for reading without a buffer. Not in a thread: a caller that is cancelled meanwhile would not get it to close it."""
    return source.open("rb", buffering=0)


def log_failure(what: str, error: Exception) -> None:
    """Log what could not be carried; where it failed too, if that is not known to fail."""
    expected = isinstance(error, CDPBridgeError | OSError)
    logger.warning("%s: %s", what, error, exc_info=None if expected else error)
