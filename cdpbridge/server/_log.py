"""The log of a server process."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Final
from uuid import UUID

from cdpbridge.errors import ConfigurationError

__all__ = ["ABOUT_PROGRAM", "Repeats", "log_to_file", "log_to_stderr", "logging_to"]

ABOUT_PROGRAM: ContextVar[UUID | None] = ContextVar("ABOUT_PROGRAM", default=None)
"""The program whose request is being served, of those that share a server; also in the tasks that the request has started."""

_VARIABLE: Final = "CDPBRIDGE_LOG"
_FORMAT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_MOST_BYTES: Final = 2_000_000
_STDERR: Final = 2
# uvicorn warns of each request that it cannot parse, and of each that our protocol refuses: a peer would fill the log.
_FROM_PEERS: Final = "uvicorn.error"
_REPEAT_SECONDS: Final = 60.0


class Repeats(logging.Filter):
    """Passes a warning that peers cause once in a while, with the number of those that it has held back since.

    Args:
        seconds: Between two warnings of the same text.
        clock: Monotonic, seconds.
    """

    def __init__(
        self, seconds: float = _REPEAT_SECONDS, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self._seconds = seconds
        self._clock = clock
        self._passed: dict[
            str, tuple[float, int]
        ] = {}  # by text, of which the logger has few: when, and how many since

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is logged; it may get a longer text."""
        if record.levelno != logging.WARNING:
            return True
        now, text = self._clock(), str(record.msg)
        at, held = self._passed.get(text, (float("-inf"), 0))
        if now - at < self._seconds:
            self._passed[text] = at, held + 1
            return False
        self._passed[text] = now, 0
        if held:
            record.msg = f"{text} ({held} more since the last line of this)"
        return True


_REPEATS: Final = Repeats()


def _bound_what_peers_cause() -> None:
    logging.getLogger(_FROM_PEERS).addFilter(_REPEATS)  # a second time, it does nothing


def log_to_stderr(*, quiet: bool = False) -> None:
    """Write the log to standard error: warnings of everything, and of cdpbridge what `CDPBRIDGE_LOG` names.

    Args:
        quiet: Warnings only, whatever the environment says: for an owner that repeats them as its own.

    Other libraries stay at WARNING: at DEBUG they write what they carry, and that is keys, tokens and rows.

    Raises:
        ConfigurationError: `CDPBRIDGE_LOG` is no level.
    """
    logging.basicConfig(level=logging.WARNING, format=_FORMAT)
    _bound_what_peers_cause()
    level = os.environ.get(_VARIABLE)
    if quiet or not level:
        return
    levels = logging.getLevelNamesMapping()
    if level.upper() not in levels:
        raise ConfigurationError(f"{_VARIABLE} is {level!r}; set it to one of {', '.join(levels)}")
    ours = logging.getLogger("cdpbridge")
    ours.setLevel(levels[level.upper()])
    ours.debug("the level of this log is %s", level.upper())


class _File(RotatingFileHandler):
    """A file of at most 2 MB, and the one before it. Standard error is the same file, for what is not logged."""

    def _open(self) -> TextIOWrapper:
        path = self.baseFilename
        file = open(path, "a", encoding="utf-8", opener=lambda name, flags: os.open(name, flags, 0o600))  # noqa: SIM115  # of the handler
        os.dup2(file.fileno(), _STDERR)
        return file


def log_to_file(path: Path) -> None:
    """Write the log, and standard error, to a file from now on: warnings of everything.

    Raises:
        OSError: The file cannot be written.
    """
    handler = _File(path, maxBytes=_MOST_BYTES, backupCount=1)
    logging.basicConfig(level=logging.WARNING, format=_FORMAT, handlers=[handler], force=True)
    _bound_what_peers_cause()


class _ToLoop(logging.Handler):
    """Calls a function in the event loop with what is logged, and whom it is about."""

    def __init__(self, tell: Callable[[UUID | None, int, str], None]) -> None:
        super().__init__(logging.WARNING)
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self.setFormatter(logging.Formatter("%(message)s"))

    def filter(self, record: logging.LogRecord) -> bool:
        # What asyncio says about a connection to a program would be sent through it.
        return record.name != "asyncio"

    def emit(self, record: logging.LogRecord) -> None:
        self._loop.call_soon_threadsafe(self._tell, ABOUT_PROGRAM.get(), record.levelno, self.format(record))


@contextmanager
def logging_to(tell: Callable[[UUID | None, int, str], None]) -> Iterator[None]:
    """Call a function with each warning, in the running loop: the program that it is about, the level, and the text."""
    handler = _ToLoop(tell)
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
