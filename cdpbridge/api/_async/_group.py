"""The base of the groups of operations."""

from __future__ import annotations

from ._requests import AsyncRequests

__all__ = ["AsyncGroup"]


class AsyncGroup:
    """Operations of a client."""

    def __init__(self, requests: AsyncRequests) -> None:
        self._requests = requests
