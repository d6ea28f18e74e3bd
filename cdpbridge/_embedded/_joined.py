"""`JoinedServer`: a server that this program shares with others, at the program's end of the connection."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Final

from cdpbridge.errors import ConfigurationError

from ._forks import close_in_forks
from ._hello import Answer, Hello, network_id, peer_uid, receive_line

__all__ = ["JoinedServer", "converse", "join"]

logger = logging.getLogger("cdpbridge.server")

_ANSWER_SECONDS: Final = 20.0  # a server that runs answers in milliseconds
# Browsers are closed, profiles saved: at most the server's own bounds, and some seconds for a slow disk.
_LEAVE_TIMEOUT: Final = timedelta(seconds=30)
_ABSENT: Final = (errno.ENOENT, errno.ECONNREFUSED, errno.ENOTDIR)


class JoinedServer:
    """A running server that this program shares with others of the same user.

    Args:
        connection: To the server, which has answered. It is closed in forks: the program's death is what the server waits for.
        answer: Of the server.
        reap: Of a server that this program has started: waits so many seconds for the end of the process.

    Attributes:
        base_url: Of its REST API.
        api_key: Valid for this program, until it leaves.
        pid: Of the server.
    """

    def __init__(
        self, connection: socket.socket, answer: Answer, reap: Callable[[float], object] | None = None
    ) -> None:
        self.base_url = answer.base_url
        self.api_key = answer.api_key
        self.pid = answer.pid
        self._connection = connection
        self._reap = reap
        self._over = threading.Event()
        # Of the whole server, which ends with this program.
        self._server_ends = False
        close_in_forks(connection)
        threading.Thread(target=self._read, name="cdpbridge-server", daemon=True).start()

    def __repr__(self) -> str:
        return f"<JoinedServer {self.pid} {self.base_url}>"

    @property
    def ended(self) -> bool:
        """True once the connection has ended, and with it what was rented through it."""
        if self._over.is_set():
            return True
        try:
            return not self._connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True

    async def stop(self) -> None:
        """Leave: return when what this program has rented is stopped and saved."""
        with suppress(OSError):  # it has ended
            self._connection.shutdown(socket.SHUT_WR)
        if not await asyncio.to_thread(self._over.wait, _LEAVE_TIMEOUT.total_seconds()):
            logger.error(
                "the embedded server (process %d) has not said within %g s that the browsers of this program have stopped",
                self.pid,
                _LEAVE_TIMEOUT.total_seconds(),
            )
        self._connection.close()
        if self._server_ends and self._reap is not None:
            await asyncio.to_thread(self._reap, _LEAVE_TIMEOUT.total_seconds())

    def _read(self) -> None:
        """Log what the server says about this program, until the connection ends."""
        try:
            while line := receive_line(self._connection):
                found = json.loads(line)
                if "log" in found:
                    logger.log(found["level"], "%s", found["log"])
                self._server_ends = self._server_ends or found.get("ends", False)
        except (OSError, ValueError) as error:
            logger.debug("the connection to the embedded server: %s", error)
        finally:
            self._over.set()


async def join(path: Path, hello: Hello) -> JoinedServer | None:
    """Join the server that listens on a socket; None if there is none, or it is about to end.

    Raises:
        OtherProtocol: It is of a version that joins differently.
        ConfigurationError: It is another user's, refuses this program, or does not answer.
    """
    connection = socket.socket(socket.AF_UNIX)
    try:
        try:
            # Connecting to a Unix socket takes no time, but for a full backlog, which is an error then.
            connection.setblocking(False)
            connection.connect(str(path))
            connection.setblocking(True)
            _check_peer(connection, path)
            answer = await converse(connection, hello, _ANSWER_SECONDS)
        except TimeoutError as error:
            raise ConfigurationError(
                f"the server that is joined at {path} has not answered within {_ANSWER_SECONDS:g} s; end its process, whose id is in "
                "the file `lock` of the data folder"
            ) from error
        except BlockingIOError:
            connection.close()
            return None
        except OSError as error:
            # A server that ends resets the connections that it has not accepted.
            if error.errno not in (*_ABSENT, errno.ECONNRESET, errno.EPIPE):
                raise ConfigurationError(f"the server at {path} cannot be joined: {error}") from error
            connection.close()
            return None
        if answer is None or answer.ending:
            connection.close()
            return None
        if answer.refusal:
            raise ConfigurationError(answer.refusal)
        if answer.network != network_id():
            raise ConfigurationError(
                f"the server that is joined at {path} runs in another container or network namespace, where this program cannot "
                "reach its browsers; choose another `data_dir`"
            )
    except BaseException:
        connection.close()
        raise
    return JoinedServer(connection, answer)


def _check_peer(connection: socket.socket, path: Path) -> None:
    if (uid := peer_uid(connection)) != os.geteuid():
        raise ConfigurationError(
            f"the server that is joined at {path} runs as user {uid}, and this program as {os.geteuid()}; each user has own "
            "servers: choose another `data_dir`"
        )


async def converse(connection: socket.socket, hello: Hello, seconds: float) -> Answer | None:
    """Return the answer to a hello; None if the connection ended without one.

    Raises:
        TimeoutError: There was none in time.
        OtherProtocol: The server has another protocol.
        OSError: The connection failed.
    """
    line = hello.line()
    # At once, before threads that import what comes next take their turns; it is the rest of a long one that has to wait.
    try:
        sent = connection.send(line, socket.MSG_DONTWAIT)
    except BlockingIOError:
        sent = 0

    def in_thread() -> bytes:
        connection.sendall(line[sent:])
        return receive_line(connection)

    try:
        answer = await asyncio.wait_for(asyncio.to_thread(in_thread), seconds)
    except BaseException:
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)  # for the thread, which waits for it
        raise
    return Answer.of(answer) if answer else None
