"""`ObjectStorage`: a bucket, or a folder in its place, by obstore.

An object is there whole or not at all: obstore sends it in parts, which the store puts together at the end, or discards. What is
read or sent passes in pieces of some MiB. Every method blocks, except those that are `async`.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, timedelta
from pathlib import Path
from typing import IO, Any, BinaryIO, Final, cast
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, from_url

from cdpbridge.errors import ConfigurationError

from ._errors import ObjectMissing, ObjectStorageError
from ._url import folder_of

__all__ = ["ObjectStorage", "StoredObject"]

logger = logging.getLogger("cdpbridge.server")

# S3 takes no smaller parts than 5 MiB, and at most 10,000 of them.
_PART_BYTES: Final = 8 * 1024**2
_PARTS_AT_ONCE: Final = 2
# One of these for each client that downloads.
_PIECE_BYTES: Final = 1024**2
_REQUEST_SECONDS: Final = 30
_RETRIES: Final = 5
_RETRY_SECONDS: Final = 20
_DELETE_AT_ONCE: Final = 1000
# A query may be a signature. After the first line, obstore shows the store's whole answer and the error's structure.
_QUERY: Final = re.compile(r"(https?://[^\s?]*)\?\S*")
_CODE: Final = re.compile(r"<Code>(\w{1,60})</Code>")


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object.

    Attributes:
        size: Bytes.
        modified: Unix seconds, by the store's clock.
    """

    name: str
    size: int
    modified: float


class ObjectStorage:
    """Objects below one address. Names are relative to it, with slashes.

    Args:
        url: Checked by `check_storage_url`.
        options: obstore's, as `region`, `endpoint`, `access_key_id`; what is missing comes from the environment (`AWS_...`,
            `GOOGLE_...`, `AZURE_...`).

    Raises:
        ConfigurationError: It cannot be used with these options.
    """

    def __init__(self, url: str, options: Mapping[str, str] | None = None) -> None:
        self._scheme = urlsplit(url).scheme
        self._folder: Path | None = None
        options = dict(options or {})
        try:
            if self._scheme == "file":
                self._folder = Path(folder_of(url))
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._store: Any = LocalStore(self._folder, automatic_cleanup=True)
                if self._folder.stat().st_mode & 0o077:
                    logger.warning(
                        "%s can be read by other users, and gets logins; chmod 700 it", self._folder
                    )
            else:
                http = str(options.get("endpoint", "")).startswith("http://")
                self._store = from_url(
                    url,
                    config=cast("Any", options),
                    client_options={"allow_http": http, "timeout": timedelta(seconds=_REQUEST_SECONDS)},
                    retry_config={
                        "max_retries": _RETRIES,
                        "retry_timeout": timedelta(seconds=_RETRY_SECONDS),
                    },
                )
        except (BaseError, OSError, ValueError) as error:
            raise ConfigurationError(f"storage_url, storage_options: {_words(error)}") from None

    # --- write ------------------------------------------------------------------------------------------------------

    @contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        """Write an object as a file; it is there when the block was left without an error.

        Raises:
            ObjectStorageError: From the store.
        """
        with _mapped(name):
            writer = obstore.open_writer(
                self._store, name, buffer_size=_PART_BYTES, max_concurrency=_PARTS_AT_ONCE
            )
            with writer:
                yield cast("IO[bytes]", writer)
        self._sync(name)

    def put_file(self, name: str, file: BinaryIO, *, media_type: str | None = None) -> None:
        """Write an object from a file.

        Args:
            name: Of the object.
            file: From where it stands to its end.
            media_type: For those who read it by a presigned address, where the store keeps it.

        Raises:
            ObjectStorageError: From the store.
            OSError: From the file.
        """
        attributes: Any = None
        if self._scheme != "file" and media_type is not None:
            # What pages have written is never shown as a page.
            attributes = {"Content-Type": media_type, "Content-Disposition": "attachment"}
        with _mapped(name):
            obstore.put(
                self._store,
                name,
                file,
                attributes=attributes,
                chunk_size=_PART_BYTES,
                max_concurrency=_PARTS_AT_ONCE,
            )
        self._sync(name)

    def _sync(self, name: str) -> None:
        """Have an object of a folder on the disk: what was acknowledged is there after a power cut."""
        if self._folder is None:
            return
        file = self._folder / name
        for path in (file, file.parent):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def delete(self, names: Iterable[str]) -> None:
        """Remove objects; those that are not there count as removed.

        Raises:
            ObjectStorageError: From the store.
        """
        left = list(names)
        while left:
            some, left = left[:_DELETE_AT_ONCE], left[_DELETE_AT_ONCE:]
            with _mapped(some[0]):
                try:
                    obstore.delete(self._store, some)
                except FileNotFoundError:
                    for name in some:
                        self._delete_one(name)

    def _delete_one(self, name: str) -> None:
        try:
            obstore.delete(self._store, name)
        except FileNotFoundError:
            return

    def delete_all(self, prefix: str) -> None:
        """Remove every object below `prefix`.

        Raises:
            ObjectStorageError: From the store.
        """
        self.delete([found.name for found in self.listing(prefix)])

    # --- read -------------------------------------------------------------------------------------------------------

    def listing(self, prefix: str) -> Iterator[StoredObject]:
        """Give every object below `prefix`, a whole number of parts of names.

        Raises:
            ObjectStorageError: From the store.
        """
        with _mapped(prefix):
            for page in obstore.list(self._store, prefix):
                for found in page:
                    yield _stored(found)

    def find(self, name: str) -> StoredObject | None:
        """Return an object, None when there is none.

        Raises:
            ObjectStorageError: From the store.
        """
        try:
            with _mapped(name):
                return _stored(obstore.head(self._store, name))
        except ObjectMissing:
            return None

    @contextmanager
    def reading(self, name: str) -> Iterator[BinaryIO]:
        """Read an object as a file.

        Raises:
            ObjectMissing: There is none.
            ObjectStorageError: From the store.
        """
        with _mapped(name):
            reader = obstore.open_reader(self._store, name, buffer_size=_PART_BYTES)
        with _mapped(name):
            yield cast("BinaryIO", reader)

    async def chunks(self, name: str, start: int, end: int) -> AsyncIterator[bytes]:
        """Give the bytes of an object from `start` up to and without `end`.

        Each piece is a request of its own: a slow reader keeps none open.

        Raises:
            ObjectMissing: There is none.
            ObjectStorageError: From the store.
        """
        while start < end:
            upto = min(end, start + _PIECE_BYTES)
            with _mapped(name):
                piece = bytes(await obstore.get_range_async(self._store, name, start=start, end=upto))
            yield piece
            start = upto

    def address(self, name: str, *, method: str, age: timedelta) -> str | None:
        """Return an address that opens this one object for `method` and no other, None when the store cannot sign.

        Raises:
            ObjectStorageError: From the store.
        """
        if self._scheme == "file":
            return None
        with _mapped(name):
            return cast("Callable[..., str]", obstore.sign)(self._store, method, name, age)

    def check(self) -> None:
        """Ask the store whether it answers.

        Raises:
            ConfigurationError: It does not, or it does not allow what is needed.
        """
        try:
            next(self.listing("profiles"), None)
        except ObjectStorageError as error:
            raise ConfigurationError(
                f"the object storage of `storage_url` does not answer: {error}"
            ) from error


def _stored(found: Any) -> StoredObject:
    modified = found["last_modified"].astimezone(UTC).timestamp()
    return StoredObject(found["path"], found["size"], modified)


@contextmanager
def _mapped(name: str) -> Iterator[None]:
    """Give obstore's errors as ours."""
    try:
        yield
    except FileNotFoundError as error:
        if error.errno is not None:  # of a file of the caller
            raise
        raise ObjectMissing(f"object {name}: {_words(error)}") from None
    except BaseError as error:
        raise ObjectStorageError(f"object {name}: {_words(error)}") from None


def _words(error: BaseException) -> str:
    text = str(error)
    line = _QUERY.sub(r"\1?...", text.partition("\n")[0])[:500]
    code = _CODE.search(text)
    return line if code is None or code[1] in line else f"{line} ({code[1]})"
