"""Limits on what one peer may send, hold, wait for and guess, so that it cannot stop the server for the others.

And what the machine can still bear, below which the server takes no more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cdpbridge._on_use import names_on_use

if TYPE_CHECKING:
    from ._bodies import BodyLimit
    from ._border import NO_PLACE_TEXT, SAFE_HEADERS, TOO_MANY_TEXT, Border
    from ._connections import Connections, Descriptors, Waiting, raise_descriptor_limit
    from ._guesses import Guesses, Guessing, KeyGuesses
    from ._http import http_protocol
    from ._limits import Limits
    from ._machine import Machine, read_machine, strain
    from ._peers import ForwardedPeers, Peers, peer_name

__all__ = [
    "NO_PLACE_TEXT",
    "SAFE_HEADERS",
    "TOO_MANY_TEXT",
    "BodyLimit",
    "Border",
    "Connections",
    "Descriptors",
    "ForwardedPeers",
    "Guesses",
    "Guessing",
    "KeyGuesses",
    "Limits",
    "Machine",
    "Peers",
    "Waiting",
    "http_protocol",
    "peer_name",
    "raise_descriptor_limit",
    "read_machine",
    "strain",
]

# Loaded on first use: browsers are started before the web framework is imported.
_HOMES: Final = {
    "NO_PLACE_TEXT": "_border",
    "SAFE_HEADERS": "_border",
    "TOO_MANY_TEXT": "_border",
    "BodyLimit": "_bodies",
    "Border": "_border",
    "Connections": "_connections",
    "Descriptors": "_connections",
    "ForwardedPeers": "_peers",
    "Guesses": "_guesses",
    "Guessing": "_guesses",
    "KeyGuesses": "_guesses",
    "Limits": "_limits",
    "Machine": "_machine",
    "Peers": "_peers",
    "Waiting": "_connections",
    "http_protocol": "_http",
    "peer_name": "_peers",
    "raise_descriptor_limit": "_connections",
    "read_machine": "_machine",
    "strain": "_machine",
}

__getattr__ = names_on_use(__name__, _HOMES)
