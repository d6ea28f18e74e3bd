"""Open a page and attach to it in one round trip.

`Target.createTarget` names the page in its reply, so an attachment that is asked for comes a round trip later. A session that attaches
automatically is attached before that reply. The root cannot be that session: whether it attaches automatically is the program's
decision. So the connection keeps a second session of the browser target, which programs do not see, and whose pages count as
attached through the root. It attaches to the pages of other clients, too: those attachments are `hidden`, and no domain of theirs is
enabled.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

from cdpbridge._concurrency import mark_retrieved
from cdpbridge.cdp._state import text_in
from cdpbridge.errors import CDPError

if TYPE_CHECKING:
    from cdpbridge.cdp._link import Link
    from cdpbridge.cdp._payload import Payload
    from cdpbridge.cdp._session import CDPSession
    from cdpbridge.cdp._targets import Node

__all__ = ["NewTabs"]

logger = logging.getLogger("cdpbridge")

_ATTACH_TO_PAGES: Final[dict[str, Any]] = {
    "autoAttach": True,
    "waitForDebuggerOnStart": False,
    "flatten": True,
    "filter": [{"type": "page"}],
}


_FAR: Final = 0.04
"""Seconds of a round trip in which the process of a new page has started, as a rule."""


class NewTabs:
    """What opens the pages of one connection.

    Attributes:
        far: A round trip takes long.
    """

    __slots__ = ("_asked_at", "_attaches", "_link", "_node", "_prepared", "far")

    def __init__(self, link: Link) -> None:
        self._link = link
        # Pending while the session of its own is asked for.
        self._prepared: asyncio.Future[None] | None = None
        # The session of its own.
        self._node: Node | None = None
        self._attaches = False
        self._asked_at = 0.0
        # That answer took long.
        self.far = False

    def prepare(self) -> None:
        """Ask for the session of its own; it need not be awaited. A page that is opened at once waits for it: two round trips."""
        self._prepared = self._link.owner.loop.create_future()
        self._asked_at = self._link.clock.time()
        try:
            _, reply = self._link.begin(self._link.targets.root, "Target.attachToBrowserTarget", None, None)
        except CDPError as error:  # it is lost already
            logger.debug("pages will be attached to after they are created: %s", error)
            self._prepared.set_result(None)
        else:
            reply.add_done_callback(self._answered)

    def _answered(self, reply: asyncio.Future[Payload]) -> None:
        assert self._prepared is not None
        if not reply.cancelled() and (error := reply.exception()) is None:
            node = self._link.targets.nodes.get(text_in(reply.result(), "sessionId"))
            if node is not None and node.parent is not None:
                node.hidden = True
                self._node = node
                self.far = self._link.clock.time() - self._asked_at > _FAR
        elif not reply.cancelled():  # another browser than Chromium, or the connection was lost
            logger.debug("pages will be attached to after they are created: %s", error)
        if not self._prepared.done():
            self._prepared.set_result(None)

    def hides(self, node: Node) -> bool:
        """Return True if programs shall not see a new attachment: it is the session of its own, or attached through that."""
        parent = node.parent
        if parent is None:
            return False
        if parent is self._node:
            return True
        asks = self._prepared is not None and not self._prepared.done()
        return asks and parent.parent is None and node.target_type == "browser"

    async def open(self, params: dict[str, Any]) -> CDPSession:
        """Create a page and return its session; when that fails, the page is closed again."""
        if self._prepared is not None and not self._prepared.done():
            await asyncio.wait([self._prepared])
        node = self._node
        if node is None or node.closed is not None:
            return await self._open(self._link.root, params)
        if not self._attaches and self._link.gate(node) is None:
            # Not awaited: the browser carries it out before the command that follows.
            _, reply = self._link.begin(node, "Target.setAutoAttach", _ATTACH_TO_PAGES, None)
            reply.add_done_callback(mark_retrieved)
            self._attaches = True
        return await self._open(node.owner.session, params)

    async def _open(self, session: CDPSession, params: dict[str, Any]) -> CDPSession:
        link = self._link
        reply = await session.send("Target.createTarget", params)
        target_id = str(reply.get("targetId", ""))
        if self._node is not None:
            for child in self._node.children.values():
                if child.target_id == target_id and child.hidden:
                    child.hidden = False
                    found: CDPSession = child.owner.session
                    return found
        try:
            return await session.connection.attach(target_id)
        except BaseException:
            link.clean_up(link.targets.root, "Target.closeTarget", {"targetId": target_id})
            raise
