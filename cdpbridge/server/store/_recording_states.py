"""States of a recording, and their descriptions for users. Pure."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["RecordingState"]


class RecordingState(StrEnum):
    """The state of the recording of a browser.

    Attributes:
        RUNNING: It is made, until its browser ends.
        SAVED: From the browser's start to its end.
        SIZE_LIMIT: Until the limit of its size.
        SERVER_LOST: Until its server has ended; the browser may run on with another one.
        EMPTY: The browser has shown nothing.
        FAILED: It could not be written; what there is, is kept.
    """

    RUNNING = "recording"
    SAVED = "saved"
    SIZE_LIMIT = "size_limit"
    SERVER_LOST = "server_lost"
    EMPTY = "empty"
    FAILED = "failed"

    def words(self, max_mb: int) -> str | None:
        """Return a sentence about what is missing, None when nothing is."""
        return {
            RecordingState.SIZE_LIMIT: f"The recording ended before the browser, at the server's limit of {max_mb} MB.",
            RecordingState.SERVER_LOST: "The server that recorded it has ended before the browser; the recording ends at most a few seconds before that.",
            RecordingState.EMPTY: "The browser has shown no picture.",
            RecordingState.FAILED: "The recording could not be written; the server's log says why.",
        }.get(self)
