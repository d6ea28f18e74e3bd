"""`ServerProcess`: a server that only this program uses. It lives as long as its standard input is open."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import subprocess
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from cdpbridge._concurrency import in_pool

from . import _spawn
from ._forks import close_in_forks
from ._hello import ORDER_FOLLOWS

__all__ = ["ServerProcess"]

logger = logging.getLogger("cdpbridge.server")

_READY: Final = "cdpbridge: serving "
# Browsers are closed, profiles saved: at most the server's own bounds, and some seconds for a slow disk.
_STOP_TIMEOUT: Final = timedelta(seconds=30)
_KEY_BYTES: Final = 24


class ServerProcess:
    """A running server that only this process uses.

    Attributes:
        base_url: Of its REST API.
        api_key: Valid for this process only.
    """

    def __init__(self, process: subprocess.Popen[str], base_url: str, api_key: str) -> None:
        self.base_url = base_url
        self.api_key = api_key
        self._process = process
        assert process.stdin is not None
        close_in_forks(process.stdin)

    def __repr__(self) -> str:
        return f"<ServerProcess {self._process.pid} {self.base_url}>"

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def ended(self) -> bool:
        """True once it has ended, by us or by itself."""
        return self._process.poll() is not None

    @classmethod
    async def start(cls, settings: Mapping[str, Any], *, lock: int | None = None) -> ServerProcess:
        """Start it and wait until it serves.

        Args:
            settings: As in the settings' table, JSON values only; anything it can read as such. `beside`: why it works in a
                folder of its own beside the data folder, and keeps no profiles.
            lock: Descriptor that holds the lock of the data folder, for the server.

        Raises:
            ConfigurationError: It could not start; its own words say why.
        """
        api_key = secrets.token_urlsafe(_KEY_BYTES)
        given = dict(settings) | {
            "host": "127.0.0.1",
            "port": 0,
            "api_keys": api_key,
            "order_follows": ORDER_FOLLOWS.get(),
        }
        process = await in_pool(_spawn.spawn_own, lock)
        try:
            errors = _spawn.collect_errors(process)
            base_url = await asyncio.wait_for(
                asyncio.to_thread(_wait_ready, process, json.dumps(given, default=str)),
                _spawn.START_TIMEOUT.total_seconds(),
            )
        except BaseException as error:
            process.kill()
            await in_pool(_close_pipes, process)
            if isinstance(error, TimeoutError):
                raise _spawn.late(errors) from error
            raise
        if base_url is None:
            await asyncio.to_thread(_close_pipes, process)
            raise _spawn.failed(errors, process)
        errors.log()
        return cls(process, base_url, api_key)

    async def stop(self) -> None:
        """Ask it to stop its browsers, save their profiles and end; kill it after 30 s."""
        self._process.terminate()  # not by its standard input alone: a fork of ours may hold that open
        try:
            await asyncio.to_thread(self._process.wait, _STOP_TIMEOUT.total_seconds())
        except subprocess.TimeoutExpired:
            logger.error(  # noqa: TRY400  # the time-out says nothing more
                "the embedded server did not end within %g s; it is killed", _STOP_TIMEOUT.total_seconds()
            )
            self._process.kill()
            await asyncio.to_thread(self._process.wait)
        await asyncio.to_thread(_close_pipes, self._process)


def _wait_ready(process: subprocess.Popen[str], settings: str) -> str | None:
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(settings + "\n")
        process.stdin.flush()
    except BrokenPipeError:  # it has ended; its words are on stderr
        return None
    line = process.stdout.readline()
    return line.removeprefix(_READY).strip() if line.startswith(_READY) else None


def _close_pipes(process: subprocess.Popen[str]) -> None:
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            try:
                stream.close()
            except BrokenPipeError:  # unwritten bytes for a process that has exited
                logger.debug("the embedded server ended before it had read everything")
    process.wait()
