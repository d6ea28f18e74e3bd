"""`Channel`: a connection between a server and a worker while both show that they know the secret; then it is another protocol's."""

from __future__ import annotations

import asyncio
import ssl
from typing import Final, cast

__all__ = ["Channel"]

# Of what may follow a handshake before the next protocol has the connection.
_MOST_WAITING_BYTES: Final = 64 * 1024
# As of `asyncio.open_connection`.
_LIMIT_BYTES: Final = 64 * 1024


class Channel(asyncio.Protocol):
    """A connection that is read by numbers of bytes.

    Attributes:
        transport: Of the connection, TLS's where it has some.
    """

    transport: asyncio.Transport

    def __init__(self) -> None:
        self._made = False
        self._paused = False
        self._data = bytearray()
        self._waiting: asyncio.Future[None] | None = None
        self._ended = False
        self._error: Exception | None = None

    @property
    def certificate(self) -> bytes | None:
        """The other end's certificate, DER; None without TLS."""
        tls: ssl.SSLObject | None = self.transport.get_extra_info("ssl_object")
        return None if tls is None else tls.getpeercert(binary_form=True)

    async def read(self, count: int) -> bytes:
        """Return the next `count` bytes.

        Raises:
            EOFError: There are fewer.
            OSError: From the connection.
        """
        while len(self._data) < count:
            if self._error is not None:
                raise self._error
            if self._ended:
                raise EOFError
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting
        found = bytes(self._data[:count])
        del self._data[:count]
        return found

    def write(self, data: bytes) -> None:
        """Send bytes; a handshake has few."""
        if not self.transport.is_closing():
            self.transport.write(data)

    def become(self, protocol: asyncio.BaseProtocol) -> asyncio.Transport:
        """Give the connection to `protocol`, with what has come and was not read.

        Raises:
            ConnectionResetError: It has ended.
        """
        transport = self.transport
        if self._ended or transport.is_closing():
            raise ConnectionResetError("the connection has ended")
        self._made = False
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if self._data:
            cast("asyncio.Protocol", protocol).data_received(bytes(self._data))
            self._data.clear()
        if self._paused:
            transport.resume_reading()
        return transport

    def streams(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Give the connection to a reader and a writer; see `become`."""
        reader = asyncio.StreamReader(_LIMIT_BYTES)
        protocol = asyncio.StreamReaderProtocol(reader)
        transport = self.become(protocol)
        return reader, asyncio.StreamWriter(transport, protocol, reader, asyncio.get_running_loop())

    def close(self) -> None:
        """Close the connection when what was written has been sent."""
        self._made = False
        self.transport.close()

    def abort(self) -> None:
        """Close the connection now, if it is still the channel's."""
        if self._made:
            self.transport.abort()

    # --- the protocol ----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # The transport of uvloop inherits from no asyncio class.
        self.transport = cast("asyncio.Transport", transport)
        self._made = True

    def data_received(self, data: bytes) -> None:
        self._data += data
        if len(self._data) > _MOST_WAITING_BYTES:
            self._paused = True
            self.transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        self._ended = True
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended, self._error = True, exc
        self._wake()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)
