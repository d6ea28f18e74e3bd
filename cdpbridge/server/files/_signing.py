"""Signed addresses: HMAC-SHA256 over what they allow and until when. A client that has one needs no key."""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import asdict, dataclass
from typing import Final

from cdpbridge.errors import CDPBridgeError

__all__ = ["BadSignature", "Grant", "UrlSigner"]

_KEY_BYTES: Final = 32


class BadSignature(CDPBridgeError):
    """Not signed here, changed since, or expired."""


@dataclass(frozen=True, slots=True)
class Grant:
    """A permitted upload.

    Attributes:
        path: Where it goes, in the file store.
        content_type: As the form's `Content-Type` field must say.
        size: Bytes, exactly.
        expires: Unix seconds.
        nonce: Letters and digits that tell this address from all others: it allows one upload.
    """

    path: str
    content_type: str
    size: int
    expires: int
    nonce: str = ""


class UrlSigner:
    """Signs and checks. The two kinds of signatures never pass for each other.

    Args:
        key: Secret, at least 32 bytes.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) < _KEY_BYTES:
            raise ValueError(f"a signing key has at least {_KEY_BYTES} bytes, not {len(key)}")
        self._key = key

    def __repr__(self) -> str:
        return "UrlSigner(key=…)"

    def download_query(self, path: str, expires: int) -> dict[str, str]:
        """Return the query that makes an address of `path` readable until `expires`, Unix seconds."""
        return {"expires": str(expires), "signature": self._sign("get", f"{expires}\n{path}")}

    def check_download(self, path: str, expires: str, signature: str, *, now: float) -> None:
        """Raise `BadSignature` unless `download_query` has made these."""
        good = hmac.compare_digest(self._sign("get", f"{expires}\n{path}").encode(), signature.encode())
        if not good or not expires.isascii() or not expires.isdigit() or now > int(expires):
            raise BadSignature("the address is not valid, or has expired")

    def upload_fields(self, grant: Grant) -> dict[str, str]:
        """Form fields that allow one upload as `grant` says."""
        policy = urlsafe_b64encode(json.dumps(asdict(grant), sort_keys=True).encode()).decode()
        return {
            "key": grant.path,
            "Content-Type": grant.content_type,
            "policy": policy,
            "signature": self._sign("post", policy),
        }

    def check_upload(self, fields: dict[str, str], *, now: float) -> Grant:
        """Return what the fields of a form allow.

        Raises:
            BadSignature: They are not those of `upload_fields`, or have expired.
        """
        policy = fields.get("policy", "")
        if not hmac.compare_digest(
            self._sign("post", policy).encode(), fields.get("signature", "").encode(errors="replace")
        ):
            raise BadSignature("the fields are not those of the presigned address")
        # Ours, or the signature would be wrong.
        grant = Grant(**json.loads(urlsafe_b64decode(policy)))
        if now > grant.expires:
            raise BadSignature("the presigned address has expired")
        if (fields.get("key"), fields.get("Content-Type")) != (grant.path, grant.content_type):
            raise BadSignature("`key` and `Content-Type` are not those of the presigned address")
        return grant

    def _sign(self, purpose: str, text: str) -> str:
        return hmac.new(
            self._key, f"{purpose}\n{text}".encode(errors="surrogatepass"), hashlib.sha256
        ).hexdigest()
