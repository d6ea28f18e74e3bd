"""Streams of the browser: results of any size, in pieces.

A reply over 256 MiB is silently dropped by Chromium; a PDF, a trace or a response body can be read as a stream instead.
"""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from cdpbridge.errors import CDPError, DecodeError
from cdpbridge.protocol._base import Command

if TYPE_CHECKING:
    from cdpbridge.cdp._session import CDPSession
    from cdpbridge.protocol import IO, Page

__all__ = ["pdf_stream", "read_stream", "trace_stream"]

logger = logging.getLogger("cdpbridge")

# bytes; decoding one takes some 2 ms, and the event loop runs other tasks in between
_CHUNK: Final = 1024 * 1024
_TRACE_TIMEOUT: Final = timedelta(seconds=60)


async def read_stream(session: CDPSession, handle: str, *, size: int = _CHUNK) -> AsyncGenerator[bytes, None]:
    """Yield the bytes of a stream, piece by piece; close its handle however the loop ends.

    Leave a loop over it early with `contextlib.aclosing`, as with any generator, so that the handle is closed then and not
    when the generator is collected.

    Args:
        session: The session that was given the handle.
        handle: A `StreamHandle`: of `Page.printToPDF(transferMode="ReturnAsStream")`, of `Tracing.tracingComplete`, of
            `Fetch.takeResponseBodyAsStream`, of `Network.loadNetworkResource`.
        size: Bytes asked for at once.

    Raises:
        CommandError: There is no such stream.
        TargetClosed: The target has closed, and the stream with it.
        ConnectionClosed: The connection ended.
    """
    from cdpbridge.protocol import IO  # noqa: PLC0415  # domains load on first use

    if size < 1:
        raise ValueError(f"size must be 1 or more, not {size}")
    try:
        eof = False
        while not eof:
            chunk = await session.send(IO.read(handle, size=size))
            eof = chunk.eof
            data = _bytes(chunk)
            if data:
                yield data
    finally:
        # As a task of the connection: this may run in a cancellation, or while the loop is being closed.
        if session.closed is None:
            await asyncio.shield(session.connection.create_task(_close(session, handle)))


async def pdf_stream(
    session: CDPSession,
    command: Command[Page.PrintToPDFResult] | None = None,
    *,
    timeout: float | timedelta | None = None,
) -> AsyncGenerator[bytes, None]:
    """Yield a page as PDF, piece by piece, so that it may have any size.

    Args:
        command: What `Page.print_to_pdf` makes of the caller's options; its transfer mode is set here.
        timeout: For the printing itself; default: the connection's `command_timeout`.
    """
    from cdpbridge.protocol import Page  # noqa: PLC0415  # domains load on first use

    command = command or Page.print_to_pdf()
    params = {**command.params, "transferMode": Page.PrintToPDFTransferMode.RETURN_AS_STREAM}
    reply = await session.send(Command(command.method, params, Page.PrintToPDFResult), timeout=timeout)
    if reply.stream is None:  # a browser that knows no streams gives it whole
        yield reply.data
        return
    async with aclosing(read_stream(session, reply.stream)) as chunks:
        async for chunk in chunks:
            yield chunk


async def trace_stream(
    session: CDPSession, *, timeout: float | timedelta = _TRACE_TIMEOUT
) -> AsyncGenerator[bytes, None]:
    """End the tracing of a session and get its trace, piece by piece.

    It must have been started with `Tracing.start(transfer_mode="ReturnAsStream")`; with the other mode, the default, the
    trace comes as `Tracing.dataCollected` events and there is no stream.

    Args:
        timeout: Until the browser has collected the trace of all its processes.
    """
    from cdpbridge.protocol import Tracing  # noqa: PLC0415  # domains load on first use

    async with session.expect(Tracing.TracingComplete, timeout=timeout) as complete:
        await session.send(Tracing.end())
    handle = complete.event.stream
    if handle is None:
        raise ValueError('there is no stream: start with Tracing.start(transfer_mode="ReturnAsStream")')
    async with aclosing(read_stream(session, handle)) as chunks:
        async for chunk in chunks:
            yield chunk


async def _close(session: CDPSession, handle: str) -> None:
    try:
        await session.send("IO.close", {"handle": handle})
    except CDPError as error:
        logger.debug("IO.close: %s", error)


def _bytes(chunk: IO.ReadResult) -> bytes:
    if not chunk.base64_encoded:
        return chunk.data.encode("utf-8", "surrogatepass")
    try:
        return base64.b64decode(chunk.data, validate=True)
    except ValueError as error:
        raise DecodeError(f"IO.read: the chunk is no base64: {error}") from error
