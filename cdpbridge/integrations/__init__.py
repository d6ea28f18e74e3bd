"""Frameworks on rented browsers, one module each: `crawlee`, `browser_use`. Each needs its framework installed."""

from __future__ import annotations

__all__: list[str] = []
