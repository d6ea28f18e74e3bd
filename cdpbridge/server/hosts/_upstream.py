"""What an order asks of its browser's network."""

from __future__ import annotations

from cdpbridge.server.proxy import Rules

from ._base import BrowserSpec

__all__ = ["denies_udp", "upstream_of"]


def upstream_of(spec: BrowserSpec) -> str | None:
    """Return the proxy that a browser's forwarder sends everything to; None when it connects directly."""
    return None if spec.proxy == "direct" else spec.proxy


def denies_udp(spec: BrowserSpec, rules: Rules) -> bool:
    """Return True if nothing may go around a browser's forwarder, which Chromium takes at its start only.

    That is so where private addresses are denied, where an upstream hides ours, where lists of hosts are in force, and where an
    agent's hosts may be limited at any time.
    """
    return (
        upstream_of(spec) is not None
        or spec.agent
        or not rules.private
        or rules.narrowed(*spec.hosts).limits_hosts
    )
