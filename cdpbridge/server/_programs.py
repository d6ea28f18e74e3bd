"""`Programs`: the programs with `local()` that share this server, from their hello to the end of what they have rented.

The first one has started the server and is connected to it from the start; the others connect to a Unix socket beside the lock of
the data folder, which only processes of the same user may. A connection is its program's dead-man switch: when it ends, the
program's key does, and its browsers are stopped and settled. The last program's end is the server's, some seconds later.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Final
from uuid import UUID

from cdpbridge._concurrency import TaskSet
from cdpbridge._embedded._folder import Kind, make_socket_folder, note_holder, socket_path
from cdpbridge._embedded._hello import MAX_LINE, Answer, Hello, OtherProtocol, line_of, peer_uid
from cdpbridge.errors import ConfigurationError
from cdpbridge.server._log import logging_to
from cdpbridge.server.settings import Settings

if TYPE_CHECKING:
    from cdpbridge.server.routes import Services

__all__ = ["Programs"]

logger = logging.getLogger("cdpbridge.server")

_BACKLOG: Final = 128
_HELLO_SECONDS: Final = 10.0
_CHUNK: Final = 4096
# A program that does not read what is said to it misses it; the log file has everything.
_MOST_UNREAD_BYTES: Final = 65_536
# What each order brings with it, from the settings of its program; and where the server serves.
_MAY_DIFFER: Final = (
    "api_keys",
    "data_dir",
    "default_proxy_country",
    "files",
    "host",
    "port",
    "proxies",
    "working_dir",
)


class Programs:
    """The programs that share a server.

    Args:
        settings: Of the server, and of the program that has started it.
        starter: The connection to that program, whose hello was read.
        load: Returns the settings that a program was given.
    """

    def __init__(self, settings: Settings, starter: socket.socket, load: Callable[[Hello], Settings]) -> None:
        self._settings = settings
        self._starter = starter
        self._load = load
        self._tasks = TaskSet(logger)
        # Of programs whose rentals may not have ended.
        self._joined: dict[UUID, asyncio.StreamWriter] = {}
        self._writers: set[asyncio.StreamWriter] = set()
        self._grace: asyncio.TimerHandle | None = None

    @asynccontextmanager
    async def joining(self, services: Services, base_url: str, stop: asyncio.Event) -> AsyncIterator[None]:
        """Let programs join; at the end of the block the socket is removed, and connections stay open until `close`.

        Args:
            base_url: Of the REST API.
            stop: Set when the last program has left, and none has joined after it.

        Where no socket can be made, e.g. on a file system without them, the log says so, and the first program is the only one.
        """
        self._services, self._base_url, self._stop = services, base_url, stop
        with self._listening() as listening, logging_to(self._tell):
            self._tasks.start(self._serve(self._starter, self._settings), "the first program's connection")
            if listening is not None:
                self._tasks.start(self._accept(listening), "the socket of programs that join")
            try:
                yield
            finally:
                await self._tasks.cancel()

    @contextmanager
    def _listening(self) -> Iterator[socket.socket | None]:
        """Listen for programs; the file is removed at the end, while this server still holds its data folder."""
        folder = self._settings.data_dir
        path = socket_path(folder)
        with socket.socket(socket.AF_UNIX) as listening:
            try:
                make_socket_folder(path)
                path.unlink(missing_ok=True)  # of a server that was killed
                listening.bind(str(path))
                path.chmod(0o600)
                listening.listen(_BACKLOG)
                listening.setblocking(False)
            except OSError as error:
                logger.warning(
                    "other programs cannot join the server of data_dir %s, since there is no socket at %s: %s",
                    folder,
                    path,
                    error.strerror or error,
                )
                note_holder(folder, Kind.PRIVATE)
                yield None
                return
            try:
                yield listening
            finally:
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the connections: this server has ended."""
        self._starter.close()
        for writer in self._writers:
            writer.close()

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            connection, _ = await loop.sock_accept(listening)
            try:
                uid = peer_uid(connection)
            except OSError as error:
                logger.warning("a program could not join: %s", error)
                connection.close()
                continue
            if uid != os.geteuid():
                logger.warning("a process of user %d tried to join; a server is for one user", uid)
                connection.close()
                continue
            self._tasks.start(self._serve(connection), "the connection of a program")

    async def _serve(self, connection: socket.socket, settings: Settings | None = None) -> None:
        """Serve a program, from its hello to the end of what it has rented."""
        reader, writer = await asyncio.open_unix_connection(sock=connection, limit=MAX_LINE)
        self._writers.add(writer)
        ends = order_follows = False
        try:
            if settings is None:
                settings, order_follows = await self._welcome(reader, writer)
            if settings is not None:
                ends = await self._attend(reader, writer, settings, order_follows=order_follows)
        except OSError as error:  # before it was admitted
            logger.debug("a program that wanted to join: %s", error)
        if not ends:
            self._writers.discard(writer)
            writer.close()

    async def _welcome(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> tuple[Settings | None, bool]:
        """Read the hello; return the settings of a program that may join, and whether it orders at once. Another one has its answer."""
        refusal = ""
        try:
            async with asyncio.timeout(_HELLO_SECONDS):
                line = await reader.readline()
            if not line:
                return None, False
            hello = Hello.of(line)
            settings = self._load(hello)
            self._services.readable(settings)
            differing = settings.contradictions(self._settings, apart_from=_MAY_DIFFER)
            if differing and self._grace is not None:
                # No program is left that wants the settings of this server: the next one has the folder.
                self._stop.set()
            if not differing or self._stop.is_set():
                if not self._stop.is_set():
                    return settings, hello.order_follows
                _send(writer, Answer(os.getpid(), ending=True).line())
                return None, False
            refusal = (
                f"the running server of data_dir {self._settings.data_dir} (process {os.getpid()}) has other settings than this "
                f"program: {'; '.join(differing)}. Give the same or none, or take a server of your own: local(private=True), with "
                "another `data_dir`"
            )
        except OtherProtocol as error:
            logger.info("a program of another version wanted to join: %s", error)
        except ConfigurationError as error:
            refusal = str(error)
        except (TimeoutError, ValueError, LookupError, TypeError) as error:
            logger.warning("a program has not said what this server expects, so it cannot join: %s", error)
            return None, False
        _send(writer, Answer(os.getpid(), refusal=refusal).line())
        return None, False

    async def _attend(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        settings: Settings,
        *,
        order_follows: bool,
    ) -> bool:
        """Let a program rent until its connection ends, and end what it has rented; return True if the server ends with it.

        Args:
            order_follows: It has joined, and orders at once; for the one that has started the server, a browser was started then.
        """
        if self._grace is not None:
            self._grace.cancel()
            self._grace = None
        accounts = self._services.accounts
        program, key = accounts.admit(settings, readable=self._services.readable(settings))
        self._joined[program.id] = writer
        if order_follows and self._settings.starts_ahead:
            self._services.hosts.start_ahead(program.readable)
        _send(writer, Answer(os.getpid(), self._base_url, key).line())
        with suppress(OSError):  # its process has ended
            while await reader.read(_CHUNK):
                pass
        await accounts.dismiss(program, stop=self._services.rentals.stop)
        del self._joined[program.id]
        if self._joined:
            return False
        grace = self._settings.local_grace_seconds
        if grace:
            self._grace = asyncio.get_running_loop().call_later(grace, self._stop.set)
            return False
        self._stop.set()
        # Its connection ends with this server, so that a program which leaves can wait for that.
        _send(writer, line_of({"ends": True}))
        return True

    def _tell(self, program: UUID | None, level: int, text: str) -> None:
        """Send a line of the log to the program that it is about; to all when it is about none."""
        writers = [*self._joined.values()] if program is None else [self._joined.get(program)]
        for writer in writers:
            if writer is not None and writer.transport.get_write_buffer_size() < _MOST_UNREAD_BYTES:
                _send(writer, line_of({"level": level, "log": text}))


def _send(writer: asyncio.StreamWriter, line: bytes) -> None:
    """Send a line, unless the connection is closed: its program has ended, which its reader notices."""
    if not writer.is_closing():
        writer.write(line)
