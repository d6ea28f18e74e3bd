"""Addresses in answers. Each is a secret: it opens what it leads to, for any client that has it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import quote, urlencode

from starlette.requests import Request

from cdpbridge.server.files import UrlSigner
from cdpbridge.server.recording import video_path
from cdpbridge.server.store import Browser

from ._services import Services, external_base

__all__ = [
    "DOWNLOAD_AGE",
    "FILES_PATH",
    "cdp_url",
    "live_url",
    "recording_url",
    "share_url",
    "signed_path",
    "signed_url",
]

FILES_PATH: Final = "/files"
# As long as the cloud's, by the description in its SDK.
DOWNLOAD_AGE: Final = timedelta(minutes=15)


def cdp_url(base: str, services: Services, browser: Browser) -> str | None:
    """Return where a browser is driven; None while it starts and after it stopped.

    Args:
        base: Address of the server, without a slash at its end.
    """
    if browser.over or browser.started_at is None:
        return None
    placement = services.hosts.placement(browser.id)
    if placement is not None:
        return f"{base}/cdp/{placement.token}"
    if browser.owner == services.store.server_id:
        return None  # it is about to end
    return f"{base}/cdp/{services.cdp_tokens.make(browser.id)}"


def live_url(request: Request, services: Services, browser: Browser) -> str | None:
    """Return where a browser is watched and taken over; None while it starts and after it stopped."""
    base = external_base(request)
    if cdp_url(base, services, browser) is None:
        return None
    return f"{base}/live/{services.live_tokens.make(browser.id)}"


def share_url(request: Request, token: str) -> str:
    """Return the public page of a share."""
    return f"{external_base(request)}/share/{token}"


def recording_url(request: Request, services: Services, browser: Browser) -> str | None:
    """Return where the video of a browser can be had; None while there is none."""
    path = video_path(services.files, browser)
    return None if path is None else signed_url(request, services, path)


def signed_url(request: Request, services: Services, path: str) -> str:
    """Return where a file of the store can be had, for 15 minutes."""
    return f"{external_base(request)}/{signed_path(services.signer, services.wall, path)}"


def signed_path(signer: UrlSigner, wall: Callable[[], datetime], path: str) -> str:
    """Return the same, relative to the address of the server."""
    expires = int((wall() + DOWNLOAD_AGE).timestamp())
    return f"{FILES_PATH[1:]}/{quote(path)}?{urlencode(signer.download_query(path, expires))}"
