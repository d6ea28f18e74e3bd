"""The blocking API, for programs without an event loop.

    from cdpbridge import sync

    with sync.open_browser(profile="work", timeout=timedelta(minutes=5)) as browser:
        tab = browser.new_tab("https://example.com")
        print(tab.title())

`open_browser` takes what `cdpbridge.open_browser` takes, and gives the same guarantees: leaving the block stops the rental, also by
an exception, Ctrl-C, SIGTERM or SIGHUP, and the unused minutes are refunded. The rental lives in an event loop of its own, in a
thread that ends with the block. `playwright.connect_sync(browser)` connects Playwright to it.

`BrowserPool` is the pool with blocking leases: `with sync.BrowserPool(size=4) as pool, pool.tab() as tab`.

`Client` is the blocking REST API; `cloud`, `local` and `at` make one.
"""

from cdpbridge.api import Client
from cdpbridge.sync._browser import (
    Browser,
    ClientOptions,
    Dialog,
    Download,
    DownloadWaiter,
    Opening,
    Response,
    Route,
    Tab,
    at,
    cloud,
    local,
    open_browser,
)
from cdpbridge.sync._pool import BrowserPool, Lease

__all__ = [
    "Browser",
    "BrowserPool",
    "Client",
    "ClientOptions",
    "Dialog",
    "Download",
    "DownloadWaiter",
    "Lease",
    "Opening",
    "Response",
    "Route",
    "Tab",
    "at",
    "cloud",
    "local",
    "open_browser",
]
