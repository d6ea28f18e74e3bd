"""Limits on what one peer may send, hold, wait for and guess, so that it cannot stop the server for the others.

And what the machine can still bear, below which the server takes no more.
"""

from __future__ import annotations

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
