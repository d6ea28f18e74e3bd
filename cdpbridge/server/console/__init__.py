"""The console: the page an operator keeps open. Plain ES modules, served from this package, no build step.

The page signs in with an API key once and holds a cookie from then on, which scripts cannot read. It hears of changes by
server-sent events and acts through the REST API, as every client does.
"""

from ._cookie import ConsoleCookie
from ._routes import SIGN_IN_PATH, console_router
from ._sign_ins import SignIns
from ._snapshot import Snapshots

__all__ = ["SIGN_IN_PATH", "ConsoleCookie", "SignIns", "Snapshots", "console_router"]
