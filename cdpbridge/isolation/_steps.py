"""What `_probe` prints, one line for each step: `step errno detail`, with 0 for a step that works. Pure.

Steps: `namespaces`, `mounts`, `processes` (a /proc of its own), `network`, `pages` (WebRTC between pages), and `landlock`, whose detail
is its version.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final, NamedTuple

__all__ = ["Step", "probe_command", "read_steps"]

_PROGRAM: Final = (
    "import sys; sys.path.insert(0, sys.argv[1]); from cdpbridge.isolation._probe import main; main()"
)


class Step(NamedTuple):
    """One step.

    Attributes:
        error: The kernel's error number; 0 when it works.
        detail: What was refused; of `landlock` the version.
    """

    name: str
    error: int
    detail: str


def probe_command(uid: int | None) -> list[str]:
    """Return the command that prints the steps; `uid` is that of a browser, in a root process."""
    folder = str(Path(__file__).parents[2])
    return [sys.executable, "-I", "-S", "-c", _PROGRAM, folder, "" if uid is None else str(uid)]


def read_steps(text: str) -> list[Step]:
    """Read what the command has printed; a step that is missing was not reached."""
    found = []
    for line in text.splitlines():
        name, error, detail = (*line.split(" ", 2), "", "")[:3]
        found.append(Step(name, int(error), detail))
    return found
