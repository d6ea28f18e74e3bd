"""The console's cookie, and the places where it counts instead of a key."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection
from starlette.responses import Response

from ._sign_ins import SIGN_IN_LASTS, SignIns

__all__ = ["SIGN_IN_PATH", "ConsoleCookie"]

SIGN_IN_PATH: Final = "/console/sign-in"

_NAME: Final = "cdpbridge_console"
# RFC 6265bis section 4.1.3.2: no other host, path or plain HTTP can have set it.
_SECURE_PREFIX: Final = "__Host-"
# No other site's page can send it: a header of one's own needs a permission (CORS) that this server never gives.
_PROOF: Final = "X-Cdpbridge-Console"
# Pictures, streams and downloads have no headers of their own. It opens nothing without the cookie.
_PROOF_PARAMETER: Final = "proof"


class ConsoleCookie:
    """Reads and writes the cookie.

    Args:
        sign_ins: Those of the server that a request came to.
        external_base: The address the browser knows us by.
    """

    def __init__(
        self, sign_ins: Callable[[HTTPConnection], SignIns], external_base: Callable[[HTTPConnection], str]
    ) -> None:
        self._sign_ins = sign_ins
        self._external_base = external_base

    async def sign_in(self, connection: HTTPConnection, response: Response, key_hash: str) -> str:
        """Give `response` a cookie for a good key, and return the proof that the page has to send with it."""
        made = await self._sign_ins(connection).add(key_hash)
        name, path, secure = self._attributes(connection)
        response.set_cookie(
            name,
            made.token,
            max_age=int(SIGN_IN_LASTS.total_seconds()),
            path=path,
            secure=secure,
            httponly=True,
            samesite="strict",
        )
        return made.proof

    async def sign_out(self, connection: HTTPConnection, response: Response) -> bool:
        """Forget the sign-in, here and there; False, and nothing is done, without its proof."""
        name, path, secure = self._attributes(connection)
        proof = connection.headers.get(_PROOF)
        token = connection.cookies.get(name, "")
        if proof is None or not await self._sign_ins(connection).remove(token, proof):
            return False
        response.delete_cookie(name, path=path, secure=secure, httponly=True, samesite="strict")
        return True

    async def key_hash(self, connection: HTTPConnection) -> str | None:
        """Return the hash of the key that the console behind a request signed in with."""
        name, _, _ = self._attributes(connection)
        proof = connection.headers.get(_PROOF) or connection.query_params.get(_PROOF_PARAMETER, "")
        return await self._sign_ins(connection).key_hash(connection.cookies.get(name, ""), proof)

    async def key_hash_for_api(self, connection: HTTPConnection) -> str | None:
        """Return the same for the REST API, where the proof has to come in its header."""
        return await self.key_hash(connection) if _PROOF in connection.headers else None

    def _attributes(self, connection: HTTPConnection) -> tuple[str, str, bool]:
        """Name, path, and whether the cookie is for https alone."""
        parts = urlsplit(self._external_base(connection))
        path = parts.path.rstrip("/")
        if parts.scheme != "https":
            return _NAME, f"{path}/", False
        # The prefix wants the path "/": servers behind one name are distinguished by the cookie's own name.
        suffix = f"_{hashlib.sha256(path.encode()).hexdigest()[:8]}" if path else ""
        return f"{_SECURE_PREFIX}{_NAME}{suffix}", "/", True
