"""`Watched`: one browser while it has viewers: its tabs, which of them is in front, and a cast for each that is looked at.

Which tab is in front. The full build shows one tab of a window and says when it is hidden; then the others are asked which of
them is visible. The headless shell shows all of them; there it is the one that was opened, or navigated, last. A viewer who
drives keeps their tab, unless the page that they drive opens a popup.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, Protocol

from cdpbridge.cdp import Connection
from cdpbridge.errors import CDPError

from ._cast import Cast, Picture, Wants
from ._icons import read_icon

__all__ = ["Download", "Tab", "Viewing", "Watched"]

logger = logging.getLogger("cdpbridge.server")

_TIMEOUT: Final = timedelta(seconds=5)
_PROBE_TIMEOUT: Final = timedelta(seconds=1.5)
_ICON_SECONDS: Final = 0.7
"""After a navigation, until the page may have said which icon it has."""
_VISIBLE_SINCE: Final = "document.visibilityState === 'visible' ? performance.timeOrigin : 0"
_RETRY_SECONDS: Final = 1.0
_TITLES_SECONDS: Final = 1.0
_SOON_SECONDS: Final = 0.1
_MAX_DOWNLOADS: Final = 20


@dataclass(slots=True, eq=False)
class Tab:
    """A page of the browser."""

    id: str
    title: str = ""
    url: str = ""
    opener: str = ""
    context: str = ""
    icon: str | None = None
    icon_timer: asyncio.TimerHandle | None = field(default=None, repr=False)


@dataclass(slots=True)
class Download:
    """A file that the browser loads; where it goes is the automation's affair."""

    name: str
    received: int = 0
    total: int = 0
    state: str = "inProgress"
    path: str | None = None  # of the whole file, where the browser says so


class Viewing(Protocol):
    """A viewer, as far as the browser needs to know it.

    Attributes:
        pinned: The tab it has chosen; None follows the active one.
        may_drive: It may take over.
        driving: It has.
        is_person: A person looks, so it counts as a viewer.
        per_second: Pictures it can use.
    """

    pinned: str | None
    may_drive: bool
    driving: bool
    is_person: bool
    per_second: float

    def offer(self, picture: Picture) -> bool:
        """Take a picture; whether it replaced one that was not sent."""

    def switched(self, latest: Picture | None) -> None:
        """Run when it sees another page, with that page's last picture."""

    def changed(self) -> None:
        """Run when something besides pictures has changed."""

    def icon(self, tab: Tab) -> None:
        """Run when a tab has a new icon."""

    def browser_ended(self) -> None:
        """Run when the browser has ended."""


class Watched:
    """Made for the first viewer, closed after the last.

    Attributes:
        tabs: By target id, oldest first.
        active: The tab in front; None when there is none.
        downloads: By id, oldest first.
    """

    def __init__(
        self, connection: Connection, *, max_per_second: float, order: list[str] | None = None
    ) -> None:
        self.connection = connection
        # The browser lists its tabs in no order: each one keeps the place in which earlier viewers saw it.
        self._order = [] if order is None else order
        self.tabs: dict[str, Tab] = {}
        self.active: str | None = None
        self.downloads: dict[str, Download] = {}
        self.viewers: dict[Viewing, str | None] = {}  # and the tab that each looks at
        self._casts: dict[str, Cast] = {}
        self._max_per_second = max_per_second
        self._recent: list[str] = []  # tabs that were in front, the last one last
        self._removes: list[Callable[[], None]] = []
        self._loop = asyncio.get_running_loop()
        self._telling = False
        self._looking: asyncio.Task[None] | None = None
        self._titles: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self.closed = False

    # --- start and end --------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Learn the tabs and follow them.

        Raises:
            CDPError: The browser does not answer.
        """
        root = self.connection.root
        self._removes = [
            root.on("Target.targetCreated", self._created),
            root.on("Target.targetInfoChanged", self._changed),
            root.on("Target.targetDestroyed", lambda event: self._destroyed(event["targetId"])),
            root.on("Browser.downloadProgress", self._downloaded),
            self.connection.on("disconnected", self._disconnected),
        ]
        await root.send("Target.setDiscoverTargets", {"discover": True}, timeout=_TIMEOUT)
        found = await root.send("Target.getTargets", timeout=_TIMEOUT)
        for info in reversed(found["targetInfos"]):
            self._learn(info)
        place = {tab: number for number, tab in enumerate(self._order)}
        self.tabs = dict(sorted(self.tabs.items(), key=lambda item: place.get(item[0], len(place))))
        written = [tab for tab in self.tabs if self.tabs[tab].url != "about:blank"]
        # Should it not be the one in front, it says so as soon as it is watched.
        if self.tabs:
            self._bring((written or list(self.tabs))[-1])
        if len(written) > 1:  # the browser lists them in no order
            self._looking = self.connection.create_task(self._find_front(written, otherwise=self.active))
        if self.connection.closed:
            self._disconnected()
        else:
            self._titles = self.connection.create_task(self._keep_titles())

    async def close(self) -> None:
        """Leave the browser as it was found."""
        self.closed = True
        self._order[:] = self.tabs
        for remove in self._removes:
            remove()
        self._removes.clear()
        for tab in self.tabs.values():
            if tab.icon_timer is not None:
                tab.icon_timer.cancel()
        for task in (self._looking, self._titles):
            if task is not None:
                task.cancel()
        casts = list(self._casts.values())
        for cast in casts:
            cast.want(Wants())  # one with an open dialog goes on by itself for a while

    def _disconnected(self) -> None:
        for cast in list(self._casts.values()):
            cast.task.cancel()
        for viewer in list(self.viewers):
            viewer.browser_ended()

    # --- viewers --------------------------------------------------------------------------------------------------

    def enter(self, viewer: Viewing) -> None:
        """Add a viewer."""
        self.viewers[viewer] = None
        for tab in self.tabs.values():
            if tab.icon is not None:
                viewer.icon(tab)
            elif tab.icon_timer is None:
                self._look_for_icon(tab)
        self._news.set()
        self.settle()

    def leave(self, viewer: Viewing) -> None:
        """Remove a viewer that has left."""
        self.viewers.pop(viewer, None)
        self.settle()

    def cast_of(self, viewer: Viewing) -> Cast | None:
        """Return what a viewer looks at."""
        tab = self.viewers.get(viewer)
        return self._casts.get(tab) if tab is not None else None

    def latest(self) -> Picture | None:
        """Return the last picture of the tab in front; None when no viewer sees it."""
        cast = self._casts.get(self.active) if self.active is not None else None
        return cast.latest if cast is not None else None

    @property
    def _seen_by_people(self) -> bool:
        return any(viewer.is_person for viewer in self.viewers)

    def settle(self) -> None:
        """Have exactly the casts that the viewers need. Called after each change of either."""
        if self.closed or self.connection.closed:
            return
        wanted: dict[str, Wants] = {}
        for viewer in self.viewers:
            if viewer.pinned not in self.tabs:
                viewer.pinned = None
            tab = viewer.pinned or self.active
            if tab is None:
                continue
            others = wanted.get(tab, Wants())
            wanted[tab] = Wants(
                pictures=max(others.pictures, min(viewer.per_second, self._max_per_second)),
                events=others.events or viewer.may_drive,
                choosers=others.choosers or viewer.driving,
            )
        for tab, wants in wanted.items():
            if tab not in self._casts:
                self._casts[tab] = Cast(self.connection, tab, self)
            self._casts[tab].want(wants)
        for tab, cast in self._casts.items():
            if tab not in wanted:
                cast.want(Wants())
        for viewer, before in list(self.viewers.items()):
            tab = viewer.pinned or self.active
            if tab != before:
                self.viewers[viewer] = tab
                viewer.switched(self._casts[tab].latest if tab is not None else None)
        self.tell()

    def tell(self) -> None:
        """Notify every viewer of a change, once per turn of the loop."""
        if not self._telling:
            self._telling = True
            self._loop.call_soon(self._tell)

    def _tell(self) -> None:
        self._telling = False
        for viewer in self.viewers:
            viewer.changed()

    # --- what casts tell ------------------------------------------------------------------------------------------

    def picture(self, cast: Cast, picture: Picture) -> tuple[int, int]:
        """Offer a picture; see `CastOwner`."""
        watching = [viewer for viewer, tab in self.viewers.items() if tab == cast.target_id]
        return len(watching), sum(viewer.offer(picture) for viewer in watching)

    def changed(self, cast: Cast) -> None:
        """Run when the state of a cast has changed."""
        self._news.set()  # a page that has loaded has a title
        self.tell()

    def hidden(self, cast: Cast) -> None:
        """Run when a page is no longer in front: find out which one is."""
        if self.closed or self.connection.closed or cast.target_id != self.active:
            return
        # It may have asked too early to see this.
        if self._looking is not None and not self._looking.done():
            self._looking.add_done_callback(lambda _: self.hidden(cast))
        else:
            others = [tab for tab in reversed(self._recent) if tab != cast.target_id]
            others += [tab for tab in reversed(self.tabs) if tab not in others and tab != cast.target_id]
            self._looking = self.connection.create_task(self._find_front(others, otherwise=cast.target_id))

    def download(self, event: dict[str, Any]) -> None:
        """`Page.downloadWillBegin` or `Page.downloadProgress`."""
        known = self.downloads.get(event["guid"])
        if known is None:
            if "suggestedFilename" not in event:
                return
            while len(self.downloads) >= _MAX_DOWNLOADS:
                self.downloads.pop(next(iter(self.downloads)))
            self.downloads[event["guid"]] = Download(event["suggestedFilename"][:255])
        elif "state" in event:
            known.received = int(event.get("receivedBytes", 0))
            known.total = int(event.get("totalBytes", 0))
            known.state = str(event["state"])
        self.tell()

    def _downloaded(self, event: dict[str, Any]) -> None:
        known = self.downloads.get(event["guid"])
        if known is not None and event["state"] == "completed":
            known.path = event.get("filePath")
            self.tell()

    def ended(self, cast: Cast) -> None:
        """Forget a cast that no viewer wants, or whose page was closed."""
        if self._casts.get(cast.target_id) is cast:
            del self._casts[cast.target_id]
        if not self.closed and cast.target_id in self.tabs and not self.connection.closed:
            # It failed, and a viewer may still want it.
            self._loop.call_later(_RETRY_SECONDS, self.settle)

    # --- tabs -----------------------------------------------------------------------------------------------------

    def _learn(self, info: dict[str, Any]) -> Tab | None:
        if info["type"] != "page" or info["url"].startswith("devtools://"):
            return None
        tab = self.tabs.get(info["targetId"])
        if tab is None:
            tab = self.tabs[info["targetId"]] = Tab(info["targetId"])
        tab.title, tab.url = info["title"], info["url"]
        tab.opener, tab.context = info.get("openerId", ""), info.get("browserContextId", "")
        return tab

    async def _keep_titles(self) -> None:
        """Ask for titles: Chromium (156) tells of a change only together with one of the address."""
        while not self.connection.closed:
            try:
                async with asyncio.timeout(_TITLES_SECONDS):
                    await self._news.wait()
                await asyncio.sleep(_SOON_SECONDS)
            except TimeoutError:
                pass  # scripts change titles at any time
            self._news.clear()
            if not self._seen_by_people:
                continue
            try:
                found = await self.connection.root.send("Target.getTargets", timeout=_TIMEOUT)
            except CDPError as error:
                logger.debug("Target.getTargets: %s", error)
                continue
            for info in found["targetInfos"]:
                tab = self.tabs.get(info["targetId"])
                if tab is not None and tab.title != info["title"]:
                    tab.title = info["title"]
                    self.tell()

    def _created(self, event: dict[str, Any]) -> None:
        if event["targetInfo"]["targetId"] in self.tabs:
            return
        tab = self._learn(event["targetInfo"])
        if tab is not None:
            self._look_for_icon(tab)
            self._news.set()
            self._bring(tab.id)

    def _changed(self, event: dict[str, Any]) -> None:
        info = event["targetInfo"]
        known = self.tabs.get(info["targetId"])
        url = known.url if known is not None else None
        tab = self._learn(info)
        if tab is None:
            return
        self._news.set()
        if tab.url != url:
            self._look_for_icon(tab)
            if tab.id != self.active and (self._looking is None or self._looking.done()):
                self._looking = self.connection.create_task(self._find_front([tab.id], otherwise=self.active))
        self.tell()

    def _destroyed(self, target_id: str) -> None:
        tab = self.tabs.pop(target_id, None)
        if tab is None:
            return
        if tab.icon_timer is not None:
            tab.icon_timer.cancel()
        self._recent = [each for each in self._recent if each != target_id]
        cast = self._casts.get(target_id)
        if cast is not None:
            cast.page_closed()
        if self.active == target_id:
            before = tab.opener if tab.opener in self.tabs else (self._recent or [*self.tabs, ""])[-1]
            self.active = None
            # Should it not be the one, it says that it is hidden.
            self._bring(before or None)
        self.settle()

    def _bring(self, target_id: str | None) -> None:
        """Note that this tab is in front now."""
        previous, self.active = self.active, target_id
        if target_id is not None:
            self._recent = [*(each for each in self._recent if each != target_id), target_id][-100:]
            opener = self.tabs[target_id].opener
            for viewer in self.viewers:
                if viewer.driving and viewer.pinned is None and previous is not None and opener != previous:
                    viewer.pinned = previous
        self.settle()

    async def _find_front(self, candidates: list[str], otherwise: str | None = None) -> None:
        """Make the visible candidate that was navigated last the active tab; without one, `otherwise` stays or becomes it."""
        since = await asyncio.gather(*(self._visible_since(tab) for tab in candidates))
        ranked = sorted(zip(since, candidates, strict=True), reverse=True)
        fitting = [tab for seen, tab in ranked if seen and tab in self.tabs]
        found = fitting[0] if fitting else otherwise
        if found is None and candidates:
            found = next((tab for tab in candidates if tab in self.tabs), None)
        if found != self.active and (found is None or found in self.tabs):
            self._bring(found)

    async def _visible_since(self, target_id: str) -> float:
        """Return when the document of a visible page began, in ms of the browser's clock; 0 for a page that is hidden or silent."""
        try:
            session = await self.connection.attach(target_id)
            try:
                params = {"expression": _VISIBLE_SINCE}
                answer = await session.send("Runtime.evaluate", params, timeout=_PROBE_TIMEOUT)
            finally:
                if session.closed is None:
                    await session.detach()
        except CDPError as error:
            logger.debug("page %s does not say whether it is visible: %s", target_id, error)
            return 0
        return float(answer["result"].get("value") or 0)

    # --- icons ----------------------------------------------------------------------------------------------------

    def _look_for_icon(self, tab: Tab) -> None:
        if tab.icon_timer is not None:
            tab.icon_timer.cancel()
        if (
            not self._seen_by_people
            # It is loaded from the page's own server, which shall not notice a recording.
        ):
            tab.icon = tab.icon_timer = None
            return
        tab.icon_timer = self._loop.call_later(
            _ICON_SECONDS, lambda: self.connection.closed or self.connection.create_task(self._find_icon(tab))
        )

    async def _find_icon(self, tab: Tab) -> None:
        icon = await read_icon(self.connection, tab.id)
        if icon != tab.icon and tab.id in self.tabs:
            tab.icon = icon
            for viewer in self.viewers:
                viewer.icon(tab)
