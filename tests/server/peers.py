"""Peers without a key, on raw sockets."""

import asyncio
from contextlib import suppress

import psutil


class Peer:
    """A hand-written client."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    async def send(self, data):
        """Send all of it; False once the server has closed the connection."""
        try:
            self.writer.write(data)
            await self.writer.drain()
        except ConnectionError:
            return False
        return True

    async def answer(self, timeout=60):
        """Head and body up to the server's end of the connection, as far as they came."""
        received = b""
        async with asyncio.timeout(timeout):
            with suppress(ConnectionError):
                while chunk := await self.reader.read(65_536):
                    received += chunk
        return received

    async def status(self, timeout=60):
        """The status of the next answer; None when the connection ends without one."""
        async with asyncio.timeout(timeout):
            try:
                line = await self.reader.readline()
            except ConnectionError:
                return None
        return int(line.split()[1]) if line else None

    async def closed(self, timeout=60):
        """Wait for the server's end; what it said before."""
        return await self.answer(timeout)

    def close(self):
        self.writer.transport.abort()


class Target:
    """A running server as its peers see it."""

    def __init__(self, server):
        self.server = server
        # Where it listens; the address that it says may be one in front of it.
        sockets = psutil.Process(server.process.pid).net_connections("tcp")
        self.host, self.port = next(each.laddr for each in sockets if each.status == psutil.CONN_LISTEN)
        self.authority = f"{self.host}:{self.port}"
        self.root = f"http://{self.authority}"
        self.peers = []

    async def connect(self, first=b""):
        peer = Peer(*await asyncio.open_connection(self.host, self.port))
        self.peers.append(peer)
        if first:
            await peer.send(first)
        return peer

    def head(self, line="GET /healthz", *headers):
        fields = [f"{line} HTTP/1.1", f"Host: {self.authority}", *headers]
        return "\r\n".join(fields).encode() + b"\r\n\r\n"

    def upgrade(self, path):
        return self.head(
            f"GET {path}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: MDEyMzQ1Njc4OTAxMjM0NQ==",
        )

    def rss(self):
        """MiB of memory of the server process."""
        return psutil.Process(self.server.process.pid).memory_info().rss / 2**20

    def sockets(self):
        """TCP connections of the server process."""
        return len([each for each in psutil.Process(self.server.process.pid).net_connections() if each.raddr])

    async def serves(self, timeout=60):
        """Another client is served."""
        peer = Peer(*await asyncio.wait_for(asyncio.open_connection(self.host, self.port), timeout))
        try:
            await peer.send(self.head("GET /healthz", "Connection: close"))
            return (await peer.answer(timeout)).startswith(b"HTTP/1.1 200 ")
        finally:
            peer.close()

    def close(self):
        for peer in self.peers:
            peer.close()
