"""`open_server`: which server `local()` uses. One that programs share, joined or started, or one of this program alone.

A shared server is started by the first program, which takes the lock of the data folder for it: who finds the lock taken joins
the server instead, and no two are started. Its first program is connected to it by its standard input.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from cdpbridge._concurrency import to_the_end
from cdpbridge._environment import PREFIX
from cdpbridge.errors import ConfigurationError

from ._folder import Holder, Kind, data_folder, holder_of, note_holder, socket_path, take
from ._forks import closed_in_forks
from ._hello import ORDER_FOLLOWS, Hello, OtherProtocol
from ._installed import check_installed
from ._joined import JoinedServer, join
from ._own import ServerProcess
from ._settings import check_settings, program_settings, program_variables
from ._shared import start_shared

__all__ = ["EmbeddedServer", "open_server"]

logger = logging.getLogger("cdpbridge.server")

# As long as a server that starts and one that ends before it.
_WAIT_TIMEOUT: Final = timedelta(seconds=90)
# A server whose program was killed notices it, and says that it ends, in much less.
_NOTICE_TIMEOUT: Final = timedelta(seconds=2)
_POLL_SECONDS: Final = 0.02

EmbeddedServer = ServerProcess | JoinedServer
"""A server of `local()`: both have an address, a key, `pid`, `ended` and `stop()`."""


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
    check_installed()
    check_settings(settings)
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
    hello = Hello(settings, program_variables(), ORDER_FOLLOWS.get())
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
    with closed_in_forks(lock):
        note_holder(folder, Kind.PRIVATE if private else Kind.SHARED)
        if private:
            return await ServerProcess.start(settings, lock=lock)
        return await start_shared(hello, lock)


def _ends_or_serves_soon(holder: Holder, *, private: bool) -> bool:
    return holder.ending or holder.kind is Kind.COMMAND or (holder.kind is Kind.SHARED and not private)


async def _beside(settings: Mapping[str, Any], why: str) -> ServerProcess:
    """Start a server of this program in a folder of its own, which keeps no profiles."""
    if "database_url" in settings or f"{PREFIX}DATABASE_URL" in {name.upper() for name in os.environ}:
        raise ConfigurationError(why)
    logger.warning("%s; this program gets a server of its own, without profiles", why)
    return await ServerProcess.start({**settings, "beside": why})


# --- what is said -----------------------------------------------------------------------------------------------------

_NO_FOLDER: Final = "local(private=True) keeps no profiles without a folder of its own; give it a `data_dir`"


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
