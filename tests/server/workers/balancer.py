"""A TCP load balancer in front of servers of tests: to the first one that takes a connection."""

import asyncio
from contextlib import asynccontextmanager, suppress


class Balancer:
    """Where clients connect; `servers` are ports of loopback, in the order in which they are tried."""

    def __init__(self):
        self.servers = []
        self.port = 0
        self._tasks = set()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    @asynccontextmanager
    async def listening(self):
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader, writer):
        task = asyncio.current_task()
        self._tasks.add(task)
        try:
            for port in tuple(self.servers):
                with suppress(OSError):
                    there, back = await asyncio.open_connection("127.0.0.1", port)
                    await asyncio.gather(_copied(reader, back), _copied(there, writer))
                    return
        finally:
            self._tasks.discard(task)
            writer.close()


async def _copied(reader, writer):
    """Pass on until the one side ends; then the other is told."""
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()
