"""From a viewer's hands to DevTools commands, and what must be released when the viewer leaves. Pure."""

from __future__ import annotations

from typing import Any, Final

from ._messages import Compose, Key, Mouse, Text, Touch, Wheel

__all__ = ["Hands", "Input"]

Input = Mouse | Wheel | Touch | Key | Text | Compose
Call = tuple[str, dict[str, Any]]

_MOUSE: Final = {"move": "mouseMoved", "down": "mousePressed", "up": "mouseReleased"}
_TOUCH: Final = {"start": "touchStart", "move": "touchMove", "end": "touchEnd", "cancel": "touchCancel"}
_NUMPAD: Final = 3


class Hands:
    """One viewer's pressed keys and buttons on one page."""

    def __init__(self) -> None:
        self._keys: dict[str, Key] = {}
        self._buttons: dict[str, Mouse] = {}
        self._touching = False

    def call(self, message: Input) -> Call:
        """Return the command that does what the viewer did."""
        if isinstance(message, Mouse):
            return self._mouse(message)
        if isinstance(message, Key):
            return self._key(message)
        if isinstance(message, Touch):
            self._touching = message.kind in {"start", "move"}
            points = [{"x": point.x, "y": point.y, "id": point.id} for point in message.points]
            return "Input.dispatchTouchEvent", {
                "type": _TOUCH[message.kind],
                "touchPoints": points if self._touching else [],
                "modifiers": message.modifiers,
            }
        if isinstance(message, Wheel):
            return "Input.dispatchMouseEvent", {
                "type": "mouseWheel",
                "x": message.x,
                "y": message.y,
                "deltaX": message.dx,
                "deltaY": message.dy,
                "modifiers": message.modifiers,
            }
        if isinstance(message, Compose):
            return "Input.imeSetComposition", {
                "text": message.text,
                "selectionStart": message.start,
                "selectionEnd": message.end,
            }
        return "Input.insertText", {"text": message.text}

    def _mouse(self, message: Mouse) -> Call:
        if message.kind == "down":
            self._buttons[message.button] = message
        elif message.kind == "up":
            self._buttons.pop(message.button, None)
        return "Input.dispatchMouseEvent", {
            "type": _MOUSE[message.kind],
            "x": message.x,
            "y": message.y,
            "button": message.button,
            "buttons": message.buttons,
            "clickCount": message.clicks,
            "modifiers": message.modifiers,
        }

    def _key(self, message: Key) -> Call:
        params: dict[str, Any] = {
            "key": message.key,
            "code": message.code,
            "windowsVirtualKeyCode": message.key_code,
            "nativeVirtualKeyCode": message.key_code,
            "location": message.location,
            "isKeypad": message.location == _NUMPAD,
            "modifiers": message.modifiers,
        }
        if message.kind == "up":
            self._keys.pop(message.code, None)
            return "Input.dispatchKeyEvent", {"type": "keyUp", **params}
        self._keys[message.code] = message
        params["autoRepeat"] = message.repeat
        if not message.text:
            return "Input.dispatchKeyEvent", {"type": "rawKeyDown", **params}
        return "Input.dispatchKeyEvent", {
            "type": "keyDown",
            "text": message.text,
            "unmodifiedText": message.text,
            **params,
        }

    def release(self) -> list[Call]:
        """Release what is still pressed: no other code does."""
        calls = [
            self._key(key.model_copy(update={"kind": "up", "modifiers": 0}))
            for key in list(self._keys.values())
        ]
        calls += [
            self._mouse(mouse.model_copy(update={"kind": "up", "buttons": 0}))
            for mouse in list(self._buttons.values())
        ]
        if self._touching:
            self._touching = False
            calls.append(("Input.dispatchTouchEvent", {"type": "touchCancel", "touchPoints": []}))
        return calls
