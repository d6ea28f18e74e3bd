"""The live view: a person watches a browser, and takes it over, without disturbing what else drives it."""

from __future__ import annotations

from ._cast import Picture
from ._ended import Outcome
from ._http import SOCKET_PATHS, router
from ._live import Live
from ._saved import SavedFiles
from ._tokens import LiveTokens
from ._watched import Tab, Viewing

__all__ = [
    "SOCKET_PATHS",
    "Live",
    "LiveTokens",
    "Outcome",
    "Picture",
    "SavedFiles",
    "Tab",
    "Viewing",
    "router",
]
