"""How a program joins a server: one line of JSON each way over a Unix socket that stays open.

The program says which settings it was given; the server answers with its address and a key for this program alone, or why not.
From then on the connection is the program's dead-man switch: when it closes, the server stops what the program has rented. While
it is open, the server sends what it logs about this program.

Every protocol has `{"protocol": NUMBER` in both lines, so that two versions find out that they differ.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

__all__ = [
    "MAX_LINE",
    "ORDER_FOLLOWS",
    "PROTOCOL",
    "Answer",
    "Hello",
    "OtherProtocol",
    "line_of",
    "network_id",
    "peer_uid",
    "receive_line",
]

PROTOCOL: Final = 1
"""Raised by one with each change of the lines that an older or newer side would misread."""
MAX_LINE: Final = 1 << 20
"""Bytes of a line; settings may have large tables."""
ORDER_FOLLOWS: ContextVar[bool] = ContextVar("ORDER_FOLLOWS", default=False)
"""True where a client is opened to rent a browser at once, without a profile: then the server starts one meanwhile."""
_CHUNK: Final = 65_536


def network_id() -> str:
    """Return what names the network of this process, on this machine; empty where there is but one.

    Containers that share a folder reach each other's sockets in it, and not each other's loopback addresses.
    """
    try:
        return str(Path("/proc/self/ns/net").readlink())
    except OSError:
        return ""


class OtherProtocol(Exception):
    """The other side joins by another protocol.

    Attributes:
        number: Its protocol.
    """

    def __init__(self, number: object) -> None:
        super().__init__(number)
        self.number = number

    def __str__(self) -> str:
        return f"protocol {self.number}, and not {PROTOCOL}"


@dataclass(frozen=True, slots=True)
class Hello:
    """What a program says.

    Attributes:
        settings: Given to `local()`, as JSON; `data_dir` is absolute. `config` is the path of a file.
        environment: The variables of the program that are settings, `CDPBRIDGE_...`.
        order_follows: See `ORDER_FOLLOWS`; an older server does not read it.
    """

    settings: Mapping[str, Any] = field(default_factory=dict, repr=False)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    order_follows: bool = False

    @classmethod
    def of(cls, line: bytes) -> Hello:
        """Read one.

        Raises:
            OtherProtocol: The program has another protocol.
            ValueError: It is no such line.
        """
        found = _checked(line)
        return cls(
            dict(found["settings"]),
            dict(found["environment"]),
            order_follows=found.get("order_follows") is True,
        )

    def line(self) -> bytes:
        return line_of({"protocol": PROTOCOL} | asdict(self))


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server says to a program.

    Attributes:
        pid: Of the server.
        base_url: Of its REST API; empty if the program is not taken.
        api_key: For this program alone, until its connection ends.
        refusal: Why the program cannot use this server, in words.
        ending: The server stops its browsers and ends; the next one can be started then.
        network: The network that it serves in, see `network_id`.
    """

    pid: int
    base_url: str = ""
    api_key: str = field(default="", repr=False)
    refusal: str = ""
    ending: bool = False
    network: str = field(default_factory=network_id)

    @classmethod
    def of(cls, line: bytes) -> Answer:
        """Read one.

        Raises:
            OtherProtocol: The server has another protocol.
            ValueError: It is no such line.
        """
        found = _checked(line)
        return cls(**{name: found[name] for name in cls.__slots__ if name in found})

    def line(self) -> bytes:
        return line_of({"protocol": PROTOCOL} | asdict(self))


def _checked(line: bytes) -> dict[str, Any]:
    found = json.loads(line)
    if not isinstance(found, dict) or "protocol" not in found:
        raise ValueError("no line of this protocol")
    if found["protocol"] != PROTOCOL:
        raise OtherProtocol(found["protocol"])
    return found


def line_of(value: Mapping[str, Any]) -> bytes:
    """Return a line; what is not JSON is written as its text."""
    return json.dumps(value, default=str).encode() + b"\n"


def receive_line(connection: socket.socket) -> bytes:
    """Return the next line of a blocking socket, and nothing that follows it; empty at the end of the connection.

    Raises:
        OSError: The connection failed.
        ValueError: The line is too long.
    """
    line = bytearray()
    while not line.endswith(b"\n"):
        # Looked at first, so that bytes after the line stay for the next reader.
        seen = connection.recv(_CHUNK, socket.MSG_PEEK)
        if not seen:
            return b""
        line += connection.recv(seen.find(b"\n") + 1 or len(seen))
        if len(line) > MAX_LINE:
            raise ValueError("the line is too long")
    return bytes(line)


def peer_uid(connection: socket.socket) -> int:
    """Return the effective uid of the process at the other end, when it connected or began to listen.

    Raises:
        OSError: The system does not tell.
    """
    if sys.platform == "darwin":  # struct xucred: version, uid, ...
        found = connection.getsockopt(0, socket.LOCAL_PEERCRED, struct.calcsize("2I"))
        return int(struct.unpack("2I", found)[1])
    found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", found)[1])
