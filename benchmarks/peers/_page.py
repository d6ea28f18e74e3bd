"""A new page over the browser's HTTP endpoint, for clients that give each page a socket of its own."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from urllib.parse import urlsplit


async def new_page(browser_url: str) -> str:
    """WebSocket address of a new page of the browser at `browser_url`."""

    def ask() -> str:
        request = urllib.request.Request(
            f"http://{urlsplit(browser_url).netloc}/json/new?about:blank", method="PUT"
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return str(json.load(answer)["webSocketDebuggerUrl"])

    return await asyncio.to_thread(ask)
