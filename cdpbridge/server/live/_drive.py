"""Actions of a viewer that has taken over, besides input: navigate, tabs, dialogs, clipboard, files."""

from __future__ import annotations

import logging
import re
from datetime import timedelta
from typing import Any, Final
from urllib.parse import urlsplit

from cdpbridge.errors import CDPError, CommandError

from ._cast import Cast
from ._messages import MAX_FILES_BYTES, Dialog, File, Files, Go, Tab
from ._watched import Watched

__all__ = ["answer_dialog", "choose_files", "go", "paste", "reload", "selected_text", "show_tab", "tab"]

logger = logging.getLogger("cdpbridge.server")

_TIMEOUT: Final = timedelta(seconds=5)
_SCHEMES: Final = frozenset({"http", "https", "about", "data", "blob"})
_HAS_SCHEME: Final = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:(?!\d)")
_LOCAL: Final = re.compile(
    r"(localhost|[\w.-]*\.localhost|\d+\.\d+\.\d+\.\d+|\[[0-9a-fA-F:.]+\])(:\d+)?(/|$|\?)"
)
_FOCUS: Final = """
let element = Object.getOwnPropertyDescriptor(Document.prototype, 'activeElement').get.call(document);
for (;;) {
  const inner = element?.shadowRoot?.activeElement ?? frameDocument(element)?.activeElement;
  if (!inner) break;
  element = inner;
}
function frameDocument(frame) { try { return frame?.contentDocument } catch { return null } }
"""
_SELECTED: Final = f"""(() => {{ {_FOCUS}
  if (element && typeof element.selectionStart === 'number' && element.selectionStart !== element.selectionEnd)
    return element.type === 'password' ? '' : element.value.slice(element.selectionStart, element.selectionEnd);
  return String((element?.ownerDocument.defaultView ?? window).getSelection() ?? '');
}})()"""
_OFFER_PASTE: Final = f"""function (text) {{ {_FOCUS}
  const clipboardData = new DataTransfer();
  clipboardData.setData('text/plain', text);
  const event = new ClipboardEvent('paste', {{ clipboardData, bubbles: true, cancelable: true, composed: true }});
  return (element ?? document).dispatchEvent(event);
}}"""
_SET_FILES: Final = """function (files) {
  const transfer = new DataTransfer();
  for (const { name, kind, data } of files) {
    const bytes = Uint8Array.from(atob(data), character => character.charCodeAt(0));
    transfer.items.add(new File([bytes], name, { type: kind }));
  }
  this.files = transfer.files;
  for (const name of ['input', 'change']) this.dispatchEvent(new Event(name, { bubbles: true, composed: true }));
}"""


def _address(typed: str) -> str | None:
    """Return what an address bar makes of what was typed; None when it may not be opened, e.g. files of the server."""
    typed = typed.strip()
    if _LOCAL.match(typed):
        return f"http://{typed}"
    if not _HAS_SCHEME.match(typed):
        return f"https://{typed}"
    return typed if urlsplit(typed).scheme.lower() in _SCHEMES else None


async def go(cast: Cast, message: Go) -> str | None:
    """Navigate; return a notice for the viewer, if there is one."""
    if message.url is not None:
        url = _address(message.url)
        if url is None:
            return "Only web addresses can be opened here."
        failed = (await cast.send("Page.navigate", {"url": url})).get("errorText")
        return f"The page could not be opened: {failed}" if failed and failed != "net::ERR_ABORTED" else None
    if message.steps is not None:
        found = await cast.send("Page.getNavigationHistory")
        at = found["currentIndex"] + message.steps
        if 0 <= at < len(found["entries"]):
            await cast.send("Page.navigateToHistoryEntry", {"entryId": found["entries"][at]["id"]})
    return None


async def reload(watched: Watched, cast: Cast) -> None:
    """Load the page anew; a page without a renderer gets one that way."""
    if not cast.crashed:
        await cast.send("Page.reload")
        return
    session = await watched.connection.attach(cast.target_id)
    try:
        await session.send("Page.reload", timeout=_TIMEOUT)
    finally:
        if session.closed is None:
            await session.detach()


async def tab(watched: Watched, message: Tab) -> None:
    """Open a tab beside the active one, or close one."""
    root = watched.connection.root
    if message.id is not None:
        if message.id in watched.tabs:
            await root.send("Target.closeTarget", {"targetId": message.id}, timeout=_TIMEOUT)
        return
    params: dict[str, Any] = {"url": "about:blank"}
    front = watched.tabs.get(watched.active or "")
    if front is not None and front.context:
        params["browserContextId"] = front.context
    try:
        await root.send("Target.createTarget", params, timeout=_TIMEOUT)
    except CommandError:  # the default context has an id that is none for this command
        await root.send("Target.createTarget", {"url": "about:blank"}, timeout=_TIMEOUT)


async def show_tab(watched: Watched, target_id: str) -> None:
    """Bring a tab to the front: a hidden one sends no pictures and takes no input."""
    await watched.connection.root.send("Target.activateTarget", {"targetId": target_id}, timeout=_TIMEOUT)


async def answer_dialog(cast: Cast, message: Dialog) -> None:
    """Answer the open dialog; another viewer may have been quicker."""
    params: dict[str, Any] = {"accept": message.accept}
    if cast.dialog is not None and cast.dialog["type"] == "prompt":
        params["promptText"] = message.text
    try:
        await cast.send("Page.handleJavaScriptDialog", params)
    except CommandError as error:
        logger.debug("the dialog was answered already: %s", error)


async def selected_text(cast: Cast) -> str:
    """Return what is selected in the page; nothing from a password field."""
    world = await _world(cast)
    params = {"expression": _SELECTED, "contextId": world, "returnByValue": True}
    return str((await cast.send("Runtime.evaluate", params))["result"].get("value") or "")


async def paste(cast: Cast, text: str) -> None:
    """Paste as a person would: the page may handle it, e.g. spread a code over six fields; else it is inserted."""
    params = {
        "functionDeclaration": _OFFER_PASTE,
        "executionContextId": await _world(cast),
        "arguments": [{"value": text}],
        "returnByValue": True,
    }
    try:
        taken = (await cast.send("Runtime.callFunctionOn", params))["result"].get("value") is False
    except CDPError as error:
        logger.debug("the page was not offered the paste: %s", error)
        taken = False
    if not taken:
        await cast.send("Input.insertText", {"text": text})


async def choose_files(cast: Cast, message: Files) -> str | None:
    """Give files to the open chooser; return a notice for the viewer, if there is one.

    They are made in the page from their bytes, so they need no folder that browser and server share.
    """
    chooser = cast.chooser
    cast.choosing_is_over()
    if chooser is None or not message.files:
        return None
    if sum(len(file.data) for file in message.files) * 3 // 4 > MAX_FILES_BYTES:
        return f"Files may have {MAX_FILES_BYTES // 1024 // 1024} MB together."
    node = chooser.get("backendNodeId")
    if node is None:
        return "This page opens files in a way that only works on its own machine."
    files = message.files if chooser["mode"] == "selectMultiple" else message.files[:1]
    params = {"backendNodeId": node, "executionContextId": await _world(cast)}
    found = await cast.send("DOM.resolveNode", params)
    await cast.send(
        "Runtime.callFunctionOn",
        {
            "functionDeclaration": _SET_FILES,
            "objectId": found["object"]["objectId"],
            "arguments": [{"value": [_plain(file) for file in files]}],
        },
    )
    return None


def _plain(file: File) -> dict[str, str]:
    return {"name": file.name.replace("\\", "/").rpartition("/")[2], "kind": file.kind, "data": file.data}


async def _world(cast: Cast) -> int:
    """Return a context of our own, where the page's changes to its built-in objects do not count."""
    params = {"frameId": cast.target_id, "worldName": "live view"}
    return int((await cast.send("Page.createIsolatedWorld", params))["executionContextId"])
