"""A rented browser under an address of this machine, as if it ran here: see `open_tunnel`."""

from __future__ import annotations

from ._tunnel import TunnelAddress, open_tunnel, shares_files

__all__ = ["TunnelAddress", "open_tunnel", "shares_files"]
