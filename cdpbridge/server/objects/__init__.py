"""Object storage: where profiles and files are kept when they are not kept in the data folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cdpbridge._on_use import names_on_use

from ._errors import ObjectMissing, ObjectStorageError
from ._names import object_segment, segment_text
from ._url import check_storage_url

if TYPE_CHECKING:
    from ._storage import ObjectStorage, StoredObject

__all__ = [
    "ObjectMissing",
    "ObjectStorage",
    "ObjectStorageError",
    "StoredObject",
    "check_storage_url",
    "object_segment",
    "segment_text",
]

# Loaded on first use: most servers keep everything in their data folder, and have no obstore.
_HOMES: Final = {
    "ObjectStorage": "_storage",
    "StoredObject": "_storage",
}

__getattr__ = names_on_use(__name__, _HOMES)
