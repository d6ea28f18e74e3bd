"""A presigned upload: one multipart form, its fields first, then one file of the promised size, written as it comes."""

from __future__ import annotations

import asyncio
import os
import secrets
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from cdpbridge.errors import CDPBridgeError

from ._signing import Grant
from ._storage import MARKS

__all__ = ["UploadLimits", "UploadRefused", "receive_upload", "stored_uploads"]

# All fields together: they are held before their signature is known.
_FIELD_BYTES: Final = 16 * 1024
_MAX_FIELDS: Final = 20
_HEADER_BYTES: Final = 8 * 1024
# What programs send for a file whose type they do not know.
_UNTYPED: Final = "application/octet-stream"
# Boundaries and headers of parts, beside the file and the fields.
_OVERHEAD_BYTES: Final = 64 * 1024
# Longer than a clock may be set back.
_MARK_AGE_SECONDS: Final = 3600


class UploadRefused(CDPBridgeError):
    """The form is not what was agreed.

    Attributes:
        status: HTTP status of the answer.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """Limits of the folder of a browser's uploads, with the settings' names for the answer."""

    files: int
    megabytes: int

    def refusal(self, files: int, size: int) -> str | None:
        """Return why there may not be so many files, or bytes in them."""
        if files > self.files:
            return (
                f"the browser has {self.files} uploaded files, which is the setting `max_uploads_per_browser`"
            )
        if size > self.megabytes * 1024**2:
            return (
                f"the uploads exceed {self.megabytes} MiB, which is the setting `max_upload_mb_per_browser`"
            )
        return None


class _Form:
    """The form so far. `check` is asked once, between the fields and the file."""

    def __init__(self, boundary: bytes, check: Callable[[dict[str, str]], Grant]) -> None:
        self.grant: Grant | None = None
        self.file = bytearray()  # not yet written
        self.size = 0
        self.complete = False
        self.whole = False
        self._check = check
        self._fields: dict[str, str] = {}
        self._field_bytes = 0
        self._header_name = bytearray()
        self._header_value = bytearray()
        self._disposition = b""
        self._type = b""
        self._name = ""
        self._value: bytearray | None = None
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._part_begin,
                "on_header_begin": self._header_begin,
                "on_header_field": self._header_field,
                "on_header_value": self._header_data,
                "on_header_end": self._header_end,
                "on_headers_finished": self._headers_finished,
                "on_part_data": self._part_data,
                "on_part_end": self._part_end,
                "on_end": self._end,
            },
        )

    def feed(self, chunk: bytes) -> None:
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise UploadRefused(400, f"the form cannot be read: {error}") from error

    def _part_begin(self) -> None:
        self._disposition = self._type = b""

    def _header_begin(self) -> None:
        self._header_name.clear()
        self._header_value.clear()

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]
        self._bound(self._header_name)

    def _header_data(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]
        self._bound(self._header_value)

    def _bound(self, header: bytearray) -> None:
        if len(header) > _HEADER_BYTES:
            raise UploadRefused(400, "a header of the form is too long")

    def _header_end(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = bytes(self._header_value)
        elif self._header_name.lower() == b"content-type":
            self._type = bytes(self._header_value)

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._name = options.get(b"name", b"").decode(errors="replace")
        if self.grant is not None:
            raise UploadRefused(400, "nothing may follow the file; send the fields before it")
        if self._name == "file":
            self.grant = self._check(self._fields)
            _check_type(self._type, self.grant.content_type)
            self._value = None
        elif len(self._fields) >= _MAX_FIELDS:
            raise UploadRefused(400, "the form has too many fields")
        else:
            self._value = bytearray()

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._value is not None:
            self._value += data[start:end]
            self._field_bytes += end - start
            if self._field_bytes > _FIELD_BYTES:
                raise UploadRefused(400, f"the fields are too long, at {self._name[:100]!r}")
            return
        assert self.grant is not None  # the headers of the file came before
        self.size += end - start
        if self.size > self.grant.size:
            raise UploadRefused(
                413, f"the file is larger than the {self.grant.size} bytes that were announced"
            )
        self.file += data[start:end]

    def _part_end(self) -> None:
        if self._value is not None:
            self._fields[self._name] = self._value.decode(errors="replace")
        else:
            self.whole = True

    def _end(self) -> None:
        self.complete = True


def _check_type(header: bytes, granted: str) -> None:
    """Check that the part's own type is the granted one. Without one, or as `application/octet-stream`, it says nothing."""
    kind = parse_options_header(header)[0].decode("latin-1").strip().lower()
    if kind in {"", _UNTYPED} or _same_type(kind) == _same_type(granted.lower()):
        return
    raise UploadRefused(
        400, f"the part `file` has the type {kind[:100]!r}, not {granted!r} as it was presigned"
    )


def _same_type(kind: str) -> str:
    return "image/jpeg" if kind == "image/jpg" else kind


async def receive_upload(
    content_type: str,
    chunks: AsyncIterator[bytes],
    *,
    check: Callable[[dict[str, str]], Grant],
    target: Callable[[Grant], Awaitable[Path | None]],
    limits: UploadLimits,
    now: Callable[[], float],
) -> Path:
    """Receive the file into its place; it appears there whole or not at all, and once for each address, over restarts of the server.

    An upload that fails or breaks off may be repeated. Of two at the same time, the first to be complete counts.

    Args:
        content_type: Of the request.
        check: Called with the fields when the file begins.
        target: Where the file goes; None when that place has been removed, or its browser stopped. Asked again at the end.
        limits: For the folder it goes to.
        now: Unix time, seconds.

    Raises:
        UploadRefused: Not a form, or not the promised file.
        BadSignature: From `check`.
    """
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise UploadRefused(400, "send multipart/form-data with the presigned fields, then the part `file`")
    form = _Form(boundary, check)
    sink: BinaryIO | None = None
    draft = final = None
    beside = 0
    try:
        async for chunk in chunks:
            form.feed(chunk)
            beside += len(chunk)
            if beside > form.size + _FIELD_BYTES + _OVERHEAD_BYTES:
                raise UploadRefused(413, "the form is too long")
            if form.grant is not None and sink is None:
                final = await _place(target, form.grant)
                if await asyncio.to_thread(_mark(final, form.grant).exists):
                    raise _used()
                draft = final.with_name(f".{secrets.token_hex(8)}.upload")
                sink = await asyncio.to_thread(_create, draft)
            if form.file and sink is not None:
                await asyncio.to_thread(sink.write, bytes(form.file))
                form.file.clear()
        if form.grant is None or sink is None or draft is None or final is None:
            raise UploadRefused(400, "the part `file` is missing")
        if not form.complete or not form.whole or form.size != form.grant.size:
            raise UploadRefused(
                400, f"the file has {form.size} bytes, not the {form.grant.size} that were announced"
            )
        await asyncio.to_thread(_flush, sink)
        await _place(target, form.grant)
        await asyncio.to_thread(_keep, draft, final, form.grant, limits, now())
        return final
    finally:
        if sink is not None and draft is not None:
            sink.close()
            draft.unlink(missing_ok=True)


def _create(draft: Path) -> BinaryIO:
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    # Its folder is lent to the browser's group.
    if os.fstat(descriptor).st_gid != os.getegid():
        os.fchmod(descriptor, 0o640)
    return os.fdopen(descriptor, "wb")


def _flush(sink: BinaryIO) -> None:
    sink.flush()
    os.fsync(sink.fileno())


async def _place(target: Callable[[Grant], Awaitable[Path | None]], grant: Grant) -> Path:
    place = await target(grant)
    if place is None:
        raise UploadRefused(404, "Session not found: it has been stopped or deleted, and takes no more files")
    return place


def _used() -> UploadRefused:
    return UploadRefused(409, "this address has been used for an upload; ask the API for a new one")


def _mark(final: Path, grant: Grant) -> Path:
    """Return the empty file that marks an address as used. It is removed with the browser's other files."""
    return final.parent.with_name(MARKS) / f"{grant.expires}-{grant.nonce}"


# Counting and renaming of one upload at a time; it takes some microseconds.
_turn = threading.Lock()


def _keep(draft: Path, final: Path, grant: Grant, limits: UploadLimits, now: float) -> None:
    with _turn:
        files, size = stored_uploads(final.parent, without=final.name)
        if (why := limits.refusal(files + 1, size + grant.size)) is not None:
            raise UploadRefused(413, why)
        mark = _mark(final, grant)
        mark.parent.mkdir(mode=0o700, exist_ok=True)
        _remove_expired(mark.parent, now)
        try:
            mark.touch(mode=0o600, exist_ok=False)
        except FileExistsError:
            raise _used() from None
        try:
            draft.replace(final)
        except OSError:
            mark.unlink(missing_ok=True)
            raise


def stored_uploads(folder: Path, *, without: str) -> tuple[int, int]:
    """Return how many files were uploaded to a folder, and their bytes, `without` the one that is replaced."""
    files = size = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name != without and not entry.name.startswith("."):
                files += 1
                size += entry.stat(follow_symlinks=False).st_size
    return files, size


def _remove_expired(marks: Path, now: float) -> None:
    """Forget addresses that are refused for their age."""
    for mark in marks.iterdir():
        expires = mark.name.partition("-")[0]
        if expires.isdigit() and int(expires) < now - _MARK_AGE_SECONDS:
            mark.unlink(missing_ok=True)
