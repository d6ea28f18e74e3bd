"""The log of a server process."""

from __future__ import annotations

import logging
import os
from typing import Final

from cdpbridge.errors import ConfigurationError

__all__ = ["log_to_stderr"]

_VARIABLE: Final = "CDPBRIDGE_LOG"


def log_to_stderr(*, quiet: bool = False) -> None:
    """Write the log to standard error: warnings of everything, and of cdpbridge what `CDPBRIDGE_LOG` names.

    Args:
        quiet: Warnings only, whatever the environment says: for an owner that repeats them as its own.

    Other libraries stay at WARNING: at DEBUG they write what they carry, and that is keys, tokens and rows.

    Raises:
        ConfigurationError: `CDPBRIDGE_LOG` is no level.
    """
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    level = os.environ.get(_VARIABLE)
    if quiet or not level:
        return
    levels = logging.getLevelNamesMapping()
    if level.upper() not in levels:
        raise ConfigurationError(f"{_VARIABLE} is {level!r}; set it to one of {', '.join(levels)}")
    ours = logging.getLogger("cdpbridge")
    ours.setLevel(levels[level.upper()])
    ours.debug("the level of this log is %s", level.upper())
