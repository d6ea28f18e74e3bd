"""Files of this machine for a file input of a page, over CDP alone, wherever the browser runs.

The bytes go into the page piece by piece, in an isolated world that the page's scripts cannot reach, and become the `File`s of its
input.
"""

from __future__ import annotations

import asyncio
import base64
import mimetypes
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cdpbridge.cdp import CDPSession
from cdpbridge.errors import CDPError, UploadFailed
from cdpbridge.protocol import Page, Runtime

from ._selectors import selector_hint

__all__ = ["UPLOAD_BYTES", "set_input_files"]

UPLOAD_BYTES: Final = 256 * 1024 * 1024
"""Of one call: the files are held in the browser's memory."""

_CHUNK_BYTES: Final = 1024 * 1024
_WORLD: Final = "cdpbridge"


@dataclass(frozen=True, slots=True)
class _Source:
    path: Path
    size: int
    kind: str
    modified_ms: float


async def set_input_files(
    session: CDPSession, selector: str, files: Path | str | Sequence[Path | str], max_bytes: int
) -> None:
    """See `Tab.set_input_files`."""
    paths = [files] if isinstance(files, str | Path) else list(files)
    sources = await asyncio.to_thread(lambda: [_source(Path(path)) for path in paths])
    total = sum(source.size for source in sources)
    if total > max_bytes:
        raise UploadFailed(
            f"the files have {total} bytes, the limit is {max_bytes}; raise max_bytes if that is meant"
        )
    frame = (await session.send(Page.get_frame_tree())).frame_tree.frame.id
    world = await session.send(Page.create_isolated_world(frame, world_name=_WORLD))
    found = await session.send(
        Runtime.call_function_on(
            "function(selector) { return Document.prototype.querySelector.call(document, selector) }",
            execution_context_id=world.execution_context_id,
            arguments=[Runtime.CallArgument(value=selector)],
        )
    )
    if found.exception_details is not None:
        raise UploadFailed(f"{selector!r} is no selector: {selector_hint(selector)}")
    element = found.result.object_id
    if element is None:
        raise UploadFailed(f"the page has no element {selector!r}")
    await _call(session, element, _CHECK, len(sources))
    try:
        for source in sources:
            await _send(session, element, source)
        await _call(session, element, _FINISH)
    except BaseException:
        if session.closed is None:
            session.connection.create_task(_forget(session, element))
        raise


_CHECK: Final = """function(count) {
    if (!(this instanceof HTMLInputElement) || this.type !== 'file') return 'is no file input';
    if (this.disabled) return 'is disabled';
    if (count > 1 && !this.multiple) return `takes one file, not ${count}`;
    globalThis.cdpbridgeFiles = new DataTransfer();
}"""
_BEGIN: Final = "function() { globalThis.cdpbridgeParts = [] }"
_PART: Final = """function(text) {
    const bytes = Uint8Array.fromBase64 ? Uint8Array.fromBase64(text) : Uint8Array.from(atob(text), c => c.charCodeAt(0));
    globalThis.cdpbridgeParts.push(new Blob([bytes]));
}"""
_END: Final = """function(name, type, lastModified, size) {
    const file = new File(globalThis.cdpbridgeParts, name, {type, lastModified});
    if (file.size !== size) return `should have got ${size} bytes of ${name}, and got ${file.size}`;
    globalThis.cdpbridgeFiles.items.add(file);
}"""
_FINISH: Final = """function() {
    this.files = globalThis.cdpbridgeFiles.files;
    delete globalThis.cdpbridgeFiles;
    delete globalThis.cdpbridgeParts;
    this.dispatchEvent(new Event('input', {bubbles: true, composed: true}));
    this.dispatchEvent(new Event('change', {bubbles: true}));
}"""
_FORGET: Final = "function() { delete globalThis.cdpbridgeFiles; delete globalThis.cdpbridgeParts }"


def _source(path: Path) -> _Source:
    if not path.is_file():
        raise UploadFailed(f"{path} is {'a folder' if path.is_dir() else 'no file'}")
    facts = path.stat()
    kind = mimetypes.guess_type(path.name)[0] or ""
    return _Source(path, facts.st_size, kind, facts.st_mtime * 1000)


async def _send(session: CDPSession, element: str, source: _Source) -> None:
    await _call(session, element, _BEGIN)
    with await asyncio.to_thread(source.path.open, "rb") as file:
        while chunk := await asyncio.to_thread(file.read, _CHUNK_BYTES):
            await _call(session, element, _PART, base64.b64encode(chunk).decode("ascii"))
    await _call(session, element, _END, source.path.name, source.kind, source.modified_ms, source.size)


async def _call(session: CDPSession, element: str, function: str, *arguments: Any) -> None:
    """Call a function of ours on the element; the text it returns says what is wrong."""
    answer = await session.send(
        Runtime.call_function_on(
            function,
            object_id=element,
            arguments=[Runtime.CallArgument(value=value) for value in arguments],
            return_by_value=True,
            user_gesture=True,
        )
    )
    if answer.exception_details is not None:
        raise UploadFailed(f"the page's element failed: {answer.exception_details.text}")
    if isinstance(answer.result.value, str):
        raise UploadFailed(f"the page's element {answer.result.value}")


async def _forget(session: CDPSession, element: str) -> None:
    with suppress(CDPError):
        await session.send(Runtime.call_function_on(_FORGET, object_id=element))
