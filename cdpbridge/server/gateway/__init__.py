"""The way of clients to their browsers: `/cdp/{token}`, over HTTP and as a WebSocket whose bytes are passed on unread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cdpbridge._on_use import names_on_use

if TYPE_CHECKING:
    from ._file_access import FileAccess, FileRefused, LocalFiles, OpenedFile
    from ._files import FILE_CONTENT_PATH
    from ._hosts import HOST_TEXT, host_allowed
    from ._http import router
    from ._protocol import gateway_protocol
    from ._registry import BrowserFiles, ContextOrder, Entry, NotReachable, Registry, Upstream, Usage

__all__ = [
    "FILE_CONTENT_PATH",
    "HOST_TEXT",
    "BrowserFiles",
    "ContextOrder",
    "Entry",
    "FileAccess",
    "FileRefused",
    "LocalFiles",
    "NotReachable",
    "OpenedFile",
    "Registry",
    "Upstream",
    "Usage",
    "gateway_protocol",
    "host_allowed",
    "router",
]

# Loaded on first use: browsers are started before the web framework is imported.
_HOMES: Final = {
    "FILE_CONTENT_PATH": "_files",
    "HOST_TEXT": "_hosts",
    "BrowserFiles": "_registry",
    "ContextOrder": "_registry",
    "Entry": "_registry",
    "FileAccess": "_file_access",
    "FileRefused": "_file_access",
    "LocalFiles": "_file_access",
    "OpenedFile": "_file_access",
    "NotReachable": "_registry",
    "Registry": "_registry",
    "Upstream": "_registry",
    "Usage": "_registry",
    "gateway_protocol": "_protocol",
    "host_allowed": "_hosts",
    "router": "_http",
}

__getattr__ = names_on_use(__name__, _HOMES)
