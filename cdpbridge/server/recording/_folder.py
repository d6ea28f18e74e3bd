"""The contents of a recording's folder, and their recovery after an unclean shutdown."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final
from uuid import UUID

from cdpbridge.server.files import VIDEO

if TYPE_CHECKING:
    from cdpbridge.server.files import FileStore
    from cdpbridge.server.store import Browser

__all__ = ["LAST_STILL", "UNFINISHED", "VIDEO", "recover_folder", "still_name", "unfinished_in", "video_path"]

logger = logging.getLogger("cdpbridge.server")

UNFINISHED: Final = f".{VIDEO}"
"""Hidden, so not listed: a video that is still being written."""
LAST_STILL: Final = "last.jpg"
_DRAFT: Final = f".new.{VIDEO}"


def still_name(minute: int) -> str:
    """Return the name of the still of a full minute; names sort by time."""
    return f"at-{minute:03}-min.jpg"


def unfinished_in(files: FileStore) -> list[UUID]:
    """Return the browsers whose videos were being written here when a server was killed. Before anything is recorded."""
    return [each for each in files.owners("browsers") if (files.recording(each) / UNFINISHED).is_file()]


def video_path(files: FileStore, browser: Browser) -> str | None:
    """Return where a browser's video is in the store of files; None before it is finished, and when it was removed."""
    file = files.recording(browser.id) / VIDEO
    there = browser.recording is not None and (browser.kept_video or file.is_file())
    return files.relative(file) if there else None


def recover_folder(folder: Path, mend: Callable[[Path, Path], None] | None) -> bool:
    """Bring a video that was being written under its name; whether there is one.

    Args:
        mend: Writes a broken video anew; without it, or when it fails, the video is kept as it was left.
    """
    unfinished, draft, video = folder / UNFINISHED, folder / _DRAFT, folder / VIDEO
    if not unfinished.is_file():
        return video.is_file()
    try:
        if mend is None:
            unfinished.replace(video)
            return True
        mend(unfinished, draft)
        draft.replace(video)
        unfinished.unlink()
    except Exception as error:  # noqa: BLE001  # of a library that cannot be named here
        logger.warning("%s: kept as it was left: %s", unfinished, error)
        draft.unlink(missing_ok=True)
        unfinished.replace(video)
    return True
