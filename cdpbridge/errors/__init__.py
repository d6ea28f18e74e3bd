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
    │   ├── RecordingUnavailable        a browser has no video: browser_id, pending
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
    ValidationError,
    WebhookError,
)
from ._base import CDPBridgeError, ConfigurationError, redact_url
from ._cdp import (
    CDPError,
    CommandError,
    CommandTimeout,
    ConnectFailed,
    ConnectionClosed,
    DecodeError,
    DownloadFailed,
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
    "RecordingUnavailable",
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

for _name in __all__:  # what users see and import is this module
    globals()[_name].__module__ = __name__
