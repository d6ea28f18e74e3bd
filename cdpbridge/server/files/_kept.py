"""`KeptFiles`: files of ended browsers and tasks in object storage.

    files/browsers/<id>/downloads/<modified>/<name>
    files/tasks/<id>/<folder>/.../<modified>/<name>

`<modified>` is the file's time in milliseconds, since a storage notes that of the upload. All else is its path in the file store.
"""

from __future__ import annotations

import mimetypes
import os
import stat
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from cdpbridge.server.objects import object_segment, segment_text

if TYPE_CHECKING:
    from cdpbridge.server.objects import ObjectStorage

    from ._storage import StoredFile

__all__ = ["KeptFiles"]

_ROOT: Final = "files"
_MILLISECONDS: Final = 13  # digits, until the year 2286
_UNTYPED: Final = "application/octet-stream"


class KeptFiles:
    """Files in object storage, by their paths in the file store. Every method but `chunks` blocks.

    Args:
        presigned_age: How long an address is valid that the storage has signed; None when files pass through the server.
    """

    def __init__(self, storage: ObjectStorage, *, presigned_age: timedelta | None = None) -> None:
        self._storage = storage
        self._presigned_age = presigned_age

    def put(self, path: str, file: Path) -> None:
        """Upload a plain file. The same file may be uploaded again.

        Raises:
            ObjectStorageError: From the storage.
            OSError: From the disk, or it is no plain file any more.
        """
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as source:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(f"{file.name} is no plain file")
            kind = mimetypes.guess_type(file.name)[0] or _UNTYPED
            self._storage.put_file(_object_name(path, status.st_mtime), source, media_type=kind)

    def listing(self, folder: str) -> Iterator[tuple[str, StoredFile]]:
        """Give the files in a folder and below, each with the folder that it is in.

        Raises:
            ObjectStorageError: From the storage.
        """
        from ._storage import StoredFile  # noqa: PLC0415  # which has one of these

        for found in self._storage.listing(_below_root(folder)):
            *folders, modified, name = found.name.split("/")[1:]
            if not (modified.isdigit() and len(modified) == _MILLISECONDS):
                continue  # not ours
            place = "/".join(segment_text(part) for part in folders)
            plain = segment_text(name)
            stored = StoredFile(
                plain, f"{place}/{plain}", None, found.size, int(modified) / 1000, kept_as=found.name
            )
            yield place, stored

    def find(self, path: str) -> StoredFile | None:
        """Return a file, the last changed of its name; None when there is none.

        Raises:
            ObjectStorageError: From the storage.
        """
        folder = PurePosixPath(path).parent.as_posix()
        found = [each for _, each in self.listing(folder) if each.path == path]
        return max(found, key=lambda each: each.modified, default=None)

    def remove(self, folder: str) -> None:
        """Remove a folder.

        Raises:
            ObjectStorageError: From the storage.
        """
        self._storage.delete_all(_below_root(folder))

    def chunks(self, name: str, start: int, end: int) -> AsyncIterator[bytes]:
        """Give a part of a file; see `ObjectStorage.chunks`."""
        return self._storage.chunks(name, start, end)

    def address(self, name: str, method: str) -> str | None:
        """Return an address of the storage that opens a file for some time; None when it is to pass through the server.

        Raises:
            ObjectStorageError: From the storage.
        """
        if self._presigned_age is None:
            return None
        return self._storage.address(name, method=method, age=self._presigned_age)


def _below_root(path: str) -> str:
    return "/".join([_ROOT, *map(object_segment, PurePosixPath(path).parts)])


def _object_name(path: str, modified: float) -> str:
    folder, _, name = path.rpartition("/")
    return f"{_below_root(folder)}/{int(modified * 1000):0{_MILLISECONDS}}/{object_segment(name)}"
