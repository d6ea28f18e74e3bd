"""httpx, imported by the first request: a program that starts the embedded server imports it while the server starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cdpbridge._on_use import ModuleOnUse

if TYPE_CHECKING:
    import httpx
else:
    httpx = ModuleOnUse("httpx")

__all__ = ["httpx"]
