"""Screenshots, also in the first moments of a browser, and their formats."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from cdpbridge.errors import CommandError, ConfigurationError

if TYPE_CHECKING:
    from cdpbridge.cdp import CDPSession
    from cdpbridge.protocol import Command, Page

__all__ = ["ImageFormat", "captured", "image_format"]

ImageFormat = Literal["png", "jpeg", "webp"]

# A headless shell that was just started refuses for some 70 ms: there is no surface to copy yet (Chromium 156).
_NO_SURFACE: Final = "Unable to capture screenshot"
_SURFACE_SECONDS: Final = 5.0
_PAUSE_SECONDS: Final = 0.05
_FORMATS: Final[dict[str, ImageFormat]] = {
    ".png": "png",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".webp": "webp",
}


def image_format(
    path: Path | str | None, given: ImageFormat | None = None, quality: object = None
) -> ImageFormat:
    """Return the format of a picture: the one that is given, or that of the file's suffix, or PNG.

    Raises:
        ConfigurationError: There is no such format or suffix, the two contradict each other, or there is a `quality` and PNG has none.
    """
    if given is not None and given not in _FORMATS.values():
        raise ConfigurationError(f"format must be 'png', 'jpeg' or 'webp', not {given!r}")
    suffix = "" if path is None else Path(path).suffix
    named = _FORMATS.get(suffix.lower())
    if suffix and named is None:
        raise ConfigurationError(
            f"a screenshot cannot be a {suffix!r} file: the path must end with {', '.join(_FORMATS)}, or have no suffix"
        )
    if given is not None and named is not None and given != named:
        raise ConfigurationError(
            f"format {given!r} contradicts the path, which ends with {suffix!r}: leave the format out, or change one of them"
        )
    found = given or named or "png"
    if quality is not None and found == "png":
        raise ConfigurationError("quality is for 'jpeg' and 'webp'; a PNG has none")
    return found


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
