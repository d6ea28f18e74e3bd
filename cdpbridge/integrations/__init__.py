"""Rented browsers inside the frameworks people already use. Each module needs its framework, and imports it."""

from __future__ import annotations

__all__: list[str] = []
