"""Preparations of a server that runs as root: uids, a folder that they can reach, a binary that they can run."""

from __future__ import annotations

import logging

from cdpbridge.chromium import (
    UidPool,
    check_executable_by,
    make_reachable_folder,
    parse_uid_range,
    uses_browser_uids,
)
from cdpbridge.errors import ConfigurationError
from cdpbridge.server.settings import Settings

from ._builds import Builds

__all__ = ["prepare_uids"]

logger = logging.getLogger("cdpbridge.server")


def prepare_uids(settings: Settings, builds: Builds) -> UidPool | None:
    """Return the pool of uids for browsers, checked before a browser is sold; None for a server that does not run as root.

    Raises:
        ConfigurationError: There are no such uids, or browsers under them could not run.
    """
    if not uses_browser_uids():
        return None
    pool = UidPool(parse_uid_range(settings.browser_uids) if settings.browser_uids is not None else None)
    for build in (builds.usual, builds.for_profile):
        check_executable_by(build.path, None)
    folder = settings.runtime_folder / "browsers"
    try:
        make_reachable_folder(folder)
    except OSError as error:
        raise ConfigurationError(
            f"runtime_dir {settings.runtime_folder} cannot be used: {error.strerror}; choose another `runtime_dir`"
        ) from error
    pool.sweep()
    logger.info("browsers run under uids %s, below %s", pool, folder)
    return pool
