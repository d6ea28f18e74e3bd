"""What a server and a worker say to each other: messages, and their frames. Pure, but for reading and writing frames.

A control connection carries frames: four bytes of length, then a JSON object. A request has `id`, `do` and `with`; its answer the
same `id` with `ok`, or `refused`. The worker's events have `event` and no id. Fields that a reader does not know are left out of
account, so a version may add some.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final, Literal, Self, TypeAlias, TypeVar
from uuid import UUID

from pydantic import TypeAdapter, ValidationError

from cdpbridge.errors import BrowserStartFailed, ConfigurationError
from cdpbridge.server.gateway import FileRefused
from cdpbridge.server.hosts import BrowserSpec, Limit, StopReport
from cdpbridge.server.profiles import NO_VERSION, ProfileVersion
from cdpbridge.server.proxy import HostTraffic, Rules

__all__ = [
    "MAX_FRAME_BYTES",
    "PROTOCOL",
    "Adopt",
    "BadMessage",
    "Contact",
    "ContextProxy",
    "Ended",
    "Event",
    "Figures",
    "Hello",
    "Kept",
    "LimitHosts",
    "NetworkRules",
    "Of",
    "Purpose",
    "Refused",
    "Running",
    "Start",
    "Started",
    "Stop",
    "Superseded",
    "Welcome",
    "WorkerFull",
    "decoded",
    "encoded",
    "error_of",
    "frame",
    "loaded",
    "read_frame",
    "refusal_of",
]

T = TypeVar("T")

PROTOCOL: Final = 1
"""Of the messages. A change that an older reader would misunderstand takes the next number."""

# The largest is a stop's report, with 200 hosts of 253 characters and the cookie domains of a profile.
MAX_FRAME_BYTES: Final = 4 * 1024**2
_LENGTH_BYTES: Final = 4


class BadMessage(Exception):
    """What has come is no message of this protocol; the connection is closed."""


class Superseded(Exception):
    """A server asked for a browser that another server has taken over."""


class WorkerFull(BrowserStartFailed):
    """A worker runs as many browsers as it has slots."""


Purpose: TypeAlias = Literal["control", "relay", "transfer"]


@dataclass(frozen=True, slots=True)
class Hello:
    """What a connection is for.

    Attributes:
        worker: Who is meant: another run of the program at the same address refuses.
        purpose: `control` for requests and events, `relay` for bytes to and from a browser's debugging port, `transfer` for a file.
        browser: Of a relay.
        own: A relay of the server itself; when it ends, the browser may have forgotten where downloads go.
        protocol: Of the server.
    """

    worker: UUID
    purpose: Purpose
    browser: UUID | None = None
    own: bool = False
    protocol: int = PROTOCOL


@dataclass(frozen=True, slots=True)
class Welcome:
    """The first frame on a control connection, from the worker."""

    worker: UUID
    slots: int
    protocol: int = PROTOCOL


@dataclass(frozen=True, slots=True)
class NetworkRules:
    """The server's rules for browsers; see `Rules`."""

    private: bool = False
    private_allowed: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] | None = None
    denied_hosts: tuple[str, ...] = ()

    @classmethod
    def of(cls, rules: Rules) -> NetworkRules:
        """Return what is sent of a server's rules."""
        allowed = rules.allowed_hosts
        return cls(
            rules.private,
            tuple(rules.private_allowed),
            None if allowed is None else tuple(allowed),
            tuple(rules.denied_hosts),
        )

    @property
    def rules(self) -> Rules:
        """The same as rules."""
        return Rules(self.private, self.private_allowed, self.allowed_hosts, self.denied_hosts)


# --- requests ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Start:
    """`start`: answered by `Started`, with the same `base`."""

    spec: BrowserSpec
    rules: NetworkRules
    base: ProfileVersion = NO_VERSION


@dataclass(frozen=True, slots=True)
class Started:
    """A browser that runs.

    Attributes:
        token: Of the worker's own table of addresses; not an address for clients.
        host: Of its debugging port, as Chromium knows itself.
        has_extension: Its contexts begin and end one after the other.
        kept: Where its downloads go, by the name that it knows; see `BrowserFiles`.
        given: Where it finds what `give_file` brings.
        profile_id: As it was ordered.
        sent: The profile's version, as this worker knows it.
        base: The same, as the profile's row says.
    """

    generation: int
    place_id: UUID | None
    profile_writable: bool | None
    host: str
    port: int
    browser_path: str = field(repr=False)
    has_extension: bool = False
    kept: str | None = None
    given: str = ""
    profile_id: UUID | None = None
    sent: ProfileVersion = NO_VERSION
    base: ProfileVersion = NO_VERSION

    @classmethod
    def ended(cls, spec: BrowserSpec) -> Self:
        """Return one of a browser that ends, or has ended: only its report is to be had."""
        version = spec.profile_version
        return cls(
            spec.generation, None, None, "", 0, "", profile_id=spec.profile_id, sent=version, base=version
        )


@dataclass(frozen=True, slots=True)
class Stop:
    """`stop`: answered by a `StopReport`, which is kept and given again until `taken`; by null when there is no such browser."""

    browser: UUID
    generation: int
    code: int
    reason: str
    save: bool


@dataclass(frozen=True, slots=True)
class Adopt:
    """`adopt`: answered by `Started`, or null. From then on the worker obeys this generation."""

    browser: UUID
    generation: int


@dataclass(frozen=True, slots=True)
class Of:
    """A request about a browser with nothing more to say: `attach`, `taken`, `downloads_reset`, `proxy_failures`."""

    browser: UUID


@dataclass(frozen=True, slots=True)
class LimitHosts:
    """`limit_hosts`: answered by whether they hold."""

    browser: UUID
    generation: int
    allowed: tuple[str, ...] | None
    denied: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ContextProxy:
    """`context_proxy`: answered by `host:port` of a forwarder."""

    browser: UUID
    server: str = field(repr=False)
    bypass_list: str


@dataclass(frozen=True, slots=True)
class Running:
    """A browser in the answer to `contact`, with what has been said of it in an event, which may have been missed.

    Attributes:
        exited: It has ended by itself.
        limit: That it has passed.
    """

    browser: UUID
    generation: int
    starting: bool = False
    exited: bool = False
    limit: Limit | None = None


@dataclass(frozen=True, slots=True)
class Kept:
    """A browser that has ended, whose report waits to be taken."""

    browser: UUID
    generation: int


@dataclass(frozen=True, slots=True)
class Figures:
    """What has changed of a browser's figures."""

    browser: UUID
    proxy_bytes: int
    blocked_requests: int | None
    traffic: tuple[HostTraffic, ...]


@dataclass(frozen=True, slots=True)
class Contact:
    """The answer to `contact`, by which each end knows that the other lives.

    Attributes:
        running: All browsers of the worker, of every server.
        kept: Reports that no server has taken.
        ready: Browsers that wait for orders.
        figures: Of those whose figures have changed since the last contact of this connection.
    """

    running: tuple[Running, ...]
    kept: tuple[Kept, ...]
    ready: int
    figures: tuple[Figures, ...] = ()

    def browsers(self) -> set[UUID]:
        """Return those that run, or have a report that waits."""
        return {each.browser for each in self.running} | {each.browser for each in self.kept}


# --- events -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Event:
    """What a worker says unasked: a browser has ended by itself, or has passed a limit."""

    event: Literal["exit", "limit"]
    browser: UUID
    limit: Limit | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """The answer to `stop`."""

    report: StopReport


# --- refusals ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a request is not done, as it goes over the connection."""

    kind: str
    text: str
    status: int = 0


_KINDS: Final[Mapping[str, type[Exception]]] = {
    "full": WorkerFull,
    "start": BrowserStartFailed,
    "configuration": ConfigurationError,
    "superseded": Superseded,
    "os": OSError,
    "message": BadMessage,
}


def refusal_of(error: Exception) -> Refused | None:
    """Return an error as it goes over the connection; None for one that is not foreseen."""
    if isinstance(error, FileRefused):
        return Refused("file", str(error), error.status)
    kind = next((kind for kind, each in _KINDS.items() if isinstance(error, each)), None)
    return None if kind is None else Refused(kind, str(error))


def error_of(refused: Refused) -> Exception:
    """Return the error that a refusal stands for."""
    if refused.kind == "file":
        return FileRefused(refused.status, refused.text)
    return _KINDS.get(refused.kind, BadMessage)(refused.text)


# --- encoding ---------------------------------------------------------------------------------------------------------


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def encoded(message: object) -> Any:
    """Return a message as JSON values."""
    kind: Any = type(message)
    return _adapter(kind).dump_python(message, mode="json")


def loaded(kind: type[T], value: object) -> T:
    """Return the message in a JSON value.

    Raises:
        BadMessage: It is none of this kind.
    """
    what: Any = kind
    try:
        message: T = _adapter(what).validate_python(value)
    except (ValidationError, ConfigurationError) as error:
        # Not pydantic's text: it quotes the input, which has passwords of proxies.
        raise BadMessage(f"this is no {kind.__name__}: {type(error).__name__}") from None
    return message


def decoded(data: bytes) -> dict[str, Any]:
    """Return the JSON object in a frame.

    Raises:
        BadMessage: It is something else.
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise BadMessage("a frame is no JSON") from None
    if not isinstance(value, dict):
        raise BadMessage("a frame is no JSON object")
    return value


def frame(value: Mapping[str, Any] | Sequence[Any]) -> bytes:
    """Return the frame of a JSON value.

    Raises:
        BadMessage: It is larger than a frame may be.
    """
    data = json.dumps(value, separators=(",", ":")).encode()
    if len(data) > MAX_FRAME_BYTES:
        raise BadMessage(
            f"a frame of {len(data)} bytes is longer than the {MAX_FRAME_BYTES} that are allowed"
        )
    return len(data).to_bytes(_LENGTH_BYTES, "big") + data


async def read_frame(reader: asyncio.StreamReader) -> dict[str, Any]:
    """Return the next frame's JSON object.

    Raises:
        BadMessage: It is too long, or none.
        EOFError: The connection has ended.
        OSError: As above.
    """
    length = int.from_bytes(await reader.readexactly(_LENGTH_BYTES), "big")
    if length > MAX_FRAME_BYTES:
        raise BadMessage(f"a frame of {length} bytes is longer than the {MAX_FRAME_BYTES} that are allowed")
    return decoded(await reader.readexactly(length))
