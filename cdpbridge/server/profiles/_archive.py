"""A version of a profile as one stream: a tar archive of folders and plain files, compressed by Zstandard.

An archive that is read is not trusted: others may write to the storage, too. So nothing but what `pack` writes is taken, each
file is made new below an empty folder, and what it may take of memory, disk, names and time is limited before it takes it.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Final, Self, cast

import zstandard

from ._copy import Budget, TooBig
from ._untrusted import Hostile

__all__ = ["pack", "unpack"]

# As zstd's own default: some 300 MB/s, and caches, which hardly shrink, are not in a profile.
_LEVEL: Final = 3
# Twice what this level uses; an archive may ask its reader for gigabytes.
_WINDOW_BYTES: Final = 8 * 1024**2
_CHUNK_BYTES: Final = 1024**2
# PATH_MAX of Linux; tar's GNU form has a block of its own for a name above 100 bytes.
_NAME_BYTES: Final = 4096
# What tar adds to each file: its header, that of its name, and the rest of a block.
_HEADERS_BYTES: Final = 2048 + _NAME_BYTES
_TYPES: Final = frozenset({tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE, tarfile.GNUTYPE_LONGNAME})
_KINDS: Final = {
    tarfile.LNKTYPE: "a hard link",
    tarfile.SYMTYPE: "a link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
}
# Two blocks of zeros (pax, "ustar Interchange Format").
_END: Final = bytes(2 * tarfile.BLOCKSIZE)


def pack(folder: Path, sink: IO[bytes], budget: Budget) -> None:
    """Write everything in `folder`, which has only folders and plain files, to `sink`.

    Args:
        folder: Of our own: what a browser has left was copied before.
        sink: Written in pieces.
        budget: Its deadline counts.

    Raises:
        TooBig: It took too long.
        OSError: From the disk.
    """
    compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True)
    with (
        compressor.stream_writer(sink, closefd=False) as compressed,
        tarfile.open(fileobj=compressed, mode="w|", format=tarfile.GNU_FORMAT) as archive,
    ):
        for path in _below(folder):
            budget.check_time()
            status = path.lstat()
            header = tarfile.TarInfo(path.relative_to(folder).as_posix())
            header.mtime = int(status.st_mtime)
            if path.is_dir():
                header.type, header.mode = tarfile.DIRTYPE, 0o700
                archive.addfile(header)
            else:
                header.size, header.mode = status.st_size, 0o600
                with path.open("rb") as file:
                    archive.addfile(header, file)


def _below(folder: Path) -> Iterator[Path]:
    """Give every path below `folder`, a folder before what is in it, always in the same order."""
    for place, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            yield Path(place, name)
        for name in folders:
            yield Path(place, name)


def unpack(source: IO[bytes], target: Path, budget: Budget) -> None:
    """Write what is in an archive into the empty folder `target`.

    Raises:
        Hostile: It is no archive that `pack` has written, or it is damaged or not whole; `target` may have a part of it.
        TooBig: It is more than the budget allows; as above.
        OSError: From the disk, or from `source`.
    """
    plain = _Plain(source, budget)
    file = cast("IO[bytes]", plain)  # a stream is read, and nothing else
    try:
        with tarfile.open(fileobj=file, mode="r|", tarinfo=_Header) as archive:
            for member in archive:
                budget.take_name()
                _take(archive, member, target, budget)
        plain.drain()
    except tarfile.TarError as error:
        raise Hostile(f"its archive is damaged: {error}") from error
    except zstandard.ZstdError as error:
        raise Hostile(f"its archive is not compressed by Zstandard, or damaged: {error}") from error
    except RecursionError as error:
        raise Hostile("its archive has a header in which there are only headers") from error
    if plain.tail != _END:
        raise Hostile("its archive is not whole")


class _Header(tarfile.TarInfo):
    """A header, refused before `tarfile` acts on it."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Read one header.

        Raises:
            Hostile: It is of a kind that `pack` does not write.
        """
        header = super().frombuf(buf, encoding, errors)
        if header.type not in _TYPES:
            kind = _KINDS.get(header.type, f"of type {header.type!r}")
            raise Hostile(f"its archive has an entry that is {kind}")
        # It is read at once.
        if header.type == tarfile.GNUTYPE_LONGNAME and header.size > _NAME_BYTES:
            raise Hostile("its archive has a name that is too long")
        return header


def _take(archive: tarfile.TarFile, member: tarfile.TarInfo, target: Path, budget: Budget) -> None:
    path = target / _checked_name(member.name, budget.depth)
    try:
        if (
            data_filter := getattr(tarfile, "data_filter", None)
        ) is not None:  # not in Python 3.11.3 and earlier
            data_filter(member, str(target))
        if member.isdir():
            path.mkdir(mode=0o700)
            return
        if member.size > budget.bytes_left:
            raise TooBig("too many bytes")
        file = archive.extractfile(member)
        assert file is not None  # it is a plain file
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as sink:  # noqa: PTH123  # a descriptor
            while piece := file.read(_CHUNK_BYTES):
                budget.bytes_left -= len(piece)
                budget.check_time()
                sink.write(piece)
    except FileExistsError:
        raise Hostile("its archive has a name twice") from None
    except (FileNotFoundError, NotADirectoryError):
        raise Hostile("its archive has a file in a folder that it does not have") from None


def _checked_name(name: str, depth: int) -> PurePosixPath:
    parts = name.removesuffix("/").split("/")
    if name.startswith("/"):
        raise Hostile("its archive has an absolute name")
    if ".." in parts:
        raise Hostile("its archive has a name that leads out of it")
    if "\0" in name or any(part in {"", "."} for part in parts):
        raise Hostile("its archive has a name that is none")
    if any(len(os.fsencode(part)) > 255 for part in parts) or len(os.fsencode(name)) > _NAME_BYTES:
        raise Hostile("its archive has a name that is too long")
    if len(parts) > depth:
        raise TooBig(f"more than {depth} folders inside each other")
    return PurePosixPath(*parts)


class _Plain:
    """The plain bytes of a compressed stream, as `tarfile` reads them, no more than the budget allows.

    Attributes:
        tail: The last bytes that were read, as many as an archive's end has.
    """

    def __init__(self, source: IO[bytes], budget: Budget) -> None:
        reader = zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES)
        self._reader = reader.stream_reader(source, closefd=False)
        self._budget = budget
        self._left = budget.bytes_left + budget.files_left * _HEADERS_BYTES
        self.tail = b""

    def read(self, size: int) -> bytes:
        data = self._reader.read(min(size, _CHUNK_BYTES))
        self._left -= len(data)
        if self._left < 0:
            raise TooBig("too many bytes")
        self._budget.check_time()
        self.tail = (self.tail + data)[-len(_END) :]
        return data

    def drain(self) -> None:
        """Read to the end, where the checksum is."""
        while self.read(_CHUNK_BYTES):
            pass
