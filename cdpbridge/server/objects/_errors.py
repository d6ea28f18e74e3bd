"""Errors of object storage."""

from __future__ import annotations

from cdpbridge.errors import CDPBridgeError

__all__ = ["ObjectMissing", "ObjectStorageError"]


class ObjectStorageError(CDPBridgeError):
    """The object storage did not do what was asked; with the reason, without credentials."""


class ObjectMissing(ObjectStorageError):
    """There is no such object, or no such bucket."""
