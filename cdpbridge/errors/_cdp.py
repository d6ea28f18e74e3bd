"""Failures on a DevTools connection."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any, Final

from ._base import CDPBridgeError, seconds_text

__all__ = [
    "ActionTimeout",
    "CDPError",
    "CommandError",
    "CommandTimeout",
    "ConnectFailed",
    "ConnectTimeout",
    "ConnectionClosed",
    "DecodeError",
    "DownloadFailed",
    "DownloadTimeout",
    "ElementError",
    "EvaluationError",
    "EventsLost",
    "MessageTooBig",
    "NavigationError",
    "TargetClosed",
    "TargetCrashed",
    "UploadFailed",
]

_USER_INFO: Final = re.compile(r"^((?:view-source:)?(?:[a-zA-Z][a-zA-Z0-9+.-]*:/+|/*))[^/?#]*@")
"""User name and password of an address, with or without a scheme."""
_USER_INFO_INSIDE: Final = re.compile(r"(?<=//)[^/?#\s]*@")


class CDPError(CDPBridgeError):
    """A failure on a DevTools connection."""


class ConnectFailed(CDPError):
    """No DevTools connection could be made.

    Attributes:
        stage: Where it ended: `"address"`, `"dns"`, `"tcp"`, `"proxy"`, `"tls"`, `"http"`, `"upgrade"`, `"handshake"`;
            `"ended"` when a lost connection is not re-established because the browser has ended.
        status: HTTP status of the discovery answer or of the refused upgrade.
        body: First bytes of that answer's body, at most 500 characters.
    """

    def __init__(
        self, message: str, *, stage: str, status: int | None = None, body: str | None = None
    ) -> None:
        super().__init__(message)
        self.stage = stage
        self.status = status
        self.body = body


class ConnectTimeout(ConnectFailed, TimeoutError):
    """A DevTools connection could not be made within its timeout; `stage` says what it waited for."""


class CommandError(CDPError):
    """The browser answered a command with an error.

    Attributes:
        method: The command, e.g. `"Page.navigate"`.
        code: JSON-RPC code, e.g. -32602 (invalid parameters), -32601 (no such method), -32000 (failed).
        message: Chrome's text.
        data: Chrome's details, e.g. which parameter it could not read.
    """

    def __init__(self, method: str, code: int, message: str, data: Any = None) -> None:
        super().__init__(f"{method}: {message} ({code})" + (f": {data}" if data is not None else ""))
        self.method = method
        self.code = code
        self.message = message
        self.data = data


class CommandTimeout(CDPError, TimeoutError):
    """A command got no reply within its timeout; the connection stays open.

    Attributes:
        method: The command, or the event class for `expect`.
        target: Short description of the target it was sent to.
        waited: The timeout.
        hint: What is known to block that target, e.g. an open dialog.
    """

    def __init__(self, method: str, *, target: str, waited: timedelta, hint: str | None = None) -> None:
        super().__init__(
            f"{method} got no answer from {target} within {seconds_text(waited)}"
            + (f": {hint}" if hint else "")
        )
        self.method = method
        self.target = target
        self.waited = waited
        self.hint = hint


class ActionTimeout(CommandTimeout):
    """An action of a tab could not be done within its timeout; nothing was clicked or typed.

    Attributes:
        selector: Of the element.
        check: The check that it did not pass, e.g. `"visible"`.
        method, target, waited, hint: As of `CommandTimeout`; `hint` says what was seen at the last try.
    """

    def __init__(
        self, method: str, *, selector: str, check: str, target: str, waited: timedelta, hint: str | None
    ) -> None:
        super().__init__(method, target=target, waited=waited, hint=hint)
        self.args = (
            f"{method}({selector!r}) waited {seconds_text(waited)} in {target}; check {check!r} failed"
            + (f": {hint}" if hint else ""),
        )
        self.selector = selector
        self.check = check


class ConnectionClosed(CDPError):
    """The connection closed, or had closed before the call.

    Attributes:
        code: WebSocket close code; 1006 when the socket ended without a close frame.
        reason: The peer's reason, or ours.
        sent: For a call: False when the command certainly never left, True when it was written and may have
            run, None when no call was concerned.
    """

    def __init__(self, code: int, reason: str = "", *, sent: bool | None = None, doing: str = "") -> None:
        what = f"{doing}: " if doing else ""
        fate = {
            True: "; the command was sent and may have run",
            False: "; the command was not sent",
            None: "",
        }[sent]
        super().__init__(f"{what}connection closed ({code}{' ' + reason if reason else ''}){fate}")
        self.code = code
        self.reason = reason
        self.sent = sent


class TargetClosed(CDPError):
    """The target of a CDPSession has closed.

    Attributes:
        reason: `"closed"`, `"crashed"`, `"detached"` (by us), or `"parent"` (its parent session ended).
        target: Short description of the target.
    """

    def __init__(self, reason: str, *, target: str, doing: str = "") -> None:
        what = f"{doing}: " if doing else ""
        super().__init__(f"{what}{target} has closed ({reason})")
        self.reason = reason
        self.target = target


class TargetCrashed(TargetClosed):
    """The target's renderer crashed; `Page.navigate` or `Page.reload` revives a page.

    Attributes:
        status: Chrome's word, e.g. `"crashed"` or `"killed"`, when known.
        error_code: Its exit code, when known.
    """

    def __init__(
        self, *, target: str, status: str | None = None, error_code: int | None = None, doing: str = ""
    ) -> None:
        super().__init__("crashed", target=target, doing=doing)
        self.status = status
        self.error_code = error_code


class NavigationError(CDPError):
    """A page could not be loaded.

    Attributes:
        url: Where it was to go, without a user name and password.
        error_text: Chrome's name of the cause, e.g. `"net::ERR_CONNECTION_REFUSED"`.
    """

    def __init__(self, url: str, error_text: str) -> None:
        user_info = _USER_INFO.match(url)
        if user_info is not None:
            error_text = error_text.replace(user_info[0].removeprefix(user_info[1]), "")
            url = user_info[1] + url[user_info.end() :]
        error_text = _USER_INFO_INSIDE.sub("", error_text)
        super().__init__(f"could not load {url}: {error_text}")
        self.url = url
        self.error_text = error_text


class ElementError(CDPError):
    """A selector cannot be read, or what it finds cannot be used so, however long one waits.

    Attributes:
        selector: It.
    """

    def __init__(self, selector: str, why: str) -> None:
        super().__init__(f"{selector!r}: {why}")
        self.selector = selector


class DownloadFailed(CDPError):
    """A file could not be downloaded from the browser.

    Attributes:
        name: Its suggested name.
    """

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"download{f' of {name}' if name else ''}: {why}")
        self.name = name


class DownloadTimeout(DownloadFailed, TimeoutError):
    """A file was not complete within the timeout.

    Attributes:
        waited: The timeout.
    """

    def __init__(self, name: str, *, waited: timedelta) -> None:
        super().__init__(name, f"not complete within {seconds_text(waited)}")
        self.waited = waited


class UploadFailed(CDPError):
    """A file could not be set on a page: there is no such file, or no element that accepts it."""

    def __init__(self, why: str) -> None:
        super().__init__(f"upload: {why}")


class EvaluationError(CDPError):
    """A script in the page threw, or its promise was rejected, or its value has no JSON form.

    Attributes:
        line: Where it threw, from 1; 0 when it did not.
        column: Where it threw, from 1; 0 when it did not.
    """

    def __init__(self, text: str, *, line: int = 0, column: int = 0) -> None:
        super().__init__(f"{text} (line {line}, column {column})" if line else text)
        self.line = line
        self.column = column


class DecodeError(CDPError):
    """A message was no valid CDP, or did not fit the class it should have become.

    Attributes:
        raw: Its first bytes, at most 1000.
    """

    def __init__(self, message: str, *, raw: bytes = b"") -> None:
        super().__init__(message)
        self.raw = raw[:1000]


class MessageTooBig(CDPError):
    """A message was over a size limit.

    Attributes:
        limit_bytes: The limit.
        size_bytes: The message's size, when known.
    """

    def __init__(self, message: str, *, limit_bytes: int, size_bytes: int | None = None) -> None:
        super().__init__(message)
        self.limit_bytes = limit_bytes
        self.size_bytes = size_bytes


class EventsLost(CDPError):
    """A stream of events or a coroutine handler was too slow, and its bounded queue overflowed.

    Attributes:
        count: How many events were dropped.
    """

    def __init__(self, count: int, *, what: str = "events") -> None:
        super().__init__(
            f"{count} {what} were dropped because the reader was too slow; raise its limit or read faster"
        )
        self.count = count
