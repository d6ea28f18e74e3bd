"""The protocol between rentals and the machines that run their browsers.

Data of clients never passes through it: they reach the gateway. The server's own talk with a browser, e.g. for the live view,
goes over a DevTools connection that the host hands out.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Literal, Protocol, TypeAlias
from uuid import UUID

from cdpbridge.cdp import Connection
from cdpbridge.server.profiles import NO_VERSION, ProfileVersion
from cdpbridge.server.proxy import HostLists, HostTraffic

__all__ = [
    "BrowserHosts",
    "BrowserSpec",
    "CloseFrame",
    "Leftover",
    "Limit",
    "Placement",
    "Rest",
    "SavedState",
    "StopReport",
    "UnfinishedStop",
]


Limit: TypeAlias = Literal["disk", "memory", "processes"]
"""A limit that a browser has passed."""


@dataclass(frozen=True, slots=True)
class BrowserSpec:
    """A browser to start.

    Attributes:
        id: Of the rental; a host keeps one browser for it.
        profile_id: State to start from, and to save if no other browser does.
        profile_version: Which version of it.
        proxy: Upstream of its forwarding proxy, `"direct"` for a proxy without one, None if no proxy was ordered: then the
            forwarding proxy only applies the rules.
        trusted_proxy: False for an upstream that a client has named: it is dialled under the rules for browsers.
        hosts: Lists of what it may reach, of what the host's rules allow; each must let a host pass.
        agent: It belongs to an agent session: nothing may go around the forwarding proxy, so that `limit_hosts` can limit it.
        block_ads: The host's block lists apply to it, if there are any.
        start_url: Page to open first.
        screen: Width and height of its window, CSS pixels.
        ignore_certificate_errors: Take any certificate: for a proxy that looks into TLS.
        readable: Files and folders of the client's machine that it may read, where that is the host: isolation leaves the others out.
        project_id: Who pays: projects take turns where browsers wait to be started.
        generation: Of its rental. A host on another machine obeys the newest one only.
        lifetime: After which a host on another machine ends it, whatever its server does; None where the server alone ends it.
    """

    id: UUID
    profile_id: UUID | None = None
    proxy: str | None = field(default=None, repr=False)
    trusted_proxy: bool = True
    hosts: tuple[HostLists, ...] = ()
    agent: bool = False
    block_ads: bool = True
    start_url: str | None = None
    screen: tuple[int, int] | None = None
    ignore_certificate_errors: bool = False
    readable: tuple[Path, ...] = ()
    profile_version: ProfileVersion = NO_VERSION
    project_id: UUID | None = None
    generation: int = 0
    lifetime: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Placement:
    """A browser that runs.

    Attributes:
        token: What its address on the gateway is made of; full control of the browser.
        profile_writable: Whether its profile will be saved; None without a profile.
        place_id: By what its folders on the machine are named.
        worker: On which it runs: one run of a worker's program; None for a browser of this process.
    """

    token: str = field(repr=False)
    profile_writable: bool | None
    place_id: UUID | None = None
    worker: UUID | None = None


@dataclass(frozen=True, slots=True)
class CloseFrame:
    """The close frame that clients get: `code` as in RFC 6455 section 7.4, and a reason."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class SavedState:
    """A profile's new version.

    Attributes:
        version: Its number.
        cookie_domains: Hosts that its cookies belong to.
        archive: Its name in object storage; None when it is kept in a folder of the server.
    """

    version: int
    cookie_domains: list[str]
    archive: str | None = None


class Rest(Protocol):
    """What is left to do of a browser that has ended: its client need not wait for it.

    A server that is killed before it is done does it at its next start.
    """

    async def save(self, note: Callable[[SavedState], Awaitable[object]]) -> None:
        """Save its profile, if it is to be saved, and call `note` with the new version; then others may use the profile."""

    async def remove(self) -> None:
        """Remove its folders, and give its uid back; called once, after `save`, or instead of it."""


@dataclass(frozen=True, slots=True)
class StopReport:
    """The end of a browser.

    Attributes:
        how: `"closed"` when asked, `"exited"` by itself, `"killed"` because it did not answer in time, or had nothing to save.
        saved: Its profile's new version, from a host that has saved it by now.
        proxy_bytes: What went through its proxy, both ways.
        blocked_requests: How many requests the block lists have refused; None when they did not apply.
        traffic: Payload by host, the most first.
    """

    how: Literal["closed", "exited", "killed"]
    saved: SavedState | None
    proxy_bytes: int
    blocked_requests: int | None = None
    traffic: Sequence[HostTraffic] = ()


@dataclass(frozen=True, slots=True)
class UnfinishedStop(StopReport):
    """The end of a browser whose profile is not saved, and whose folders are not removed yet.

    Attributes:
        rest: Does that.
    """

    rest: Rest = field(kw_only=True)

    async def finished(self) -> StopReport:
        """Do the rest, and return the report with the version that was saved."""
        saved: list[SavedState] = []

        async def note(state: SavedState) -> None:
            saved.append(state)

        try:
            await self.rest.save(note)
        finally:
            await self.rest.remove()
        return StopReport(
            self.how,
            saved[0] if saved else None,
            self.proxy_bytes,
            self.blocked_requests,
            self.traffic,
        )


@dataclass(frozen=True, slots=True)
class Leftover:
    """A browser of a server that was killed.

    Attributes:
        profile_version: The version that its profile has now.
        place_id: By what its folders on the machine are named; None for its own id.
    """

    id: UUID
    profile_id: UUID | None
    profile_writable: bool
    profile_version: ProfileVersion = NO_VERSION
    place_id: UUID | None = None


class BrowserHosts(Protocol):
    """Machines that run browsers."""

    async def start(
        self,
        spec: BrowserSpec,
        *,
        on_exit: Callable[[UUID], object],
        on_limit: Callable[[UUID, Limit], object],
    ) -> Placement:
        """Run a browser. Cancelled or failed, it leaves nothing behind.

        Args:
            spec: What to run.
            on_exit: Called once with the browser's id when it ends without `stop`.
            on_limit: Called once with the browser's id and the limit when it uses more than it may; it runs on until it is stopped.

        Raises:
            NoFreeSlot: It has waited too long for its turn, or for a slot.
            BrowserStartFailed: With the cause.
        """

    async def adopt(
        self,
        spec: BrowserSpec,
        *,
        on_exit: Callable[[UUID], object],
        on_limit: Callable[[UUID, Limit], object],
    ) -> Placement | None:
        """Take over a browser that another server has started and that still runs; None when it runs nowhere, or ends.

        Where it has ended, or ends, `stop` returns the report of that all the same, if it is still there.

        Args:
            spec: Its id, its profile with the version that it began with, and its generation from now on: what its former server
                still asks for is refused.
            on_exit: As for `start`.
            on_limit: As for `start`.
        """

    async def release(self, browser_id: UUID) -> bool:
        """Hand a browser over to other servers: close its clients' sockets, forget it, and end nothing of it.

        Returns:
            Whether it runs on. False, and nothing was done, when it ends with this process.
        """

    async def attach(self, browser_id: UUID) -> Placement | None:
        """Reach a browser that another server has started, so that its address and `connection` are good here too.

        Nothing of its life changes; its end detaches it. May be repeated.

        Returns:
            None when it runs where this server cannot reach it, or not at all.
        """

    def placement(self, browser_id: UUID) -> Placement | None:
        """Return where a browser runs, None when it does not or is being stopped."""

    async def connection(self, browser_id: UUID) -> Connection | None:
        """Return the server's own DevTools connection to a browser, None when it does not run or is being stopped.

        It belongs to the host, is the same for all who ask, and ends with the browser. A host on another machine opens it
        over its own connection on the first call.
        """

    def proxy_bytes(self, browser_id: UUID) -> int:
        """Return what went through its proxy so far, both ways."""

    def traffic(self, browser_id: UUID) -> Sequence[HostTraffic]:
        """Return the payload that it has exchanged with each host so far, the most first, for a bounded number of hosts."""

    def blocked_requests(self, browser_id: UUID) -> int | None:
        """Return how many of its requests the block lists have refused so far; None when they do not apply to it."""

    async def limit_hosts(
        self, browser_id: UUID, *, allowed: Sequence[str] | None, denied: Sequence[str] = ()
    ) -> bool:
        """Replace the lists of hosts that a browser may reach, and close its connections that break them.

        They come on top of the server's own rules and of `BrowserSpec.hosts`, hold for pages, frames, sub-requests, redirects and WebSockets, and stay
        until the next call.

        Args:
            allowed: Patterns of the only hosts, as in `cdpbridge.server.proxy.Rules`; None for all.
            denied: Patterns of hosts that are refused even so.

        Returns:
            Whether they hold. False when the browser does not run.

        Raises:
            ConfigurationError: A pattern is not valid; nothing is changed.
        """

    def downloads_folder(self, browser_id: UUID) -> Path | None:
        """Return where a browser keeps its downloads, by the name that it knows; None where that is this server's folder."""

    async def take_downloads(self, browser_id: UUID) -> None:
        """Bring what a browser has downloaded so far to this server's files; a failure is logged.

        The stop does so, too. On this machine, nothing has to be brought.
        """

    async def give_upload(self, browser_id: UUID, file: Path) -> None:
        """Bring a file of this server to a browser that runs.

        Raises:
            OSError: It cannot be brought there.
        """

    def upload_path(self, browser_id: UUID, file: Path) -> Path:
        """Return where a browser finds a file of this server that it was, or will be, given."""

    async def stop(self, browser_id: UUID, frame: CloseFrame, *, save: bool) -> StopReport | None:
        """End a browser in bounded time; None when it is not there. Nothing of it runs when this returns.

        Args:
            browser_id: Which.
            frame: For its clients.
            save: Its profile is to be saved. That, and the removal of its folders, may be left, in an `UnfinishedStop`.
        """

    def remains(self) -> Collection[UUID]:
        """Return the browsers of which a server that was killed has left something here, by their ids or those of their places."""

    async def recover(self, left: Collection[Leftover]) -> Mapping[UUID, SavedState]:
        """Clean up after an unclean shutdown, and return the profiles that were saved. Unknown browsers are removed.

        Called once, before any `start`. From then on browsers are kept ready, where that is set.
        """

    def start_ahead(self, readable: tuple[Path, ...]) -> None:
        """Begin to start a browser for an order that is about to come, where there is capacity. Without the order it ends soon.

        Args:
            readable: As in the order's `BrowserSpec`.
        """

    @property
    def ready(self) -> int:
        """The number of browsers that run and wait for orders to come: they take what the machine has, and no project's slot."""

    @property
    def waiting(self) -> int:
        """The number of orders of this server that wait for their turn to start, or for a slot."""

    def lost(self, browser_id: UUID) -> bool:
        """Return True if a browser that has ended by itself was lost with its worker."""

    def answered(self) -> Collection[UUID]:
        """Return the workers that this server has heard from since it was asked before; none where browsers run in this process."""

    def fits_ready(self, spec: BrowserSpec) -> bool:
        """Return True if such an order takes one of those that wait, if there are any."""

    async def release_ready(self) -> bool:
        """End the browsers that wait for orders, so that their memory is free; True if there were some."""

    async def close(self) -> None:
        """End every browser that still runs."""
