"""The test of isolation at a server's start: one browser that tries to get out."""

from __future__ import annotations

import asyncio
import errno
import json
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Final

from cdpbridge._concurrency import in_thread
from cdpbridge.cdp import CDPSession, Connection, connect_pipe
from cdpbridge.chromium import Build, Chromium, Isolation, UidPool, scratch_parent
from cdpbridge.errors import CDPError, ConfigurationError
from cdpbridge.isolation import PROXY_PORT

__all__ = ["breach"]

_COMMAND_TIMEOUT: Final = timedelta(seconds=20)
_RENDERER_SECONDS: Final = 5.0
_POLL_SECONDS: Final = 0.01
_GROUP: Final = re.compile(r"\) \S+ \d+ (\d+) ")
# What is no script loads, too: that says whether it was there.
_LOAD: Final = """urls => Promise.all(urls.map(url => new Promise(resolve => {
  const element = document.createElement('script');
  element.onload = () => resolve(true);
  element.onerror = () => resolve(false);
  element.src = url;
  document.documentElement.append(element);
})))"""
_SECCOMP_FILTER: Final = "\nSeccomp:\t2\n"


async def breach(isolation: Isolation, build: Build, uids: UidPool | None) -> str | None:
    """Start a browser in a place, and return what it got through to; None when all was refused.

    Raises:
        BrowserStartFailed: It does not start there.
        ConfigurationError: There is no folder for temporary files.
    """
    uid = await in_thread(uids.take) if uids is not None else None
    try:
        with _canaries() as (shown, hidden):
            chromium = await Chromium.start(
                build=build,
                proxy_server=f"127.0.0.1:{PROXY_PORT}",
                udp=True,
                uid=uid,
                isolation=replace(isolation, readable=[*isolation.readable, shown]),
            )
            try:
                async with connect_pipe(
                    *chromium.take_pipe(), command_timeout=_COMMAND_TIMEOUT
                ) as connection:
                    return await _attack(connection, chromium, shown, hidden)
            except (CDPError, TimeoutError) as error:
                return f"it does not work there: {error}"
            finally:
                await chromium.kill()  # it has nothing to keep
    finally:
        if uid is not None:
            await in_thread(uid.release)


@contextmanager
def _canaries() -> Iterator[tuple[Path, Path]]:
    """Files that every user of the machine may read: one in a folder that the place shows, one that it does not."""
    folders = []
    try:
        for _ in range(2):
            name = f"cdpb-test-{secrets.token_hex(6)}"
            folder = scratch_parent(name, for_others=True) / name
            _make(folder)
            folders.append(folder)
            canary = folder / "canary.txt"
            canary.write_text("canary")
            canary.chmod(0o644)  # whatever the umask is
            folder.chmod(0o755)
        yield folders[0], folders[1]
    finally:
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)


def _make(folder: Path) -> None:
    try:
        folder.mkdir()
    except OSError as error:
        if error.errno not in {errno.EROFS, errno.EACCES}:
            raise
        raise ConfigurationError(
            f"temporary files cannot be written to {folder.parent}: {error.strerror}; in a container, give it such a folder in memory "
            "(Docker: --tmpfs /tmp:mode=1777; Kubernetes: an emptyDir), elsewhere name another one in TMPDIR"
        ) from error


async def _attack(connection: Connection, chromium: Chromium, shown: Path, hidden: Path) -> str | None:
    # One page for all, of a context without a proxy: each costs a process, a third of the test.
    context = await connection.root.send("Target.createBrowserContext", {"proxyServer": "direct://"})
    target = await connection.root.send(
        "Target.createTarget", {"url": "about:blank", "browserContextId": context["browserContextId"]}
    )
    tab = await connection.attach(target["targetId"])
    given = shown / "canary.txt"
    reply = await tab.send("Page.navigate", {"url": f"file://{given}"})
    others = [hidden / "canary.txt", Path("/etc/passwd")]
    found = [] if "errorText" in reply else await _loaded(tab, [given, *others])
    if given not in found:
        return "a file that it was given could not be read"
    for path in others:
        if path in found:
            return f"{path} could be read"
    if await _reaches_this_machine(tab):
        return "a service of this machine was reached without the forwarder"
    if not await in_thread(_is_sandboxed, chromium.pid):
        return "Chromium's own sandbox is not on"
    return None


async def _loaded(tab: CDPSession, paths: Sequence[Path]) -> list[Path]:
    """Return what a page that is a file can load of these. As parts of it: each error page would cost a process."""
    argument = json.dumps([f"file://{path}" for path in paths])
    reply = await tab.send(
        "Runtime.evaluate",
        {"expression": f"({_LOAD})({argument})", "awaitPromise": True, "returnByValue": True},
    )
    return [path for path, loaded in zip(paths, reply["result"]["value"], strict=True) if loaded]


async def _reaches_this_machine(tab: CDPSession) -> bool:
    """Let a page that has no proxy ask a socket of ours on the loopback."""
    reached = asyncio.Event()

    def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.set()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        await tab.send("Page.navigate", {"url": f"http://127.0.0.1:{port}/"})
        return reached.is_set()


def _is_sandboxed(group: int) -> bool:
    """Whether each renderer has a filter of system calls. There is one, for the pages that were opened; it may be late."""
    deadline = time.monotonic() + _RENDERER_SECONDS
    while True:
        found = list(_renderers(group))
        if found and all(found):
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)


def _renderers(group: int) -> Iterator[bool]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):  # it ended meanwhile
                match = _GROUP.search((entry / "stat").read_text(errors="replace"))
                if (
                    match
                    and int(match[1]) == group
                    and b"--type=renderer" in (entry / "cmdline").read_bytes()
                ):
                    yield _SECCOMP_FILTER in (entry / "status").read_text(errors="replace")
