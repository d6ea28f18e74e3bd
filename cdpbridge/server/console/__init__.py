"""The console: the page an operator keeps open. Plain ES modules, served from this package, no build step.

The page signs in with an API key once and holds a cookie from then on, which scripts cannot read. It hears of changes by
server-sent events and acts through the REST API, as every client does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cdpbridge._on_use import names_on_use

if TYPE_CHECKING:
    from ._cookie import SIGN_IN_PATH, ConsoleCookie
    from ._routes import console_router
    from ._sign_ins import SignIns
    from ._snapshot import Snapshots

__all__ = ["SIGN_IN_PATH", "ConsoleCookie", "SignIns", "Snapshots", "console_router"]

# Loaded on first use: most servers are never looked at in a console.
_HOMES: Final = {
    "ConsoleCookie": "_cookie",
    "SIGN_IN_PATH": "_cookie",
    "SignIns": "_sign_ins",
    "Snapshots": "_snapshot",
    "console_router": "_routes",
}

__getattr__ = names_on_use(__name__, _HOMES)
