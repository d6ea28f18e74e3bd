"""Every exception of cdpbridge.

    CDPBridgeError
    ├── ConfigurationError              a setting or argument is missing or contradicts another (also ValueError)
    ├── APIError                        the REST API
    │   ├── APIConnectionError          no answer: refused, reset, DNS
    │   │   └── APITimeoutError         no answer in time (also TimeoutError)
    │   ├── APIResponseError            an answer that does not fit the contract
    │   └── APIStatusError              an answer of 400 or above: status, method, path, detail, request_id
    │       ├── BadRequestError             400
    │       ├── AuthenticationError         401
    │       ├── PaymentRequiredError        402
    │       ├── PermissionDeniedError       403
    │       ├── NotFoundError               404
    │       ├── ConflictError               409
    │       ├── UnprocessableEntityError    422
    │       ├── RateLimitError              429   too many concurrent sessions, or requests
    │       └── ServerError                 5xx
    ├── CDPError                        the DevTools connection
    │   ├── ConnectFailed               no connection: stage, status, body
    │   │   └── ConnectTimeout          no connection in time (also TimeoutError)
    │   ├── CommandError                the browser refused a command: method, code, message, data
    │   ├── CommandTimeout              no reply in time (also TimeoutError): method, target, waited
    │   │   └── ActionTimeout           an element was not ready in time: selector, check
    │   ├── ConnectionClosed            the connection closed: code, reason, sent
    │   ├── TargetClosed                the page, worker or frame has closed: reason
    │   │   └── TargetCrashed           ... because its renderer crashed: status, error_code
    │   ├── NavigationError             a page could not be loaded: url, error_text
    │   ├── ElementError                a selector, or what it finds, cannot be used so: selector
    │   ├── EvaluationError             a script in the page threw: line, column
    │   ├── DownloadFailed              a file could not be downloaded from the browser: name
    │   │   └── DownloadTimeout         it was not complete in time (also TimeoutError): waited
    │   ├── UploadFailed                a file could not be set on a page
    │   ├── DecodeError                 a message that is no valid CDP: raw
    │   ├── MessageTooBig               a message over a limit: limit_bytes
    │   └── EventsLost                  a slow reader of events missed some: count
    ├── ChromiumError                   a browser process on this machine
    │   ├── BrowserNotFound             no Chromium binary
    │   ├── BrowserStartFailed          it did not become ready: stderr
    │   └── BrowserExited               it ended by itself: returncode, stderr
    ├── AgentStartFailed                an agent's process could not be started
    ├── RentalError                     a rented browser
    │   ├── BudgetExceeded              a budget does not allow one more rental: nothing was spent
    │   ├── NoFreeSlot                  no slot in time (also TimeoutError): waited, holders
    │   ├── BrowserExpired              its paid time is over (also ConnectionClosed): started_at, timeout_at
    │   ├── BrowserStopped              it was stopped: finished_at
    │   ├── LeaseTimeout                a pool's tab was not free, or was used too long (also TimeoutError): waiting
    │   ├── RecordingUnavailable        a browser has no video: browser_id, pending
    │   ├── PoolClosed                  a tab was requested outside of the pool's block, or the block ended meanwhile
    │   └── StopFailed                  a stop could not be confirmed, so it may still cost money: browser_id
    ├── TaskError                       an agent's task: task_id, session_id
    │   ├── TaskTimeout                 it has not ended in time (also TimeoutError): waited
    │   └── TaskOutputError             its output is not of the requested class: output
    └── WebhookError                    a message that is not the service's, or too old

A wait that took too long is a `TimeoutError` everywhere, so `except TimeoutError` catches any of them. `TimeoutError` is an
`OSError` in Python: catch these before a handler for files and sockets.

Messages say what was being done, what happened, and what to do next. Addresses in them are shortened by
`redact_url`: a `cdpUrl` or `liveUrl` gives full control of a browser and is treated as a password.
"""

from __future__ import annotations

from ._api import (
    APIConnectionError,
    APIError,
    APIResponseError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    ConflictError,
    NotFoundError,
    PaymentRequiredError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
    UnprocessableEntityError,
    WebhookError,
)
from ._base import CDPBridgeError, ConfigurationError, redact_url
from ._cdp import (
    ActionTimeout,
    CDPError,
    CommandError,
    CommandTimeout,
    ConnectFailed,
    ConnectionClosed,
    ConnectTimeout,
    DecodeError,
    DownloadFailed,
    DownloadTimeout,
    ElementError,
    EvaluationError,
    EventsLost,
    MessageTooBig,
    NavigationError,
    TargetClosed,
    TargetCrashed,
    UploadFailed,
)
from ._chromium import BrowserExited, BrowserNotFound, BrowserStartFailed, ChromiumError
from ._rental import (
    BrowserExpired,
    BrowserStopped,
    BudgetExceeded,
    LeaseTimeout,
    NoFreeSlot,
    PoolClosed,
    RecordingUnavailable,
    RentalError,
    StopFailed,
)
from ._tasks import AgentStartFailed, TaskError, TaskOutputError, TaskTimeout

__all__ = [
    "APIConnectionError",
    "APIError",
    "APIResponseError",
    "APIStatusError",
    "APITimeoutError",
    "ActionTimeout",
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
    "ConnectTimeout",
    "ConnectionClosed",
    "DecodeError",
    "DownloadFailed",
    "DownloadTimeout",
    "ElementError",
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
    "RecordingUnavailable",
    "RentalError",
    "ServerError",
    "StopFailed",
    "TargetClosed",
    "TargetCrashed",
    "TaskError",
    "TaskOutputError",
    "TaskTimeout",
    "UnprocessableEntityError",
    "UploadFailed",
    "WebhookError",
    "redact_url",
]

for _name in __all__:  # what users see and import is this module
    globals()[_name].__module__ = __name__
