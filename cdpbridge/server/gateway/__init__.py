"""The way of clients to their browsers: `/cdp/{token}`, over HTTP and as a WebSocket whose bytes are passed on unread."""

from __future__ import annotations

from ._files import FILE_CONTENT_PATH
from ._hosts import HOST_TEXT, host_allowed
from ._http import router
from ._protocol import gateway_protocol
from ._registry import BrowserFiles, Registry, Upstream, Usage

__all__ = [
    "FILE_CONTENT_PATH",
    "HOST_TEXT",
    "BrowserFiles",
    "Registry",
    "Upstream",
    "Usage",
    "gateway_protocol",
    "host_allowed",
    "router",
]
