"""`WorkerHosts`: browsers on workers, for the rentals and the gateway as if they ran here.

Sockets of clients end at this server's gateway, whose way to a browser's debugging port is a connection to the worker. So frames,
counting, pings and close frames are the gateway's own. What the worker says of a browser (its end, a limit, its figures) comes
over the link.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from cdpbridge._concurrency import TaskSet, to_the_end
from cdpbridge.cdp import Connection
from cdpbridge.errors import BrowserStartFailed, CDPBridgeError, CDPError
from cdpbridge.server.files import FileStore
from cdpbridge.server.gateway import Registry, Upstream
from cdpbridge.server.hosts import BrowserSpec, CloseFrame, Leftover, Limit, Placement, SavedState, StopReport
from cdpbridge.server.profiles import ProfileStore
from cdpbridge.server.proxy import HostTraffic, Rules

from ._dial import Dialler
from ._endings import Endings
from ._exchange import Exchange
from ._link import LinkLimits, LinkLost, WorkerLink
from ._links import Unwanted, WorkerLinks
from ._protocol import (
    Adopt,
    BadMessage,
    Contact,
    ContextProxy,
    Event,
    LimitHosts,
    NetworkRules,
    Of,
    Start,
    Started,
    Superseded,
    loaded,
)
from ._rented import RemoteContexts, Rented
from ._slots import Slots
from ._tls import ServerTls

__all__ = ["WorkerHosts"]

logger = logging.getLogger("cdpbridge.server")

_WITHDRAW_SECONDS: Final = 10.0
_ASK_SECONDS: Final = 10.0
_CLOSING: Final = CloseFrame(1001, "server stopping")
_ENDED: Final = CloseFrame(1001, "browser closed")
_HANDED_OVER: Final = CloseFrame(1012, "the server is restarting; connect again")


class WorkerHosts:
    """Browsers on workers. They run on when this process ends.

    Args:
        slots: Which workers there are, and who has a slot.
        secret: Of all servers and workers.
        registry: The gateway's table of addresses.
        profiles: Where profiles come from and go to.
        files: Where downloads go.
        folder: For files on their way.
        rules: What browsers may reach that start from now on.
        token_of: Gives what a browser's address is made of.
        max_file_bytes: Of one file that a worker sends.
        tls: What workers with TLS are checked by.
        limits: When a worker counts as dead.
    """

    def __init__(
        self,
        slots: Slots,
        secret: bytes,
        registry: Registry,
        *,
        profiles: ProfileStore,
        files: FileStore,
        folder: Path,
        rules: Callable[[], Rules],
        max_file_bytes: int,
        token_of: Callable[[UUID], str],
        tls: ServerTls | None = None,
        limits: LinkLimits | None = None,
    ) -> None:
        self._slots = slots
        self._dialler = Dialler(secret, tls)
        self._registry = registry
        self._exchange = Exchange(self._dialler, profiles, files, folder, max_bytes=max_file_bytes)
        self._rules = rules
        self._token_of = token_of
        self._links = WorkerLinks(
            slots,
            self._dialler,
            limits or LinkLimits(),
            on_event=self._event,
            on_contact=self._contact,
            on_dead=self._dead,
        )
        self._endings = Endings(self._links, self._exchange)
        self._rented: dict[UUID, Rented] = {}
        # Of servers that have ended: they do not run, and `stop` brings their reports.
        self._ended: dict[UUID, Rented] = {}
        self._waiting = 0
        self._work = TaskSet(logger)

    # --- workers ---------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Begin to look for workers."""
        await self._links.open()

    def answered(self) -> Collection[UUID]:
        """Return the workers that have answered since the last call; see `BrowserHosts.answered`."""
        return self._links.answered()

    @property
    def waiting(self) -> int:
        """The number of orders that wait for a slot."""
        return self._waiting

    def _dead(self, worker_id: UUID) -> None:
        for rented in list(self._rented.values()):
            if rented.worker == worker_id:
                rented.lost = True
                rented.exited()

    def lost(self, browser_id: UUID) -> bool:
        """Return True if a browser has ended with its worker; see `BrowserHosts.lost`."""
        rented = self._rented.get(browser_id)
        return rented is not None and rented.lost

    def _event(self, event: Event) -> None:
        rented = self._rented.get(event.browser)
        if rented is None:
            return
        if event.event == "exit":
            rented.exited()
        elif event.limit is not None:
            rented.over(event.limit)

    def _contact(self, worker_id: UUID, contact: Contact) -> None:
        for figures in contact.figures:
            if (rented := self._rented.get(figures.browser)) is not None:
                rented.figures = figures
        running = {each.browser: each for each in contact.running}
        for rented in list(self._rented.values()):
            if rented.worker != worker_id:
                continue
            # In case that an event was missed: the connection was lost, or the start's answer came after it.
            found = running.get(rented.id)
            if found is None or found.exited:
                rented.exited()
            elif found.limit is not None:
                rented.over(found.limit)

    # --- start -----------------------------------------------------------------------------------------------------

    async def start(
        self,
        spec: BrowserSpec,
        *,
        on_exit: Callable[[UUID], object],
        on_limit: Callable[[UUID, Limit], object],
    ) -> Placement:
        """Run a browser on a worker that has a free slot; see `BrowserHosts.start`.

        Raises:
            NoFreeSlot: No worker has one.
        """
        self._waiting += 1
        try:
            worker = await self._slots.reserve(spec.id)
        finally:
            self._waiting -= 1
        link = None
        try:
            link = self._links.link(worker)
            if link is None:
                raise BrowserStartFailed(f"worker {worker.address} has been replaced; try again")
            try:
                sent = await self._exchange.give_profile(link, spec)
                order = Start(sent, NetworkRules.of(self._rules()), spec.profile_version)
                started = loaded(Started, await link.ask("start", order, timeout=None))
            except (OSError, TimeoutError, Superseded, BadMessage) as error:
                raise BrowserStartFailed(f"the browser could not be started: {error}") from error
            except CDPBridgeError as error:
                if isinstance(error, BrowserStartFailed):
                    raise
                raise BrowserStartFailed(f"the browser could not be started: {error}") from error
            rented = Rented(spec.id, worker.id, started, on_exit, on_limit)
            self._open(rented)
        except BaseException:
            await to_the_end(self._withdraw(link, spec))
            raise
        return self._placement(rented)

    async def _withdraw(self, link: WorkerLink | None, spec: BrowserSpec) -> None:
        """Take a start back, whatever became of it."""
        try:
            if link is not None:
                async with asyncio.timeout(_WITHDRAW_SECONDS):
                    await self._links.end(spec.id, Unwanted(link.worker.id, spec.generation))
        except TimeoutError:
            logger.warning("browser %s will be ended when its worker answers", spec.id)
        finally:
            await self._slots.free(spec.id)

    def _open(self, rented: Rented) -> None:
        """Give a browser an address on the gateway."""
        started = rented.started
        rented.token = self._token_of(rented.id)
        upstream = Upstream(
            started.host, started.port, started.browser_path, reach=partial(self._reach, rented, own=False)
        )
        self._registry.add(
            rented.token,
            upstream,
            self._exchange.access(rented.id, partial(self._links.get, rented.worker)),
            downloads_reset=lambda: self._work.start(
                self._tell(rented, "downloads_reset"), f"the downloads of browser {rented.id}"
            ),
            proxy_failures=partial(self._proxy_failures, rented),
            context_proxy=partial(self._context_proxy, rented),
            context_order=RemoteContexts(partial(self.connection, rented.id))
            if started.has_extension
            else None,
        )
        self._rented[rented.id] = rented

    def _link_of(self, rented: Rented | None) -> WorkerLink:
        link = None if rented is None else self._links.get(rented.worker)
        if link is None:
            raise LinkLost("the worker of this browser does not answer any more")
        return link

    async def _reach(self, rented: Rented, protocol: asyncio.BaseProtocol, *, own: bool) -> asyncio.Transport:
        """Connect a protocol with a browser's debugging port."""
        link = self._link_of(rented)
        hello = link.hello(purpose="relay", browser=rented.id, own=own)
        channel = await self._dialler.dial(link.worker, hello)
        try:
            return channel.become(protocol)
        except BaseException:
            channel.abort()
            raise

    async def _ask(self, rented: Rented, do: str, message: object, timeout: float = _ASK_SECONDS) -> Any:
        link = self._link_of(rented)
        try:
            return await link.ask(do, message, timeout=timeout)
        except TimeoutError:
            raise OSError(f"worker {link.worker.address} has not answered in {timeout:g} s") from None

    async def _tell(self, rented: Rented, do: str) -> None:
        try:
            await self._ask(rented, do, Of(rented.id))
        except OSError as error:
            logger.debug("browser %s: %s: %s", rented.id, do, error)

    async def _proxy_failures(self, rented: Rented) -> list[dict[str, object]]:
        try:
            found: list[dict[str, object]] = await self._ask(rented, "proxy_failures", Of(rented.id))
        except OSError as error:
            logger.debug("browser %s: %s", rented.id, error)
            return []
        return found

    async def _context_proxy(self, rented: Rented, server: str, bypass_list: str) -> str:
        return str(await self._ask(rented, "context_proxy", ContextProxy(rented.id, server, bypass_list)))

    # --- takeover --------------------------------------------------------------------------------------------------

    async def adopt(
        self,
        spec: BrowserSpec,
        *,
        on_exit: Callable[[UUID], object],
        on_limit: Callable[[UUID, Limit], object],
    ) -> Placement | None:
        """Take over a browser that runs on a worker; see `BrowserHosts.adopt`."""
        found = await self._links.answer_of(spec.id, "adopt", Adopt(spec.id, spec.generation))
        if found is not None:
            return await self._held(spec.id, found, on_exit, on_limit)
        link = await self._links.with_browser(spec.id)
        if link is not None:
            started = Started.ended(spec)
            self._ended[spec.id] = Rented(spec.id, link.worker.id, started, on_exit, on_limit)
        return None

    async def attach(self, browser_id: UUID) -> Placement | None:
        """Reach a browser that another server has rented out; see `BrowserHosts.attach`."""
        if (placement := self.placement(browser_id)) is not None:
            return placement
        found = await self._links.answer_of(browser_id, "attach", Of(browser_id))
        return None if found is None else await self._held(browser_id, found)

    async def _held(
        self,
        browser_id: UUID,
        found: tuple[WorkerLink, Started],
        on_exit: Callable[[UUID], object] | None = None,
        on_limit: Callable[[UUID, Limit], object] | None = None,
    ) -> Placement | None:
        """Hold a browser that runs on a worker: for its rental here, or for another server's."""
        link, started = found
        known = self._rented.get(browser_id)
        if known is None:
            known = Rented(browser_id, link.worker.id, started, on_exit or self._detach, on_limit or _ignored)
            known.own = on_exit is not None
            self._open(known)
        elif known.stopping:
            return None
        elif on_exit is not None and on_limit is not None:
            known.belongs(started, on_exit, on_limit)
        return self._placement(known)

    def _detach(self, browser_id: UUID) -> None:
        """Forget a browser of another server, which has ended."""
        rented = self._rented.get(browser_id)
        if rented is not None and not rented.stopping:
            self._work.start(self._close(rented, _ENDED), f"the clients of browser {browser_id}")

    async def _close(self, rented: Rented, frame: CloseFrame) -> None:
        """Close the sockets to a browser, and forget it."""
        rented.stopping = True
        try:
            await self._registry.close(rented.token, frame.code, frame.reason)
            await rented.close_connection()
        finally:
            self._rented.pop(rented.id, None)

    async def release(self, browser_id: UUID) -> bool:
        """Hand a browser over; see `BrowserHosts.release`."""
        rented = self._rented.get(browser_id)
        if rented is None or rented.stopping:
            return False
        await self._close(rented, _HANDED_OVER)
        return True

    # --- while it runs ---------------------------------------------------------------------------------------------

    def _placement(self, rented: Rented) -> Placement:
        started = rented.started
        return Placement(rented.token, started.profile_writable, started.place_id, rented.worker)

    def placement(self, browser_id: UUID) -> Placement | None:
        """Return where a browser runs; see `BrowserHosts.placement`."""
        rented = self._rented.get(browser_id)
        return None if rented is None or rented.stopping else self._placement(rented)

    async def connection(self, browser_id: UUID) -> Connection | None:
        """Return our own connection to a browser, opened now if need be; see `BrowserHosts.connection`."""
        rented = self._rented.get(browser_id)
        if rented is None or rented.stopping:
            return None
        try:
            return await rented.connection(partial(self._reach, rented, own=True))
        except (OSError, CDPError) as error:
            logger.warning("browser %s: the server's own connection cannot be opened: %s", browser_id, error)
            return None

    async def limit_hosts(
        self, browser_id: UUID, *, allowed: Sequence[str] | None, denied: Sequence[str] = ()
    ) -> bool:
        """Replace the lists of hosts a browser may reach; see `BrowserHosts.limit_hosts`."""
        rented = self._rented.get(browser_id)
        if rented is None or rented.stopping:
            return False
        lists = LimitHosts(
            browser_id,
            rented.started.generation,
            None if allowed is None else tuple(allowed),
            tuple(denied),
        )
        try:
            return bool(await self._ask(rented, "limit_hosts", lists))
        except (OSError, Superseded) as error:
            logger.warning("browser %s: its hosts cannot be limited: %s", browser_id, error)
            return False

    def proxy_bytes(self, browser_id: UUID) -> int:
        """Return what went through its proxy, as of the last contact."""
        rented = self._rented.get(browser_id)
        return 0 if rented is None else rented.proxy_bytes

    def traffic(self, browser_id: UUID) -> Sequence[HostTraffic]:
        """Return what was exchanged with each host, as of the last contact."""
        rented = self._rented.get(browser_id)
        return () if rented is None or rented.figures is None else rented.figures.traffic

    def blocked_requests(self, browser_id: UUID) -> int | None:
        """Return how many requests the block lists have refused, as of the last contact."""
        rented = self._rented.get(browser_id)
        return None if rented is None or rented.figures is None else rented.figures.blocked_requests

    # --- files -----------------------------------------------------------------------------------------------------

    def downloads_folder(self, browser_id: UUID) -> Path | None:
        """Return the worker's folder; see `BrowserHosts.downloads_folder`."""
        rented = self._rented.get(browser_id)
        return None if rented is None or rented.started.kept is None else Path(rented.started.kept)

    async def take_downloads(self, browser_id: UUID) -> None:
        """Bring what a browser has downloaded so far; see `BrowserHosts.take_downloads`."""
        rented = self._rented.get(browser_id)
        link = None if rented is None else self._links.get(rented.worker)
        if rented is None or link is None or rented.stopping:
            return
        try:
            async with rented.taking:
                await self._exchange.take_files(link, browser_id)
        except (OSError, TimeoutError, BadMessage) as error:
            logger.warning("the downloads of browser %s cannot be brought now: %s", browser_id, error)

    async def give_upload(self, browser_id: UUID, file: Path) -> None:
        """Bring a file to a browser; see `BrowserHosts.give_upload`."""
        link = self._link_of(self._rented.get(browser_id))
        await self._exchange.give_file(link, browser_id, file)

    def upload_path(self, browser_id: UUID, file: Path) -> Path:
        """Return where a browser finds an upload; see `BrowserHosts.upload_path`."""
        rented = self._rented.get(browser_id)
        return file if rented is None else Path(rented.started.given) / file.name

    # --- stop ------------------------------------------------------------------------------------------------------

    async def stop(self, browser_id: UUID, frame: CloseFrame, *, save: bool) -> StopReport | None:
        """End a browser; see `BrowserHosts.stop`."""
        rented = self._rented.get(browser_id) or self._ended.pop(browser_id, None)
        if rented is None or rented.stopping:
            return None
        rented.stopping = True
        try:
            await self._registry.close(rented.token, frame.code, frame.reason)
            report = await self._endings.stopped(rented, frame, save=save)
            await rented.close_connection()
        finally:
            self._rented.pop(browser_id, None)
            await self._slots.free(browser_id)
        return report

    # --- the server's own start and end ----------------------------------------------------------------------------

    def remains(self) -> Collection[UUID]:
        """Return nothing: what runs on workers is in the books."""
        return ()

    async def recover(self, left: Collection[Leftover]) -> Mapping[UUID, SavedState]:
        """End the browsers of servers that have ended, and return the profiles that were saved; see `BrowserHosts.recover`."""
        found = await asyncio.gather(*(self._recovered(leftover) for leftover in left))
        return {each.id: state for each, state in zip(left, found, strict=True) if state is not None}

    async def _recovered(self, leftover: Leftover) -> SavedState | None:
        try:
            return await self._endings.recovered(leftover)
        finally:
            await self._slots.free(leftover.id)

    @property
    def ready(self) -> int:
        """The number of browsers that run on workers and wait for orders."""
        return self._links.ready

    def start_ahead(self, readable: tuple[Path, ...]) -> None:  # the protocol's
        """Do nothing: each worker keeps its own browsers ready."""

    def fits_ready(self, spec: BrowserSpec) -> bool:  # the protocol's
        """Return False: what is short here is not short on a worker, which decides for itself."""
        return False

    async def release_ready(self) -> bool:
        """Return False: browsers that wait are on other machines, and take nothing from this one."""
        return False

    async def close(self) -> None:
        """End every browser of this server that still runs, and the connections to workers."""
        await asyncio.gather(
            *(
                self.stop(rented.id, _CLOSING, save=True) if rented.own else self.release(rented.id)
                for rented in list(self._rented.values())
            )
        )
        await self._work.cancel()
        await self._links.close()


def _ignored(_browser_id: UUID, _limit: Limit) -> None:
    """Leave a limit to the server whose browser it is."""
