"""The wait for an element, in the page's main frame and in all others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from cdpbridge.errors import CDPError, CommandError, ConnectionClosed, EvaluationError, TargetClosed

if TYPE_CHECKING:
    from ._frames import Frame, Frames

__all__ = ["AGAIN_SECONDS", "LOOK_MS", "SHORT_MS", "Wait", "countdown"]

LOOK_MS: Final = 300
"""How long all frames are looked at before they are listed again."""
_ANSWER_SECONDS: Final = 1.0
"""How long a frame may take for that; one that hangs is left out."""
_TRY_MS: Final = 1000
"""How long an element in a frame is waited for before all frames are looked at again."""
SHORT_MS: Final = 100
_TURN_MS: Final = 500
"""How long one action keeps the others waiting until its element is still and not covered."""
AGAIN_SECONDS: Final = 0.02


def countdown(limit: timedelta) -> Callable[[], float]:
    """Return a function that tells how many seconds of `limit` are left, 0 at least."""
    loop = asyncio.get_running_loop()
    end = loop.time() + limit.total_seconds()
    return lambda: max(end - loop.time(), 0.0)


class Wait:
    """A wait for an element, in the main frame first, and in all of them when that has frames and no such element.

    Attributes:
        last: What the last try saw.
        frame: Where.
    """

    def __init__(
        self,
        frames: Frames,
        method: str,
        selector: str,
        left: Callable[[], float],
        more: tuple[object, ...],
    ) -> None:
        self.last: dict[str, Any] = {"failed": "attached", "detail": "the page did not answer"}
        self.frame = frames.main
        self._frames = frames
        self._method = method
        self._selector = selector
        self._more = more
        self._left = left
        self._covered: dict[str, Any] | None = None

    def left(self) -> float:
        """Milliseconds until the end."""
        return self._left() * 1000

    async def run(self) -> None:
        """Wait; `last` and `frame` have the result."""
        self.frame = self._frames.main
        self.last = await self._call(self.frame, self.left, alone=False)
        if not self.last.get("away"):
            return
        while True:
            frames = await self._frames.all()
            if self._method == "wait" and self._more[0] in {"hidden", "detached"}:
                self.frame, self.last = await self._in_none(frames)
            elif self.left() < SHORT_MS and self.last["failed"] != "attached":
                return  # too short for another try to see more
            else:
                self.frame, self.last = await self._in_one(frames)
            if "ok" in self.last or "wrong" in self.last or not self.left():
                return
            await asyncio.sleep(AGAIN_SECONDS)

    def turn(self) -> float:
        """Milliseconds of one try."""
        return min(self.left(), _TURN_MS)

    async def act(self, frame: Frame, method: str, *given: object) -> None:
        """Call a method that acts, in the frame that was found; `last` has its result."""
        short = self.left() < SHORT_MS
        try:
            result = dict(await self._frames.call(frame, method, self._selector, *given, once=True))
            if method == "point" and "ok" in result and frame is not self._frames.main:
                frames = await self._frames.all()
                result = await self._frames.point_in_window(frame, frames, result["ok"])
        except ConnectionClosed:
            if frame.session.connection.closed:
                raise
            result = {"failed": "attached", "detail": "the connection was re-established"}
        except CommandError as error:
            result = {"failed": "attached", "detail": f"its frame was removed ({error.message})"}
        except TargetClosed:
            if frame.session is self._frames.main.session:
                raise
            result = {"failed": "attached", "detail": "its frame was removed"}
        if result.get("failed") == "receives the click":
            self._covered = result
        elif short and result.get("failed") == "stable" and self._covered is not None:
            result = self._covered  # too short for this try to see more
        self.last = result

    async def _in_one(self, frames: list[Frame]) -> tuple[Frame, dict[str, Any]]:
        main = frames[0]
        frame = await self._first_with(frames)
        if frame is None:
            return main, {"failed": "attached", "detail": f"no element matches in {len(frames)} frames"}
        try:
            result = await self._call(frame, lambda: min(self.left(), _TRY_MS), alone=True)
        except CommandError as error:  # the frame was removed, or one around it
            return main, {"failed": "attached", "detail": f"its frame was removed ({error.message})"}
        except TargetClosed:
            if frame.session is main.session:
                raise
            return main, {"failed": "attached", "detail": "its frame was removed"}
        return frame, result

    async def _in_none(self, frames: list[Frame]) -> tuple[Frame, dict[str, Any]]:
        result: dict[str, Any] = {"ok": True}
        for frame in frames:
            try:
                async with asyncio.timeout(None if frame is frames[0] else _ANSWER_SECONDS):
                    result = await self._call(frame, lambda: min(self.left(), LOOK_MS), alone=True)
            except (CommandError, TargetClosed, TimeoutError):
                if frame is frames[0]:
                    raise
                continue  # removed: nothing is in it; or it hangs
            if "ok" not in result:
                break
        return frames[0], result

    async def _first_with(self, frames: list[Frame]) -> Frame | None:
        """Return the first of the frames that has the element, as soon as one has it; None when none has, after a while."""

        def time() -> float:
            return min(self.left(), LOOK_MS)

        tasks = {
            asyncio.create_task(self._frames.call(each, "wait", self._selector, time, True, "attached")): each
            for each in frames
        }
        pending = set(tasks)
        try:
            while pending:
                done, pending = await asyncio.wait(
                    pending, timeout=_ANSWER_SECONDS, return_when=asyncio.FIRST_COMPLETED
                )
                if not done:
                    break  # the others hang
                with_it = [task for task in tasks if task in done and self._has(task, tasks[task])]
                if with_it:
                    return tasks[with_it[0]]
        finally:
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
        return None

    def _has(self, task: asyncio.Task[Any], frame: Frame) -> bool:
        error = task.exception()
        if error is None:
            return "ok" in task.result()
        if frame.parent_id is None or isinstance(error, EvaluationError) or not isinstance(error, CDPError):
            raise error
        return False  # it was removed

    async def _call(self, frame: Frame, time: Any, *, alone: bool) -> dict[str, Any]:
        result = await self._frames.call(frame, self._method, self._selector, time, alone, *self._more)
        return dict(result)
