"""HTTP authentication that no client answers, in the full build of Chromium: the server's 401 document, as in the headless shell.

The full build opens a dialog otherwise, without a window to see it in: a page with a picture behind a login never ends to load, and a
document behind one is `net::ERR_INVALID_AUTH_CREDENTIALS`. No switch and no policy keeps it from that without taking away the challenges of
clients, too. An extension does: Chromium asks it in place of the dialog, after every client, e.g. after Playwright has answered with its
`http_credentials` or left the matter to the browser. It costs a page nothing, as it hears of nothing but challenges.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from cdpbridge.cdp import Connection
from cdpbridge.errors import CDPError, CommandError, TargetClosed

__all__ = ["ContextKeeper", "cancel_unanswered_logins"]

logger = logging.getLogger("cdpbridge.server")

_FILES: Final = ("manifest.json", "worker.js")
_POLL_SECONDS: Final = 0.01
_SECONDS: Final = 10.0
"""For all of it; it takes 0.15 s."""
_CHANGE_SECONDS: Final = 1.0
"""In which a context begins or ends; more where the browser refuses to."""
# The browser's process answers after what the worker has sent it before: after its listener, too.
_READY: Final = "chrome.runtime.getPlatformInfo().then(() => chrome.webRequest.onAuthRequired.hasListeners())"


async def cancel_unanswered_logins(connection: Connection, folder: Path) -> None:
    """Let every request of the browser, from now on, end with what its server sends without a login.

    A browser that takes no extension works without; it is logged.

    Args:
        connection: Ours, to the whole browser, over its pipe.
        folder: To put the extension into, made if it is not there; the browser must be able to read it.
    """
    try:
        await asyncio.to_thread(_write, folder)
        async with asyncio.timeout(_SECONDS):
            await _load(connection, folder)
    except (CDPError, TimeoutError, OSError) as error:
        logger.warning(
            "a browser has no extension for logins, so one that no client answers holds its page up: %r",
            error,
        )


class ContextKeeper:
    """Keeps the extension in all contexts of a browser, see `ContextOrder`.

    Of the contexts that clients make Chromium knows one as the partner of the default one, the last, and when any of them ends it
    forgets that one's way to the extensions (`CrossContextData` in its `extensions/browser/api/web_request/`; LIVE, Chromium 156).
    Before one ends, a context that is made and ended here takes that place; so no other may begin meanwhile. It takes 5 ms.

    Args:
        connection: Ours, to the whole browser.
    """

    def __init__(self, connection: Connection) -> None:
        self._send = connection.root.send
        self._turn = asyncio.Lock()

    async def begin(self, send: Callable[[], None]) -> None:
        """Call `send`, which makes a context, and return when it is there."""
        await self._change(send, ends=False)

    async def end(self, send: Callable[[], None]) -> None:
        """Call `send`, which ends a context, and return when it has ended."""
        await self._change(send, ends=True)

    async def _change(self, send: Callable[[], None], *, ends: bool) -> None:
        async with self._turn:
            before: set[str] = set()
            try:
                if ends:
                    made = await self._send("Target.createBrowserContext")
                    await self._send("Target.disposeBrowserContext", made)
                before = await self._contexts()
            except CDPError as error:  # the browser ends
                logger.debug("the extension for logins was not kept in all contexts: %r", error)
            send()
            # A command that the browser refuses changes nothing.
            with suppress(CDPError, TimeoutError):
                async with asyncio.timeout(_CHANGE_SECONDS):
                    while await self._contexts() == before:  # noqa: ASYNC110  # Chromium has no event of it
                        await asyncio.sleep(_POLL_SECONDS / 10)

    async def _contexts(self) -> set[str]:
        return set((await self._send("Target.getBrowserContexts"))["browserContextIds"])


def _write(folder: Path) -> None:
    source = files("cdpbridge.server.hosts").joinpath("logins_extension")
    folder.mkdir(exist_ok=True)
    for name in _FILES:
        (folder / name).write_bytes(source.joinpath(name).read_bytes())
        (folder / name).chmod(0o644)
    folder.chmod(0o755)


async def _load(connection: Connection, folder: Path) -> None:
    send = connection.root.send
    # The contexts that clients make are incognito profiles.
    loaded = await send("Extensions.loadUnpacked", {"path": str(folder), "enableInIncognito": True})
    prefix = f"chrome-extension://{loaded['id']}/"
    while True:
        found: list[dict[str, Any]] = (await send("Target.getTargets"))["targetInfos"]
        worker = next((each["targetId"] for each in found if each["url"].startswith(prefix)), None)
        if worker is not None and await _is_ready(connection, worker):
            # It wakes up when it is needed; until then clients do not see it.
            with suppress(CommandError):  # it sleeps already
                await send("Target.closeTarget", {"targetId": worker})
            return
        await asyncio.sleep(_POLL_SECONDS)


async def _is_ready(connection: Connection, worker: str) -> bool:
    try:
        session = await connection.attach(worker)
        try:
            asked = {"expression": _READY, "awaitPromise": True, "returnByValue": True}
            answer = await session.send("Runtime.evaluate", asked)
        finally:
            if session.closed is None:
                await session.detach()
    except (CommandError, TargetClosed):  # it still starts, or has ended and will start again
        return False
    return answer["result"].get("value") is True
