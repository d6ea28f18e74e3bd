"""How a worker says to servers that it is there: over REST, with a proof that it knows the secret.

A server's challenge is good for ten minutes at any server with the secret, and needs no memory of it.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import os
import ssl
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from http.client import HTTPException
from typing import Any, Final, TypeAlias
from uuid import UUID

from cdpbridge._concurrency import to_the_end

from ._protocol import PROTOCOL, encoded
from ._tls import NO_TLS, AuthorityFile

__all__ = [
    "PROOF_HEADER",
    "REGISTRATION_PATH",
    "Registrar",
    "Registration",
    "challenge",
    "proof_of",
    "proves",
]

logger = logging.getLogger("cdpbridge.worker")

REGISTRATION_PATH: Final = "/internal/workers"
PROOF_HEADER: Final = "X-Cdpbridge-Proof"
# Behind a balancer another server than the one that asked gets the answer, and their clocks may be minutes apart.
_CHALLENGE_SECONDS: Final = 600
_NONCE_BYTES: Final = 16
_TRY_SECONDS: Final = 10.0
# A server that took this worker for dead has forgotten it.
_EVERY_SECONDS: Final = 10.0
_AFTER_A_FAILURE_SECONDS: Final = 2.0
_END_SECONDS: Final = 5.0
_LAST_TRY_SECONDS: Final = 2.0
_MOST_ANSWER_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Registration:
    """What a worker says of itself.

    Attributes:
        tls: Its port speaks TLS.
        draining: It takes no further browser.
        ended: It has ended, with all its browsers.
    """

    id: UUID
    name: str
    address: str
    slots: int
    protocol: int = PROTOCOL
    tls: bool = False
    draining: bool = False
    ended: bool = False


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


_Asking: TypeAlias = Callable[[urllib.request.Request], Mapping[str, Any]]


class Registrar:
    """Registers a worker with any of its servers again and again, and takes it off at its end.

    Args:
        servers: Addresses, `http(s)://host[:port]`.
        secret: Of all servers and workers.
        registration: What is said.
        authority: What `https://` servers are checked by.
    """

    def __init__(
        self, servers: Sequence[str], secret: bytes, registration: Registration, authority: AuthorityFile
    ) -> None:
        self._servers = servers
        self._secret = secret
        self._registration = registration
        self._authority = authority
        self._changed = asyncio.Event()
        # One request at a time: the last word counts.
        self._turn = asyncio.Lock()
        self._said: tuple[str, str | None] = "", None

    async def keep(self) -> None:
        """Register again and again. It never returns."""
        while True:
            self._changed.clear()
            fine = await self._say(self._registration)
            with suppress(TimeoutError):
                async with asyncio.timeout(_EVERY_SECONDS if fine else _AFTER_A_FAILURE_SECONDS):
                    await self._changed.wait()

    def drain(self) -> None:
        """Let servers know that it takes no further browser."""
        self._registration = replace(self._registration, draining=True)
        self._changed.set()

    async def end(self) -> None:
        """Let servers know that it has ended. When none hears that in a few seconds, they find out by themselves."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_END_SECONDS):
                await self._say(replace(self._registration, draining=True, ended=True), _LAST_TRY_SECONDS)

    async def _say(self, registration: Registration, seconds: float = _TRY_SECONDS) -> bool:
        """Register with one of the servers; False when none takes it, or the one that does cannot reach it.

        Args:
            registration: What is said.
            seconds: How long each may take for an answer.
        """
        problems = []
        problem: str | None = None
        async with self._turn:
            for server in self._servers:
                url = f"{server.rstrip('/')}{REGISTRATION_PATH}"
                try:
                    asking = partial(_register, url, self._secret, registration, self._asking(url, seconds))
                    # A request that has begun is not left alone: it would come after the next one.
                    problem = await to_the_end(asyncio.to_thread(asking))
                except (OSError, ValueError, HTTPException) as error:
                    problems.append(f"{server}: {_words(error)}")
                else:
                    problems.clear()
                    break
        text = "; ".join(problems)
        if text and text != self._said[0]:
            logger.warning("no server has taken this worker, which tries again: %s", text)
        elif self._said[0] and not text:
            logger.warning("a server has taken this worker")
        if problem is not None and problem != self._said[1]:
            logger.warning("a server that knows this worker does not reach it: %s", problem)
        self._said = text, problem
        return not text and problem is None

    def _asking(self, url: str, seconds: float) -> _Asking:
        """Return what sends a request to a server.

        Raises:
            ValueError: The address is none.
        """
        if not url.startswith(("http://", "https://")):
            raise ValueError("write http(s)://host[:port] of a server")
        context = self._authority.get() if url.startswith("https://") else None
        return partial(_answer, context=context, seconds=seconds)


def _register(url: str, secret: bytes, registration: Registration, ask: _Asking) -> str | None:
    """Register, and return why the worker is not reached, as far as a server knows."""
    asked = ask(urllib.request.Request(url))["challenge"]  # noqa: S310  # checked before
    body = json.dumps(encoded(registration)).encode()
    headers = {"Content-Type": "application/json", PROOF_HEADER: proof_of(secret, asked, body)}
    found = ask(urllib.request.Request(url, body, headers))  # noqa: S310
    problem = found.get("problem")
    return problem if isinstance(problem, str) else None


def _answer(
    request: urllib.request.Request, *, context: ssl.SSLContext | None, seconds: float
) -> Mapping[str, Any]:
    with urllib.request.urlopen(request, timeout=seconds, context=context) as answer:  # noqa: S310
        found: Mapping[str, Any] = json.loads(answer.read(_MOST_ANSWER_BYTES))
    return found


def _words(error: Exception) -> str:
    """Return why a server could not be asked, and what to do where that is known."""
    reason = getattr(error, "reason", None)
    if isinstance(reason, ssl.SSLCertVerificationError):
        return (
            f"its certificate is refused ({reason.verify_message}); set `worker_tls_ca` on this worker to the authority of the server's "
            "certificate, or `--server` to a name that the certificate has"
        )
    if isinstance(reason, ssl.SSLError) and reason.reason in NO_TLS:
        return "it speaks no TLS; write `http://` for `--server`, or put what ends TLS before it"
    return str(error)
