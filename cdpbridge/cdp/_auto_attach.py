"""Prepare the children that a session attaches to automatically, then let them run: the shell of `CDPSession.auto_attach`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

from cdpbridge.errors import CDPError, CommandError, ConnectionClosed, TargetClosed

if TYPE_CHECKING:
    from cdpbridge.cdp._link import Link
    from cdpbridge.cdp._session import CDPSession
    from cdpbridge.cdp._targets import Node

__all__ = ["AutoAttach", "Setup"]

logger = logging.getLogger("cdpbridge")

Setup = Callable[["CDPSession"], Awaitable[object]]

_NO_SUCH_METHOD: Final = -32601
_SILENT_WHILE_WAITING: Final = frozenset({"page", "service_worker"})
"""Kinds of target that have no renderer yet while they wait for the debugger, and so answer few commands."""

# seconds; a live renderer answers `enable` commands in 1 to 50 ms on a loaded machine
_NO_PROGRESS: Final = 0.25


class AutoAttach:
    """What one session does with the children that the browser attaches for it."""

    __slots__ = ("_link", "_node", "_params", "_preparing", "_setups")

    def __init__(self, link: Link, node: Node) -> None:
        self._link = link
        self._node = node
        self._setups: tuple[Setup, ...] = ()
        # of `Target.setAutoAttach`; None: this session does not attach automatically
        self._params: dict[str, Any] | None = None
        # of the link's tasks, those that `begin` waits for
        self._preparing: set[asyncio.Task[None]] = set()

    async def begin(self, params: dict[str, Any], setup: Setup | None) -> None:
        """Attach automatically from now on; return when the children that exist already are set up."""
        # Another call adds its setup: parts of a program that do not know each other may share a session.
        new = () if setup is None or setup in self._setups else (setup,)
        self.inherit(params, (*self._setups, *new))
        session: CDPSession = self._node.owner.session
        await session.send("Target.setAutoAttach", params)
        preparing = self._preparing - {asyncio.current_task()}
        if preparing:
            await asyncio.wait(preparing)

    def inherit(self, params: dict[str, Any] | None, setups: tuple[Setup, ...]) -> None:
        """Take the parent's parameters and setups."""
        self._params, self._setups = params, setups

    def child_attached(self, child: Node, *, waiting: bool) -> None:
        """Prepare a new child, if this session attaches automatically."""
        if self._params is None:
            return
        child.owner.auto_attach.inherit(self._params, self._setups)
        child.ready = False
        task = self._link.run(self._prepare(child, waiting=waiting))
        self._preparing.add(task)
        task.add_done_callback(self._preparing.discard)

    async def _prepare(self, child: Node, *, waiting: bool) -> None:
        try:
            await self._set_up_and_release(child, waiting=waiting)
        finally:
            child.ready = True

    async def _set_up_and_release(self, child: Node, *, waiting: bool) -> None:
        if not waiting:
            await self._set_up(child, self._params, self._setups)
            return
        work = self._link.run(self._set_up(child, self._params, self._setups))
        try:
            if child.target_type in _SILENT_WHILE_WAITING:
                await self._while_it_moves(child, work)
            else:
                await asyncio.wait([work])
        finally:
            await self._release(child)
        await asyncio.wait([work])

    async def _while_it_moves(self, child: Node, work: asyncio.Task[None]) -> None:
        """Wait for a setup until it is done, or has sent nothing new and waits for old replies only."""
        asked: set[int] = set()
        while not work.done():
            before, asked = asked, self._link.pending_ids(child)
            if asked and asked == before:
                return
            await asyncio.wait([work], timeout=_NO_PROGRESS)

    async def _set_up(self, child: Node, params: dict[str, Any] | None, setups: tuple[Setup, ...]) -> None:
        session: CDPSession = child.owner.session
        try:
            try:
                await session.send("Target.setAutoAttach", params)
            except CommandError as error:
                if error.code != _NO_SUCH_METHOD:  # some kinds of target have no children
                    raise
            if len(setups) == 1:
                await setups[0](session)
            elif setups:
                results = await asyncio.gather(*(each(session) for each in setups), return_exceptions=True)
                for result in results:
                    if isinstance(result, Exception):
                        self._link.report(result, session, "Target.attachedToTarget")
        except (TargetClosed, ConnectionClosed) as error:
            logger.debug("%s closed while it was prepared: %s", child.describe(), error)
        except Exception as error:  # noqa: BLE001  # the setup is the user's: so is its failure
            self._link.report(error, session, "Target.attachedToTarget")

    async def _release(self, child: Node) -> None:
        await asyncio.shield(self._link.run(_run_if_waiting(child.owner.session)))


async def _run_if_waiting(child: CDPSession) -> None:
    try:
        await child.send("Runtime.runIfWaitingForDebugger")
    except CDPError as error:
        logger.debug("%s could not be released: %s", child.describe(), error)
