"""`Archives`: versions of profiles in object storage.

    profiles/<profile id>/00000007-<rental id>-<random>.tar.zst

A name is written once: by the one attempt of the one rental to save a version. Which version counts says the profile's row
(`Profiles.profile_saved` of the store), not what is there: an archive that came too late changes nothing and is swept.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO, Final
from uuid import UUID

from ._copy import Budget
from ._untrusted import Hostile

if TYPE_CHECKING:
    from cdpbridge.server.objects import ObjectStorage

__all__ = [
    "COOKIES",
    "USER_DATA",
    "Archives",
    "folder_name",
    "is_archive",
    "new_name",
    "unpack_version",
    "writer_of",
]

USER_DATA, COOKIES = "user-data", "cookies.json"
_SUFFIX: Final = ".tar.zst"
_CHUNK_BYTES: Final = 1024**2
_NAME: Final = re.compile(r"\d{8,}-([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})-[0-9a-f]+")
# Longer than an upload and a download take together, and the clocks of servers and stores differ.
_SWEEP_AGE_SECONDS: Final = 3600.0


class Archives:
    """Versions of profiles as objects. Every method blocks."""

    def __init__(self, storage: ObjectStorage) -> None:
        self._storage = storage

    def keep(self, profile_id: UUID, number: int, writer: UUID, folder: Path, budget: Budget) -> str:
        """Upload a version and return its name; it is there whole or not at all.

        Args:
            profile_id: Whose.
            number: Of the version.
            writer: The rental that saves it.
            folder: With `user-data`, and perhaps `cookies.json`; of our own.
            budget: Its deadline counts.

        Raises:
            TooBig: It took too long.
            ObjectStorageError: From the storage.
            OSError: From the disk.
        """
        from ._archive import pack  # noqa: PLC0415  # most servers have no archives, and no zstandard

        name = new_name(profile_id, number, writer)
        with self._storage.writing(name) as sink:
            pack(folder, sink, budget)
        return name

    @staticmethod
    def name(profile_id: UUID, folder: str) -> str:
        """Return the name of the version that is unpacked in a folder of this name; see `folder_name`."""
        return f"profiles/{profile_id}/{folder}{_SUFFIX}"

    def fetch(self, name: str, folder: Path, budget: Budget) -> None:
        """Download a version into an empty folder.

        Raises:
            Hostile: It is not what `keep` has written. `folder` may have a part of it.
            TooBig: It is more than the budget allows; as above.
            ObjectMissing: It is not there.
            ObjectStorageError: From the storage.
            OSError: From the disk.
        """
        with self._storage.reading(name) as source:
            unpack_version(source, folder, budget)

    def read(self, name: str, sink: IO[bytes]) -> None:
        """Copy an archive as it is.

        Raises:
            ObjectMissing: It is not there.
            ObjectStorageError: From the storage.
            OSError: From the disk.
        """
        with self._storage.reading(name) as source:
            shutil.copyfileobj(source, sink, _CHUNK_BYTES)

    def put(self, name: str, source: BinaryIO) -> None:
        """Upload an archive that another machine has packed.

        Raises:
            ObjectStorageError: From the storage.
            OSError: From the disk.
        """
        self._storage.put_file(name, source)

    def remove(self, profile_id: UUID) -> None:
        """Remove every version of a profile."""
        self._storage.delete_all(f"profiles/{profile_id}")

    def of_writer(self, profile_id: UUID, writer: UUID) -> tuple[int, str] | None:
        """Return the last version that a browser has uploaded, its number and its name; None when there is none."""
        found = [
            each for each in self._storage.listing(f"profiles/{profile_id}") if writer_of(each.name) == writer
        ]
        if not found:
            return None
        last = max(found, key=lambda each: each.modified).name
        return int(folder_name(last).partition("-")[0]), last

    def older(self, *, wall: float | None = None) -> list[str]:
        """Return every version that was uploaded so long ago that it counts by now, or is not going to.

        Args:
            wall: Unix seconds now.
        """
        oldest = (time.time() if wall is None else wall) - _SWEEP_AGE_SECONDS
        return [found.name for found in self._storage.listing("profiles") if found.modified < oldest]

    def discard(self, names: Iterable[str]) -> None:
        """Remove versions."""
        self._storage.delete(names)


def unpack_version(source: IO[bytes], folder: Path, budget: Budget) -> None:
    """Write what is in an archive of a version into an empty folder. Errors as of `Archives.fetch`."""
    from ._archive import unpack  # noqa: PLC0415  # as in `keep`

    unpack(source, folder, budget)
    for entry in folder.iterdir():
        if (entry.name, entry.is_dir()) not in {(USER_DATA, True), (COOKIES, False)}:
            raise Hostile("its archive has something beside the profile")
    if not (folder / USER_DATA).is_dir():
        raise Hostile("its archive has no profile in it")


def new_name(profile_id: UUID, number: int, writer: UUID) -> str:
    """Return a name that no other version has."""
    return Archives.name(profile_id, f"{number:08}-{writer}-{os.urandom(4).hex()}")


def is_archive(name: str, profile_id: UUID | None = None) -> bool:
    """Return True if a name is one that `new_name` gives, for that profile."""
    parts = name.split("/")
    if len(parts) != 3 or not name.endswith(_SUFFIX) or not _NAME.fullmatch(folder_name(name)):
        return False
    try:
        found = UUID(parts[1])
    except ValueError:
        return False
    return parts[:2] == ["profiles", str(found)] and profile_id in {None, found}


def writer_of(archive: str) -> UUID | None:
    """Return the browser that has saved a version; None for a name that is none of ours."""
    match = _NAME.fullmatch(folder_name(archive))
    return None if match is None else UUID(match[1])


def folder_name(archive: str) -> str:
    """Return the name of the folder for an unpacked version."""
    return archive.rpartition("/")[2].removesuffix(_SUFFIX)
