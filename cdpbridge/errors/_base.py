"""The base classes of all errors, and how addresses and durations are written in messages."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

__all__ = ["CDPBridgeError", "ConfigurationError", "redact_url", "seconds_text"]


def redact_url(url: str) -> str:
    """Return scheme, host, port and first four path characters of `url`: enough to recognise it, too little to use it.

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


def seconds_text(duration: timedelta | float) -> str:
    """Return a duration, or seconds, as messages write it: `2 s` also for what was measured as 2.00174."""
    seconds = duration.total_seconds() if isinstance(duration, timedelta) else duration
    digits = 0 if abs(seconds) >= 100 else 1 if abs(seconds) >= 10 else 2
    text = f"{seconds:.{digits}f}" if abs(seconds) >= 0.1 else f"{seconds:.2g}"
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text} s"


class CDPBridgeError(Exception):
    """The base of all errors of cdpbridge.

    Every class of the tree can be copied and pickled, so it can leave a worker process: the result has the same text, `args`,
    attributes and notes. `__cause__`, `__context__` and the traceback stay behind, as with every exception.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        # The inherited form calls the class with `args`, which are the finished text and not what `__init__` takes.
        reduced: Any = super().__reduce__()
        kind, args, *state = reduced
        attributes: dict[str, Any] = dict(state[0]) if state and state[0] else {}
        if notes := attributes.get("__notes__"):
            attributes["__notes__"] = list(notes)  # a note added to a copy is not added to the original
        return _restored, (kind, args), attributes


def _restored(kind: type[CDPBridgeError], args: tuple[Any, ...]) -> CDPBridgeError:
    """Make an error of class `kind` without its `__init__`: the attributes come with the pickled state."""
    builtin: Any = next(base for base in kind.__mro__ if base.__module__ == "builtins")  # e.g. TimeoutError
    error: CDPBridgeError = builtin.__new__(kind, *args)
    builtin.__init__(error, *args)
    return error


class ConfigurationError(CDPBridgeError, ValueError):
    """A setting or argument is missing, malformed, or contradicts another."""
