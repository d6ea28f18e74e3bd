"""What a tunnel must know of a browser before it opens, asked for at once: a browser far away answers after a round trip."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit, urlunsplit

from cdpbridge._concurrency import mark_retrieved, to_the_end
from cdpbridge.cdp import resolve
from cdpbridge.cdp._ahead import SocketAhead
from cdpbridge.cdp._endpoint import Endpoint, connecting, websocket_address
from cdpbridge.cdp._http import Response

from ._opening import CONNECT_TIMEOUT, OpenedAhead
from ._server_disk import ServerDisk

__all__ = ["FoundBrowser", "find_browser"]


@dataclass(frozen=True, slots=True, repr=False)
class FoundBrowser:
    """A browser that can be reached.

    Attributes:
        socket: Its WebSocket.
        base: What the `/json` endpoints and page sockets are below.
        disk: Its disk, on a server of ours; None elsewhere.
        version: What its `/json/version` said, if it was asked.
        ahead: A socket for the first client.
        opened: A WebSocket for it, on a server of ours when one was sure to come.
    """

    socket: SplitResult
    base: SplitResult
    disk: ServerDisk | None
    version: Response | None
    ahead: SocketAhead
    opened: OpenedAhead | None

    async def close(self) -> None:
        """Close what was opened to find it."""
        self.ahead.drop()
        if self.opened is not None:
            self.opened.drop()
        if self.disk is not None:
            await self.disk.close()


async def find_browser(address: str, *, client_comes: bool = False) -> FoundBrowser:
    """Ask an address where its browser's WebSocket is, and for its disk.

    Args:
        client_comes: At once. Servers of ours open WebSockets at the address itself: one is asked for meanwhile.

    Raises:
        ConnectFailed: It cannot be reached.
        ConfigurationError: This is no address.
    """
    guess = _http(_base(address, urlsplit(websocket_address(address))))
    ahead = SocketAhead(guess)
    opened = None
    if client_comes and urlsplit(guess).path:
        opened = OpenedAhead(websocket_address(address), ahead)
    asking = asyncio.ensure_future(_endpoint(address))
    asking.add_done_callback(mark_retrieved)
    finding = asyncio.ensure_future(ServerDisk.find(guess))
    disk: ServerDisk | None = None
    try:
        await asyncio.wait({asking, finding}, return_when=asyncio.FIRST_EXCEPTION)
        await asyncio.wait({asking})  # its failure says more than the other's
        endpoint = asking.result()
        disk = finding.result()
        socket = urlsplit(endpoint.url)
        base = _base(address, socket)
        if (there := _http(base)) != guess:  # the discovery has named another path
            if disk is not None:
                await disk.close()
            disk = await ServerDisk.find(there)
        if opened is not None and (disk is None or there != guess):
            opened.drop()  # another service may want the client's headers
            opened = None
    except BaseException:
        ahead.drop()
        if opened is not None:
            opened.drop()
        asking.cancel()
        finding.cancel()
        await to_the_end(asyncio.wait({asking, finding}))
        if not finding.cancelled() and finding.exception() is None and (disk := finding.result()) is not None:
            await disk.close()
        raise
    return FoundBrowser(socket, base, disk, endpoint.version, ahead, opened)


async def _endpoint(address: str) -> Endpoint:
    async with connecting(address, CONNECT_TIMEOUT) as progress:
        return await resolve(address, progress=progress)


def _base(address: str, socket: SplitResult) -> SplitResult:
    prefix = socket.path.partition("/devtools/")[0] if "/devtools/" in socket.path else urlsplit(address).path
    return socket._replace(path=prefix.rstrip("/"))


def _http(base: SplitResult) -> str:
    return urlunsplit(base._replace(scheme="https" if base.scheme == "wss" else "http"))
