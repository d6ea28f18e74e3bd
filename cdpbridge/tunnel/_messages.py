"""Which messages concern files, and how they are read and written. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from cdpbridge.cdp._frames import text_frame

__all__ = [
    "DETACHED",
    "EVENTS",
    "FILE_EVENTS",
    "FIRST_ID",
    "LAST_ID",
    "USUAL",
    "Command",
    "command_frame",
    "decoded",
    "event_frame",
    "files_of",
    "is_command",
    "is_event",
    "opened_command",
    "opened_event",
    "reply_frames",
]

# Ids of commands of the tunnel's own on a client's connection. Clients count up from 1; Chromium takes 32 bits.
FIRST_ID: Final = 2_040_506_000
LAST_ID: Final = 2_040_506_999
_OWN_REPLY: Final = b'{"id":2040506'
# A session in a message of another one (`flatten` off): an old form, and a rare one, so all of its messages are read.
_NESTED: Final = b'{"method":"Target.received'
EVENTS: Final = (
    b'{"method":"Browser.download',
    b'{"method":"Page.download',
    b'{"method":"Target.detached',  # a page may have been closed that was given files
    _OWN_REPLY,
    _NESTED,
)
DETACHED: Final = b'{"method":"Target.detached'
FILE_EVENTS: Final = (*EVENTS[:2], _OWN_REPLY, _NESTED)
_INNER_EVENTS: Final = tuple(each.decode() for each in EVENTS)
_SEND: Final = "Target.sendMessageToTarget"
_RECEIVED: Final = "Target.receivedMessageFromTarget"
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
        or b"getFileInfo" in payload
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


class Command(NamedTuple):
    """A command of the client.

    Attributes:
        body: The command itself.
        path: Ids of its sessions, the outermost first, which is empty for the root session; more than one when it came in
            messages of other sessions.
        ids: Of the commands that it came in.
    """

    body: dict[str, Any]
    path: tuple[str, ...]
    ids: tuple[object, ...] = ()

    @property
    def session(self) -> str:
        """Id of the session that it is for."""
        return self.path[-1]

    def frame(self, body: dict[str, Any]) -> bytes:
        """Encode another body in its place."""
        return command_frame(body, self.path, self.ids)


def opened_command(payload: bytes) -> Command | None:
    """Decode a message of the client; None: its session is none."""
    body = decoded(payload)
    path, ids = [body.get("sessionId", "")], []
    while body.get("method") == _SEND and (inner := _inner(body)) is not None:
        ids.append(body.get("id"))
        path.append(inner[0])
        body = decoded(inner[1])
    if not all(isinstance(each, str) for each in path):
        return None
    return Command(body, tuple(path), tuple(ids))


def opened_event(payload: bytes) -> tuple[dict[str, Any], str]:
    """Decode a message of the browser that is read, and return it with the id of its session."""
    body = decoded(payload)
    session = body.get("sessionId", "")
    while body.get("method") == _RECEIVED and (inner := _inner(body)) is not None:
        session, text = inner
        if not text.startswith(_INNER_EVENTS):
            break
        body = decoded(text)
    return body, session


def _inner(body: dict[str, Any]) -> tuple[str, str] | None:
    """Return the session and the text of the message that is in a message."""
    parameters = body.get("params")
    if not isinstance(parameters, dict):
        return None
    session, text = parameters.get("sessionId"), parameters.get("message")
    return (session, text) if isinstance(session, str) and isinstance(text, str) else None


def decoded(payload: bytes | str) -> dict[str, Any]:
    """Decode a message; empty when it is no JSON object, which the peer will refuse."""
    try:
        message = json.loads(payload)
    except (ValueError, RecursionError):
        return {}
    return message if isinstance(message, dict) else {}


def command_frame(body: dict[str, Any], path: Sequence[str], ids: Sequence[object] = ()) -> bytes:
    """Encode a command for the session at the end of a path; see `Command`."""
    for session, number in zip(reversed(path[1:]), reversed(ids), strict=True):
        body = {"id": number, "method": _SEND, "params": {"sessionId": session, "message": _text(body)}}
    return text_frame(_encoded(_in_session(body, path[0])), masked=True)


def event_frame(message: dict[str, Any], path: Sequence[str]) -> bytes:
    """Encode an event or a reply of the session at the end of a path."""
    for session in reversed(path[1:]):
        message = {"method": _RECEIVED, "params": {"sessionId": session, "message": _text(message)}}
    return text_frame(_encoded(_in_session(message, path[0])), masked=False)


def reply_frames(command: Command, outcome: dict[str, Any]) -> Iterator[bytes]:
    """Encode the reply to a command, and those to the commands that it came in."""
    for depth, number in enumerate(command.ids, 1):
        yield event_frame({"id": number, "result": {}}, command.path[:depth])
    yield event_frame({"id": command.body.get("id")} | outcome, command.path)


def _in_session(message: dict[str, Any], session: str) -> dict[str, Any]:
    return message | {"sessionId": session} if session else message


def _encoded(message: dict[str, Any]) -> bytes:
    return _text(message).encode()


def _text(message: dict[str, Any]) -> str:
    return json.dumps(message, separators=(",", ":"))
