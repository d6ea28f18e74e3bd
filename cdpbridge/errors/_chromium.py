"""Failures of a browser process on this machine."""

from __future__ import annotations

from ._base import CDPBridgeError

__all__ = ["BrowserExited", "BrowserNotFound", "BrowserStartFailed", "ChromiumError"]


class ChromiumError(CDPBridgeError):
    """A Chromium process on this machine failed."""


class BrowserNotFound(ChromiumError):
    """No Chromium binary was found."""


class BrowserStartFailed(ChromiumError):
    """Chromium did not become ready.

    Attributes:
        stderr: The end of its error output.
    """

    def __init__(self, message: str, *, stderr: str = "") -> None:
        super().__init__(message + (f"\n{stderr}" if stderr else ""))
        self.stderr = stderr


class BrowserExited(ChromiumError):
    """Chromium ended by itself.

    Attributes:
        returncode: Exit status; negative for a signal.
        stderr: The end of its error output.
    """

    def __init__(self, returncode: int | None, *, stderr: str = "") -> None:
        super().__init__(f"Chromium exited with {returncode}" + (f"\n{stderr}" if stderr else ""))
        self.returncode = returncode
        self.stderr = stderr
