"""What the server, the zygote and the attendant of a place say to each other: one JSON object a message. Pure.

    server --Launch, descriptors--> zygote --fork--> attendant (process 1 of the place)
    zygote --Report("forked", its process id)--> server            also for an attendant that is killed before its first word
    attendant --Report("entered")--> server        the kernel adds the attendant's process id
    attendant --Report("started"), listening sockets--> server     or Report("failed"); the zygote's, if it cannot fork
    server --"socket"--> attendant --Report("socket"), a socket of the place--> server
    attendant --Report("exited")--> server

The server's end of the attendant's socket closed means: the server has ended, or wants the place to end.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from ._plan import PROXY_PORT, Plan

__all__ = [
    "ASK_SOCKET",
    "CHANNEL",
    "MAX_BYTES",
    "MAX_GROUPS",
    "Descriptors",
    "Launch",
    "Report",
    "zygote_command",
]

CHANNEL: Final = 3
"""The zygote's descriptor of the socket to the server."""

ASK_SOCKET: Final = b"socket"

MAX_GROUPS: Final = 8

MAX_BYTES: Final = 128 * 1024
"""Of a message; the kernel's default limit for one is 208 KiB (`net.core.wmem_default`)."""

_PROGRAM: Final = (
    "import sys; sys.path.insert(0, sys.argv[1]); from cdpbridge.isolation._zygote import main; main()"
)


@dataclass(frozen=True, slots=True)
class Launch:
    """A program to start, with `Descriptors`: a browser, if nothing else is said.

    Attributes:
        uid: Of the program, in a root process; None for this process's own.
        arguments: The command line, the binary first.
        gid: Its group, if that has another number than `uid`.
        numbers: The program's descriptors for `stderr`, `commands` and `answers`.
        listeners: Addresses and TCP ports, inside, on which the server accepts; addresses that are no loopback's are made its own.
        pages: Pages of the program talk to each other by WebRTC.
        enter_as_root: A root process makes the place as root, who passes through folders that are closed to others, and becomes
            `uid` then. So it is the place's owner: nothing in it may need a user namespace that belongs to `uid`, as a browser does.
    """

    plan: Plan
    uid: int | None
    arguments: Sequence[str]
    environment: Mapping[str, str]
    gid: int | None = None
    numbers: tuple[int, int, int] = (2, 3, 4)
    listeners: tuple[tuple[str, int], ...] = (("127.0.0.1", PROXY_PORT),)
    pages: bool = True
    enter_as_root: bool = False

    def encode(self) -> bytes:
        """Return the message."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        values |= {"plan": self.plan.encode(), "environment": dict(self.environment)}
        return json.dumps(values).encode()

    @classmethod
    def decode(cls, message: bytes) -> Launch:
        """Read a message."""
        value = json.loads(message)
        lists = {
            "plan": Plan.decode(value["plan"]),
            "numbers": tuple(value["numbers"]),
            "listeners": tuple((address, port) for address, port in value["listeners"]),
        }
        return cls(**{**value, **lists})


class Descriptors(NamedTuple):
    """What is sent with a `Launch`, in this order.

    Attributes:
        stderr: To be the program's.
        commands: A pipe that it reads; a browser's debugging pipe.
        answers: A pipe that it writes; as above.
        attendant: A socket to the server.
        lock: Stays open until the place has ended.

    Up to `MAX_GROUPS` files follow, by which the attendant joins control groups.
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
        kind: `"forked"`: there will be an attendant. `"entered"`: there is one. `"started"`: the browser has been executed.
            `"failed"`: it has not. `"socket"`: an answer. `"exited"`: the browser has.
        status: Its exit status; negative for a signal. Of `"forked"`, the attendant's process id.
        error: The kernel's error number; 0 for none.
        step: What was being done, in words.
        detail: More, for a reader.
    """

    kind: Literal["forked", "entered", "started", "failed", "socket", "exited"]
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
