"""What both flavours of pytest-playwright share: the options of a connection, and the profile in new contexts."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import pytest

__all__ = ["check_engine", "connect_options", "is_channel", "with_state"]

_TIMEOUT_MS: Final = 30_000
# Playwright's channels of browsers that speak CDP (`BrowserType.launch`).
_CHANNEL: Final = re.compile(
    r"(chrome|msedge)(-(beta|dev|canary))?|chromium(-tip-of-tree)?(-headless-shell)?", re.ASCII
)
# What Playwright's `connect_over_cdp` takes of what `launch` takes. `headless` and `channel` come from options that the
# run has refused or named already.
_KEPT: Final = ("slow_mo", "timeout")


def check_engine(name: str) -> None:
    """Fail the test unless it wants Chromium."""
    if name != "chromium":
        pytest.fail(
            f"--cdpbridge rents Chromium; this test wants {name}: run it without --cdpbridge", pytrace=False
        )


def is_channel(name: str) -> bool:
    """Return True if Playwright has a channel of this name, for Chromium."""
    return _CHANNEL.fullmatch(name) is not None


def connect_options(launch: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the options for `connect_over_cdp`, and those that have no meaning for it.

    Fails the test if its channel is none, as a launch would.
    """
    channel = launch.get("channel")
    if channel is not None and not (isinstance(channel, str) and is_channel(channel)):
        pytest.fail(f"channel: Playwright has no channel {channel!r} of Chromium", pytrace=False)
    kept = {"timeout": _TIMEOUT_MS} | {name: launch[name] for name in _KEPT if name in launch}
    return kept, {name: value for name, value in launch.items() if name not in _KEPT}


def with_state(make: Callable[..., Any], state: dict[str, Any]) -> Callable[..., Any]:
    """Return `Browser.new_context` or `new_page` whose contexts start with `state`, unless the test gives another."""

    def made(*args: Any, **options: Any) -> Any:
        return make(*args, **({"storage_state": state} | options))

    return made
