"""Where the folders of running browsers are."""

from __future__ import annotations

import os
from pathlib import Path

RUNTIME_DIR = "CDPBRIDGE_RUNTIME_DIR"
"""Set for the whole run, in every environment: no test leaves anything below /var/lib."""
GRACE = "CDPBRIDGE_LOCAL_GRACE_SECONDS"
"""Set for the whole run, to 0: a server of `local()` ends with its last program, so that a test sees its end."""
WARM_BROWSERS = "CDPBRIDGE_WARM_BROWSERS"
"""Set to 0 as well: only tests of browsers that are kept ready start them."""
OF_THE_RUN = (RUNTIME_DIR, GRACE, WARM_BROWSERS)


def browsers_folder(data_dir: Path) -> Path:
    """One folder per running browser of the server with `data_dir`."""
    from cdpbridge.server import Settings

    given = {"runtime_dir": os.environ[RUNTIME_DIR]}
    return Settings.load(data_dir=data_dir, **given).runtime_folder / "browsers"
