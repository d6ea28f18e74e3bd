"""Screenshots, also in the first moments of a browser."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from cdpbridge.errors import CommandError

if TYPE_CHECKING:
    from cdpbridge.cdp import CDPSession
    from cdpbridge.protocol import Command, Page

__all__ = ["captured"]

# A headless shell that was just started refuses for some 70 ms: there is no surface to copy yet (Chromium 156).
_NO_SURFACE: Final = "Unable to capture screenshot"
_SURFACE_SECONDS: Final = 5.0
_PAUSE_SECONDS: Final = 0.05


async def captured(session: CDPSession, command: Command[Page.CaptureScreenshotResult]) -> bytes:
    """Return the picture; wait for a surface to take it of.

    Raises:
        CommandError: Also when there is none after 5 s.
    """
    deadline = time.monotonic() + _SURFACE_SECONDS
    while True:
        try:
            return (await session.send(command)).data
        except CommandError as error:
            if not error.message.startswith(_NO_SURFACE) or time.monotonic() > deadline:
                raise
        await asyncio.sleep(_PAUSE_SECONDS)
