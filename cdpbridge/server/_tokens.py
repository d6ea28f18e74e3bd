"""Tokens of browsers: an id and a signature over it, so that they need no table, outlive a restart, and are good on every server."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import Final
from uuid import UUID

__all__ = ["BrowserTokens"]

_KEY_BYTES: Final = 32
_ID_BYTES: Final = 16


class BrowserTokens:
    """Makes tokens of one purpose and reads them: a token of one purpose is none of another.

    Args:
        key: Secret, 32 bytes; who has it can make every token.
        purpose: What a token opens: `"cdp"` a browser's address, `"live"` its live view.
    """

    def __init__(self, key: bytes, purpose: str) -> None:
        if len(key) != _KEY_BYTES:
            raise ValueError(f"the key of tokens has {_KEY_BYTES} bytes, not {len(key)}")
        self._key = key
        self._purpose = purpose.encode()

    def __repr__(self) -> str:
        return f"BrowserTokens(key=…, purpose={self._purpose.decode()!r})"

    def make(self, browser_id: UUID) -> str:
        """Return the token of a browser; always the same."""
        return base64.urlsafe_b64encode(browser_id.bytes + self._sign(browser_id.bytes)).decode()

    def read(self, token: str) -> UUID | None:
        """Return the id of the browser whose token this is; None for one that was not made with this key."""
        try:
            data = base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True)
        except (UnicodeEncodeError, binascii.Error):
            return None
        browser, signature = data[:_ID_BYTES], data[_ID_BYTES:]
        return UUID(bytes=browser) if hmac.compare_digest(signature, self._sign(browser)) else None

    def _sign(self, browser: bytes) -> bytes:
        return hmac.digest(self._key, self._purpose + b" " + browser, hashlib.sha256)
