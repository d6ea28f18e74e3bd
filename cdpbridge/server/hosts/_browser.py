"""One browser of `LocalHosts`: its place, profile, proxy, process, our own talk with it, and its way out."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final, Literal
from uuid import UUID

from cdpbridge._concurrency import TaskSet, in_thread, to_the_end
from cdpbridge._disk import disk_identity
from cdpbridge.cdp import CDPSession, Connection, connect_pipe
from cdpbridge.cdp._switches import downloads_switch
from cdpbridge.chromium import Build, Chromium
from cdpbridge.errors import BrowserStartFailed, CDPError
from cdpbridge.isolation import PROXY_PORT
from cdpbridge.server.gateway import BrowserFiles, LocalFiles, Registry, Upstream
from cdpbridge.server.profiles import ProfileStore, export_cookies, import_cookies
from cdpbridge.server.proxy import BrowserNetwork, HostLists, HostTraffic, Listen, Rules

from ._base import BrowserSpec, CloseFrame, Limit, UnfinishedStop
from ._cgroups import Cgroup
from ._cookies import CookieExport
from ._first_page import hold_first_page, open_first_page, renew_first_page
from ._limits import Limits
from ._logins import ContextKeeper, cancel_unanswered_logins
from ._options import BrowserOptions
from ._place import Place
from ._rest import LocalRest, Unsaved
from ._upstream import upstream_of

__all__ = ["LocalBrowser"]

logger = logging.getLogger("cdpbridge.server")

# The export answers in milliseconds; a browser that takes longer is not well, and its running export is at hand.
_EXPORT_TIMEOUT: Final = timedelta(seconds=2)
# Its tasks wait for an answer or write a small file: cancelled, they end at once.
_SUPERVISION_SECONDS: Final = 5.0
_WITHDRAWN: Final = CloseFrame(1001, "start withdrawn")

_RENDERERS: Final = "--renderer-process-limit="


class LocalBrowser:
    """A running browser, from `start` to `stop`.

    `on_exit` is called when it ends without `stop`, `on_limit` when it uses too much disk or memory, or has too many processes.

    Args:
        spec: What is ordered.
        place: Where it lives; not made yet.
        udp: Whether WebRTC may send UDP around its forwarder. An isolated one has nowhere else to send it to.
    """

    def __init__(
        self,
        spec: BrowserSpec,
        place: Place,
        *,
        udp: bool,
        options: BrowserOptions,
        profiles: ProfileStore,
        registry: Registry,
        on_exit: Callable[[UUID], object],
        on_limit: Callable[[UUID, Limit], object],
    ) -> None:
        self.id = spec.id
        self.profile_id = spec.profile_id
        self._profile_version = spec.profile_version
        self.profile_writable: bool | None = None
        self.token = ""
        self.stopping = False
        self.place, self.udp = place, udp
        self._spec = spec
        self._options = options
        self._profiles, self._registry = profiles, registry
        self._on_exit, self._on_limit = on_exit, on_limit
        self._export: CookieExport | None = None
        self._passed: Limit | None = None
        self._limits = Limits(spec.id, place, options)
        self._supervision = TaskSet(logger)
        self._ports: list[int] = []
        self._network = self._ordered_network()
        self._chromium: Chromium
        self._connection: Connection
        # It ran before its order came, whose page shall be younger.
        self.waited = False
        self._first_page: CDPSession | None = None  # held while it waits

    @property
    def connection(self) -> Connection:
        """Our own, over the debugging pipe; once it has been started."""
        return self._connection

    @property
    def project_id(self) -> UUID | None:
        """Who pays for it."""
        return self._spec.project_id

    @property
    def cgroup(self) -> Cgroup | None:
        """Its control group; None for none."""
        return self.place.cgroup

    @property
    def running(self) -> bool:
        """True until it has exited; once it has been started."""
        return self._chromium.returncode is None

    @property
    def proxy_bytes(self) -> int:
        """Bytes through the proxy that was ordered; a forwarder that only applies rules is not counted."""
        return 0 if self._spec.proxy is None else self._network.ordered_bytes

    @property
    def traffic(self) -> list[HostTraffic]:
        """Bytes by host, whatever was ordered."""
        return self._network.traffic

    @property
    def blocked_requests(self) -> int | None:
        """The number of requests that the block lists have refused; None when they do not apply."""
        return self._network.blocked if self._blocks_ads else None

    # --- start ----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Run it, and open it to its clients. Cancelled or failed, it leaves nothing behind."""
        await self._run()
        await self._or_stop(open_first_page(self._connection, self._spec))
        self._open()

    async def start_ready(self) -> None:
        """Run it without an address for clients, for `take_order`. Cancelled or failed, it leaves nothing behind."""
        await self._run()

    async def begin_waiting(self) -> None:
        """Prepare it for an order that is not there yet. Failed or cancelled, it is stopped.

        Raises:
            CDPError: It has ended, or has not one tab.
            TimeoutError: It does not answer.
        """
        self._first_page = await self._or_stop(hold_first_page(self._connection))

    async def _run(self) -> None:
        async with AsyncExitStack() as undo:
            await self.place.make(undo)
            self._tell_profile_losses()
            cookies = await self._restore(undo)
            if self._options.isolation is None:
                await self._start_network(undo, None)
            self._chromium = await Chromium.start(
                build=self._build,
                user_data_dir=self.place.profile,
                scratch_dir=self.place.scratch,
                proxy_server=self._proxy_address,
                udp=self.udp,
                args=(*self._options.args, *self._own_args()),
                start_timeout=self._options.start_timeout,
                sandbox=self._options.sandbox,
                uid=self.place.uid,
                isolation=self.place.isolation(self._spec.readable),
            )
            undo.push_async_callback(self._chromium.kill)
            if self._chromium.isolated:  # its ports are in a network of its own
                await self._start_network(undo, self._chromium.listen)
            else:
                self._close_port(self._chromium.port, undo)
            self._connection = await connect_pipe(
                *self._chromium.take_pipe(), command_timeout=self._options.start_timeout
            )
            undo.push_async_callback(self._connection.close)
            if self._has_extension:
                await cancel_unanswered_logins(self._connection, self.place.folder / "logins")
            if cookies:
                report = await import_cookies(self._connection.root.send, cookies)
                if report.failed:
                    logger.warning(
                        "browser %s: %d cookies of its profile were refused", self.id, len(report.failed)
                    )
            await self._allow_downloads()
            undo.pop_all()
        self.place.note_started()
        self._supervise(self._watch)
        self._supervise(self._check_health)
        if self.profile_writable:
            self._supervise(self._keep_exporting)

    async def take_order(
        self,
        spec: BrowserSpec,
        *,
        rules: Rules,
        on_exit: Callable[[UUID], object],
        on_limit: Callable[[UUID, Limit], object],
    ) -> None:
        """Become the browser of an order that changes nothing of its start. Failed or cancelled, stop it, unless it is `stopping`.

        Raises:
            BrowserStartFailed: It has ended, or uses too much.
            CDPError: It does not answer.
        """
        if self.waited:
            page = self._first_page or await hold_first_page(self._connection)
            await renew_first_page(self._connection, page)
        self.id, self._spec, self._options = spec.id, spec, replace(self._options, rules=rules)
        await self._or_stop(self._become_ordered())
        self._open()
        # Not before: the order gets another browser when this one ends, and has not ended with it.
        self._on_exit, self._on_limit = on_exit, on_limit

    async def _become_ordered(self) -> None:
        self._network.serve(self._ordered_network())
        if await self.place.assign(self.id):
            await self._allow_downloads()
        await open_first_page(self._connection, self._spec)
        if not self.running or self._passed is not None:
            raise BrowserStartFailed("the browser has exited, or used too much, while it was waiting")

    async def _or_stop(self, step: Coroutine[Any, Any, Any]) -> Any:
        """Return the result of a step; when it fails or is cancelled, stop the browser."""
        try:
            return await step
        except BaseException:
            await to_the_end(self.discard(_WITHDRAWN))
            raise

    def _ordered_network(self) -> BrowserNetwork:
        return BrowserNetwork(
            upstream_of(self._spec),
            rules=self._options.rules,
            hosts=self._spec.hosts,
            trusted_upstream=self._spec.trusted_proxy,
            own_ports=self._options.own_ports,
            block_list=self._options.block_list if self._blocks_ads else None,
            unseen=self._spec.proxy is None,
        )

    def _open(self) -> None:
        """Give it an address on the gateway."""
        self.token = self._options.token_of(self.id)
        upstream_address = Upstream(
            "127.0.0.1",
            self._chromium.port,
            self._chromium.browser_path,
            self._chromium.connect if self._chromium.isolated else None,
        )
        self._registry.add(
            self.token,
            upstream_address,
            self._files(),
            downloads_reset=lambda: self._supervise(self._renew_downloads),
            proxy_failures=self._proxy_failures,
            context_proxy=self._network.context_proxy,
            context_order=ContextKeeper(self._connection) if self._has_extension else None,
        )

    async def _proxy_failures(self) -> list[dict[str, object]]:
        return self._network.failures

    @property
    def _has_extension(self) -> bool:
        """True for the build that would ask for logins in a dialog."""
        return self._build.kind == "full"

    def _tell_profile_losses(self) -> None:
        builds = self._options.builds
        if self.profile_id is not None and builds.profile_losses:
            logger.log(
                logging.INFO if builds.ordered else logging.WARNING,
                "browser %s: its profile keeps no %s: it runs on the headless shell; install the full build of Chromium",
                self.id,
                " and no ".join(builds.profile_losses),
            )

    @property
    def _build(self) -> Build:
        builds = self._options.builds
        return builds.usual if self.profile_id is None else builds.for_profile

    @property
    def _blocks_ads(self) -> bool:
        return self._spec.block_ads and bool(self._options.block_list)

    @property
    def _proxy_address(self) -> str:
        return self._network.address if self._options.isolation is None else f"127.0.0.1:{PROXY_PORT}"

    async def _start_network(self, undo: AsyncExitStack, inside: Listen | None) -> None:
        await self._network.start(inside)
        undo.push_async_callback(self._network.close)

    def _close_port(self, port: int, undo: AsyncExitStack) -> None:
        """Keep browsers from a port of ours while it is in use."""
        self._options.own_ports.add(port)
        self._ports.append(port)
        undo.callback(self._options.own_ports.discard, port)

    def limit_hosts(self, allowed: Sequence[str] | None, denied: Sequence[str]) -> None:
        """See `BrowserHosts.limit_hosts`."""
        closed = self._network.limit(HostLists(allowed, denied))
        if closed:
            logger.info("browser %s: %d connections were closed by new limits of hosts", self.id, closed)

    def _files(self) -> LocalFiles:
        """Return what the tunnel may reach of the browser's disk."""
        disk = None if self._chromium.isolated else disk_identity(self._chromium.pid)
        folder = self.place.folder
        return LocalFiles(BrowserFiles(folder / "downloads", folder / "uploads", self.place.kept, disk))

    def _own_args(self) -> list[str]:
        # The first is for our clients, which read it from the command line: what they download goes when the browser goes.
        args = [downloads_switch(self.place.folder / "downloads")]
        given = self._options.args
        if self._options.max_renderers is not None and not any(each.startswith(_RENDERERS) for each in given):
            args.append(f"{_RENDERERS}{self._options.max_renderers}")
        if self._spec.screen is not None:
            args.append("--window-size={},{}".format(*self._spec.screen))
        if self._spec.ignore_certificate_errors:
            args.append("--ignore-certificate-errors")
        return args

    async def _allow_downloads(self) -> None:
        """Send downloads to the browser's own folder, where the API lists them; a client may send them elsewhere."""
        if self.place.kept is not None:
            # With events, which tell the live page where each file is.
            behaviour = {"behavior": "allow", "downloadPath": str(self.place.kept), "eventsEnabled": True}
            await self._connection.root.send("Browser.setDownloadBehavior", behaviour)

    async def _renew_downloads(self) -> None:
        """Send downloads to the browser's own folder again: Chromium has forgotten it with a client that had sent them elsewhere."""
        if self.stopping:
            return
        try:
            await self._allow_downloads()
        except CDPError as error:
            logger.debug("browser %s: its folder of downloads could not be set again: %s", self.id, error)

    async def _restore(self, undo: AsyncExitStack) -> list[dict[str, Any]] | None:
        if self.profile_id is None:
            return None
        owner = str(self.id)
        undo.callback(self._profiles.release, self.profile_id, owner)
        # To their ends: threads go on when we are cancelled, and what they did must be there to be rolled back.
        self.profile_writable = self._profiles.try_lease(self.profile_id, owner)
        run = self._profiles.run
        version = self._profile_version
        await to_the_end(run(self._profiles.restore, self.profile_id, self.place.profile, version))
        return await run(self._profiles.load_cookies, self.profile_id, version)

    # --- while it runs --------------------------------------------------------------------------------------------

    def _supervise(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._supervision.start(self._kill_if_fails(work), f"the supervision of browser {self.id}")

    async def _kill_if_fails(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await work()
        except Exception:
            logger.exception("browser %s: its supervision failed; it is killed", self.id)
            await self._chromium.kill()

    async def _watch(self) -> None:
        await self._chromium.wait()
        enforced = await in_thread(self._limits.enforced)
        if not self.stopping and self._passed is None:
            if enforced is not None:
                self._tell_limit(enforced)
            else:
                self._on_exit(self.id)

    async def _check_health(self) -> None:
        """Ask the browser from time to time: a hung one still accepts connections, and only an answer shows that it works."""
        while True:
            await asyncio.sleep(self._options.health_every.total_seconds())
            try:
                await self._connection.root.send("Browser.getVersion", timeout=self._options.health_timeout)
            except CDPError as error:
                if self._chromium.returncode is None:
                    logger.warning("browser %s does not answer any more and is killed: %s", self.id, error)
                    await self._chromium.kill()
                return
            if (passed := await self._limits.passed(self._chromium.pid)) is not None:
                self._tell_limit(passed)
                return

    def _tell_limit(self, passed: Limit) -> None:
        self._passed = passed
        self._on_limit(self.id, passed)

    async def _keep_exporting(self) -> None:
        """Cookies on the disk every few seconds: what is left of the session when everything is killed at once."""
        while True:
            await asyncio.sleep(self._options.export_every.total_seconds())
            try:
                export = await self._read_cookies()
                if self._export is None or export.cookies != self._export.cookies:
                    await asyncio.to_thread(export.write, self.place.folder)
            except (CDPError, TimeoutError) as error:
                logger.debug("browser %s: cookies not exported this time: %s", self.id, error)
            except OSError as error:
                logger.warning("browser %s: its cookies cannot be written: %s", self.id, error)
            else:
                self._export = export

    async def _read_cookies(self) -> CookieExport:
        # Before the question: what is set meanwhile is newer than this export.
        at = time.time()
        async with asyncio.timeout(_EXPORT_TIMEOUT.total_seconds()):
            return CookieExport(await export_cookies(self._connection.root.send), at)

    # --- stop -----------------------------------------------------------------------------------------------------

    async def stop(self, frame: CloseFrame, *, save: bool) -> UnfinishedStop:
        """End it within the stop timeout (plus the export's), and free all but what the report's `rest` removes."""
        self.stopping = True
        leased = self.profile_id if self.profile_writable else None
        unsaved = None
        try:
            # Each step, whatever becomes of the others.
            async with AsyncExitStack() as freeing:
                freeing.push_async_callback(self.place.close_files)
                freeing.callback(self._options.own_ports.difference_update, self._ports)
                freeing.push_async_callback(self._network.close)
                await self._close_clients(frame)
                save = save and leased is not None
                complete = await self._final_export() if save else None
                if await self._supervision.cancel(_SUPERVISION_SECONDS):
                    logger.error(
                        "browser %s: its supervision does not end; it is stopped all the same", self.id
                    )
                how = await self._end_process(keeps=save)
                if save:
                    orderly = self._chromium.returncode == 0
                    unsaved = Unsaved(self._profile_version, complete, self._export, orderly)
        except BaseException:
            await to_the_end(self._rest(leased, None).remove())
            raise
        rest = self._rest(leased, unsaved)
        return UnfinishedStop(how, None, self.proxy_bytes, self.blocked_requests, self.traffic, rest=rest)

    async def discard(self, frame: CloseFrame) -> None:
        """End it and remove it; nothing is saved."""
        await (await self.stop(frame, save=False)).rest.remove()

    def _rest(self, leased: UUID | None, unsaved: Unsaved | None) -> LocalRest:
        return LocalRest(self.id, self.place, self._profiles, leased=leased, unsaved=unsaved)

    async def _close_clients(self, frame: CloseFrame) -> None:
        """No new sockets, and a close frame for the open ones; before the export, so that nothing changes after it."""
        try:
            await self._registry.close(self.token, frame.code, frame.reason)
        except Exception:
            logger.exception(
                "browser %s: its clients could not be sent a close frame; it is stopped all the same", self.id
            )

    async def _final_export(self) -> CookieExport | None:
        if self._chromium.returncode is not None:
            return None
        try:
            export = await self._read_cookies()
        except (CDPError, TimeoutError) as error:
            logger.warning("browser %s: cookies could not be asked for at its end: %s", self.id, error)
            return None
        try:
            # In case we are killed before the profile is saved.
            await asyncio.to_thread(export.write, self.place.folder)
        except OSError as error:
            logger.warning("browser %s: its cookies cannot be written: %s", self.id, error)
        return export

    async def _end_process(self, *, keeps: bool) -> Literal["closed", "exited", "killed"]:
        deadline = self._options.stop_timeout
        if not keeps and self._chromium.returncode is None:
            # What it would write on its way out is removed anyway, and that way takes several times as long.
            await self._chromium.kill()
            await self._connection.close()
            return "killed"
        if self._chromium.returncode is not None:
            await self._connection.close()
            await self._chromium.stop(timeout=deadline)
            return "exited"
        try:
            await self._connection.root.send("Browser.close", timeout=deadline)
        except CDPError as error:
            logger.debug("browser %s: Browser.close: %s", self.id, error)
            await self._chromium.kill()
        await self._connection.close()
        kind = await self._chromium.stop(timeout=deadline)
        return "killed" if kind == "killed" else "closed"
