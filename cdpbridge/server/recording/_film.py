"""`Film`: the files of one recording. It blocks, so it belongs to one thread; times are arguments."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from ._folder import LAST_STILL, UNFINISHED, VIDEO, still_name
from ._video import VideoWriter

__all__ = ["Film"]

_MINUTE_SECONDS: Final = 60


class Film:
    """A video, a still for each full minute, and the last picture.

    Args:
        folder: Made with the first picture.
        per_second: About how many pictures there will be.
        max_bytes: Of all files together.
    """

    def __init__(self, folder: Path, *, per_second: float, max_bytes: int) -> None:
        self._folder = folder
        self._per_second = per_second
        self._max_bytes = max_bytes
        self._video: VideoWriter | None = None
        self._latest: bytes | None = None
        self._stills = 0  # bytes
        self._minute = 0

    def show(self, jpeg: bytes, at: float) -> bool:
        """Show a picture from `at` on, seconds from the beginning; False when it does not fit.

        Raises:
            OSError, av.FFmpegError: It cannot be written, or is no picture.
        """
        if not self._still_of_minute(at):
            return False
        if self._video is None:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._video = VideoWriter(self._folder / UNFINISHED, per_second=self._per_second)
        # The last picture becomes a still too, so its size is reserved.
        if not self._video.add(jpeg, at, max_bytes=self._max_bytes - self._stills - len(jpeg)):
            return False
        self._latest = jpeg
        return True

    def hold(self, at: float) -> bool:
        """Show the last picture until `at`; else as `show`."""
        if self._video is None or self._latest is None:
            return True
        if not self._still_of_minute(at):
            return False
        return self._video.hold(at, max_bytes=self._max_bytes - self._stills - len(self._latest))

    def _still_of_minute(self, at: float) -> bool:
        minute = int(at // _MINUTE_SECONDS)
        if self._latest is None or self._video is None or minute <= self._minute:
            return True
        if self._video.size + self._stills + 2 * len(self._latest) > self._max_bytes:
            return False
        self._minute = minute
        self._stills += len(self._latest)
        _write(self._folder / still_name(minute), self._latest)
        return True

    def close(self) -> bool:
        """Give the files their names; whether there is a video.

        Raises:
            OSError, av.FFmpegError: What was written before is kept.
        """
        if self._video is None:
            return False
        try:
            if self._latest is not None:
                _write(self._folder / LAST_STILL, self._latest)
            self._video.close()
        finally:
            kept = self._keep()
        return kept

    def _keep(self) -> bool:
        unfinished = self._folder / UNFINISHED
        if unfinished.exists() and unfinished.stat().st_size:
            unfinished.replace(self._folder / VIDEO)
            return True
        unfinished.unlink(missing_ok=True)  # the first picture was none
        self._folder.rmdir()
        return False


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all."""
    draft = path.with_name(f".{path.name}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(data)
        draft.replace(path)
    except BaseException:
        with suppress(OSError):
            draft.unlink()
        raise
