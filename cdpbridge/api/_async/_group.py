"""What the groups of operations have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._client import AsyncClient

__all__ = ["AsyncGroup"]


class AsyncGroup:
    """Operations of a client."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
