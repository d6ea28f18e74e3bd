"""The embedded server for `local()`: one that programs share, joined or started, or one of this program alone.

A shared server is started by the first program, which takes the lock of the data folder for it: who finds the lock taken joins
the server instead, and no two are started. Its first program is connected to it by its standard input. A server of one program
lives as long as its standard input is open.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, Final
from weakref import WeakSet

from cdpbridge.errors import ConfigurationError

from ._concurrency import in_pool, to_the_end
from ._data_folder import LOG_FILE, Holder, Kind, data_folder, holder_of, note_holder, socket_path, take
from ._environment import PREFIX, SERVER_SETTINGS, check_variables
from ._joined_server import JoinedServer, close_in_forks, converse, join
from ._joining import ORDER_FOLLOWS, Hello, OtherProtocol

__all__ = ["EmbeddedServer", "ServerProcess", "check_installed", "open_server", "program_settings"]

logger = logging.getLogger("cdpbridge.server")

_READY: Final = "cdpbridge: serving "
_START_TIMEOUT: Final = timedelta(seconds=60)  # imports on a busy machine; normally 1 to 2 s
# Browsers are closed, profiles saved: at most the server's own bounds, and some seconds for a slow disk.
_STOP_TIMEOUT: Final = timedelta(seconds=30)
_KEY_BYTES: Final = 24
_ERROR_LINES: Final = 30
# Where and for whom it serves is ours to say.
_FIXED: Final = ("host", "port", "public_url", "api_keys")
_FIXED_VARIABLES: Final = frozenset(f"{PREFIX}{name.upper()}" for name in _FIXED)
_VARIABLES: Final = frozenset(f"{PREFIX}{name.upper()}" for name in (*SERVER_SETTINGS, "config"))
# As long as a server that starts and one that ends before it.
_WAIT_TIMEOUT: Final = timedelta(seconds=90)
# A server whose program was killed notices it, and says that it ends, in much less.
_NOTICE_TIMEOUT: Final = timedelta(seconds=2)
_POLL_SECONDS: Final = 0.02


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
        process = await in_pool(_spawn_own, lock)
        try:
            errors = _collect_errors(process)
            base_url = await asyncio.wait_for(
                asyncio.to_thread(_wait_ready, process, json.dumps(given, default=str)),
                _START_TIMEOUT.total_seconds(),
            )
        except BaseException as error:
            process.kill()
            await in_pool(_close_pipes, process)
            if isinstance(error, TimeoutError):
                raise _late(errors) from error
            raise
        if base_url is None:
            await asyncio.to_thread(_close_pipes, process)
            raise _failed(errors, process)
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


EmbeddedServer = ServerProcess | JoinedServer
"""A server of `local()`: both have an address, a key, `pid`, `ended` and `stop()`."""


# --- which server -----------------------------------------------------------------------------------------------------


async def open_server(
    settings: Mapping[str, Any], *, meanwhile: Callable[[], object] = bool
) -> EmbeddedServer:
    """Join the server of the data folder; start it if there is none.

    Args:
        settings: Arguments of `local()`, those that were given. `private`: an own server.
        meanwhile: Work for another thread in that time, e.g. imports.

    Raises:
        ConfigurationError: It could not start, its own words say why; or it runs with other settings.
    """
    _check(settings)
    importing = asyncio.ensure_future(asyncio.to_thread(meanwhile))
    given = program_settings(settings)
    private = bool(given.pop("private", False))
    server = await _open(given, private=private)
    try:
        await importing
    except BaseException:
        await to_the_end(server.stop())
        raise
    return server


async def _open(settings: dict[str, Any], *, private: bool) -> EmbeddedServer:
    folder, is_named = data_folder(settings, os.environ)
    if private and not is_named:
        return await ServerProcess.start(settings | {"beside": _NO_FOLDER})
    settings = settings | {"data_dir": str(folder)}
    hello = Hello(settings, _variables(), ORDER_FOLLOWS.get())
    began = noticed = time.monotonic()
    while (lock := take(folder)) is None:
        if not private:
            try:
                joined = await join(socket_path(folder), hello)
            except OtherProtocol as error:
                return await _beside(settings, _other_protocol(folder, error))
            if joined is not None:
                return joined
        holder, now = holder_of(folder), time.monotonic()
        if _ends_or_serves_soon(holder, private=private):
            noticed = now
        over = timedelta(seconds=now - began) > _WAIT_TIMEOUT
        # A server whose program was killed a moment ago does not know yet that it ends; one that begins has not said what it is.
        if (
            over
            or (holder.kind is Kind.SERVER and not holder.ending)
            or timedelta(seconds=now - noticed) > _NOTICE_TIMEOUT
        ):
            words = _held(folder, holder, private=private)
            if is_named or holder.kind is Kind.SHARED:
                raise ConfigurationError(words)
            return await _beside(settings, words)
        await asyncio.sleep(_POLL_SECONDS)
    _locks.add(lock)
    try:
        note_holder(folder, Kind.PRIVATE if private else Kind.SHARED)
        if private:
            return await ServerProcess.start(settings, lock=lock)
        return await _start_shared(hello, lock)
    finally:
        _locks.discard(lock)
        os.close(lock)


def _ends_or_serves_soon(holder: Holder, *, private: bool) -> bool:
    return holder.ending or holder.kind is Kind.COMMAND or (holder.kind is Kind.SHARED and not private)


async def _beside(settings: Mapping[str, Any], why: str) -> ServerProcess:
    """Start a server of this program in a folder of its own, which keeps no profiles."""
    if "database_url" in settings or f"{PREFIX}DATABASE_URL" in {name.upper() for name in os.environ}:
        raise ConfigurationError(why)
    logger.warning("%s; this program gets a server of its own, without profiles", why)
    return await ServerProcess.start({**settings, "beside": why})


async def _start_shared(hello: Hello, lock: int) -> JoinedServer:
    """Start a server that others can join, and be its first program."""
    ours, theirs = socket.socketpair()
    close_in_forks(ours)
    try:
        with theirs:
            process = await in_pool(_spawn_shared, theirs, lock)
        errors = _collect_errors(process)
        # Waits for its end, whenever that is, so that no zombie stays.
        threading.Thread(target=process.wait, name="cdpbridge-server-end", daemon=True).start()
        try:
            answer = await converse(ours, hello, _START_TIMEOUT.total_seconds())
        except TimeoutError as error:
            process.kill()
            raise _late(errors) from error
        except OSError:  # it has ended
            answer = None
        if answer is None:
            await asyncio.to_thread(process.wait)
            log = Path(hello.settings["data_dir"], LOG_FILE)
            raise _failed(errors, process, f"; its log is {log}")
        if answer.refusal:
            raise ConfigurationError(f"the embedded server could not start: {answer.refusal}")
    except BaseException:
        ours.close()  # so it ends by itself, unless others have joined it
        raise
    errors.log()
    return JoinedServer(ours, answer, process.wait)


def _variables() -> dict[str, str]:
    """Return the variables of this program that are settings of its server."""
    check_variables(os.environ)
    return {
        name: str(Path(value).absolute()) if name.upper() == f"{PREFIX}CONFIG" and value else value
        for name, value in os.environ.items()
        if name.upper() in _VARIABLES - _FIXED_VARIABLES
    }


def program_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that a program gives a server, which works in another folder: its paths are absolute.

    Those by which isolated browsers see what a program and its user expect of browsers on their machine are added.
    """
    try:
        here = {"working_dir": str(Path.cwd())}
    except FileNotFoundError:  # it has been removed
        here = {}
    given = {
        name: str(_absolute(value)) if isinstance(value, Path) else value for name, value in settings.items()
    }
    for name in ("config", "working_dir"):
        if name in given:
            given[name] = str(_absolute(Path(given[name])))
    if "files" in given:
        given["files"] = [str(_absolute(Path(each))) for each in given["files"]]
    return {**here, "user_fonts_and_certificates": True} | given


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()


# --- what is said -----------------------------------------------------------------------------------------------------

_NO_FOLDER: Final = "local(private=True) keeps no profiles without a folder of its own; give it a `data_dir`"


def _late(errors: _Errors) -> ConfigurationError:
    return ConfigurationError(
        f"the embedded server did not start within {_START_TIMEOUT.total_seconds():g} s: "
        + (errors.text() or "it wrote nothing")
    )


def _failed(
    errors: _Errors, process: subprocess.Popen[str], otherwise: str = " and wrote nothing"
) -> ConfigurationError:
    words = errors.text() or f"it ended with status {process.returncode}{otherwise}"
    return ConfigurationError(f"the embedded server could not start: {words}")


def _other_protocol(folder: Path, error: OtherProtocol) -> str:
    return (
        f"the server of data_dir {folder} (process {holder_of(folder).pid}) is of another version of cdpbridge and joined by "
        f"{error}; let its programs end, or use the same version"
    )


def _held(folder: Path, holder: Holder, *, private: bool) -> str:
    owner = f"data_dir {folder} is used by another server (process {holder.pid or 'unknown'})"
    if holder.kind is Kind.SHARED and private:
        return f"{owner}, which programs of local() share; local(private=True) needs a `data_dir` of its own"
    if holder.kind is Kind.SHARED:
        return f"{owner}, which neither serves nor ends; end that process"
    if holder.kind is Kind.SERVER:
        return f"{owner}: `cdpbridge serve`; share it by its address as CDPBRIDGE_PROVIDER, or choose another `data_dir`"
    return f"{owner}; choose another `data_dir`, or share one server: `cdpbridge serve`, and its address as CDPBRIDGE_PROVIDER"


# --- processes --------------------------------------------------------------------------------------------------------


def _forked() -> None:
    """Close the pipes in a fork: the server lives as long as its standard input is open, and that is for the parent to decide."""
    for process in _running:
        if process.stdin is not None:
            process.stdin.close()
    for lock in _locks:
        os.close(lock)
    _locks.clear()


_running: WeakSet[subprocess.Popen[str]] = WeakSet()
# Held for a server that is being started.
_locks: set[int] = set()
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


def _spawn_own(lock: int | None) -> subprocess.Popen[str]:
    return _spawn("--owned", lock, _FIXED_VARIABLES, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def _spawn_shared(connection: socket.socket, lock: int) -> subprocess.Popen[str]:
    # Its settings come over the connection, as those of programs that join it later.
    return _spawn("--shared", lock, _VARIABLES, stdin=connection.fileno(), stdout=subprocess.DEVNULL)


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
