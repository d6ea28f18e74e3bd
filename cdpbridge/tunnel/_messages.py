"""Which messages concern files, and how they are read and written. Pure."""

from __future__ import annotations

import json
from typing import Any, Final

from cdpbridge.cdp._frames import text_frame

__all__ = [
    "DETACHED",
    "EVENTS",
    "FILE_EVENTS",
    "FIRST_ID",
    "LAST_ID",
    "USUAL",
    "command_frame",
    "decoded",
    "encoded",
    "files_of",
    "is_command",
    "is_event",
]

# Ids of commands of the tunnel's own on a client's connection. Clients count up from 1; Chromium takes 32 bits.
FIRST_ID: Final = 2_040_506_000
LAST_ID: Final = 2_040_506_999
_OWN_REPLY: Final = b'{"id":2040506'
EVENTS: Final = (
    b'{"method":"Browser.download',
    b'{"method":"Page.download',
    b'{"method":"Target.detached',  # a page may have been closed that was given files
    _OWN_REPLY,
)
DETACHED: Final = b'{"method":"Target.detached'
FILE_EVENTS: Final = (*EVENTS[:2], _OWN_REPLY)
_LONGEST_EVENT: Final = max(map(len, EVENTS))
USUAL: Final = (b'{"method":"', b'{"id":')  # how Chromium begins each message


def is_event(start: bytes, whole: bool) -> bool | None:  # called for each message, by position
    """Judge whether a message of the browser is read; see `Verdict`."""
    if start.startswith(EVENTS):
        return True
    if start.startswith(USUAL):
        if len(start) >= _LONGEST_EVENT or whole:
            return False
        return None if any(each.startswith(start) for each in EVENTS) else False
    if not whole and len(start) < _LONGEST_EVENT:
        return None
    return b"ownload" in start  # a relay between Chromium and us writes JSON in another way


def is_command(payload: bytes, _whole: bool) -> bool:  # as above
    """Judge whether a message of the client is read: by a part of its method, which may stand in a page's script, too."""
    return (
        b"setDownloadBehavior" in payload
        or b"setFileInputFiles" in payload
        or b"dispatchDragEvent" in payload
        or b"cancelDownload" in payload
    )


def files_of(method: object, parameters: dict[str, Any]) -> list[object] | None:
    """Return the paths of files in a command that gives files to a page; None: it gives none."""
    if method == "DOM.setFileInputFiles":
        files = parameters.get("files")
    elif method == "Input.dispatchDragEvent" and isinstance(parameters.get("data"), dict):
        files = parameters["data"].get("files")
    else:
        return None
    return files if isinstance(files, list) else None


def decoded(payload: bytes) -> dict[str, Any]:
    """Decode a message; empty when it is no JSON object, which the peer will refuse."""
    try:
        message = json.loads(payload)
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}


def encoded(message: dict[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode()


def command_frame(command: dict[str, Any]) -> bytes:
    return text_frame(encoded(command), masked=True)
