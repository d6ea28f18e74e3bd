"""`open_browser`: a rented browser and a CDP connection to it under one block, stopped in every way out."""

from __future__ import annotations

from cdpbridge.cdp._http_credentials import HttpCredentials

from ._browser import Browser
from ._download import Download
from ._open import Opening, open_browser
from ._response import Request, Response
from ._route import Route
from ._tab import Tab
from ._tab_events import ConsoleMessage, Dialog

__all__ = [
    "Browser",
    "ConsoleMessage",
    "Dialog",
    "Download",
    "HttpCredentials",
    "Opening",
    "Request",
    "Response",
    "Route",
    "Tab",
    "open_browser",
]
