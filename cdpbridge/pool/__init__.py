"""`BrowserPool`: leases on tabs of a few rented browsers, which are opened when needed and stopped when not."""

from __future__ import annotations

from ._lease import Lease
from ._pool import BrowserPool
from ._stats import PoolStats

__all__ = ["BrowserPool", "Lease", "PoolStats"]
