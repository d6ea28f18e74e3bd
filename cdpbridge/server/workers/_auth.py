"""How both ends of a connection to a worker show that they know the secret, which is never sent. Pure.

    worker  -> server  greeting   "CBW", version, 32 random bytes
    server  -> worker  opening    "CBS", version, 32 random bytes, length of the hello, the hello, HMAC of all of that
    worker  -> server  admission  HMAC of all of that and of the status, status

The worker proves nothing to one that does not know the secret, and answers it nothing: what scans ports learns that a port is
open. What follows on the connection is neither encrypted nor signed: that is TLS's task, whose certificate is in the
secret of both then (`_tls.bound`), or the network's.
"""

from __future__ import annotations

import hmac
import os
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

__all__ = [
    "ADMISSION_BYTES",
    "GREETING_BYTES",
    "MAX_HELLO_BYTES",
    "OPENING_HEAD_BYTES",
    "Opening",
    "Status",
    "admission",
    "greeting",
    "hello_bytes",
    "open_with",
    "opens",
    "status_of",
]

_WORKER: Final = b"CBW"
_SERVER: Final = b"CBS"
# Of this handshake; what is said after it has a number of its own, see `PROTOCOL`.
_VERSION: Final = b"\x01"
_NONCE_BYTES: Final = 32
_MAC_BYTES: Final = 32
GREETING_BYTES: Final = 4 + _NONCE_BYTES
OPENING_HEAD_BYTES: Final = 4 + _NONCE_BYTES + 2
ADMISSION_BYTES: Final = _MAC_BYTES + 1
MAX_HELLO_BYTES: Final = 1024


class Status(IntEnum):
    """The worker's answer to one that knows the secret."""

    ADMITTED = 0
    OTHER_WORKER = 1
    NO_BROWSER = 2
    UNKNOWN = 3


@dataclass(frozen=True, slots=True)
class Opening:
    """What a server sends first, and what it has to be answered with.

    Attributes:
        data: To be sent.
        key: Of the answer.
    """

    data: bytes
    key: bytes


def greeting() -> bytes:
    """Return what a worker sends first."""
    return _WORKER + _VERSION + os.urandom(_NONCE_BYTES)


def open_with(secret: bytes, greeted: bytes, hello: bytes) -> Opening | None:
    """Return the answer to a worker's greeting; None when it is none, or that of another version."""
    if greeted[:4] != _WORKER + _VERSION or len(greeted) != GREETING_BYTES:
        return None
    head = _SERVER + _VERSION + os.urandom(_NONCE_BYTES) + len(hello).to_bytes(2, "big")
    mac = _mac(secret, b"server", greeted + head + hello)
    return Opening(head + hello + mac, greeted + head + hello + mac)


def hello_bytes(head: bytes) -> int | None:
    """Return how long hello and HMAC are after the head of an opening; None when it is no such head."""
    length = int.from_bytes(head[-2:], "big")
    if len(head) != OPENING_HEAD_BYTES or head[:4] != _SERVER + _VERSION or length > MAX_HELLO_BYTES:
        return None
    return length + _MAC_BYTES


def opens(secret: bytes, greeted: bytes, head: bytes, rest: bytes) -> bytes | None:
    """Return the hello of an opening; None when its sender does not know the secret."""
    hello, mac = rest[:-_MAC_BYTES], rest[-_MAC_BYTES:]
    good = hmac.compare_digest(mac, _mac(secret, b"server", greeted + head + hello))
    return hello if good else None


def admission(secret: bytes, key: bytes, status: Status) -> bytes:
    """Return the worker's answer to an opening.

    Args:
        secret: Of both.
        key: The greeting and the whole opening.
        status: What it says.
    """
    code = bytes([status])
    return _mac(secret, b"worker", key + code) + code


def status_of(secret: bytes, key: bytes, answer: bytes) -> Status | None:
    """Return what a worker has answered; None when it does not know the secret, or says what is not known here."""
    expected = _mac(secret, b"worker", key + answer[-1:])
    if not hmac.compare_digest(answer[:-1], expected):
        return None
    try:
        return Status(answer[-1])
    except ValueError:
        return Status.UNKNOWN


def _mac(secret: bytes, who: bytes, said: bytes) -> bytes:
    return hmac.digest(secret, b"cdpbridge " + who + b" " + said, "sha256")
