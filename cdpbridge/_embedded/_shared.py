"""`start_shared`: a server that other programs can join, started by its first program."""

from __future__ import annotations

import asyncio
import socket
import threading
from pathlib import Path

from cdpbridge._concurrency import in_pool
from cdpbridge.errors import ConfigurationError

from . import _spawn
from ._folder import LOG_FILE
from ._forks import close_in_forks
from ._hello import Hello
from ._joined import JoinedServer, converse

__all__ = ["start_shared"]


async def start_shared(hello: Hello, lock: int) -> JoinedServer:
    """Start a server that others can join, and be its first program."""
    ours, theirs = socket.socketpair()
    close_in_forks(ours)
    try:
        with theirs:
            process = await in_pool(_spawn.spawn_shared, theirs, lock)
        errors = _spawn.collect_errors(process)
        # Waits for its end, whenever that is, so that no zombie stays.
        threading.Thread(target=process.wait, name="cdpbridge-server-end", daemon=True).start()
        try:
            answer = await converse(ours, hello, _spawn.START_TIMEOUT.total_seconds())
        except TimeoutError as error:
            process.kill()
            raise _spawn.late(errors) from error
        except OSError:  # it has ended
            answer = None
        if answer is None:
            await asyncio.to_thread(process.wait)
            log = Path(hello.settings["data_dir"], LOG_FILE)
            raise _spawn.failed(errors, process, f"; its log is {log}")
        if answer.refusal:
            raise ConfigurationError(f"the embedded server could not start: {answer.refusal}")
    except BaseException:
        ours.close()  # so it ends by itself, unless others have joined it
        raise
    errors.log()
    return JoinedServer(ours, answer, process.wait)
