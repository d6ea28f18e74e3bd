"""What every generated protocol module stands on: `Command`, `Event`, `Type`, lazy domains. Written by hand."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any, ClassVar, Final, Generic, TypeVar

import msgspec

__all__ = [
    "Command",
    "Event",
    "LazyDomain",
    "Type",
    "decoder_for",
    "decoders",
    "event_class",
    "result_type_name",
]

T = TypeVar("T")
S = TypeVar("S")


# gc=False: what JSON gives has no circles, and the collector walks every tracked object again and again. Measured with
# msgspec 0.22: 8 MB of DOM.getDocument decode in 41 ms, against 100 ms; a kept Network.responseReceived in 3.5 us
# against 4.3. frozen=True changed neither.


class Type(msgspec.Struct, omit_defaults=True, gc=False, rename="camel"):
    """A CDP object. Unknown fields are ignored, optional ones are None when absent."""


class Event(msgspec.Struct, omit_defaults=True, gc=False, rename="camel"):
    """A CDP event; its class is what `on`, `events` and `expect` take.

    Attributes:
        METHOD: Its name on the wire, e.g. `"Page.loadEventFired"`.
    """

    METHOD: ClassVar[str] = ""


# A Struct is made in a third of a class's time; what a program sends has no circles either.
class Command(msgspec.Struct, Generic[T], gc=False):
    """A CDP command as a value: what to send, and what its reply becomes.

    Attributes:
        method: Name in the protocol, e.g. `"Page.navigate"`.
        params: Parameters by the protocol's names; those left out are absent.
        result_type: Class of the reply, or None when it carries nothing.
    """

    method: str
    params: dict[str, Any]
    result_type: type[T] | None

    def __repr__(self) -> str:
        return f"Command({self.method}, {', '.join(self.params) or 'no parameters'})"


def decoder_for(kind: type[S]) -> msgspec.json.Decoder[S]:
    """The JSON decoder for a generated class, made on first use.

    Making it resolves the class's forward references, which loads the domains it refers to. It is not strict, because
    Chrome may write an integer as `1.0` or `1e3`.
    """
    decoder = decoders.get(kind)
    if decoder is None:
        decoder = decoders[kind] = msgspec.json.Decoder(kind, strict=False)
    return decoder


# A dict and not functools.cache, whose type forgets which class the decoder is for.
decoders: Final[dict[type | None, msgspec.json.Decoder[Any]]] = {}
"""What `decoder_for` has made, for a caller that cannot afford the call."""


def event_class(method: str) -> type[Event] | None:
    """The class of an event by its name on the wire, e.g. `"Page.loadEventFired"`; None when the definition has none.

    Loads the event's domain.
    """
    domain, _, name = method.partition(".")
    module = getattr(importlib.import_module("cdpbridge.protocol"), domain, None) if name else None
    found = getattr(module, name[:1].upper() + name[1:], None)
    if isinstance(found, type) and issubclass(found, Event) and method == found.METHOD:
        return found
    return None


def result_type_name(command: Command[Any]) -> str:
    """How error messages name what a reply should have been."""
    return command.result_type.__name__ if command.result_type is not None else "nothing"


class LazyDomain:
    """A stand-in for a domain module inside another one's annotations; loads the real one on first touch.

    Domains refer to each other in circles, and most programs use three of them.
    """

    def __init__(self, module: str) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # inspection by doctest, mock and the like is no use of the domain
            raise AttributeError(name)
        return getattr(self._load(), name)

    def _load(self) -> ModuleType:
        return importlib.import_module(self._module)
