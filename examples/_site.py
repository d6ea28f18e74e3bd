"""Where the examples go: the address that is given, else a page that can be reached from where the browser runs."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from cdpbridge.cli._demo_site import serve_demo_site


@contextmanager
def address(*, local: bool = False) -> Iterator[str]:
    """Yield the first argument; without one, a site on this machine, which is what `cdpbridge demo` shows.

    Browsers of a server or the cloud may not reach this machine: then it is https://example.com.

    Args:
        local: True if the example uses `local()`, whatever the environment says.
    """
    where = os.environ.get("CDPBRIDGE_PROVIDER") or os.environ.get("CDPBRIDGE_BASE_URL")
    if sys.argv[1:]:
        yield sys.argv[1]
    elif not local and where != "local" and (where or os.environ.get("BROWSER_USE_API_KEY")):
        yield "https://example.com"
    else:
        with serve_demo_site() as site:
            yield site
