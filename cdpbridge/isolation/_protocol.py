"""What the server, the zygote and the attendant of a place say to each other: one JSON object a message. Pure.

    server --Launch, descriptors--> zygote --fork--> attendant (process 1 of the place)
    attendant --Report("entered")--> server        the kernel adds the attendant's process id
    attendant --Report("started"), listening socket--> server      or Report("failed"); the zygote's, if it cannot fork
    server --"socket"--> attendant --Report("socket"), a socket of the place--> server
    attendant --Report("exited")--> server

The server's end of the attendant's socket closed means: the server has ended, or wants the place to end.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from ._plan import Plan

__all__ = ["ASK_SOCKET", "CHANNEL", "MAX_BYTES", "Descriptors", "Launch", "Report", "zygote_command"]

CHANNEL: Final = 3
"""The zygote's descriptor of the socket to the server."""

ASK_SOCKET: Final = b"socket"

MAX_BYTES: Final = 128 * 1024
"""Of a message; the kernel's default limit for one is 208 KiB (`net.core.wmem_default`)."""

_PROGRAM: Final = (
    "import sys; sys.path.insert(0, sys.argv[1]); from cdpbridge.isolation._zygote import main; main()"
)


@dataclass(frozen=True, slots=True)
class Launch:
    """A browser to start, with `Descriptors`.

    Attributes:
        uid: Of the browser, in a root process; None for this process's own.
        arguments: The command line, the binary first.
    """

    plan: Plan
    uid: int | None
    arguments: Sequence[str]
    environment: Mapping[str, str]

    def encode(self) -> bytes:
        """Return the message."""
        return json.dumps({**asdict(self), "plan": self.plan.encode()}).encode()

    @classmethod
    def decode(cls, message: bytes) -> Launch:
        """Read a message."""
        value = json.loads(message)
        return cls(**{**value, "plan": Plan.decode(value["plan"])})


class Descriptors(NamedTuple):
    """What is sent with a `Launch`, in this order.

    Attributes:
        stderr: To be the browser's.
        commands: The debugging pipe, to be read by the browser.
        answers: The debugging pipe, to be written.
        attendant: A socket to the server.
        lock: Stays open until the place has ended.
    """

    stderr: int
    commands: int
    answers: int
    attendant: int
    lock: int


@dataclass(frozen=True, slots=True)
class Report:
    """What an attendant says.

    Attributes:
        kind: `"entered"`: there is an attendant. `"started"`: the browser has been executed. `"failed"`: it has not.
            `"socket"`: an answer. `"exited"`: the browser has.
        status: Its exit status; negative for a signal.
        error: The kernel's error number; 0 for none.
        step: What was being done, in words.
        detail: More, for a reader.
    """

    kind: Literal["entered", "started", "failed", "socket", "exited"]
    status: int = 0
    error: int = 0
    step: str = ""
    detail: str = ""

    def encode(self) -> bytes:
        """Return the message."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, message: bytes) -> Report:
        """Read a message."""
        value: dict[str, Any] = json.loads(message)
        return cls(**value)


def zygote_command() -> list[str]:
    """Return the command that runs a zygote, with `CHANNEL` open."""
    return [sys.executable, "-I", "-S", "-c", _PROGRAM, str(Path(__file__).parents[2])]
