"""The disk of a browser of our own server, reached below the browser's address: `{cdpUrl}/files`."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, BinaryIO, Final
from urllib.parse import quote, urlencode, urlsplit

from cdpbridge._concurrency import in_pool
from cdpbridge._disk import mounts_identity, open_below
from cdpbridge._streams import write_to
from cdpbridge.cdp._endpoint import Progress, dial
from cdpbridge.errors import CDPBridgeError

from ._bulk import PeerSilent, receive
from ._disk import Folders, opened, write_all
from ._requests import HeadReader

__all__ = ["FileRequestFailed", "ServerDisk"]

logger = logging.getLogger("cdpbridge")

_CHUNK_BYTES: Final = 1024 * 1024
# from this size on a connection of its own pays
_BULK_BYTES: Final = 4 * 1024 * 1024
_COPY_BYTES: Final = 1024 * 1024
# copied before a cancellation is looked at
_COPY_TURN_BYTES: Final = 64 * 1024 * 1024
_HEAD_BYTES: Final = 64 * 1024
_ANSWER_BYTES: Final = 64 * 1024
_CONNECT_SECONDS: Final = 15.0
_ANSWER_SECONDS: Final = 30.0
# A server that sends nothing of a file for so long will not send the rest.
_SILENCE_SECONDS: Final = 60.0
_IDLE_CONNECTIONS: Final = 4
_STATUS: Final = re.compile(rb"HTTP/1\.[01] (\d{3})")


class FileRequestFailed(CDPBridgeError):
    """The server has refused a file, or its answer was cut off.

    Attributes:
        status: HTTP status, 0 without an answer.
    """

    def __init__(self, text: str, status: int = 0) -> None:
        super().__init__(text, status)
        self.text = text
        self.status = status

    def __str__(self) -> str:
        return self.text


@dataclass(slots=True)
class _Link:
    """A connection to the server."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


class ServerDisk:
    """See `Disk`.

    Args:
        base: `http(s)` address of the browser, without a slash at its end.
    """

    def __init__(self, base: str, folders: Folders, disk: str | None) -> None:
        self.folders = folders
        self.identity = disk
        self._near = False
        self._base = base
        self._idle: list[_Link] = []

    @classmethod
    async def find(cls, base: str) -> ServerDisk | None:
        """Return the disk of the browser at `base`; None when its server has no such addresses, as it is not ours."""
        disk = cls(base, Folders("", ""), None)
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                answer = json.loads(await disk._ask("GET", ""))
                kept = answer["kept"]
                disk.folders = Folders(
                    str(answer["downloads"]), str(answer["uploads"]), None if kept is None else str(kept)
                )
                disk.identity = answer["disk"]
                mounts = answer.get("mounts")
                disk._near = mounts is not None and mounts == mounts_identity()
        except (FileRequestFailed, OSError, ValueError, KeyError, TypeError) as error:
            logger.debug("the browser's server has no files: %s", error)
            await disk.close()
            return None
        return disk

    async def fetch(self, path: str, sink: BinaryIO, size: int) -> int:
        """See `Disk`. From the disk itself, where this process reaches it by the same path, and else over HTTP."""
        if self._near and (copied := await self._copy(path, sink)) is not None:
            return copied
        target = f"/content?{urlencode({'path': path})}"
        if size >= _BULK_BYTES and (received := await self._fetch_bulk(target, sink)) is not None:
            return received
        async with self._request("GET", target) as (headers, link):
            arrived = 0
            async for chunk in _body(headers, link.reader):
                arrived += len(chunk)
                await in_pool(write_all, sink, chunk)
            return arrived

    async def _fetch_bulk(self, target: str, sink: BinaryIO) -> int | None:
        """Fetch a large file and return its size; None when it has to be fetched in the other way."""
        async with _within(_CONNECT_SECONDS, "the browser's server cannot be reached"):
            transport = await dial(self._base, progress=Progress())
        try:
            if transport.get_extra_info("ssl_object") is not None:
                return None
            reader = HeadReader()
            transport.set_protocol(reader)
            reader.connection_made(transport)
            transport.write(self._head("GET", target))
            async with _within(_ANSWER_SECONDS, "the browser's server does not answer"):
                head = await reader.read()
            if head is None:
                raise FileRequestFailed("the browser's server closed the connection without an answer")
            status, headers = _parsed_head(head)
            if status != HTTPStatus.OK or not headers.get("content-length", "").isdecimal():
                return None  # what it says is read in the other way
            size = int(headers["content-length"])
            rest = reader.take()[:size]
            await in_pool(write_all, sink, rest)
            received = await receive(transport, size - len(rest), sink, _SILENCE_SECONDS)
            if received is None:
                raise FileRequestFailed("the connection cannot be read")
            missing = size - len(rest) - received
            if missing:
                raise FileRequestFailed(f"the connection was cut, {missing} bytes are missing")
            return size
        except PeerSilent:
            raise FileRequestFailed("the browser's server has sent nothing for a long time") from None
        finally:
            transport.abort()

    async def _copy(self, path: str, sink: BinaryIO) -> int | None:
        """Copy a file and return its size; None when this process may not read it."""
        for folder in (self.folders.downloads, self.folders.kept):
            if folder is not None and path.startswith(f"{folder}/"):
                parts = path.removeprefix(f"{folder}/").split("/")
                try:
                    source = open_below(Path(folder), parts)
                except OSError:
                    return None
                buffer = memoryview(bytearray(_COPY_BYTES))
                with source:
                    size = 0
                    while copied := await in_pool(_copied, source, sink, buffer):
                        size += copied
                    return size
        return None

    async def write(self, folder: str, source: Path) -> str:
        """See `Disk`."""
        path = f"{folder}/{source.name}"
        with opened(source) as file:
            status = os.fstat(file.fileno())
            query = urlencode({"path": path, "modified": status.st_mtime}, errors="surrogateescape")

            async def content() -> AsyncIterator[bytes]:
                left = status.st_size
                while left > 0:
                    chunk = await in_pool(file.read, min(left, _CHUNK_BYTES))
                    if not chunk:
                        raise FileRequestFailed(f"{source} became shorter while it was read")
                    left -= len(chunk)
                    yield chunk

            await self._ask("PUT", f"/content?{query}", content(), status.st_size)
        return path

    async def remove(self, path: str, *, delay: float = 0.0) -> None:
        """See `Disk`."""
        try:
            await self._ask("DELETE", f"/content?{urlencode({'path': path, 'delay': delay})}")
        except (CDPBridgeError, OSError) as error:
            logger.debug("a file stays on the browser's disk: %s", error)

    async def close(self) -> None:
        """See `Disk`."""
        for link in self._idle:
            link.writer.transport.abort()
        self._idle.clear()

    # --- HTTP -----------------------------------------------------------------------------------------------------

    async def _ask(
        self, method: str, target: str, content: AsyncIterator[bytes] | None = None, size: int = 0
    ) -> bytes:
        async with self._request(method, target, content, size) as (headers, link):
            body = bytearray()
            async for chunk in _body(headers, link.reader):
                body += chunk
                if len(body) > _ANSWER_BYTES:
                    raise FileRequestFailed("the server's answer is too long")
            return bytes(body)

    @asynccontextmanager
    async def _request(
        self, method: str, target: str, content: AsyncIterator[bytes] | None = None, size: int = 0
    ) -> AsyncIterator[tuple[Mapping[str, str], _Link]]:
        """Send a request; the block reads the body of its answer, to the end if the connection is to be kept."""
        link, status, headers = await self._exchange(method, target, content, size)
        try:
            if status >= HTTPStatus.BAD_REQUEST:
                raise FileRequestFailed(await _reason(headers, link.reader, status), status)
            yield headers, link
        except BaseException:
            link.writer.transport.abort()
            raise
        if headers.get("connection", "").lower() == "close" or len(self._idle) >= _IDLE_CONNECTIONS:
            link.writer.close()
        else:
            self._idle.append(link)

    async def _exchange(
        self, method: str, target: str, content: AsyncIterator[bytes] | None, size: int
    ) -> tuple[_Link, int, Mapping[str, str]]:
        while self._idle and content is None:
            link = self._idle.pop()  # the server may have closed it, and is asked once more then
            try:
                return await self._exchange_over(link, method, target, None, size)
            except (OSError, EOFError):
                link.writer.transport.abort()
            except BaseException:
                link.writer.transport.abort()
                raise
        async with _within(_CONNECT_SECONDS, "the browser's server cannot be reached"):
            link = await _connect(self._base)
        try:
            return await self._exchange_over(link, method, target, content, size)
        except EOFError:
            link.writer.transport.abort()
            raise FileRequestFailed("the browser's server closed the connection without an answer") from None
        except BaseException:
            link.writer.transport.abort()
            raise

    async def _exchange_over(
        self, link: _Link, method: str, target: str, content: AsyncIterator[bytes] | None, size: int
    ) -> tuple[_Link, int, Mapping[str, str]]:
        write_to(link.writer, self._head(method, target, size))
        answer = asyncio.ensure_future(_read_head(link.reader))
        try:
            cut = None if content is None else await _upload(content, link.writer, answer)
            async with _within(_ANSWER_SECONDS + _SILENCE_SECONDS, "the browser's server does not answer"):
                try:
                    status, headers = await answer
                except (OSError, EOFError) as error:
                    raise cut or error from None
        finally:
            answer.cancel()
        return link, status, headers

    def _head(self, method: str, target: str, size: int = 0) -> bytes:
        url = urlsplit(self._base)
        query = f"?{url.query}" if url.query and "?" not in target else ""
        length = f"Content-Length: {size}\r\n" if method == "PUT" else ""
        return (
            f"{method} {quote(url.path, safe='/%:@!$&()*+,;=~')}/files{target}{query} HTTP/1.1\r\n"
            f"Host: {url.netloc.rpartition('@')[2]}\r\n{length}\r\n"
        ).encode("latin-1")


async def _upload(
    content: AsyncIterator[bytes], writer: asyncio.StreamWriter, answer: asyncio.Future[Any]
) -> OSError | None:
    """Send a body, as long as there is no answer; a server that refuses it closes the connection behind what it says.

    Returns:
        Why the connection takes no more.
    """
    async for chunk in content:
        try:
            write_to(writer, chunk)
            await writer.drain()
        except OSError as error:
            return error
        if answer.done():
            break
    return None


def _copied(source: BinaryIO, sink: BinaryIO, buffer: memoryview) -> int:
    """Copy some of a file, through one buffer: new memory for each chunk costs several times the CPU; return how many bytes."""
    size = 0
    while size < _COPY_TURN_BYTES and (count := source.readinto(buffer)):  # type: ignore[attr-defined]  # it has no buffer
        write_all(sink, buffer[:count])
        size += count
    return size


@asynccontextmanager
async def _within(seconds: float, failure: str) -> AsyncIterator[None]:
    """Limit a block; a `TimeoutError` of its own, e.g. of a network disk, is not taken for that limit's."""
    try:
        async with asyncio.timeout(seconds) as deadline:
            yield
    except TimeoutError:
        if not deadline.expired():
            raise
        raise FileRequestFailed(failure) from None


async def _connect(address: str) -> _Link:
    loop = asyncio.get_running_loop()
    transport = await dial(address, progress=Progress())
    reader = asyncio.StreamReader(limit=_CHUNK_BYTES)
    protocol = asyncio.StreamReaderProtocol(reader)
    transport.set_protocol(protocol)
    protocol.connection_made(transport)
    return _Link(reader, asyncio.StreamWriter(transport, protocol, reader, loop))


async def _read_head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    return _parsed_head(await reader.readuntil(b"\r\n\r\n"))


def _parsed_head(head: bytes) -> tuple[int, dict[str, str]]:
    found = _STATUS.match(head)
    if found is None or len(head) > _HEAD_BYTES:
        raise FileRequestFailed("the server's answer is no HTTP")
    headers = {}
    for line in head.decode("latin-1").split("\r\n")[1:]:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    return int(found[1]), headers


async def _body(headers: Mapping[str, str], reader: asyncio.StreamReader) -> AsyncGenerator[bytes, None]:
    if headers.get("transfer-encoding", "").lower() == "chunked":  # a proxy on the way
        while size := int((await reader.readuntil(b"\n")).split(b";")[0], 16):
            async for chunk in _exactly(reader, size):
                yield chunk
            await reader.readexactly(2)
        while (await reader.readuntil(b"\n")).strip():
            pass
        return
    async for chunk in _exactly(reader, int(headers.get("content-length", "0"))):
        yield chunk


async def _exactly(reader: asyncio.StreamReader, size: int) -> AsyncGenerator[bytes, None]:
    left = size
    while left > 0:
        silent = f"the server has sent nothing for {_SILENCE_SECONDS:g} s, {left} bytes are missing"
        async with _within(_SILENCE_SECONDS, silent):
            chunk = await reader.read(min(left, _CHUNK_BYTES))
        if not chunk:
            raise FileRequestFailed(f"the connection was cut, {left} bytes are missing")
        left -= len(chunk)
        yield chunk


async def _reason(headers: Mapping[str, str], reader: asyncio.StreamReader, status: int) -> str:
    text = b"".join([chunk async for chunk in _body(headers, reader)])[:500].decode("utf-8", "replace")
    try:
        detail: Any = json.loads(text)["detail"]
    except (ValueError, KeyError, TypeError):
        detail = text
    return f"{detail} (HTTP {status})"
