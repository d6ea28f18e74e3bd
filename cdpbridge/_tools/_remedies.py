"""What to do about each error, for the page that `generate_docs` writes. What happened is in the class's docstring."""

from __future__ import annotations

from typing import Final

__all__ = ["REMEDIES"]

REMEDIES: Final = {
    "APIConnectionError": "Check the address and that the server runs. The message says whether the request may have arrived; "
    "`cdpbridge reap` settles a rental whose answer was lost.",
    "APIError": "Catch it for every failure of the REST API.",
    "APIResponseError": "Check that the base URL names the API (it ends in `/api/v2`), and that no other server answers there. "
    "`cdpbridge doctor` compares a server's answers with the models.",
    "APIStatusError": "Read `detail`, the server's own words, and quote `request_id` to whom operates the server.",
    "APITimeoutError": "Wait longer (`timeout` of the client), or ask again. A lost create is settled as after `APIConnectionError`.",
    "ActionTimeout": "Read the hint: it says what the element was like at the last try, e.g. covered or disabled. Correct the selector, "
    "wait for the page first, or give the action a longer `timeout`.",
    "AgentStartFailed": "Check `agent_python` in the server's settings: its environment needs browser-use.",
    "AuthenticationError": "Check `BROWSER_USE_API_KEY`, and that the key belongs to the server that is named.",
    "BadRequestError": "Read `detail`: it names the state that does not allow the request.",
    "BrowserExited": "Read `stderr`. Memory is the most frequent reason in containers; give `/dev/shm` or the container more.",
    "BrowserExpired": "Rent with a longer `timeout`, or with `renew=True`.",
    "BrowserNotFound": "Install Chromium (see [Install](../install.md)), or name a binary in `CDPBRIDGE_CHROMIUM`.",
    "BrowserStartFailed": "Read `stderr`. In a container whose kernel forbids user namespaces, allow them; see [Docker](../docker.md).",
    "BrowserStopped": "Another program, the console or `cdpbridge stop` ended it. Rent another one.",
    "BudgetExceeded": "Raise the budget, or stop a browser: what runs is counted with what it may still use.",
    "CDPBridgeError": "Catch it for every error of this library.",
    "CDPError": "Catch it for every failure of a DevTools connection.",
    "ChromiumError": "Catch it for every failure of Chromium on this machine.",
    "CommandError": "Read `code` and `message`: they are Chromium's. The parameters of the command are in Chrome's documentation.",
    "CommandTimeout": "Follow the hint in the message: an open dialog and a domain that is not enabled are frequent. "
    "Else give the command a longer `timeout`.",
    "ConfigurationError": "Correct the setting or argument that the message names.",
    "ConflictError": "Use a new `Idempotency-Key` for another request.",
    "ConnectFailed": "Read `stage`, `status` and `body`: they say how far it came. The rental was stopped again.",
    "ConnectTimeout": "Wait longer (`connect_timeout`). `stage` says what it waited for.",
    "ConnectionClosed": "`sent` says whether the browser may have done what was asked. A rented browser is reconnected to by itself; "
    "this error means that it could not be.",
    "DecodeError": "Use the command's or event's name as a string to get plain dictionaries, and report it: "
    "a newer Chromium may send another form.",
    "DownloadFailed": "Read the reason: the page or the connection closed, the server refused, or the disk is full.",
    "DownloadTimeout": "Wait longer (`timeout` of `save`).",
    "ElementError": "Correct the selector, or use it on another kind of element: the message says why it cannot be used so.",
    "EvaluationError": "Correct the script; `line` and `column` are places in it.",
    "EventsLost": "Read events faster, raise the stream's limit, or listen to fewer events. `count` says how many are missing.",
    "LeaseTimeout": "Raise `lease_timeout` or `wait_timeout`, or give the pool more browsers or tabs.",
    "MessageTooBig": "Raise the limit, or use a stream: `pdf_stream`, `trace_stream`, `read_stream`.",
    "NavigationError": "Read `error_text`, Chromium's own code, e.g. `net::ERR_NAME_NOT_RESOLVED`. With a proxy, check the proxy first.",
    "NoFreeSlot": "Wait longer (`slot_timeout`), stop one of `holders`, or raise `max_browsers` on your own server.",
    "NotFoundError": "Check the id, and that the key is of the project that made it.",
    "PaymentRequiredError": "Add credits: on your own server `cdpbridge credits grant`, on the cloud its billing page. "
    "`detail` says whether it is the plan instead.",
    "PermissionDeniedError": "Ask for less time, or use a key whose plan allows it.",
    "PoolClosed": "Use tabs within the pool's block.",
    "RateLimitError": "Wait (`slot_timeout`), stop a browser, or raise `max_browsers` on your own server.",
    "RecordingUnavailable": "If `pending` is true, ask again after the stop. Else rent with `recording=True`.",
    "RentalError": "Catch it for every failure of a rented browser.",
    "ServerError": "Try again later; 503 says why in `detail` (memory, disk, load). See [Metrics and health](../monitoring.md).",
    "StopFailed": "Run the command that the message names, or `cdpbridge reap`. The browser ends at its timeout at the latest.",
    "TargetClosed": "Open another tab: the page closed itself, or a client closed it.",
    "TargetCrashed": "Navigate or reload: that revives the page. If it repeats, the machine needs more memory.",
    "TaskError": "Catch it for every failure of a task. `task_id` and `session_id` name what is kept.",
    "TaskOutputError": "Read `output`, the agent's own text; make the task or the class simpler.",
    "TaskTimeout": "Wait longer, or follow the task with `client.tasks.wait` if the notes say that it goes on.",
    "UnprocessableEntityError": "Correct the field that `detail` names.",
    "UploadFailed": "Check the path, the selector and the size limit that the message names.",
    "WebhookError": "Refuse the message. Check the secret, and the clock of this machine.",
}
