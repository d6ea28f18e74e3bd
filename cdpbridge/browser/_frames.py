"""Every frame of a page, those in processes of their own included, and the object of `_page.js` in each.

A frame in another process is a target of its own: auto-attach makes its session. The script runs in an isolated world of each
document; the object ends with its document, and is made again in the next.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import logging
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet

from cdpbridge.errors import CDPError, CommandError, CommandTimeout, ConnectionClosed, TargetClosed
from cdpbridge.protocol import DOM, Page, Runtime

from ._evaluate import release, thrown
from ._navigation import moved_on

if TYPE_CHECKING:
    from cdpbridge.cdp import CDPSession
    from cdpbridge.cdp._session import Setup

__all__ = ["Frame", "Frames"]

logger = logging.getLogger("cdpbridge")

_WORLD: Final = "cdpbridge-page"
_LONG: Final = timedelta(days=1)  # the caller has a deadline of its own
_AGAIN_SECONDS: Final = 0.02
"""Pause before the next document is tried: a navigation takes longer than this."""
_HUNG_SECONDS: Final = 2.0
"""How long the others may take after the main frame: a live renderer needs 1 to 50 ms on a loaded machine."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame and the session that its document answers on.

    Attributes:
        parent_id: Chrome's id of the frame that it is in; None for the main frame.
    """

    session: CDPSession
    id: str
    parent_id: str | None = None


@dataclass(frozen=True, slots=True)
class _Script:
    """The object of `_page.js` in one document."""

    object_id: str
    context_id: int


class Frames:
    """The frames of one page."""

    def __init__(self, session: CDPSession) -> None:
        self.main = Frame(session, session.target_id)  # Chrome's main frame has the id of its page
        self._session = session
        self._scripts: dict[tuple[str, str], _Script] = {}
        # Setups, and the sessions that each has run for.
        self._setups: dict[Setup, WeakSet[CDPSession]] = {}
        self._attached: asyncio.Task[None] | None = None
        self._attaching_until = 0.0
        self._numbers = itertools.count(1)

    # --- sessions -------------------------------------------------------------------------------------------------

    async def attach(self) -> None:
        """Attach to the frames in other processes, and to those to come."""
        task = self._attached
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = self._session.connection.create_task(self._session.auto_attach(self._set_up))
            self._attached = task
            self._attaching_until = asyncio.get_running_loop().time() + _HUNG_SECONDS
        # Frames that hang are set up when they go on.
        left = self._attaching_until - asyncio.get_running_loop().time()
        await asyncio.wait([task], timeout=max(left, 0))
        if not task.done():
            return
        if task.cancelled():  # by the end of the connection, not by the caller
            raise ConnectionClosed(1000, "it was closed meanwhile", doing="Target.setAutoAttach")
        task.result()

    async def set_up(self, setup: Setup) -> None:
        """Run `setup` on the page and on every frame and worker in it, now and later, before these run.

        What a target refuses because it has no such domain is no failure.
        """
        self._setups[setup] = WeakSet()
        await self.attach()
        await self.everywhere(lambda session: self._once(setup, session))

    def forget(self, setup: Setup) -> None:
        """Do not run `setup` any more."""
        self._setups.pop(setup, None)

    async def everywhere(self, work: Setup) -> None:
        """Run `work` on the page and on every frame and worker that is in it now."""
        inner = [self._soon(work, each) for each in self.sessions() if each is not self._session]
        await asyncio.gather(work(self._session), *inner)

    def sessions(self) -> Iterator[CDPSession]:
        """Yield the page's session, and those of the frames and workers in it. Not those of popups."""
        return _inner(self._session)

    async def _set_up(self, child: CDPSession) -> None:
        if child.target_type != "page":  # a popup is a page of its own
            inner = [functools.partial(self._once, setup) for setup in self._setups]
            await asyncio.gather(*(self._quietly(setup, child) for setup in inner))

    async def _once(self, setup: Setup, session: CDPSession) -> None:
        done = self._setups.get(setup)
        if done is not None and session not in done:
            done.add(session)
            await setup(session)

    async def _soon(self, work: Setup, child: CDPSession) -> None:
        """Run `work` on a frame or worker; one that hangs gets it when it goes on, and keeps no caller waiting."""
        task = self._session.connection.create_task(self._quietly(work, child))
        await asyncio.wait([task], timeout=_HUNG_SECONDS)

    async def _quietly(self, setup: Setup, child: CDPSession) -> None:
        try:
            await setup(child)
        except (CommandError, TargetClosed):  # it has no such domain, or has closed meanwhile
            return
        except (CommandTimeout, ConnectionClosed) as error:
            logger.debug("%s is not set up: %s", child.describe(), error)

    # --- frames ---------------------------------------------------------------------------------------------------

    async def all(self) -> list[Frame]:
        """Return the frames that there are, the main one first, then by process, each before those in it."""
        await self.attach()
        sessions = [each for each in self.sessions() if each.target_type in {"page", "iframe"}]
        asked = {each: asyncio.create_task(each.send(Page.get_frame_tree())) for each in sessions}
        try:
            await asyncio.wait([asked[self._session]])
            await asyncio.wait(asked.values(), timeout=_HUNG_SECONDS)
        finally:
            for task in asked.values():
                task.cancel()
            trees = await asyncio.gather(*asked.values(), return_exceptions=True)
        found: list[Frame] = []
        hung: set[str] = set()
        for session, tree in zip(sessions, trees, strict=True):
            if isinstance(tree, asyncio.CancelledError):
                hung.add(session.id)
            elif not isinstance(tree, BaseException):
                found += _flat(session, tree.frame_tree)
            elif session is self._session or not isinstance(tree, CDPError):
                raise tree  # another one has closed meanwhile
        there = {(each.session.id, each.id) for each in found}
        for key in self._scripts.keys() - there:
            if key[0] not in hung:
                del self._scripts[key]
        return found

    async def point_in_window(
        self, frame: Frame, frames: list[Frame], point: dict[str, float]
    ) -> dict[str, Any]:
        """Return where a point of a frame is in the page's window: `{"ok": ...}`, or `{"failed": ..., "detail": ...}`."""
        by_id = {each.id: each for each in frames}
        while frame.parent_id is not None:
            parent = by_id.get(frame.parent_id)
            if parent is None:
                return {"failed": "attached", "detail": "its frame was removed"}
            found = await self._outer(parent, frame, point)
            if "ok" not in found:
                return found
            frame, point = parent, found["ok"]
        return {"ok": point}

    async def _outer(self, parent: Frame, frame: Frame, point: dict[str, float]) -> dict[str, Any]:
        script = await self._script(parent)
        send = parent.session.send
        owner = await send(DOM.get_frame_owner(frame.id))
        node = await send(
            DOM.resolve_node(backend_node_id=owner.backend_node_id, execution_context_id=script.context_id)
        )
        outer = Runtime.call_function_on(
            "function(frame, x, y) { return this.outer(frame, x, y) }",
            object_id=script.object_id,
            arguments=[
                Runtime.CallArgument(object_id=node.object.object_id),
                Runtime.CallArgument(value=point["x"]),
                Runtime.CallArgument(value=point["y"]),
            ],
            return_by_value=True,
        )
        try:
            answer = await send(outer)
        finally:
            if node.object.object_id is not None and parent.session.closed is None:
                self._session.connection.create_task(release(parent.session, node.object.object_id))
        return dict(answer.result.value)

    # --- the script -----------------------------------------------------------------------------------------------

    async def call(self, frame: Frame, name: str, *arguments: object, once: bool = False) -> Any:
        """Return what a method of `_page.js` returns in a frame; when the frame navigates meanwhile, in its next document.

        Repeated, too, when the connection is re-established. When the caller is cancelled, the method stops.

        Args:
            arguments: Values, or functions that return one at each try.
            once: Do not repeat it: it changes the page.

        Raises:
            EvaluationError: It threw.
            CommandError: The frame was removed; or, with `once`, it navigates.
            ConnectionClosed: With `once`, also one that is being re-established.
        """
        while True:
            now = [each() if callable(each) else each for each in arguments]
            number = next(self._numbers)
            script = None
            try:
                script = await self._script(frame)
                answer = await frame.session.send(
                    Runtime.call_function_on(
                        "function(...given) { return this.run(...given) }",
                        object_id=script.object_id,
                        arguments=[Runtime.CallArgument(value=each) for each in (number, name, now)],
                        await_promise=True,
                        return_by_value=True,
                        user_gesture=True,
                    ),
                    timeout=_LONG,
                )
            except asyncio.CancelledError:
                if script is not None and frame.session.closed is None:
                    self._session.connection.create_task(_give_up(frame.session, script, number))
                raise
            except ConnectionClosed:
                if once or self._session.connection.closed:
                    raise
                continue  # it is being re-established; a wait begins again
            except CommandError as error:
                self._scripts.pop((frame.session.id, frame.id), None)
                if not moved_on(error) or (once and script is not None and not _is_unknown(error)):
                    raise
                await asyncio.sleep(_AGAIN_SECONDS)
                continue
            if answer.exception_details is not None:
                raise thrown(answer.exception_details)
            return answer.result.value

    async def _script(self, frame: Frame) -> _Script:
        key = (frame.session.id, frame.id)
        found = self._scripts.get(key)
        if found is None:
            world = await frame.session.send(Page.create_isolated_world(frame.id, world_name=_WORLD))
            context_id = world.execution_context_id
            made = await frame.session.send(Runtime.evaluate(_source(), context_id=context_id))
            if made.result.object_id is None:
                raise CommandError("Runtime.evaluate", -32000, "the page's script did not start")
            found = self._scripts[key] = _Script(made.result.object_id, context_id)
        return found


async def _give_up(session: CDPSession, script: _Script, number: int) -> None:
    with suppress(CDPError):  # it has navigated or closed: the wait has ended, too
        await session.send(
            Runtime.call_function_on(
                "function(number) { this.giveUp(number) }",
                object_id=script.object_id,
                arguments=[Runtime.CallArgument(value=number)],
            )
        )


def _is_unknown(error: CommandError) -> bool:
    """Return True if the object of a call belongs to an earlier document: nothing was called."""
    return error.message.startswith(("Cannot find context", "Could not find object"))


@cache
def _source() -> str:
    page, find = (
        files("cdpbridge.browser").joinpath(each).read_text("utf-8") for each in ("_page.js", "_find.js")
    )
    return f"({page})(({find})())"


def _inner(session: CDPSession) -> Iterator[CDPSession]:
    yield session
    for child in session.children:
        if child.target_type != "page" and child.closed is None:
            yield from _inner(child)


def _flat(session: CDPSession, tree: Page.FrameTree) -> Iterator[Frame]:
    yield Frame(session, tree.frame.id, tree.frame.parent_id)
    for child in tree.child_frames or ():
        yield from _flat(session, child)
