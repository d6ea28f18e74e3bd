"""`LocalHosts`: browsers on this machine, in this process's care."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Final
from uuid import UUID, uuid4

from cdpbridge._concurrency import in_thread
from cdpbridge.cdp import Connection
from cdpbridge.errors import BrowserStartFailed, CDPBridgeError
from cdpbridge.server.files import FileStore
from cdpbridge.server.gateway import Registry
from cdpbridge.server.profiles import Hostile, ProfileStore
from cdpbridge.server.proxy import HostLists, HostTraffic, Rules

from ._base import BrowserSpec, CloseFrame, Leftover, Limit, Placement, SavedState, UnfinishedStop
from ._browser import LocalBrowser
from ._cookies import CookieExport, cookies_to_keep
from ._folders import REMOVED, remove_folder, save_profile, scratch_folder
from ._options import BrowserOptions
from ._place import Place
from ._processes import wait_unused
from ._ready import ReadyBrowsers
from ._shares import ProcessorShares
from ._turns import Turns
from ._upstream import denies_udp

__all__ = ["LocalHosts"]

logger = logging.getLogger("cdpbridge.server")

_LEFTOVER_TIMEOUT: Final = timedelta(seconds=5)
_CLOSING: Final = CloseFrame(1001, "server stopping")
_NO_ID: Final = UUID(int=0)


class LocalHosts:
    """Browsers on this machine. They die with this process, because it holds their debugging pipes.

    Args:
        root: Folder for one folder per running browser.
        profiles: Where profiles come from and go to.
        registry: The gateway's table of addresses.
        options: What all browsers have in common.
        concurrent_starts: More wait for their turn, fairly; starting is what a machine runs out of first.
        queue_timeout: How long they may wait.
        former_roots: Where a server of this data folder may have left browsers under other settings.
        rules: What browsers may reach that start from now on; default: what `options` says.
        warm_browsers: Number of browsers that are kept ready for orders without a profile.
        usual_proxy: Of the orders that those are for, as in `BrowserSpec`.
        usual_readable: As above.
        strain: Returns why the machine should start no browser, as `Pressure.reason`; None when it may.
    """

    def __init__(
        self,
        root: Path,
        profiles: ProfileStore,
        registry: Registry,
        options: BrowserOptions,
        *,
        concurrent_starts: int,
        queue_timeout: timedelta,
        former_roots: Iterable[Path] = (),
        rules: Callable[[], Rules] | None = None,
        warm_browsers: int = 0,
        usual_proxy: str | None = None,
        usual_readable: tuple[Path, ...] = (),
        strain: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._root = root
        self._roots = dict.fromkeys([root, *former_roots])
        self._profiles = profiles
        self._registry = registry
        self._options = options
        self._rules = rules or (lambda: options.rules)
        self._turns = Turns(concurrent_starts)
        self._queue_timeout = queue_timeout.total_seconds()
        self._browsers: dict[UUID, LocalBrowser] = {}
        self._shares = ProcessorShares(lambda: [*self._browsers.values()], options.processors)
        self._usual_proxy = usual_proxy
        self._usual_readable = usual_readable
        # Places of browsers that were started before `recover`, which removes what it does not know.
        self._places_ahead: set[str] = set()
        self._recovered = False
        self._ready = ReadyBrowsers(
            warm_browsers,
            self._start_ready,
            may_start=lambda: not self._turns.locked,
            strain=strain,
        )

    async def start(
        self,
        spec: BrowserSpec,
        *,
        on_exit: Callable[[UUID], object],
        on_limit: Callable[[UUID, Limit], object],
    ) -> Placement:
        """Run a browser, one that is ready where the order changes nothing of its start; see `BrowserHosts.start`."""
        with self._shares.starts(spec.project_id):
            browser = await self._take_ready(spec, on_exit, on_limit)
            if browser is None:
                browser = await self._start_cold(spec, on_exit, on_limit)
            self._browsers[spec.id] = browser
        return Placement(browser.token, browser.profile_writable, browser.place.id)

    async def _take_ready(
        self, spec: BrowserSpec, on_exit: Callable[[UUID], object], on_limit: Callable[[UUID, Limit], object]
    ) -> LocalBrowser | None:
        if not self.fits_ready(spec):
            return None
        rules = self._rules()
        while (browser := await self._ready.take()) is not None:
            ordered = False
            try:
                if browser.udp == self._udp(spec, rules):
                    await browser.take_order(spec, rules=rules, on_exit=on_exit, on_limit=on_limit)
                    ordered = True
                    return browser
            except (CDPBridgeError, OSError) as error:
                logger.warning(
                    "browser %s, kept ready, cannot be used and is replaced: %s", browser.id, error
                )
            finally:
                if not (ordered or browser.stopping):
                    self._ready.put_away(browser)
        return None

    def start_ahead(self, readable: tuple[Path, ...]) -> None:
        """Start a browser for an order that is about to come; see `BrowserHosts.start_ahead`. It may be before `recover`."""
        if readable == self._usual_readable:
            self._ready.start_ahead()

    async def _start_ready(self) -> LocalBrowser:
        place_id, rules = uuid4(), self._rules()
        if not self._recovered:
            self._places_ahead.add(str(place_id))
        # It reaches nothing before it is ordered.
        nothing = (HostLists(allowed_hosts=()),)
        spec = BrowserSpec(place_id, hosts=nothing, readable=self._usual_readable)
        lost = self._ready.lost
        await self._turns.acquire()
        try:
            return await self._run(
                spec, rules, LocalBrowser.start_ready, udp=self._usual_udp(rules), on_exit=lost, on_limit=lost
            )
        finally:
            self._turns.release()

    async def _start_cold(
        self, spec: BrowserSpec, on_exit: Callable[[UUID], object], on_limit: Callable[[UUID, Limit], object]
    ) -> LocalBrowser:
        await self._turns.acquire(spec.project_id, seconds=self._queue_timeout)
        try:
            rules = self._rules()
            udp = self._udp(spec, rules)
            return await self._run(
                spec, rules, LocalBrowser.start, udp=udp, on_exit=on_exit, on_limit=on_limit
            )
        finally:
            self._turns.release()
            self._ready.look()

    def _starts_as_usual(self, spec: BrowserSpec) -> bool:
        """Return True if an order changes nothing of a start: what it is about can be set in a browser that runs."""
        settable = replace(
            spec,
            proxy=None,
            trusted_proxy=True,
            hosts=(),
            agent=False,
            block_ads=True,
            start_url=None,
            generation=0,
            lifetime=None,
            project_id=None,
        )
        return settable == BrowserSpec(spec.id, readable=self._usual_readable)

    def _udp(self, spec: BrowserSpec, rules: Rules) -> bool:
        """Return whether a browser may send UDP around its forwarder. An isolated one has nowhere else to send it to."""
        return self._options.isolation is not None or not denies_udp(spec, rules)

    def _usual_udp(self, rules: Rules) -> bool:
        return self._udp(BrowserSpec(_NO_ID, proxy=self._usual_proxy), rules)

    async def _run(
        self,
        spec: BrowserSpec,
        rules: Rules,
        start: Callable[[LocalBrowser], Awaitable[None]],
        *,
        udp: bool,
        on_exit: Callable[[UUID], object],
        on_limit: Callable[[UUID, Limit], object],
    ) -> LocalBrowser:
        """Make a browser and `start` it in time.

        Raises:
            BrowserStartFailed: It has failed.
        """
        seconds = self._options.start_timeout.total_seconds()
        first = not self._shares.is_behind(spec.project_id)
        options = replace(self._options, rules=rules, starts_first=first)
        try:
            browser = LocalBrowser(
                spec,
                Place(spec.id, self._root / str(spec.id), options),
                udp=udp,
                options=options,
                profiles=self._profiles,
                registry=self._registry,
                on_exit=on_exit,
                on_limit=on_limit,
            )
            async with asyncio.timeout(seconds) as deadline:
                await start(browser)
        except TimeoutError as error:
            if deadline.expired():
                raise BrowserStartFailed(f"the browser was not ready within {seconds:g} s") from error
            raise BrowserStartFailed(f"the browser could not be started: {error}") from error
        except OSError as error:
            raise BrowserStartFailed(f"the browser could not be started: {error}") from error
        except CDPBridgeError as error:
            if isinstance(error, BrowserStartFailed):
                raise
            raise BrowserStartFailed(f"the browser could not be started: {error}") from error
        return browser

    @property
    def ready(self) -> int:
        """The number of browsers that run and wait for orders to come."""
        return self._ready.waiting

    @property
    def waiting(self) -> int:
        """The number of orders that wait for their turn to start."""
        return self._turns.waiting

    def lost(self, browser_id: UUID) -> bool:
        """Return False: there is no worker to be lost with."""
        return False

    def answered(self) -> Collection[UUID]:
        """Return none: what runs here needs no worker."""
        return ()

    def fits_ready(self, spec: BrowserSpec) -> bool:
        """Return True if such an order takes one of those that wait; see `BrowserHosts.fits_ready`."""
        rules = self._rules()
        return self._starts_as_usual(spec) and self._udp(spec, rules) == self._usual_udp(rules)

    async def release_ready(self) -> bool:
        """End the browsers that wait for orders; see `BrowserHosts.release_ready`."""
        return await self._ready.release()

    async def adopt(
        self,
        spec: BrowserSpec,
        *,
        on_exit: Callable[[UUID], object],
        on_limit: Callable[[UUID, Limit], object],
    ) -> Placement | None:
        """Return None: what runs here is of this process alone; see `BrowserHosts.adopt`."""
        return None

    async def release(self, browser_id: UUID) -> bool:
        """Return False: what runs here ends with this process; see `BrowserHosts.release`."""
        return False

    async def attach(self, browser_id: UUID) -> Placement | None:
        """Return where a browser of this process runs; see `BrowserHosts.attach`."""
        return self.placement(browser_id)

    def placement(self, browser_id: UUID) -> Placement | None:
        """Return where a browser runs; see `BrowserHosts.placement`."""
        browser = self._browsers.get(browser_id)
        if browser is None or browser.stopping:
            return None
        return Placement(browser.token, browser.profile_writable, browser.place.id)

    async def connection(self, browser_id: UUID) -> Connection | None:
        """Return the pipe's; see `BrowserHosts.connection`."""
        browser = self._browsers.get(browser_id)
        return None if browser is None or browser.stopping else browser.connection

    async def limit_hosts(
        self, browser_id: UUID, *, allowed: Sequence[str] | None, denied: Sequence[str] = ()
    ) -> bool:
        """Replace the lists of hosts a browser may reach; see `BrowserHosts.limit_hosts`."""
        browser = self._browsers.get(browser_id)
        if browser is None or browser.stopping:
            return False
        browser.limit_hosts(allowed, denied)
        return True

    def proxy_bytes(self, browser_id: UUID) -> int:
        """Return what went through its proxy so far."""
        browser = self._browsers.get(browser_id)
        return browser.proxy_bytes if browser else 0

    def traffic(self, browser_id: UUID) -> Sequence[HostTraffic]:
        """Return what was exchanged with each host so far."""
        browser = self._browsers.get(browser_id)
        return browser.traffic if browser else ()

    def blocked_requests(self, browser_id: UUID) -> int | None:
        """Return how many of its requests the block lists have refused so far; None when they do not apply to it."""
        browser = self._browsers.get(browser_id)
        return browser.blocked_requests if browser else None

    def downloads_folder(self, browser_id: UUID) -> Path | None:
        """Return None: the folder is this server's; see `BrowserHosts.downloads_folder`."""
        return None

    async def take_downloads(self, browser_id: UUID) -> None:
        """Return: they are on this machine; see `BrowserHosts.take_downloads`."""

    async def give_upload(self, browser_id: UUID, file: Path) -> None:
        """Return: it is on this machine; see `BrowserHosts.give_upload`."""

    def upload_path(self, browser_id: UUID, file: Path) -> Path:
        """Return the file's own path; see `BrowserHosts.upload_path`."""
        return file

    async def stop(self, browser_id: UUID, frame: CloseFrame, *, save: bool) -> UnfinishedStop | None:
        """End a browser; see `BrowserHosts.stop`."""
        browser = self._browsers.get(browser_id)
        if browser is None or browser.stopping:
            return None
        try:
            return await browser.stop(frame, save=save)
        finally:
            self._browsers.pop(browser_id, None)

    def remains(self) -> Collection[UUID]:
        """Ids of places; see `BrowserHosts.remains`."""
        found = set()
        for root in self._roots:
            for folder in root.iterdir() if root.is_dir() else ():
                with suppress(ValueError):  # not one of our names
                    found.add(UUID(folder.name.removesuffix(REMOVED)))
        return found

    async def recover(self, left: Collection[Leftover]) -> Mapping[UUID, SavedState]:
        """Clean up after an unclean shutdown; see `BrowserHosts.recover`."""
        known = {str(leftover.place_id or leftover.id): leftover for leftover in left}
        saved: dict[UUID, SavedState] = {}
        folders = [folder for root in self._roots if root.is_dir() for folder in sorted(root.iterdir())]
        self._recovered = True
        for folder in folders:
            if folder.name.removesuffix(REMOVED) in self._places_ahead:
                continue
            orderly = await wait_unused(folder, timeout=_LEFTOVER_TIMEOUT)
            name = folder.name.removesuffix(REMOVED)
            if self._options.uids is not None:
                await in_thread(self._options.uids.end_user_of, folder.with_name(name))
            leftover = known.get(folder.name)
            if leftover is not None and leftover.profile_id is not None and leftover.profile_writable:
                state = await self._save_leftover(leftover, leftover.profile_id, folder, orderly=orderly)
                if state is not None:
                    saved[leftover.id] = state
            if self._options.files is not None:
                await asyncio.to_thread(_take_files, self._options.files, name, known.get(name))
            with suppress(ValueError):  # not one of our names
                await remove_folder(scratch_folder(name))
            await remove_folder(folder)
        if self._options.uids is not None:
            await in_thread(self._options.uids.sweep)
        for leftover in left:
            if leftover.profile_id is None or not leftover.profile_writable:
                continue
            self._profiles.release(leftover.profile_id, str(leftover.id))
        self._ready.open()
        return saved

    async def _save_leftover(
        self, leftover: Leftover, profile_id: UUID, folder: Path, *, orderly: bool
    ) -> SavedState | None:
        user_data_dir = folder / "profile"
        if not user_data_dir.is_dir():
            return None
        try:
            export = CookieExport.read(folder)
        except (ValueError, OSError, Hostile) as error:  # half-written, or not ours
            logger.warning("the cookie export in %s is unreadable: %s", folder, error)
            export = None
        work = partial(cookies_to_keep, export, user_data_dir, orderly=orderly)
        cookies = await self._profiles.run(work, saving=True)
        return await save_profile(
            self._profiles,
            profile_id,
            user_data_dir,
            cookies,
            base=leftover.profile_version,
            writer=leftover.id,
        )

    async def close(self) -> None:
        """End every browser that still runs."""
        await self._ready.close()
        await asyncio.gather(*(self._close(browser_id) for browser_id in list(self._browsers)))
        await self._shares.close()
        if self._options.isolation is not None:
            await self._options.isolation.close()

    async def _close(self, browser_id: UUID) -> None:
        report = await self.stop(browser_id, _CLOSING, save=True)
        if report is not None:  # its profile's folder has the new version
            await report.finished()


def _take_files(files: FileStore, place_id: str, leftover: Leftover | None) -> None:
    """Keep the files of a browser; a place that no rental was given has none."""
    if leftover is None:
        files.discard(place_id)
    else:
        files.assign(UUID(place_id), leftover.id)
        files.close_browser(leftover.id)
