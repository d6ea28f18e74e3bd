"""Writing to a stream whose other end may close it at any moment."""

from __future__ import annotations

from asyncio import StreamWriter

__all__ = ["write_to"]


def write_to(writer: StreamWriter, data: bytes) -> None:
    """Write to a stream, as `StreamWriter.write`; once its socket has closed, uvloop's raises RuntimeError, and asyncio's drops the bytes.

    Raises:
        ConnectionResetError: The socket has closed, or is closing.
    """
    if writer.is_closing():
        raise ConnectionResetError("the socket was closed")
    writer.write(data)
