"""The live view: a person watches a browser, and takes it over, without disturbing what else drives it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cdpbridge._on_use import names_on_use

if TYPE_CHECKING:
    from ._cast import Picture
    from ._ended import Outcome
    from ._http import SOCKET_PATHS, router
    from ._live import Live
    from ._saved import SavedFiles
    from ._watched import Tab, Viewing

__all__ = [
    "SOCKET_PATHS",
    "Live",
    "Outcome",
    "Picture",
    "SavedFiles",
    "Tab",
    "Viewing",
    "router",
]

# Loaded on first use: a server starts without its live view.
_HOMES: Final = {
    "Live": "_live",
    "Outcome": "_ended",
    "Picture": "_cast",
    "SOCKET_PATHS": "_http",
    "SavedFiles": "_saved",
    "Tab": "_watched",
    "Viewing": "_watched",
    "router": "_http",
}

__getattr__ = names_on_use(__name__, _HOMES)
