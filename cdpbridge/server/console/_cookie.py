"""The console's cookie, and the one place where it counts instead of a key."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection
from starlette.responses import Response

from ._sign_ins import SIGN_IN_LASTS, SignIns

__all__ = ["ConsoleCookie"]

_NAME: Final = "cdpbridge_console"
# No other site's page can send it: a header of one's own needs a permission (CORS) that this server never gives.
_PROOF: Final = "X-Cdpbridge-Console"


class ConsoleCookie:
    """Reads and writes the cookie."""

    def __init__(self, sign_ins: SignIns) -> None:
        self._sign_ins = sign_ins

    def sign_in(self, response: Response, key_hash: str, base: str) -> None:
        """Give `response` a cookie for a good key; `base` is the address the browser knows us by."""
        parts = urlsplit(base)
        response.set_cookie(
            _NAME,
            self._sign_ins.add(key_hash),
            max_age=int(SIGN_IN_LASTS.total_seconds()),
            path=f"{parts.path.rstrip('/')}/",
            secure=parts.scheme == "https",
            httponly=True,
            samesite="strict",
        )

    def sign_out(self, connection: HTTPConnection, response: Response, base: str) -> None:
        """Forget the sign-in, here and there."""
        self._sign_ins.remove(connection.cookies.get(_NAME, ""))
        response.delete_cookie(_NAME, path=f"{urlsplit(base).path.rstrip('/')}/")

    def key_hash(self, connection: HTTPConnection) -> str | None:
        """The hash of the key that the console behind a request signed in with."""
        return self._sign_ins.key_hash(connection.cookies.get(_NAME, ""))

    def key_hash_for_api(self, connection: HTTPConnection) -> str | None:
        """The same for the REST API, where a cookie alone, which other pages can have sent, is not enough."""
        return self.key_hash(connection) if _PROOF in connection.headers else None
