"""The body of a large answer, read by a thread straight from the socket: half the CPU of the event loop's streams."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress
from typing import BinaryIO, Final

from cdpbridge._concurrency import mark_retrieved, pooled, to_the_end

from ._disk import write_all

__all__ = ["PeerSilent", "receive"]

_BUFFER_BYTES: Final = 1024 * 1024


class PeerSilent(OSError):
    """The peer has sent nothing for too long."""


async def receive(transport: asyncio.Transport, size: int, sink: BinaryIO, silence: float) -> int | None:
    """Write `size` bytes of a socket into `sink`. The transport must not be reading, and is of no other use afterwards.

    Args:
        silence: Seconds without a byte after which the peer counts as lost.

    Returns:
        How many bytes came; None when the socket cannot be read this way, as it is encrypted. Then nothing has been read.

    Raises:
        PeerSilent: Nothing came for `silence` seconds.
        OSError: The connection failed, or `sink` cannot be written.
    """
    found = transport.get_extra_info("socket")
    if found is None or transport.get_extra_info("ssl_object") is not None:
        return None
    with socket.socket(found.family, found.type, found.proto, os.dup(found.fileno())) as own:
        own.settimeout(silence)
        reading = pooled(_receive, own, size, sink)
        try:
            return await asyncio.shield(reading)
        except asyncio.CancelledError:
            with suppress(OSError):
                own.shutdown(socket.SHUT_RDWR)  # which ends the thread
            # However often the caller is cancelled: the thread would read from whatever file has the number next.
            await to_the_end(asyncio.wait({reading}))
            mark_retrieved(reading)
            raise


def _receive(source: socket.socket, size: int, sink: BinaryIO) -> int:
    buffer = memoryview(bytearray(min(size, _BUFFER_BYTES)))
    left = size
    while left:
        try:
            count = source.recv_into(buffer, min(left, len(buffer)))
        except TimeoutError as error:
            raise PeerSilent("no byte in time") from error
        if not count:
            break
        write_all(sink, buffer[:count])
        left -= count
    return size - left
