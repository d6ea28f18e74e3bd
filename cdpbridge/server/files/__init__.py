"""Files of sessions and tasks: a folder on this machine, and signed addresses that lead into it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cdpbridge._on_use import names_on_use

if TYPE_CHECKING:
    from ._disk import disk_usage
    from ._kept import KeptFiles
    from ._quota import FileQuota
    from ._response import StoredFileResponse, file_response
    from ._shared import SharedFolders
    from ._signing import BadSignature, Grant, UrlSigner
    from ._storage import VIDEO, FileStore, StoredFile, distinct_names
    from ._upload import UploadLimits, UploadRefused, receive_upload, stored_uploads

__all__ = [
    "VIDEO",
    "BadSignature",
    "FileQuota",
    "FileStore",
    "Grant",
    "KeptFiles",
    "SharedFolders",
    "StoredFile",
    "StoredFileResponse",
    "UploadLimits",
    "UploadRefused",
    "UrlSigner",
    "disk_usage",
    "distinct_names",
    "file_response",
    "receive_upload",
    "stored_uploads",
]

# Loaded on first use: browsers are started before the web framework is imported.
_HOMES: Final = {
    "VIDEO": "_storage",
    "BadSignature": "_signing",
    "FileQuota": "_quota",
    "FileStore": "_storage",
    "Grant": "_signing",
    "KeptFiles": "_kept",
    "SharedFolders": "_shared",
    "StoredFile": "_storage",
    "StoredFileResponse": "_response",
    "UploadLimits": "_upload",
    "UploadRefused": "_upload",
    "UrlSigner": "_signing",
    "disk_usage": "_disk",
    "distinct_names": "_storage",
    "file_response": "_response",
    "receive_upload": "_upload",
    "stored_uploads": "_upload",
}

__getattr__ = names_on_use(__name__, _HOMES)
