"""Keys by their names in `KeyboardEvent.key`, as a US keyboard has them."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final

from cdpbridge.errors import ConfigurationError
from cdpbridge.protocol import Command, Input

__all__ = ["key_commands"]


@dataclass(frozen=True, slots=True)
class _Key:
    """A key as `Input.dispatchKeyEvent` takes it.

    Attributes:
        number: Its Windows virtual-key code, which `keyCode` shows.
        text: What it types; None for a key that types nothing.
    """

    key: str
    code: str
    number: int
    text: str | None = None


# `Input.dispatchKeyEvent`: bits of `modifiers`.
_MODIFIERS: Final = {"Alt": 1, "Control": 2, "Meta": 4, "Shift": 8}
_ALIASES: Final = {
    "Ctrl": "Control",
    "Cmd": "Meta",
    "Command": "Meta",
    "Esc": "Escape",
    "Return": "Enter",
    "Space": " ",
}
_NAMED: Final = {
    each.key: each
    for each in (
        _Key("Backspace", "Backspace", 8),
        _Key("Tab", "Tab", 9),
        _Key("Enter", "Enter", 13, "\r"),
        _Key("Shift", "ShiftLeft", 16),
        _Key("Control", "ControlLeft", 17),
        _Key("Alt", "AltLeft", 18),
        _Key("Pause", "Pause", 19),
        _Key("CapsLock", "CapsLock", 20),
        _Key("Escape", "Escape", 27),
        _Key(" ", "Space", 32, " "),
        _Key("PageUp", "PageUp", 33),
        _Key("PageDown", "PageDown", 34),
        _Key("End", "End", 35),
        _Key("Home", "Home", 36),
        _Key("ArrowLeft", "ArrowLeft", 37),
        _Key("ArrowUp", "ArrowUp", 38),
        _Key("ArrowRight", "ArrowRight", 39),
        _Key("ArrowDown", "ArrowDown", 40),
        _Key("PrintScreen", "PrintScreen", 44),
        _Key("Insert", "Insert", 45),
        _Key("Delete", "Delete", 46),
        _Key("Meta", "MetaLeft", 91),
        _Key("ContextMenu", "ContextMenu", 93),
        *(_Key(f"F{number}", f"F{number}", 111 + number) for number in range(1, 13)),
    )
}
# A sign, the sign with Shift, its code, its number.
_SIGNS: Final = (
    ("`", "~", "Backquote", 192),
    ("-", "_", "Minus", 189),
    ("=", "+", "Equal", 187),
    ("[", "{", "BracketLeft", 219),
    ("]", "}", "BracketRight", 221),
    ("\\", "|", "Backslash", 220),
    (";", ":", "Semicolon", 186),
    ("'", '"', "Quote", 222),
    (",", "<", "Comma", 188),
    (".", ">", "Period", 190),
    ("/", "?", "Slash", 191),
    *((str(digit), sign, f"Digit{digit}", 48 + digit) for digit, sign in enumerate(")!@#$%^&*(")),
    *(
        (chr(letter + 32), chr(letter), f"Key{chr(letter)}", letter)
        for letter in range(ord("A"), ord("Z") + 1)
    ),
)
_PLAIN: Final = {plain: _Key(plain, code, number, plain) for plain, _shifted, code, number in _SIGNS}
_SHIFTED: Final = {shifted: _Key(shifted, code, number, shifted) for _plain, shifted, code, number in _SIGNS}
_WITH_SHIFT: Final = {plain: shifted for plain, shifted, _code, _number in _SIGNS}


def key_commands(keys: str) -> list[Command[None]]:
    """Return the commands that press and release a key, with the modifiers before it: `"Enter"`, `"a"`, `"Control+Shift+A"`.

    Raises:
        ConfigurationError: There is no such key.
    """
    names = _names(keys)
    modifiers = [_modifier(each, keys) for each in names[:-1]]
    last = _ALIASES.get(names[-1], names[-1])
    if "Shift" in modifiers:
        last = _WITH_SHIFT.get(last, last)
    key = _NAMED.get(last) or _PLAIN.get(last) or _SHIFTED.get(last)
    if key is None and len(last) != 1:
        raise ConfigurationError(f"there is no key {names[-1]!r}{_meant(names[-1], [*_NAMED, *_ALIASES])}")
    if key is None:  # a sign of another keyboard: typed without a key code
        key = _Key(last, "", 0, last)
    if key.key.isupper() and len(key.key) == 1 and modifiers and "Shift" not in modifiers:
        key = _PLAIN.get(key.key.lower(), key)  # Control+A is Control and the key A, without Shift
    commands, bits = [], 0
    for each in modifiers:
        bits |= _MODIFIERS[each]
        commands.append(_event("rawKeyDown", _NAMED[each], bits))
    typed = None if bits & ~_MODIFIERS["Shift"] else key.text
    commands.append(_event("rawKeyDown" if typed is None else "keyDown", key, bits, text=typed))
    commands.append(_event("keyUp", key, bits))
    for each in reversed(modifiers):
        bits &= ~_MODIFIERS[each]
        commands.append(_event("keyUp", _NAMED[each], bits))
    return commands


def _names(keys: object) -> list[str]:
    if not isinstance(keys, str) or not keys:
        raise ConfigurationError(f"key must be a name like 'Enter', 'a' or 'Control+A', not {keys!r}")
    if keys == "+" or keys.endswith("++"):
        return [*filter(None, keys[:-1].split("+")), "+"]
    return keys.split("+")


def _modifier(name: str, keys: str) -> str:
    modifier = _ALIASES.get(name, name)
    if modifier not in _MODIFIERS:
        raise ConfigurationError(
            f"key {keys!r}: {name!r} is no modifier{_meant(name, [*_MODIFIERS])}; there are {', '.join(_MODIFIERS)}"
        )
    return modifier


def _meant(name: str, known: list[str]) -> str:
    near = get_close_matches(name.capitalize(), known, n=1) or get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; do you mean {near[0]!r}?" if near else ""


def _event(kind: str, key: _Key, modifiers: int, *, text: str | None = None) -> Command[None]:
    more: dict[str, Any] = {"text": text, "unmodified_text": text}
    return Input.dispatch_key_event(
        kind,
        modifiers=modifiers,
        key=key.key,
        code=key.code,
        windows_virtual_key_code=key.number,
        location=1 if key.key in _MODIFIERS else None,
        **more,
    )
