"""Every exception of cdpbridge.

    CDPBridgeError
    ├── ConfigurationError              a setting or argument is missing or contradicts another (also ValueError)
    ├── APIError                        the REST API
    │   ├── APIConnectionError          no answer: refused, reset, DNS
    │   │   └── APITimeoutError         no answer in time
    │   ├── APIResponseError            an answer that does not fit the contract
    │   └── APIStatusError              an answer of 400 or above: status, method, path, detail, request_id
    │       ├── BadRequestError             400
    │       ├── AuthenticationError         401
    │       ├── PaymentRequiredError        402
    │       ├── PermissionDeniedError       403
    │       ├── NotFoundError               404
    │       ├── ConflictError               409
    │       ├── ValidationError             422
    │       ├── RateLimitError              429   too many concurrent sessions, or requests
    │       └── ServerError                 5xx
    ├── CDPError                        the DevTools connection
    │   ├── ConnectFailed               no connection: stage, status, body
    │   ├── CommandError                the browser refused a command: method, code, message, data
    │   ├── CommandTimeout              no reply within the deadline: method, target, waited
    │   ├── ConnectionClosed            the connection ended: code, reason, sent
    │   ├── TargetClosed                the page, worker or frame is gone: reason
    │   │   └── TargetCrashed           ... because its renderer crashed: status, error_code
    │   ├── NavigationError             a page could not be loaded: url, error_text
    │   ├── EvaluationError             a script in the page threw: line, column
    │   ├── DownloadFailed              a file did not come out of the browser: name
    │   ├── UploadFailed                a file could not be given to a page
    │   ├── DecodeError                 a message that is no valid CDP: raw
    │   ├── MessageTooBig               a message over a limit: limit_bytes
    │   └── EventsLost                  a slow reader of events missed some: count
    ├── ChromiumError                   a browser process on this machine
    │   ├── BrowserNotFound             no Chromium binary
    │   ├── BrowserStartFailed          it did not become ready: stderr
    │   └── BrowserExited               it ended by itself: returncode, stderr
    ├── AgentStartFailed                an agent's process could not be started
    ├── RentalError                     a rented browser
    │   ├── BudgetExceeded              a ceiling of a budget forbids to rent: nothing was spent
    │   ├── NoFreeSlot                  no slot in time: waited, holders
    │   ├── BrowserExpired              its paid time is over (also ConnectionClosed): started_at, timeout_at
    │   ├── BrowserStopped              it was stopped: finished_at
    │   ├── LeaseTimeout                a pool's tab did not come, or was used, in time (also TimeoutError): waiting
    │   ├── PoolClosed                  a pool was asked for a tab after its block, or the block ended meanwhile
    │   └── StopFailed                  a stop could not be confirmed, so it may still cost money: browser_id
    ├── TaskError                       an agent's task: task_id, session_id
    │   ├── TaskTimeout                 it has not ended in time: waited
    │   └── TaskOutputError             its output is not what was asked for: output
    └── WebhookError                    a message that is not the service's, or too old

Messages say what was being done, what happened, and what to do next. Addresses in them are shortened by
`redact_url`: a `cdpUrl` or `liveUrl` gives full control of a browser and is treated as a password.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

__all__ = [
    "APIConnectionError",
    "APIError",
    "APIResponseError",
    "APIStatusError",
    "APITimeoutError",
    "AgentStartFailed",
    "AuthenticationError",
    "BadRequestError",
    "BrowserExited",
    "BrowserExpired",
    "BrowserNotFound",
    "BrowserStartFailed",
    "BrowserStopped",
    "BudgetExceeded",
    "CDPBridgeError",
    "CDPError",
    "ChromiumError",
    "CommandError",
    "CommandTimeout",
    "ConfigurationError",
    "ConflictError",
    "ConnectFailed",
    "ConnectionClosed",
    "DecodeError",
    "DownloadFailed",
    "EvaluationError",
    "EventsLost",
    "LeaseTimeout",
    "MessageTooBig",
    "NavigationError",
    "NoFreeSlot",
    "NotFoundError",
    "PaymentRequiredError",
    "PermissionDeniedError",
    "PoolClosed",
    "RateLimitError",
    "RentalError",
    "ServerError",
    "StopFailed",
    "TargetClosed",
    "TargetCrashed",
    "TaskError",
    "TaskOutputError",
    "TaskTimeout",
    "UploadFailed",
    "ValidationError",
    "WebhookError",
    "redact_url",
]


def redact_url(url: str) -> str:
    """The scheme, host, port and first four path characters of `url`: enough to recognise, too little to use.

    The first label of a DNS name may itself be the secret (the cloud's `https://<browser id>.cdp0...`), so it is cut too.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "<unreadable address>"
    labels = host.split(".")
    if len(labels) > 2 and not host.replace(".", "").isdigit() and len(labels[0]) > 8:
        host = ".".join([labels[0][:4] + "…", *labels[1:]])
    if ":" in host:
        host = f"[{host}]"
    authority = f"{host}:{port}" if port else host
    path = parts.path if len(parts.path) <= 5 else parts.path[:5] + "…"
    return f"{parts.scheme}://{authority}{path}{'?…' if parts.query else ''}"


class CDPBridgeError(Exception):
    """Any failure that cdpbridge reports."""


class ConfigurationError(CDPBridgeError, ValueError):
    """A setting or argument is missing, malformed, or contradicts another."""


# --- REST ---------------------------------------------------------------------------------------------------------


class APIError(CDPBridgeError):
    """A REST request failed.

    Attributes:
        method: HTTP method, e.g. `"POST"`.
        path: Path below the base URL, e.g. `"/browsers"`.
    """

    def __init__(self, message: str, *, method: str, path: str) -> None:
        super().__init__(f"{method} {path}: {message}")
        self.method = method
        self.path = path


class APIConnectionError(APIError):
    """No answer came: refused, reset, name not found.

    Attributes:
        maybe_processed: False only when the server cannot have seen the request.
    """

    def __init__(self, message: str, *, method: str, path: str, maybe_processed: bool = True) -> None:
        super().__init__(message, method=method, path=path)
        self.maybe_processed = maybe_processed


class APITimeoutError(APIConnectionError):
    """No answer came within the request's deadline."""


class APIResponseError(APIError):
    """An answer arrived that does not fit the contract, e.g. not JSON, or a required field is missing.

    Attributes:
        answer_id: The answer's `id`, if there was one: the request has made something.
    """

    def __init__(self, message: str, *, method: str, path: str, answer_id: str | None = None) -> None:
        super().__init__(message, method=method, path=path)
        self.answer_id = answer_id


class APIStatusError(APIError):
    """The server answered with a status of 400 or above.

    Attributes:
        status: HTTP status.
        detail: The body's `detail`: a text, or a list of `{"loc", "msg", "type"}` for 422, or None.
        request_id: The server's `X-Request-Id`, if it sent one.
        retry_after: Seconds from `Retry-After`, if it sent one.
    """

    def __init__(
        self,
        *,
        status: int,
        method: str,
        path: str,
        detail: Any = None,
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        text = f"{status} {_detail_text(detail)}".rstrip()
        if request_id:
            text += f" (request {request_id})"
        super().__init__(text, method=method, path=path)
        self.status = status
        self.detail = detail
        self.request_id = request_id
        self.retry_after = retry_after


def _detail_text(detail: Any) -> str:
    if isinstance(detail, list):
        parts = []
        for item in detail:
            if isinstance(item, Mapping):
                where = ".".join(str(part) for part in item.get("loc", ()))
                parts.append(f"{where}: {item.get('msg', '')}".strip(": "))
            else:
                parts.append(str(item))
        return "; ".join(parts)
    if isinstance(detail, Mapping):
        return str(detail.get("message") or dict(detail))
    return "" if detail is None else str(detail)


class BadRequestError(APIStatusError):
    """400: the request makes no sense in the present state, e.g. a task on a stopped session."""


class AuthenticationError(APIStatusError):
    """401: the API key is missing or unknown."""


class PaymentRequiredError(APIStatusError):
    """402: credits are used up, or the plan does not include this."""


class PermissionDeniedError(APIStatusError):
    """403: not on this plan, e.g. a timeout over the plan's limit."""


class NotFoundError(APIStatusError):
    """404: no such profile, browser, session, task or file for this key."""


class ConflictError(APIStatusError):
    """409: the request contradicts another one, e.g. an `Idempotency-Key` reused with another body."""


class ValidationError(APIStatusError):
    """422: the request's fields are not valid; `detail` names them."""


class RateLimitError(APIStatusError):
    """429: too many concurrent sessions, or too many requests."""


class ServerError(APIStatusError):
    """5xx: the server failed."""


# --- CDP ----------------------------------------------------------------------------------------------------------


class CDPError(CDPBridgeError):
    """A failure on a DevTools connection."""


class ConnectFailed(CDPError):
    """No DevTools connection could be made.

    Attributes:
        stage: Where it ended: `"address"`, `"dns"`, `"tcp"`, `"proxy"`, `"tls"`, `"http"`, `"upgrade"`, `"handshake"`;
            `"ended"` when a lost link is not resumed because the browser is gone.
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


class CommandTimeout(CDPError):
    """A command got no reply within its deadline; the connection goes on.

    Attributes:
        method: The command, or the event class for `expect`.
        target: Short description of the target it was sent to.
        waited: How long.
        hint: What is known to hold up that target, e.g. an open dialog.
    """

    def __init__(self, method: str, *, target: str, waited: timedelta, hint: str | None = None) -> None:
        super().__init__(
            f"{method} got no answer from {target} within {waited.total_seconds():g} s"
            + (f": {hint}" if hint else "")
        )
        self.method = method
        self.target = target
        self.waited = waited
        self.hint = hint


class ConnectionClosed(CDPError):
    """The connection ended, or had ended before the call.

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
    """The target of a CDPSession is gone.

    Attributes:
        reason: `"closed"`, `"crashed"`, `"detached"` (by us), or `"parent"` (its parent session ended).
        target: Short description of the target.
    """

    def __init__(self, reason: str, *, target: str, doing: str = "") -> None:
        what = f"{doing}: " if doing else ""
        super().__init__(f"{what}{target} is gone ({reason})")
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
        url: Where it was to go.
        error_text: Chrome's name of the cause, e.g. `"net::ERR_CONNECTION_REFUSED"`.
    """

    def __init__(self, url: str, error_text: str) -> None:
        super().__init__(f"could not load {url}: {error_text}")
        self.url = url
        self.error_text = error_text


class DownloadFailed(CDPError):
    """A file did not come out of the browser.

    Attributes:
        name: Its suggested name.
    """

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"download{f' of {name}' if name else ''}: {why}")
        self.name = name


class UploadFailed(CDPError):
    """A file could not be given to a page: there is no such file, or no element that takes it."""

    def __init__(self, why: str) -> None:
        super().__init__(f"upload: {why}")


class EvaluationError(CDPError):
    """A script in the page threw, or its promise was rejected.

    Attributes:
        line: Where, from 1.
        column: Where, from 1.
    """

    def __init__(self, text: str, *, line: int, column: int) -> None:
        super().__init__(f"{text} (line {line}, column {column})")
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


# --- Chromium on this machine -------------------------------------------------------------------------------------


class ChromiumError(CDPBridgeError):
    """A Chromium process on this machine failed."""


class BrowserNotFound(ChromiumError):
    """No Chromium binary was found."""


class BrowserStartFailed(ChromiumError):
    """Chromium did not become ready.

    Attributes:
        stderr: The end of its error output.
    """

    def __init__(self, message: str, *, stderr: str = "") -> None:
        super().__init__(message + (f"\n{stderr}" if stderr else ""))
        self.stderr = stderr


class BrowserExited(ChromiumError):
    """Chromium ended by itself.

    Attributes:
        returncode: Exit status; negative for a signal.
        stderr: The end of its error output.
    """

    def __init__(self, returncode: int | None, *, stderr: str = "") -> None:
        super().__init__(f"Chromium exited with {returncode}" + (f"\n{stderr}" if stderr else ""))
        self.returncode = returncode
        self.stderr = stderr


# --- Agents -------------------------------------------------------------------------------------------------------


class AgentStartFailed(CDPBridgeError):
    """An agent could not be put to work; nothing of it is left."""


# --- Rentals ------------------------------------------------------------------------------------------------------


class RentalError(CDPBridgeError):
    """A rented browser cannot do what was asked."""


class BudgetExceeded(RentalError):
    """A ceiling of a budget does not allow one more rental; nothing was rented."""


class NoFreeSlot(RentalError):
    """No slot for one more browser became free in time; nothing was rented.

    Attributes:
        waited: How long.
        holders: Who holds the slots, as far as known: a line each.
    """

    def __init__(self, why: str, *, waited: timedelta, holders: Sequence[str]) -> None:
        after = f" after {waited.total_seconds():.0f} s" if waited else ""
        held = "".join(f"\n  {holder}" for holder in holders)
        super().__init__(
            f"no slot for a browser{after}: {why}; wait longer (`slot_timeout`), or stop one"
            + (f". The slots are held by:{held}" if held else "")
        )
        self.waited = waited
        self.holders = list(holders)


class BrowserExpired(RentalError, ConnectionClosed):
    """The rented time is over, and so is every connection to the browser.

    Attributes:
        started_at: When it started, by the server's clock.
        timeout_at: When it ended, by the server's clock.
    """

    def __init__(
        self,
        browser_id: object,
        *,
        started_at: datetime,
        timeout_at: datetime,
        closed: ConnectionClosed | None = None,
    ) -> None:
        """`closed` is what a call met, which becomes the cause."""
        CDPBridgeError.__init__(
            self,
            f"browser {browser_id} timed out at {timeout_at:%Y-%m-%d %H:%M:%S %Z}, started at {started_at:%H:%M:%S}; "
            "rent with a longer timeout",
        )
        self.code = 1001 if closed is None else closed.code  # RFC 6455 section 7.4.1: going away
        self.reason = "session expired" if closed is None else closed.reason
        self.sent = None if closed is None else closed.sent
        self.__cause__ = closed
        self.browser_id = browser_id
        self.started_at = started_at
        self.timeout_at = timeout_at


class BrowserStopped(RentalError):
    """The rented browser was stopped, by us or by somebody else with the key.

    Attributes:
        finished_at: When, by the server's clock, if known.
    """

    def __init__(self, browser_id: object, *, finished_at: datetime | None) -> None:
        when = f" at {finished_at:%Y-%m-%d %H:%M:%S %Z}" if finished_at else ""
        super().__init__(f"browser {browser_id} was stopped{when}")
        self.browser_id = browser_id
        self.finished_at = finished_at


class StopFailed(RentalError):
    """A stop could not be confirmed: the browser may go on costing money until its timeout.

    Attributes:
        browser_id: The browser that may still run.
    """

    def __init__(self, browser_id: object, cause: BaseException | str, *, advice: str | None = None) -> None:
        super().__init__(
            f"browser {browser_id} could not be stopped and may still cost money ({cause}); "
            + (advice or f"run: cdpbridge stop {browser_id}")
        )
        self.browser_id = browser_id


class LeaseTimeout(RentalError, TimeoutError):
    """A lease of a pool's tab was over its time.

    Attributes:
        waiting: True when no tab came in time, False when the block that used it took too long.
    """

    def __init__(self, message: str, *, waiting: bool) -> None:
        super().__init__(message)
        self.waiting = waiting


class PoolClosed(RentalError):
    """The pool's block is not entered, or was left; no tab can be had."""


# --- Tasks --------------------------------------------------------------------------------------------------------


class TaskError(CDPBridgeError):
    """An agent's task did not bring what was asked for.

    Attributes:
        task_id: The task.
        session_id: The session it runs in, where known.
    """

    def __init__(self, message: str, *, task_id: object, session_id: object | None = None) -> None:
        super().__init__(f"task {task_id}: {message}")
        self.task_id = task_id
        self.session_id = session_id


class TaskTimeout(TaskError):
    """A task has not ended within the time that was given; its notes say whether it goes on.

    Attributes:
        waited: How long.
    """

    def __init__(self, *, task_id: object, waited: timedelta, session_id: object | None = None) -> None:
        super().__init__(
            f"it has not ended within {waited.total_seconds():g} s", task_id=task_id, session_id=session_id
        )
        self.waited = waited


class TaskOutputError(TaskError):
    """A task has ended without an output of the class that was asked for.

    Attributes:
        output: What the agent answered, if anything.
    """

    def __init__(
        self, message: str, *, task_id: object, session_id: object | None = None, output: str | None
    ) -> None:
        super().__init__(message, task_id=task_id, session_id=session_id)
        self.output = output


# --- Webhooks -----------------------------------------------------------------------------------------------------


class WebhookError(CDPBridgeError):
    """A webhook's message is not to be trusted: no signature, a wrong one, or too old."""
