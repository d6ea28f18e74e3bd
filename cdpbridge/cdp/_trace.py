"""Turns recording on: `connect(record=N)` for the last N messages, `CDPBRIDGE_TRACE=file` for all of them in a file."""

from __future__ import annotations

import logging
import os
import time
from typing import Final, TextIO

from cdpbridge.cdp._recorder import RecordedTransport, Recorder
from cdpbridge.cdp._transport import Transport
from cdpbridge.errors import ConfigurationError

__all__ = ["Recording"]

logger = logging.getLogger("cdpbridge")

_VARIABLE: Final = "CDPBRIDGE_TRACE"


class Recording:
    """Records the transports of one connection, one after another; does nothing at all when recording is off.

    Args:
        record: How many of the last messages to keep.

    Attributes:
        recorder: None when nothing is recorded.
    """

    def __init__(self, record: int) -> None:
        if record < 0:
            raise ConfigurationError(f"record must be 0 or more messages, not {record}")
        self._path = os.environ.get(_VARIABLE)
        self._file: TextIO | None = None
        self.recorder: Recorder | None = None
        if record or self._path:
            self.recorder = Recorder(record, clock=time.time, write=self._write if self._path else None)

    def wrap(self, transport: Transport) -> Transport:
        """Return the transport with the recorder before it; the transport itself when nothing is recorded.

        Raises:
            ConfigurationError: The file cannot be written; the transport is aborted then.
        """
        if self.recorder is None:
            return transport
        if self._path:
            try:
                self._file = _open(self._path)
            except OSError as error:
                transport.abort()
                raise ConfigurationError(f"{_VARIABLE}: {error}") from error
        return RecordedTransport(transport, self.recorder, done=self._close)

    def _write(self, line: str) -> None:
        file = self._file
        if file is None:
            return
        try:
            file.write(line + "\n")
        except OSError as error:
            logger.warning("cannot write the trace file; tracing stopped: %s", error)
            self._close()

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except OSError as error:
                logger.warning("cannot write the end of the trace file: %s", error)


def _open(path: str) -> TextIO:
    """Open a file to append lines, each in one write so that connections may share it; only its owner may read it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    return open(descriptor, "w", buffering=1, encoding="utf-8", errors="backslashreplace")  # noqa: PTH123  # a descriptor
