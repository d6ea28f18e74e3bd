"""Commands about browser contexts that need something of the server before the browser gets them. Pure.

A context with a proxy of its own: Chromium would connect to that proxy by itself, or to `direct://`, past the browser's forwarder and
its rules; and in a browser that has no network but its forwarder, it would reach nothing. So the command gets a forwarder's address in
place of the proxy's.

Beginnings and ends of contexts where they must follow each other, see `ContextOrder`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["ContextCommand", "OrderedCommand", "begins_a_context", "context_command", "ends_a_context"]

_METHOD: Final = "Target.createBrowserContext"
# JSON-RPC 2.0 section 5.1, as Chromium uses it.
_INVALID_PARAMS: Final = -32602
# Everything goes to the forwarder, hosts of this machine too: it knows what the client has left out.
_NO_BYPASS: Final = "<-loopback>"


@dataclass(frozen=True, slots=True)
class ContextCommand:
    """A command that makes a context with a proxy.

    Attributes:
        command: As it came.
        proxy_server: The proxy that it names.
        bypass_list: The hosts that do without it.
    """

    command: dict[str, Any]
    proxy_server: str
    bypass_list: str

    def through(self, address: str) -> bytes:
        """Return the command with a forwarder, `host:port`, in place of the proxy."""
        params = {**self.command["params"], "proxyServer": f"http://{address}", "proxyBypassList": _NO_BYPASS}
        return _encoded({**self.command, "params": params})

    def refused(self, why: str) -> bytes:
        """Return the browser's answer to a proxy that cannot be used."""
        answer: dict[str, Any] = {
            "id": self.command.get("id"),
            "error": {"code": _INVALID_PARAMS, "message": f"{_METHOD}: {why}"},
        }
        if "sessionId" in self.command:
            answer["sessionId"] = self.command["sessionId"]
        return _encoded(answer)


@dataclass(frozen=True, slots=True)
class OrderedCommand:
    """A command that begins or ends a context.

    Attributes:
        raw: Its frames as they came.
        ends: It ends one.
    """

    raw: bytes
    ends: bool


def begins_a_context(payload: bytes) -> bool:
    """Return True if a client's message may be a command that makes a context."""
    return b"createBrowserContext" in payload


def ends_a_context(payload: bytes) -> bool:
    """Return True if a client's message may be a command that ends a context."""
    return b"disposeBrowserContext" in payload


def context_command(payload: bytes) -> ContextCommand | None:
    """Read a client's message; None for anything but a command that makes a context with a proxy, which the browser judges."""
    try:
        command = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    if not isinstance(command, dict) or command.get("method") != _METHOD:
        return None
    params = command.get("params")
    if not isinstance(params, dict) or not isinstance(params.get("proxyServer"), str):
        return None
    bypass_list = params.get("proxyBypassList", "")
    if not isinstance(bypass_list, str):
        return None
    return ContextCommand(command, params["proxyServer"], bypass_list)


def _encoded(message: dict[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode()
