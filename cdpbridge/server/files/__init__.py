"""Files of sessions and tasks: a folder on this machine, and signed addresses that lead into it."""

from __future__ import annotations

from ._disk import disk_usage
from ._kept import KeptFiles
from ._quota import FileQuota
from ._response import StoredFileResponse, file_response
from ._shared import SharedFolders
from ._signing import BadSignature, Grant, UrlSigner, signing_key
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
    "signing_key",
    "stored_uploads",
]
