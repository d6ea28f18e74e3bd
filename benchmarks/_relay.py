"""The barest relay that an event loop can have, as a process: bytes are written as they come, and nothing is looked at.

python benchmarks/_relay.py [--uvloop] HOST PORT
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast


class _Side(asyncio.Protocol):
    def __init__(self) -> None:
        self.other: asyncio.Transport | None = None
        self.transport: asyncio.Transport | None = None
        self.early = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's inherits from no asyncio class

    def data_received(self, data: bytes) -> None:
        if self.other is None:
            self.early += data
        else:
            self.other.write(data)

    def connection_lost(self, _reason: Exception | None) -> None:
        if self.other is not None:
            self.other.close()


class _Accepted(_Side):
    def __init__(self, host: str, port: int) -> None:
        super().__init__()
        self._target = (host, port)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._dialling = asyncio.ensure_future(self._dial())

    async def _dial(self) -> None:
        transport, dialled = await asyncio.get_running_loop().create_connection(_Side, *self._target)
        dialled.other = self.transport
        transport.write(bytes(self.early))
        self.other = transport


async def _serve(host: str, port: int) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: _Accepted(host, port), "127.0.0.1", 0)
    print(f"127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    arguments = sys.argv[1:]
    factory = None
    if arguments[0] == "--uvloop":
        del arguments[0]
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(_serve(arguments[0], int(arguments[1])))
