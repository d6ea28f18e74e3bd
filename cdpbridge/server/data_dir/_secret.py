"""`Secret`: the one secret of a server, or of all servers of a database, from which every key is derived."""

from __future__ import annotations

import hmac
import os
import secrets
from pathlib import Path
from typing import Final

from cdpbridge.errors import ConfigurationError

__all__ = ["Secret"]

_BYTES: Final = 32


class Secret:
    """The secret of a server. Each purpose has a key of its own, which tells nothing about the others."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def __repr__(self) -> str:
        return "Secret(…)"

    @classmethod
    def kept_in(cls, path: Path) -> Secret:
        """Read the secret in `path`, which the first call creates; addresses stay valid over a restart.

        Raises:
            ConfigurationError: The file cannot be read or written, or holds no secret.
        """
        try:
            try:
                secret = bytes.fromhex(path.read_text("ascii").strip())
            except FileNotFoundError:
                secret = secrets.token_bytes(_BYTES)
                _write_private(path, secret.hex().encode())
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"the signing key {path} cannot be used: {error}; remove the file to have a new one made"
            ) from error
        if len(secret) < _BYTES:
            raise ConfigurationError(
                f"the signing key {path} is cut short; remove the file to have a new one made"
            )
        return cls(secret)

    def key(self, purpose: str) -> bytes:
        """Return 32 bytes that are the same on every server with this secret.

        Args:
            purpose: What the key is for; each has another one.
        """
        return hmac.digest(self._secret, f"cdpbridge {purpose}".encode(), "sha256")


def _write_private(path: Path, data: bytes) -> None:
    """Whole or not at all, and readable by this user alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
