"""What the attacker does with a browser: open, evaluate, read, download; each within seconds."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from cdpbridge.cdp import CDPSession, Connection
from cdpbridge.errors import CDPError, CommandError

from ._targets import Answer

__all__ = ["SECONDS", "chosen", "downloaded", "evaluate", "loaded_resource", "opened", "opened_in", "tab"]

SECONDS: Final = 10.0
"""For one step. A page of the same machine takes a fraction of one."""

_READ: Final = """async function() {
  if (!this.files.length) return 0;
  return await this.files[0].arrayBuffer().then(b => b.byteLength, () => 0);
}"""
_INPUT: Final = "Object.assign(document.createElement('input'), {type: 'file'})"
_TEXT: Final = """(() => {
  const shown = document.documentElement;
  const [how] = performance.getEntriesByType('navigation');
  return [shown ? shown.innerText : '', how ? how.responseStatus || 0 : 0];
})()"""
_MAX_TEXT: Final = 100_000


@asynccontextmanager
async def tab(connection: Connection, context: str | None = None) -> AsyncIterator[CDPSession]:
    """Open a page for a block."""
    session = await connection.new_tab(browser_context_id=context)
    try:
        yield session
    finally:
        with suppress(CDPError):
            await connection.root.send("Target.closeTarget", {"targetId": session.target_id})


async def opened(connection: Connection, url: str, context: str | None = None) -> Answer:
    """Return what opening an address in a page of its own has brought.

    Raises:
        TimeoutError: Nothing within `SECONDS`.
    """
    async with tab(connection, context) as session:
        return await opened_in(session, url)


async def opened_in(session: CDPSession, url: str) -> Answer:
    """Return what opening an address in this page has brought; see `opened`."""
    async with asyncio.timeout(SECONDS):
        await session.send("Page.enable")
        async with session.events("Page.loadEventFired") as loads:
            reply = await session.send("Page.navigate", {"url": url})
            if "errorText" in reply:
                return Answer(reply["errorText"], "")
            async for _ in loads:
                break
        text, status = await evaluate(session, _TEXT)
        return Answer("", text[:_MAX_TEXT], int(status))


async def evaluate(session: CDPSession, script: str, *, by_user: bool = False) -> Any:
    """Return the value of a script, a promise's too.

    Raises:
        TimeoutError: It has none within `SECONDS`.
        ValueError: It throws; with the reason.
    """
    async with asyncio.timeout(SECONDS):
        reply = await session.send(
            "Runtime.evaluate",
            {"expression": script, "awaitPromise": True, "returnByValue": True, "userGesture": by_user},
        )
    if "exceptionDetails" in reply:
        raise ValueError(reply["exceptionDetails"].get("exception", {}).get("description", "it throws"))
    return reply["result"].get("value")


async def chosen(session: CDPSession, path: str) -> tuple[str, int]:
    """Return the error of putting a file into the page's input, and how many bytes the page reads of it."""
    async with asyncio.timeout(SECONDS):
        made = await session.send("Runtime.evaluate", {"expression": _INPUT})
        element = made["result"]["objectId"]
        try:
            await session.send("DOM.setFileInputFiles", {"files": [path], "objectId": element})
        except CommandError as error:
            return error.message, 0
        asked = {"objectId": element, "functionDeclaration": _READ, "awaitPromise": True}
        reply = await session.send("Runtime.callFunctionOn", asked)
        return "", int(reply["result"].get("value") or 0)


async def loaded_resource(session: CDPSession, url: str) -> tuple[str, int]:
    """Return the error of `Network.loadNetworkResource`, and how many characters of the answer were read."""
    async with asyncio.timeout(SECONDS):
        tree = await session.send("Page.getFrameTree")
        options = {"disableCache": True, "includeCredentials": False}
        asked = {"frameId": tree["frameTree"]["frame"]["id"], "url": url, "options": options}
        try:
            found = (await session.send("Network.loadNetworkResource", asked))["resource"]
        except CommandError as error:
            return error.message, 0
        if not found.get("success"):
            return found.get("netErrorName", "no success"), 0
        read = await session.send("IO.read", {"handle": found["stream"], "size": _MAX_TEXT})
        return "", len(read["data"])


async def downloaded(
    connection: Connection, folder: str, name: str, *, content: str = "attack", by: str = "Browser"
) -> str:
    """Return how a download of `content` into a folder ends: `completed`, `canceled`, or why the browser refuses the folder.

    Args:
        by: The domain by which the folder is set, `Browser` or `Page`.

    Raises:
        TimeoutError: It does not begin, or not end.
    """
    link = {"href": f"data:application/octet-stream,{content}", "download": name}
    script = f"Object.assign(document.createElement('a'), {json.dumps(link)}).click()"
    behaviour = {"behavior": "allow", "downloadPath": folder, "eventsEnabled": True}
    async with tab(connection) as session, asyncio.timeout(SECONDS):
        if by == "Page":
            await session.send("Page.enable")
            del behaviour["eventsEnabled"]
        sender, event = (
            (connection.root, "Browser.downloadProgress")
            if by == "Browser"
            else (session, "Page.downloadProgress")
        )
        async with sender.events(event) as progress:
            try:
                await sender.send(f"{by}.setDownloadBehavior", behaviour)
            except CommandError as error:
                return error.message
            await evaluate(session, script, by_user=True)
            async for each in progress:
                if each["state"] != "inProgress":
                    return str(each["state"])
    return "no download began"
