"""How a worker says to servers that it is there: over REST, with a proof that it knows the secret.

A server's challenge is good for a minute at any server with the secret, and needs no memory of it.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import os
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any, Final
from uuid import UUID

from ._protocol import PROTOCOL, encoded

__all__ = [
    "PROOF_HEADER",
    "REGISTRATION_PATH",
    "Registration",
    "challenge",
    "keep_registered",
    "proof_of",
    "proves",
]

logger = logging.getLogger("cdpbridge.worker")

REGISTRATION_PATH: Final = "/internal/workers"
PROOF_HEADER: Final = "X-Cdpbridge-Proof"
_CHALLENGE_SECONDS: Final = 60
_NONCE_BYTES: Final = 16
_TRY_SECONDS: Final = 10.0
# A server that took this worker for dead has forgotten it.
_EVERY_SECONDS: Final = 10.0
_AFTER_A_FAILURE_SECONDS: Final = 2.0
_MOST_ANSWER_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Registration:
    """What a worker says of itself."""

    id: UUID
    name: str
    address: str
    slots: int
    protocol: int = PROTOCOL


# --- the proof --------------------------------------------------------------------------------------------------------


def challenge(secret: bytes, *, wall: float | None = None) -> str:
    """Return what a worker has to answer.

    Args:
        secret: Of all servers and workers.
        wall: Unix seconds now.
    """
    until = int(time.time() if wall is None else wall) + _CHALLENGE_SECONDS
    text = f"{until}.{os.urandom(_NONCE_BYTES).hex()}"
    return f"{text}.{_mac(secret, 'challenge', text.encode())}"


def proof_of(secret: bytes, asked: str, body: bytes) -> str:
    """Return the answer to a challenge, for one request."""
    return f"{asked}.{_mac(secret, 'registration', asked.encode() + b' ' + body)}"


def proves(secret: bytes, proof: str, body: bytes, *, wall: float | None = None) -> bool:
    """Return True if a request comes from a worker that knows the secret, and answers a challenge that is not old."""
    asked, _, mac = proof.rpartition(".")
    text, _, signed = asked.rpartition(".")
    if not hmac.compare_digest(signed.encode(), _mac(secret, "challenge", text.encode()).encode()):
        return False
    if not hmac.compare_digest(proof.encode(), proof_of(secret, asked, body).encode()) or not mac:
        return False
    return int(text.partition(".")[0]) >= (time.time() if wall is None else wall)


def _mac(secret: bytes, purpose: str, data: bytes) -> str:
    return hmac.digest(secret, f"cdpbridge {purpose} ".encode() + data, "sha256").hex()


# --- the worker's end -------------------------------------------------------------------------------------------------


async def keep_registered(servers: Sequence[str], secret: bytes, registration: Registration) -> None:
    """Register with any of the servers again and again. It never returns."""
    said = ""
    while True:
        problems = []
        for server in servers:
            try:
                await asyncio.to_thread(_register, server.rstrip("/"), secret, registration)
            except (OSError, ValueError, HTTPException) as error:
                problems.append(f"{server}: {error}")
            else:
                problems.clear()
                break
        text = "; ".join(problems)
        if text and text != said:
            logger.warning("no server has taken this worker, which tries again: %s", text)
        elif said and not text:
            logger.warning("a server has taken this worker")
        said = text
        await asyncio.sleep(_AFTER_A_FAILURE_SECONDS if text else _EVERY_SECONDS)


def _register(server: str, secret: bytes, registration: Registration) -> None:
    url = f"{server}{REGISTRATION_PATH}"
    if not url.startswith(("http://", "https://")):
        raise ValueError("write http(s)://host[:port] of a server")
    asked = _answer(urllib.request.Request(url))["challenge"]  # noqa: S310  # checked above
    body = json.dumps(encoded(registration)).encode()
    headers = {"Content-Type": "application/json", PROOF_HEADER: proof_of(secret, asked, body)}
    _answer(urllib.request.Request(url, body, headers))  # noqa: S310


def _answer(request: urllib.request.Request) -> Mapping[str, Any]:
    with urllib.request.urlopen(request, timeout=_TRY_SECONDS) as answer:  # noqa: S310
        found: Mapping[str, Any] = json.loads(answer.read(_MOST_ANSWER_BYTES))
    return found
