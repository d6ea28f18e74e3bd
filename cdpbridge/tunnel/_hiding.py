"""Keeps from a client what is the tunnel's own in the browser: its context, its page, and the sessions that a client is attached to it with.

A client that attaches to everything holds each new target until it has been set up, so that the tunnel has to let its own page run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["Hiding"]

SendCommand = Callable[[str, str, dict[str, Any]], None]
"""Takes session id, method and parameters of a command whose reply is of no interest."""


class Hiding:
    """What one client does not see.

    Args:
        own: Ids of the tunnel's own browser contexts and targets; it grows.
        send: Sends a command on the client's connection.
    """

    def __init__(self, own: set[str], send: SendCommand) -> None:
        self._own = own
        self._send = send
        self._learned: set[str] = set()  # targets and sessions of those contexts

    def touches(self, payload: bytes) -> bool:
        """Return True if a message may have to do with what is hidden."""
        return any(each.encode() in payload for each in self._own | self._learned)

    def shown(self, message: dict[str, Any]) -> dict[str, Any] | None:
        """Return what the client sees of a message: the same object, a changed copy, or nothing."""
        if message.get("sessionId") in self._learned:
            return None
        method, parameters = message.get("method"), message.get("params")
        if isinstance(parameters, dict):
            return None if self._is_own_event(str(method), parameters) else message
        result = message.get("result")
        if isinstance(result, dict):
            return self._without_own(message, result)
        return message

    def _is_own_event(self, method: str, parameters: dict[str, Any]) -> bool:
        info = parameters.get("targetInfo")
        if not isinstance(info, dict):
            ids = (parameters.get("targetId"), parameters.get("sessionId"))
            return method.startswith("Target.") and any(each in self._own | self._learned for each in ids)
        if info.get("browserContextId") not in self._own and info.get("targetId") not in self._own:
            return False
        self._learned.add(str(info.get("targetId")))
        session = parameters.get("sessionId")
        if method == "Target.attachedToTarget" and isinstance(session, str):
            self._learned.add(session)
            if parameters.get("waitingForDebugger"):
                self._send(session, "Runtime.runIfWaitingForDebugger", {})
        return True

    def _without_own(self, message: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
        """Filter a reply of `Target.getTargets` or `Target.getBrowserContexts`."""
        changed = {}
        for name in ("targetInfos", "browserContextIds"):
            found = result.get(name)
            if isinstance(found, list):
                changed[name] = [each for each in found if not self._is_own(each)]
        return message | {"result": result | changed} if changed else message

    def _is_own(self, item: object) -> bool:
        if isinstance(item, dict):
            return item.get("browserContextId") in self._own or item.get("targetId") in self._own
        return item in self._own
