"""What both flavours of pytest-playwright share: the options of a connection, and the profile in new contexts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest

__all__ = ["check_engine", "connect_options", "with_state"]

_TIMEOUT_MS: Final = 30_000
# What Playwright's `connect_over_cdp` takes of what `launch` takes. `headless` and `channel` come from options that the
# run has refused or named already.
_KEPT: Final = ("slow_mo", "timeout")


def check_engine(name: str) -> None:
    """Fail the test unless it wants Chromium."""
    if name != "chromium":
        pytest.fail(
            f"--cdpbridge rents Chromium; this test wants {name}: run it without --cdpbridge", pytrace=False
        )


def connect_options(launch: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the options for `connect_over_cdp`, and those that have no meaning for it."""
    kept = {"timeout": _TIMEOUT_MS} | {name: launch[name] for name in _KEPT if name in launch}
    return kept, {name: value for name, value in launch.items() if name not in _KEPT}


def with_state(make: Callable[..., Any], state: dict[str, Any]) -> Callable[..., Any]:
    """Return `Browser.new_context` or `new_page` whose contexts start with `state`, unless the test gives another."""

    def made(*args: Any, **options: Any) -> Any:
        return make(*args, **({"storage_state": state} | options))

    return made
