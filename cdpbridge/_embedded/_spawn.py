"""Processes of embedded servers: how they are started, and what they write."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Collection
from datetime import timedelta
from typing import IO, Final

from cdpbridge.errors import ConfigurationError

from ._settings import FIXED_VARIABLES, VARIABLES

__all__ = [
    "START_TIMEOUT",
    "Errors",
    "collect_errors",
    "failed",
    "late",
    "spawn_own",
    "spawn_shared",
]

logger = logging.getLogger("cdpbridge.server")

START_TIMEOUT: Final = timedelta(seconds=60)
"""Imports on a busy machine; normally less than a second."""
_ERROR_LINES: Final = 30


def spawn_own(lock: int | None) -> subprocess.Popen[str]:
    return _spawn("--owned", lock, FIXED_VARIABLES, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def spawn_shared(connection: socket.socket, lock: int) -> subprocess.Popen[str]:
    # Its settings come over the connection, as those of programs that join it later.
    return _spawn("--shared", lock, VARIABLES, stdin=connection.fileno(), stdout=subprocess.DEVNULL)


def _spawn(
    kind: str, lock: int | None, without: Collection[str], *, stdin: int, stdout: int
) -> subprocess.Popen[str]:
    held = () if lock is None else (lock,)
    return subprocess.Popen(  # noqa: S603  # our own command
        [sys.executable, "-m", "cdpbridge.server", kind, *(f"--lock-fd={each}" for each in held)],
        stdin=stdin,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        env={name: value for name, value in os.environ.items() if name.upper() not in without},
        pass_fds=held,
        # Signals of a terminal are for the program, which then stops its browsers over the API.
        start_new_session=True,
    )


def collect_errors(process: subprocess.Popen[str]) -> Errors:
    assert process.stderr is not None
    return Errors(process.stderr)


class Errors:
    """What it writes to stderr: kept for the message when it cannot start, logged from then on."""

    def __init__(self, stream: IO[str]) -> None:
        self._lines: deque[str] = deque(maxlen=_ERROR_LINES)
        self._stream = stream
        self._logged = False
        self._thread = threading.Thread(target=self._read, name="cdpbridge-server-log", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with self._stream:
            for line in self._stream:
                if self._logged:
                    logger.warning("%s", line.rstrip())
                else:
                    self._lines.append(line.rstrip())

    def text(self) -> str:
        """Return all that it wrote; it has ended."""
        self._thread.join(1)
        return "\n".join(self._lines).removeprefix("cdpbridge: ")

    def log(self) -> None:
        """Log what it writes from now on: it has started, so that is no reason for a failed start."""
        self._logged = True
        while self._lines:
            logger.warning("%s", self._lines.popleft())


def late(errors: Errors) -> ConfigurationError:
    return ConfigurationError(
        f"the embedded server did not start within {START_TIMEOUT.total_seconds():g} s: "
        + (errors.text() or "it wrote nothing")
    )


def failed(
    errors: Errors, process: subprocess.Popen[str], otherwise: str = " and wrote nothing"
) -> ConfigurationError:
    words = errors.text() or f"it ended with status {process.returncode}{otherwise}"
    return ConfigurationError(f"the embedded server could not start: {words}")
