"""`Acceptor`: connections are accepted a few in each turn of the event loop, so that a burst of them holds up nothing else.

An event loop's own server accepts all that wait at once: 2,000 sockets of one peer were 0.1 s in which no message passed.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from cdpbridge._concurrency import TaskSet

__all__ = ["Acceptor"]

logger = logging.getLogger("cdpbridge.server")

# Each takes about 0.1 ms until its protocol waits for its first byte.
_AT_ONCE: Final = 8
_NO_DESCRIPTOR: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_PAUSE_SECONDS: Final = 0.2


class Acceptor:
    """Accepts on a socket from now on, until `close`.

    Args:
        listening: Bound, and listening. It is left open.
        protocol: Makes the protocol of a connection.
    """

    def __init__(self, listening: socket.socket, protocol: Callable[[], asyncio.Protocol]) -> None:
        listening.setblocking(False)
        self._listening = listening
        self._protocol = protocol
        self._opening = TaskSet(logger)
        self._task = asyncio.get_running_loop().create_task(self._accept(), name="accepting connections")

    def close(self) -> None:
        """Accept no more."""
        self._task.cancel()

    async def wait_closed(self) -> None:
        """Wait until nothing of it runs."""
        with suppress(asyncio.CancelledError):
            await self._task
        await self._opening.wait()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        short = False
        while True:
            try:
                accepted, _ = await loop.sock_accept(self._listening)
                self._open(accepted)
                self._open_more()
                short = False
            except OSError as error:
                if error.errno in _NO_DESCRIPTOR:
                    if not short:
                        logger.warning("no connection can be accepted: %s", error)
                    short = True
                    await asyncio.sleep(_PAUSE_SECONDS)
                # Else the connection has ended before it was accepted (accept(2)).
            # What has come meanwhile goes first.
            await asyncio.sleep(0)

    def _open_more(self) -> None:
        for _ in range(_AT_ONCE - 1):
            try:
                accepted, _ = self._listening.accept()
            except BlockingIOError:
                return
            self._open(accepted)

    def _open(self, accepted: socket.socket) -> None:
        accepted.setblocking(False)
        with suppress(OSError):  # no TCP, or it has ended
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._opening.start(self._connect(accepted), "a connection")

    async def _connect(self, accepted: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(self._protocol, accepted)
        except OSError as error:
            logger.debug("a connection has ended before it was open: %s", error)
            accepted.close()
        except BaseException:
            accepted.close()
            raise
