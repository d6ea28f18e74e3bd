"""The roots of all errors, and how an address is shown in one."""

from __future__ import annotations

from urllib.parse import urlsplit

__all__ = ["CDPBridgeError", "ConfigurationError", "redact_url"]


def redact_url(url: str) -> str:
    """The scheme, host, port and first four path characters of `url`: enough to recognise, too little to use.

    The first label of a DNS name may itself be the secret (the cloud's `https://<browser id>.cdp0...`), so it is cut too.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "<unreadable address>"
    labels = host.split(".")
    if len(labels) > 2 and not host.replace(".", "").isdigit() and len(labels[0]) > 8:
        host = ".".join([labels[0][:4] + "…", *labels[1:]])
    if ":" in host:
        host = f"[{host}]"
    authority = f"{host}:{port}" if port else host
    path = parts.path if len(parts.path) <= 5 else parts.path[:5] + "…"
    return f"{parts.scheme}://{authority}{path}{'?…' if parts.query else ''}"


class CDPBridgeError(Exception):
    """Any failure that cdpbridge reports."""


class ConfigurationError(CDPBridgeError, ValueError):
    """A setting or argument is missing, malformed, or contradicts another."""
