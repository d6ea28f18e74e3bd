"""Ask a server for a path exactly as it is written, which an HTTP client would tidy up first."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

__all__ = ["NO_ANSWER", "get", "get_json"]

_SECONDS: Final = 10.0
_READ_BYTES: Final = 65_536
NO_ANSWER: Final = 599
"""In place of a status; no server sends it."""


def get(origin: str, path: str, headers: Mapping[str, str] | None = None) -> tuple[int, bytes]:
    """Return status and beginning of the body; `NO_ANSWER` without any. Blocks."""
    parts = urlsplit(origin)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=_SECONDS)
    try:
        connection.request("GET", path, headers=dict(headers or {}))
        answer = connection.getresponse()
        return answer.status, answer.read(_READ_BYTES)
    except (OSError, http.client.HTTPException):
        return NO_ANSWER, b""
    finally:
        connection.close()


def get_json(origin: str, path: str) -> dict[str, Any]:
    """Return a JSON object; empty when there is none. Blocks."""
    _, body = get(origin, path)
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
