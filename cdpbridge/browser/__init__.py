"""`open_browser`: a rented browser and a CDP connection to it under one block, stopped in every way out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cdpbridge._on_use import names_on_use

if TYPE_CHECKING:
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

# Loaded on first use: `open_browser` loads the others while the server answers.
_HOMES: Final = {
    "Browser": "_browser",
    "ConsoleMessage": "_tab_events",
    "Dialog": "_tab_events",
    "Download": "_download",
    "HttpCredentials": ".cdp._http_credentials",
    "Opening": "_open",
    "Request": "_response",
    "Response": "_response",
    "Route": "_route",
    "Tab": "_tab",
    "open_browser": "_open",
}

__getattr__ = names_on_use(__name__, _HOMES)


def __dir__() -> list[str]:
    return __all__
