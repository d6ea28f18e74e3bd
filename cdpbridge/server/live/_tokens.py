"""The tokens in live addresses: a browser's id and a signature over it, so that they need no table and outlive a restart.

A token gives watching and taking over of one browser through the live view, and nothing else: it is not the token in
`cdpUrl` and leads to no DevTools socket. It stays readable after the browser's end, to say how it ended.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import secrets
from pathlib import Path
from typing import Final
from uuid import UUID

__all__ = ["LiveTokens"]

_KEY_BYTES: Final = 32
_ID_BYTES: Final = 16


class LiveTokens:
    """Makes tokens and reads them.

    Args:
        key: The server's secret, 32 bytes; who has it can make every token.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) != _KEY_BYTES:
            raise ValueError(
                f"the key of live addresses has {_KEY_BYTES} bytes, not {len(key)}; remove its file"
            )
        self._key = key

    @classmethod
    def load(cls, path: Path) -> LiveTokens:
        """Load the key from a file, which the first call creates, readable by its owner only.

        Raises:
            ValueError: The file is not such a key.
            OSError: It can be neither read nor made.
        """
        try:
            return cls(path.read_bytes())
        except FileNotFoundError:
            key = secrets.token_bytes(_KEY_BYTES)
            # Renamed when it is whole, also after a power loss.
            new = path.with_name(f"{path.name}.new")
            new.unlink(missing_ok=True)
            with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:  # noqa: PTH123  # a descriptor
                file.write(key)
                file.flush()
                os.fsync(file.fileno())
            new.rename(path)
            return cls(key)

    def make(self, browser_id: UUID) -> str:
        """Return the token of a browser; always the same."""
        return base64.urlsafe_b64encode(browser_id.bytes + self._sign(browser_id.bytes)).decode()

    def read(self, token: str) -> UUID | None:
        """Whose token it is; None for one that we did not make."""
        try:
            data = base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True)
        except (UnicodeEncodeError, binascii.Error):
            return None
        browser, signature = data[:_ID_BYTES], data[_ID_BYTES:]
        return UUID(bytes=browser) if hmac.compare_digest(signature, self._sign(browser)) else None

    def _sign(self, browser: bytes) -> bytes:
        return hmac.digest(self._key, b"live " + browser, hashlib.sha256)
