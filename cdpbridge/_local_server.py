"""The embedded server as a child process, for `local()`. It lives as long as its standard input is open."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping
from datetime import timedelta
from importlib.util import find_spec
from typing import IO, Any, Final
from weakref import WeakSet

from cdpbridge.errors import ConfigurationError

from ._concurrency import in_pool

__all__ = ["ServerProcess", "check_installed"]

logger = logging.getLogger("cdpbridge.server")

_READY: Final = "cdpbridge: serving "
_START_TIMEOUT: Final = timedelta(seconds=60)  # imports on a busy machine; normally 1 to 2 s
# Browsers are closed, profiles saved: at most the server's own bounds, and some seconds for a slow disk.
_STOP_TIMEOUT: Final = timedelta(seconds=30)
_KEY_BYTES: Final = 24
_ERROR_LINES: Final = 30
# Where and for whom it serves is ours to say.
_FIXED: Final = ("host", "port", "public_url", "api_keys")


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
        _running.add(process)

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
    async def start(
        cls, settings: Mapping[str, Any], *, meanwhile: Callable[[], object] = bool
    ) -> ServerProcess:
        """Start it and wait until it serves.

        Args:
            settings: As in the settings' table, JSON values only; anything it can read as such.
            meanwhile: Work for another thread while the server starts, e.g. imports.

        Raises:
            ConfigurationError: It could not start; its own words say why.
        """
        _check(settings)
        api_key = secrets.token_urlsafe(_KEY_BYTES)
        given = dict(settings) | {"host": "127.0.0.1", "port": 0, "api_keys": api_key}
        process = await asyncio.to_thread(_spawn)
        try:
            errors = _collect_errors(process)
            base_url, _ = await asyncio.wait_for(
                asyncio.gather(
                    asyncio.to_thread(_wait_ready, process, json.dumps(given, default=str)),
                    asyncio.to_thread(meanwhile),
                ),
                _START_TIMEOUT.total_seconds(),
            )
        except BaseException as error:
            process.kill()
            await in_pool(_close_pipes, process)
            if isinstance(error, TimeoutError):
                raise ConfigurationError(
                    f"the embedded server did not start within {_START_TIMEOUT.total_seconds():g} s: "
                    + (errors.text() or "it wrote nothing")
                ) from error
            raise
        if base_url is None:
            await asyncio.to_thread(_close_pipes, process)
            words = errors.text() or f"it ended with status {process.returncode} and wrote nothing"
            raise ConfigurationError(f"the embedded server could not start: {words}")
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


def _forked() -> None:
    """Close the pipes in a fork: the server lives as long as its standard input is open, and that is for the parent to decide."""
    for process in _running:
        if process.stdin is not None:
            process.stdin.close()


_running: WeakSet[subprocess.Popen[str]] = WeakSet()
if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_forked)


class _Errors:
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


def check_installed() -> None:
    """Raise ConfigurationError unless browsers can run here: on Linux or macOS, with the packages of the extra `local`."""
    if sys.platform == "win32":
        raise ConfigurationError(
            "browsers on this machine need Linux or macOS; on Windows, run the server in WSL, or use one elsewhere: "
            "at(base_url, api_key), or CDPBRIDGE_BASE_URL"
        )
    missing = [
        name for name in ("fastapi", "sqlalchemy", "uvicorn", "pydantic_settings") if find_spec(name) is None
    ]
    if missing:
        raise ConfigurationError(
            f"browsers on this machine need more packages ({', '.join(missing)}): pip install 'cdpbridge[local]'"
        )


def _check(settings: Mapping[str, Any]) -> None:
    check_installed()
    ours = [name for name in _FIXED if name in settings]
    if ours:
        raise ConfigurationError(
            f"local() chooses {', '.join(ours)} itself; to choose, run `cdpbridge serve` and use at(base_url, api_key)"
        )


def _spawn() -> subprocess.Popen[str]:
    environment = {
        name: value
        for name, value in os.environ.items()
        if name.upper() not in {f"CDPBRIDGE_{setting.upper()}" for setting in _FIXED}
    }
    return subprocess.Popen(
        [sys.executable, "-m", "cdpbridge.server", "--owned"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,  # Ctrl-C is for the program, which then stops its browsers over the API
    )


def _collect_errors(process: subprocess.Popen[str]) -> _Errors:
    assert process.stderr is not None
    return _Errors(process.stderr)


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
