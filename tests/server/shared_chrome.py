"""The Chromium in which people look at pages of the server: one for a run, as each page has a context of its own there."""

import tempfile
from pathlib import Path

from cdpbridge.cdp._switches import downloads_switch
from tests.cdp.conftest import Chrome

_running: list[tuple[Chrome, tempfile.TemporaryDirectory[str]]] = []


def shared_chrome() -> str:
    """Its HTTP address; it is started on first use, and when it has ended."""
    if not _running or _running[0][0].process.poll() is not None:
        stop_shared_chrome()
        folder = tempfile.TemporaryDirectory(prefix="v")
        profile = Path(folder.name) / "profile"
        # Else the tunnel's files would be in /tmp, and stay there: over CDP no client can remove them.
        _running.append((Chrome.start(profile, downloads_switch(profile)), folder))
    return _running[0][0].http_url


def stop_shared_chrome() -> None:
    while _running:
        chrome, folder = _running.pop()
        chrome.stop()
        folder.cleanup()
