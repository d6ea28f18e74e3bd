"""From names to addresses, so that names whose servers do not answer hold up their own browser only.

uvloop resolves on the threads of libuv, two names at a time for the whole process (`uv__work_submit` of its threadpool.c), and
asyncio on the threads that also do the work with files. A page can name thousands of hosts that time out.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any, Final

from ._address import LOOPBACK_ADDRESSES, is_local_name, literal_address

__all__ = ["Resolver"]

# Chromium's own limit is 8 (HostResolverManager), 64 of a resolver that needs no threads.
_AT_ONCE: Final = 16

_Found = list[tuple[Any, ...]]


class Resolver:
    """Resolves the names of one browser, a bounded number at the same time."""

    def __init__(self) -> None:
        self._places = asyncio.Semaphore(_AT_ONCE)

    async def addresses(self, host: str, port: int) -> list[str]:
        """Return the addresses of `host`, each once. `localhost` is no resolver's matter, as in Chromium without a proxy.

        Raises:
            OSError: It has none, or is no name.
        """
        if is_local_name(host):
            return list(LOOPBACK_ADDRESSES)
        literal = literal_address(host)
        if literal is not None:
            return [literal]
        name = _name_for_resolver(host)
        loop = asyncio.get_running_loop()
        await self._places.acquire()
        if isinstance(loop, asyncio.BaseEventLoop):
            try:
                found = await loop.getaddrinfo(name, port, type=socket.SOCK_STREAM)
            finally:
                self._places.release()
        else:
            found = await self._in_a_thread(name, port)
        return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))

    def _in_a_thread(self, name: str | bytes, port: int) -> asyncio.Future[_Found]:
        """Resolve on a thread of its own, which the end of the program does not wait for; it keeps its place until it has ended."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_Found] = loop.create_future()

        def settle(found: _Found | OSError) -> None:
            self._places.release()
            if future.done():
                return
            if isinstance(found, OSError):
                future.set_exception(found)
            else:
                future.set_result(found)

        def resolve() -> None:
            found: _Found | OSError
            try:
                found = list(socket.getaddrinfo(name, port, type=socket.SOCK_STREAM))
            except OSError as error:
                found = error
            except UnicodeError:
                found = socket.gaierror(socket.EAI_NONAME, "not a name")
            if not loop.is_closed():
                loop.call_soon_threadsafe(settle, found)

        threading.Thread(target=resolve, name="cdpbridge-resolver", daemon=True).start()
        return future


def _name_for_resolver(host: str) -> str | bytes:
    """Return a name as `getaddrinfo` takes it: Python's codec refuses some ASCII names, and raises no OSError then."""
    try:
        host.encode("idna")
    except UnicodeError:
        if not host.isascii():  # only an upstream's: Chromium has encoded the names of pages
            raise socket.gaierror(socket.EAI_NONAME, "not a name") from None
        return host.encode()
    return host
